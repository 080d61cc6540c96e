"""Backend Framework: a Flask + PostgreSQL backend that a team starts from in one command."""

from api.app import create_app

__all__ = ["create_app"]
