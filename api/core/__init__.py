"""The generic core: it knows no product and no user."""
