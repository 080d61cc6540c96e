"""Paths into JSON documents: how a name is taken apart, and which part of a document several paths show. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from api.core.query.problems import ProblemError, nearest

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Iterable, Iterator

DEPTH_MAX = 32
"""How many objects and arrays may stand inside one another in a JSON operand, and keys in a path into a document."""

Tree = dict[str, "Tree"]
"""Keys, and the keys below each; none below a key whose value is wanted whole."""


def split_path(name: str, documents: Container[str]) -> tuple[str, tuple[str, ...]] | None:
    """The one of `documents` that `name` begins with, and the keys behind it; None for any other name.

    Raises:
        ProblemError: for more keys than a document may have levels.
    """
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        document, keys = ".".join(parts[:end]), tuple(parts[end:])
        if document in documents and all(keys):
            if len(keys) > DEPTH_MAX:
                message = f"Must not go deeper than {DEPTH_MAX} keys."
                raise ProblemError(message)
            return document, keys
    return None


def like_paths(name: str, documents: Iterable[str]) -> Iterator[str]:
    """What `name` may have been meant to be: a path into those of `documents` that its beginning is like."""
    parts = name.split(".")
    for document in documents:
        length = document.count(".") + 1
        if nearest(".".join(parts[:length]), [document]):
            yield ".".join([document, *([key for key in parts[length:] if key] or ["key"])])


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What is shown of the document `name` instead of the whole: the values at `paths`, which are sorted."""

    name: str
    paths: tuple[tuple[str, ...], ...]
    tree: Tree = field(init=False, repr=False, compare=False)
    shape: Hashable = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work tree and shape out once."""
        tree: Tree = {}
        for path in self.paths:
            _grow(tree, path)
        object.__setattr__(self, "tree", tree)
        object.__setattr__(self, "shape", (self.name, _shape(tree)))

    def binds(self) -> Iterator[str]:
        """All keys to bind, each one before those below it."""
        return _keys(self.tree)


def _grow(tree: Tree, path: tuple[str, ...]) -> None:
    """Add `path`, unless what is above it is wanted whole: being shorter, that has come before."""
    key, *rest = path
    if not rest:
        tree[key] = {}
    elif tree.get(key) != {}:
        _grow(tree.setdefault(key, {}), tuple(rest))


def _shape(tree: Tree) -> Hashable:
    return tuple(_shape(below) for below in tree.values())


def _keys(tree: Tree) -> Iterator[str]:
    for key, below in tree.items():
        yield key
        yield from _keys(below)
