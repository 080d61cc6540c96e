"""Repositories and services: rows of a model, and the rules around them."""
