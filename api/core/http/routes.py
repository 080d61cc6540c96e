"""What a generic view is registered with: its method and path, and what the OpenAPI document says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.core.http.blueprint import ResourceBlueprint
    from api.core.query.allowlist import AllowList

    View = Callable[..., Any]


def _always(_model: type) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Route:
    """A generic view.

    `view` is its name in `ResourceViews`; `path` goes on behind the resource's, with `{key}` for the key of a row.
    `permission` is what a caller needs for it.
    `document` adds what the view takes as its body and what it answers, `parameters` is what it takes besides.
    `cost` is how many requests one to this view counts as; it is for those that keep the database busy for longer.
    `possible` tells whether a model can have it. It is left out along with the view that it `needs`.
    """

    view: str
    method: str
    path: str
    permission: str
    summary: str
    document: Callable[[ResourceBlueprint, View], View]
    parameters: Callable[[AllowList], list[dict[str, Any]]]
    possible: Callable[[type], bool] = _always
    needs: str = ""
    cost: int = 1

    def heading(self, one: str, plural: str) -> str:
        """The summary, with the resource's names in it."""
        summary = self.summary.replace("a {one}", "an {one}") if one[0] in "aeio" else self.summary
        return summary.format(one=one, plural=plural)
