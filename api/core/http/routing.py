"""Which route a path is: found at once for most of them, and by werkzeug for the others."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from werkzeug.routing import MapAdapter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from werkzeug.routing import Map, Rule

    Found = tuple[Rule, dict[str, Any]]

_KEY_AT_THE_END = re.compile(r"([^<>]*)/<[^<>]+>")


class _KeyRule(NamedTuple):
    """A rule that ends with a key, and how the key is read."""

    rule: Rule
    name: str
    is_key: Callable[[str], object]
    to_python: Callable[[str], Any]


class Routes:
    """The rules of a map that no other one comes into the way of: those without parameters, and with one, at the end.

    What they do not tell is left to werkzeug: redirects, other methods, paths that are not there, all other rules.
    """

    def __init__(self, url_map: Map) -> None:
        """Look through the rules; of those that are added later, nothing is known here."""
        rules = [*url_map.iter_rules()]
        endpoints = Counter(rule.endpoint for rule in rules)
        same: dict[str, list[Rule]] = defaultdict(list)
        beside: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            same[rule.rule].append(rule)
            beside[_split(rule)[0]].append(rule)
        self._fixed: dict[tuple[str, str], Rule] = {}
        self._keyed: dict[tuple[str, str], _KeyRule] = {}
        for path, found in same.items():
            if all(endpoints[rule.endpoint] == 1 and _is_simple(rule) for rule in found):
                self._add(path, found, beside)

    def _add(self, path: str, found: list[Rule], beside: Mapping[str, list[Rule]]) -> None:
        """Take over the rules for `path`, if they are of a kind that can be."""
        head = _KEY_AT_THE_END.fullmatch(path)
        # Of several for the same requests, the first has the say.
        for rule in reversed(found):
            if not rule.arguments:
                self._fixed |= {(method, path): rule for method in rule.methods or ()}
            elif head and (keyed := _key_rule(rule, beside[head[1]])):
                self._keyed |= {(method, head[1]): keyed for method in rule.methods or ()}

    def find(self, method: str, path: str) -> Found | None:
        """The rule for a path, and its parameters; None where werkzeug has to be asked."""
        rule = self._fixed.get((method, path))
        if rule is not None:
            return rule, {}
        head, _, key = path.rpartition("/")
        found = self._keyed.get((method, head))
        if found is None or not found.is_key(key):
            return None
        try:
            return found.rule, {found.name: found.to_python(key)}
        except ValidationError:
            return None


def _is_simple(rule: Rule) -> bool:
    special = (rule.defaults, rule.redirect_to, rule.alias, rule.build_only, rule.websocket, rule.subdomain, rule.host)
    return rule.methods is not None and not any(special)


def _split(rule: Rule) -> tuple[str, str]:
    """What stands in front of the last part, and that part; a slash behind it may be left out, to be redirected."""
    head, _, last = rule.rule.rstrip("/").rpartition("/")
    return head, last


def _key_rule(rule: Rule, beside: list[Rule]) -> _KeyRule | None:
    """`rule`, where no other one of those `beside` it could have the same path."""
    (name,) = rule.arguments
    converter: Any = rule._converters[name]  # noqa: SLF001 - werkzeug has no other way to it
    is_key = re.compile(converter.regex).fullmatch
    # A key in the place of theirs is no path of theirs, or it is this rule's.
    others = [other for other in beside if other.rule != rule.rule]
    is_disputed = any(other.arguments or is_key(_split(other)[1]) for other in others)
    if is_disputed or not converter.part_isolating:
        return None
    return _KeyRule(rule, name, is_key, converter.to_python)


class PathAdapter(MapAdapter):
    """An adapter that asks `routes` first."""

    routes: Routes

    def match(
        self,
        path_info: str | None = None,
        method: str | None = None,
        return_rule: bool = False,  # noqa: FBT001, FBT002 - werkzeug's signature
        query_args: Mapping[str, Any] | str | None = None,
        websocket: bool | None = None,  # noqa: FBT001
    ) -> tuple[Any, Mapping[str, Any]]:
        """As werkzeug does; Flask asks for the rule of the request."""
        if return_rule and path_info is None and method is None:
            found = self.routes.find(self.default_method, self.path_info)
            if found is not None:
                return found
        return super().match(path_info, method, return_rule, query_args, websocket)  # type: ignore[call-overload, no-any-return]
