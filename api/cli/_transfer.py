"""What the commands `export` and `import` have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from flask import current_app

from api.core.http.blueprint import ResourceBlueprint

if TYPE_CHECKING:
    from api.core.errors import APIError


def resource_named(name: str) -> ResourceBlueprint:
    """The resource of this name.

    Raises:
        click.BadParameter: naming those that there are.
    """
    found = current_app.blueprints.get(name)
    if not isinstance(found, ResourceBlueprint):
        known = sorted(key for key, item in current_app.blueprints.items() if isinstance(item, ResourceBlueprint))
        raise click.BadParameter(f"there is no {name!r}; possible: {', '.join(known)}.", param_hint="RESOURCE")
    return found


def explained(error: APIError) -> str:
    """An error of the API as lines of text."""
    details = [
        f"{item.parameter or item.pointer or item.header or ''}: {item.detail}".removeprefix(": ")
        for item in error.violations
    ]
    return "\n".join(details or [error.detail])
