"""The `flask` commands, one file a group; what begins with an underscore helps them and is no command."""

from __future__ import annotations

import functools
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from api.core.database.context import acting_as

if TYPE_CHECKING:
    from flask import Flask


def init_app(app: Flask) -> None:
    """Register the `command` of every public module in this package, so that history tells what each has written."""
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
