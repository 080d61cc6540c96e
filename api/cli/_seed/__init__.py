"""Made-up data: `words` to make it of, `rows` that are made, `fill` writes them."""
