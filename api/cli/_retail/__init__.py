"""Loading the invoice lines of a shop: `lines` reads them, `stage` sorts them by invoice, `store` writes orders."""
