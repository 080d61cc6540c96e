"""Query string and allow-list to a plan; pure. Every mistake is collected, and each says what would be right."""

from __future__ import annotations

import re
from functools import cached_property, partial
from typing import TYPE_CHECKING

from api.core.query.documents import Excerpt, like_paths, split_path
from api.core.query.filters import FilterParser
from api.core.query.grammar import GROUP_NAMES
from api.core.query.parameters import DELETED_MODES as DELETED_MODES
from api.core.query.parameters import DELETED_PARAMETER, Parameters
from api.core.query.plan import RANK, Page, QueryPlan, Sort, TextSearch
from api.core.query.problems import ProblemError, Problems, not_there

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from api.core.query.allowlist import AllowList
    from api.core.query.cursor import CursorCodec

VIEW_PARAMETERS = ("fields", "include")
PAGE_PARAMETERS = ("limit", "cursor", "page", "per_page", "count")
LIST_PARAMETERS = (*VIEW_PARAMETERS, "sort", *PAGE_PARAMETERS)
SEARCH_PARAMETERS = ("q", "similar_to")
HIGHLIGHT_PARAMETER = "highlight"
SEARCH_LENGTH_MAX = 200
"""How many characters can be searched for."""
SORT_PATHS_MAX = 5
"""Sort keys inside of documents: a cursor holds the text of each, and has to fit into a URL."""
COUNTS = ("none", "exact", "estimated")


def parse_list(pairs: Sequence[tuple[str, str]], allowed: AllowList, cursors: CursorCodec) -> QueryPlan:
    """The plan of a page, as the query parameters `pairs` ask for it.

    Raises:
        MalformedRequestError: listing every parameter that is wrong.
    """
    problems = Problems()
    query = _QueryString(pairs, allowed, problems)
    plan = QueryPlan(
        resource=allowed.resource,
        search=query.search(),
        where=FilterParser(allowed, problems, others=[*query.known, *sorted(GROUP_NAMES)]).conditions(query.filters),
        sort=query.sort(),
        page=query.page(),
        fields=query.fields(),
        excerpts=query.excerpts(),
        include=query.include(),
        count=query.choice("count", COUNTS),
        deleted=query.deleted(),
    )
    problems.raise_any()
    token = query.text("cursor")
    if token is not None:
        position = problems.attempt("cursor", lambda: cursors.decode(token, plan.fingerprint()))
        problems.raise_any()
        plan = plan.at(position)
    return plan


def parse_export(pairs: Sequence[tuple[str, str]], allowed: AllowList, others: Iterable[str] = ()) -> QueryPlan:
    """The plan of all rows, as a list would show them on all its pages.

    `others` are parameters that somebody else reads, for hints at wrong names.

    Raises:
        MalformedRequestError: listing every parameter that is wrong.
    """
    problems = Problems()
    query = _QueryString(pairs, allowed, problems)
    query.refuse((*PAGE_PARAMETERS, HIGHLIGHT_PARAMETER), "An export has all rows; this parameter is for pages.")
    for_pages = {*PAGE_PARAMETERS, HIGHLIGHT_PARAMETER}
    known = [name for name in (*query.known, *sorted(GROUP_NAMES), *others) if name not in for_pages]
    plan = QueryPlan(
        resource=allowed.resource,
        search=query.search(),
        where=FilterParser(allowed, problems, others=known).conditions(query.filters),
        sort=query.sort(),
        fields=query.columns(),
        excerpts=query.excerpts(),
        include=query.include(),
        deleted=query.deleted(),
    )
    problems.raise_any()
    return plan


def parse_view(pairs: Sequence[tuple[str, str]], allowed: AllowList) -> QueryPlan:
    """The plan of a single row: only `fields`, `include` and `deleted` make sense.

    Raises:
        MalformedRequestError: listing every parameter that is wrong.
    """
    problems = Problems()
    query = _QueryString(pairs, allowed, problems)
    query.refuse_what_is_for_lists()
    plan = QueryPlan(
        resource=allowed.resource,
        fields=query.fields(),
        excerpts=query.excerpts(),
        include=query.include(),
        deleted=query.deleted(),
    )
    problems.raise_any()
    return plan


# A quote, a minus sign before a word, or `or` between words: who writes these means what they write.
_OPERATOR = re.compile(r'"|(^|\s)-|\bor\b', re.IGNORECASE)


def search_text(text: str) -> str:
    """A text to search for.

    Raises:
        ProblemError: for a blank one, or one that is too long.
    """
    text = text.strip()
    if not text or len(text) > SEARCH_LENGTH_MAX:
        message = f"Must have 1 to {SEARCH_LENGTH_MAX} characters to search for."
        raise ProblemError(message)
    return text


class _QueryString(Parameters):
    """The parameters that steer a read of rows."""

    def __init__(self, pairs: Iterable[tuple[str, str]], allowed: AllowList, problems: Problems) -> None:
        searching = (*SEARCH_PARAMETERS, HIGHLIGHT_PARAMETER) if allowed.searched else ()
        super().__init__(pairs, allowed, problems, (*LIST_PARAMETERS, *searching))

    def refuse(self, names: Iterable[str], reason: str) -> None:
        """Note each of these parameters that is given."""
        for name in names:
            if name in self._steering:
                self._problems.add(name, reason)

    def refuse_what_is_for_lists(self) -> None:
        """Note every parameter that a read of a single row has no use for."""
        possible = [*VIEW_PARAMETERS, DELETED_PARAMETER] if self._allowed.deletable else [*VIEW_PARAMETERS]
        for_lists = (*LIST_PARAMETERS, *SEARCH_PARAMETERS, HIGHLIGHT_PARAMETER)
        self.refuse((name for name in for_lists if name not in possible), "This parameter is for lists.")
        for name, _ in self.filters:
            self._problems.add(name, not_there("parameter", name, possible))

    # -- what to search for ---------------------------------------------------------------------------------------

    @property
    def _searches(self) -> list[str]:
        """The parameters that are given of those that search."""
        return [name for name in SEARCH_PARAMETERS if name in self._steering]

    def search(self) -> TextSearch | None:
        """What is searched for, if anything is."""
        highlight = self.choice(HIGHLIGHT_PARAMETER, ("false", "true")) == "true"
        if not self._searches:
            if highlight:
                self._problems.add(HIGHLIGHT_PARAMETER, "Must come with q or similar_to.")
            return None
        if len(self._searches) > 1:
            self._problems.add("similar_to", "Cannot be used with q.")
        parameter = self._searches[0]
        text = self._problems.attempt(parameter, partial(search_text, self._steering[parameter])) or ""
        if parameter == "similar_to":
            return TextSearch("similar", text, highlight)
        return TextSearch("exact" if _OPERATOR.search(text) else "words", text, highlight)

    # -- what to show ---------------------------------------------------------------------------------------------

    def sort(self) -> tuple[Sort, ...]:
        """The sort keys, with the primary key as the last one."""
        keys: dict[str, Sort] = {}
        for name in self.names("sort"):
            bare = name.removeprefix("-")
            if bare in keys:
                self._problems.add("sort", f"Names {bare!r} twice.")
            elif key := self._problems.attempt("sort", partial(self._sort_key, bare, descending=name.startswith("-"))):
                keys[bare] = key
        if sum(bool(key.json_path) for key in keys.values()) > SORT_PATHS_MAX:
            self._problems.add("sort", f"Must not name more than {SORT_PATHS_MAX} paths into documents.")
        usual = (Sort(RANK, descending=True),) if self._searches else self._allowed.default_sort
        order = [*keys.values()] or [*usual]
        if not any(key.path == (self._allowed.key,) for key in order):
            # In the last key's direction, so that one index can serve the whole order.
            order.append(Sort((self._allowed.key,), descending=order[-1].descending))
        return tuple(order)

    def _sort_key(self, name: str, *, descending: bool) -> Sort:
        """What `name` stands for: `price`, `category.name`, `metadata.size.width`.

        Raises:
            ProblemError: for a name that is not there, with what would be.
        """
        documents = self._allowed.sort_documents
        if name in documents:
            message = f"{name!r} needs a key, as in {name}.key."
            raise ProblemError(message)
        found = (name, ()) if name in self._allowed.sorts else split_path(name, documents)
        if found is None:
            raise ProblemError(not_there("sort key", name, [*self._allowed.sorts, *like_paths(name, documents)]))
        return Sort(tuple(found[0].split(".")), descending, found[1])

    def include(self) -> tuple[str, ...]:
        """The embeds, each with those that lead to it."""
        wanted: set[str] = set()
        limit = self._limits.include_depth_max
        for name in self.names("include"):
            if not self._is_one_of("include", "relation", name, self._allowed.includes):
                continue
            parts = name.split(".")
            if len(parts) > limit:
                self._problems.add("include", f"{name!r} goes deeper than {limit} levels.")
            wanted |= {".".join(parts[: end + 1]) for end in range(len(parts))}
        return tuple(sorted(wanted))

    def fields(self) -> tuple[str, ...]:
        """The fields to show; none for all of them. How a client orders them means nothing in JSON."""
        return tuple(sorted(self._shown))

    def columns(self) -> tuple[str, ...]:
        """The same in the order in which they are named, which is that of a table's columns."""
        return tuple(self._shown)

    def excerpts(self) -> tuple[Excerpt, ...]:
        """The fields of which only a part is shown."""
        return tuple(Excerpt(name, tuple(sorted(paths))) for name, paths in sorted(self._shown.items()) if all(paths))

    @cached_property
    def _shown(self) -> dict[str, set[tuple[str, ...]]]:
        """The fields that are named, and the paths into each; an empty one for the whole of it."""
        shown: dict[str, set[tuple[str, ...]]] = {}
        included = {name.strip() for name in self._steering.get("include", "").split(",")}
        for name in self.names("fields"):
            field, path = self._problems.attempt("fields", partial(self._field, name)) or ("", ())
            relation = field.rpartition(".")[0]
            if relation and not any(f"{item}.".startswith(f"{relation}.") for item in included):
                self._problems.add("fields", f"{name!r} needs include={relation}.")
            shown.setdefault(field, set()).add(path)
        return shown

    def _field(self, name: str) -> tuple[str, tuple[str, ...]]:
        """The field that `name` stands for, and the path into it: `price`, `category.name`, `metadata.colour`.

        Raises:
            ProblemError: for a name that is not there, with what would be.
        """
        found = (name, ()) if name in self._allowed.fields else split_path(name, self._allowed.documents)
        if found is None:
            known = [*self._allowed.fields, *like_paths(name, self._allowed.documents)]
            raise ProblemError(not_there("field", name, known))
        return found

    def _is_one_of(self, parameter: str, what: str, name: str, known: frozenset[str]) -> bool:
        if name not in known:
            self._problems.add(parameter, not_there(what, name, known))
        return name in known

    # -- pages ----------------------------------------------------------------------------------------------------

    def page(self) -> Page:
        """Size and kind of the page; where a keyset page starts, its cursor tells."""
        by_offset = [name for name in ("page", "per_page") if name in self._steering]
        by_cursor = [name for name in ("limit", "cursor") if name in self._steering]
        if by_offset and by_cursor:
            self._problems.add(by_offset[0], f"Cannot be used with {by_cursor[0]}; number pages or follow cursors.")
        limits = self._limits
        if not by_offset:
            return Page(self.whole_number("limit", limits.page_size, limits.page_size_max))
        size = self.whole_number("per_page", limits.page_size, limits.page_size_max)
        number = self.whole_number("page", 1, limits.offset_max // size + 1)
        return Page(size, offset=(number - 1) * size)
