"""The `flask` commands, one file a group; what begins with an underscore helps them and is no command."""

from __future__ import annotations

import functools
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
from flask.cli import AppGroup

from api.core.database.context import acting_as
from api.extensions import Migrations

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from flask import Flask


class _Commands(AppGroup):
    """The commands of an application, imported when one is asked for: a worker never does."""

    def __init__(self, app: Flask) -> None:
        self._unloaded: Flask | None = None
        super().__init__(name=app.name)
        self._unloaded = app

    @property
    def commands(self) -> MutableMapping[str, click.Command]:
        """All of them, by name."""
        if self._unloaded is not None:
            app, self._unloaded = self._unloaded, None
            _load(app)
        return self._commands

    @commands.setter
    def commands(self, commands: MutableMapping[str, click.Command]) -> None:
        self._commands = commands


def init_app(app: Flask) -> None:
    """Have the `command` of every public module in this package, and Flask-Migrate's, when one is asked for."""
    app.cli = _Commands(app)


def _load(app: Flask) -> None:
    """Register the commands, so that history tells what each has written."""
    migrations = app.extensions["migrate"]
    if isinstance(migrations, Migrations):
        migrations.bind()
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            command = import_module(f"{__name__}.{module.name}").command
            _attribute(command, f"cli:{command.name}")
            app.cli.add_command(command)


def _attribute(command: click.Command, actor: str) -> None:
    """Attribute what `command` and its subcommands write to `actor`, once, however many applications there are."""
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            _attribute(subcommand, f"{actor} {name}")
    callback: Any = command.callback
    if callback is None or getattr(callback, "is_attributed", False):
        return

    @functools.wraps(callback)
    def attributed(*args: Any, **kwargs: Any) -> Any:
        with acting_as(actor):
            return callback(*args, **kwargs)

    attributed.is_attributed = True  # type: ignore[attr-defined]
    command.callback = attributed
