"""Blueprints, schemas, errors and everything else that speaks HTTP."""
