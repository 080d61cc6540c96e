"""The application's extensions, unbound; `create_app()` binds them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from api.core.database.extension import Database

if TYPE_CHECKING:
    from flask import Flask
    from flask_migrate import Migrate

db = Database()


@cache
def _migrate() -> Migrate:
    # Alembic takes a tenth of a second and 10 MiB, and a worker never migrates.
    from flask_migrate import Migrate  # noqa: PLC0415

    return Migrate(compare_type=True, render_as_batch=False)


def __getattr__(name: str) -> Migrate:
    """`migrate`, which is Flask-Migrate's extension, made when it is first asked for."""
    if name == "migrate":
        return _migrate()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Migrations:
    """What stands in `app.extensions["migrate"]` until Flask-Migrate is asked for something: then that is bound."""

    directory = "migrations"

    def __init__(self, app: Flask) -> None:
        self._app = app
        app.extensions["migrate"] = self

    def bind(self) -> None:
        """Bind Flask-Migrate to the application, with its commands."""
        _migrate().init_app(self._app, db, self.directory)

    def __getattr__(self, name: str) -> Any:
        self.bind()
        return getattr(self._app.extensions["migrate"], name)
