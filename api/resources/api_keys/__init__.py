"""API keys: what machines prove themselves with."""
