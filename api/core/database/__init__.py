"""Engines, sessions, base models, column types and rules."""
