"""Logging in: sessions, their tokens, and one's own account."""
