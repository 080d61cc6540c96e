"""Finds the resources: imports every model, then registers every blueprint. A new folder needs no entry anywhere."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from api import resources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from flask_smorest import Api

    from api.core.http.blueprint import ResourceBlueprint


def import_models() -> None:
    """Import every resource's models, so that mappers and metadata are complete before anything uses them."""
    for _ in _modules("models"):
        pass


def register_blueprints(api: Api, url_prefix: str) -> None:
    """Register every resource's `blueprint` below `url_prefix`."""
    for module in _modules("routes"):
        blueprint: ResourceBlueprint = module.blueprint
        api.register_blueprint(blueprint, url_prefix=f"{url_prefix}{blueprint.url_prefix}")


def _modules(name: str) -> Iterator[ModuleType]:
    for package in sorted(pkgutil.iter_modules(resources.__path__), key=lambda found: found.name):
        full_name = f"{resources.__name__}.{package.name}.{name}"
        if find_spec(full_name) is not None:
            yield import_module(full_name)
