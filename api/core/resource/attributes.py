"""Attributes of a model by name: which there are, and what may be written into them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper

from api.core.query.problems import not_there

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEPT = 256
"""Models whose attributes are kept."""


class UnknownAttributeError(AttributeError):
    """A model has no attribute of this name; the message names the nearest one."""


def mapper_of(model: type) -> Mapper[Any]:
    """The mapper of `model`."""
    mapper: Mapper[Any] = inspect(model, raiseerr=True)
    return mapper


def check_names(model: type, names: Iterable[str]) -> None:
    """Refuse what is no attribute of `model` that can be set.

    Raises:
        UnknownAttributeError: for the first name that is none.
    """
    known = _attributes(mapper_of(model))
    for name in names:
        if name not in known and not _can_be_set(model, name):
            raise UnknownAttributeError(f"{model.__name__}: {not_there('attribute', name, known)}")


@lru_cache(_KEPT)
def _attributes(mapper: Mapper[Any]) -> frozenset[str]:
    return frozenset((*mapper.attrs.keys(), *mapper.synonyms.keys()))


def check_columns(model: type, names: Iterable[str]) -> None:
    """Refuse what is no column attribute of `model`.

    Raises:
        UnknownAttributeError: for the first name that is none.
    """
    known = {attribute.key for attribute in mapper_of(model).column_attrs}
    for name in names:
        if name not in known:
            raise UnknownAttributeError(f"{model.__name__}: {not_there('column attribute', name, known)}")


def _can_be_set(model: type, name: str) -> bool:
    """Whether `name` is a property or a hybrid with a setter."""
    descriptor = mapper_of(model).all_orm_descriptors.get(name) or getattr(model, name, None)
    return getattr(descriptor, "fset", None) is not None
