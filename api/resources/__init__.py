"""The shop: one folder for each resource."""
