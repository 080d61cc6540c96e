"""The `flask` commands, one file a group; what begins with an underscore helps them and is no command."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask


def init_app(app: Flask) -> None:
    """Register the `command` of every public module in this package."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            app.cli.add_command(import_module(f"{__name__}.{module.name}").command)
