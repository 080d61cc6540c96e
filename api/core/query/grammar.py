r"""The small grammar of query values: comma lists, quoted strings and nested groups. Pure.

group  = "(" member *("," member) ")"
member = name "=" (group | list | value)  name is `or`, `and` or `not` before a group, else a filter
list   = "(" value *("," value) ")"       brackets, so that its commas are not the group's
value  = quoted | bare                    quoted: "…" with \" and \\; bare: up to the next comma or bracket
"""

from __future__ import annotations

from dataclasses import dataclass

from api.core.query.problems import ProblemError

GROUP_NAMES = frozenset({"and", "or", "not"})


class GrammarError(ProblemError):
    """The text does not follow the grammar; the message says where."""


@dataclass(frozen=True, slots=True)
class Member:
    """`name=value` inside a group; `value` is a tuple of members when it is a group itself."""

    name: str
    value: str | tuple[Member, ...]


def split_list(text: str) -> list[str]:
    """The items of a comma list; an item in double quotes may hold commas.

    Raises:
        GrammarError: for a quote that does not end, or text behind one.
    """
    reader = _Reader(text)
    items = [reader.value(",")]
    while reader.take(","):
        items.append(reader.value(","))
    return items


def parse_group(text: str, depth_max: int) -> tuple[Member, ...]:
    """The members of `(name=value,…)`.

    Raises:
        GrammarError: naming the position, or saying that it nests deeper than `depth_max` groups.
    """
    reader = _Reader(text, depth_max)
    members = reader.group(1)
    if not reader.at_end:
        raise reader.error("nothing more")
    return members


def parse_members(text: str, depth_max: int) -> tuple[Member, ...]:
    """The members of `name=value,…`, which may have brackets around them.

    Raises:
        GrammarError: naming the position, or saying that it nests deeper than `depth_max` groups.
    """
    if text.startswith("("):
        return parse_group(text, depth_max)
    reader = _Reader(text, depth_max)
    members = reader.members(0)
    if not reader.at_end:
        raise reader.error("','")
    return members


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str, depth_max: int = 0) -> None:
        self._text = text
        self._at = 0
        self._depth_max = depth_max

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._text)

    def error(self, expected: str) -> GrammarError:
        return GrammarError(f"Expected {expected} at position {self._at + 1}.")

    def take(self, character: str) -> bool:
        if self._text.startswith(character, self._at):
            self._at += 1
            return True
        return False

    def group(self, depth: int) -> tuple[Member, ...]:
        if depth > self._depth_max:
            message = f"Must not be nested deeper than {self._depth_max} groups."
            raise GrammarError(message)
        if not self.take("("):
            raise self.error("'('")
        members = self.members(depth)
        if not self.take(")"):
            raise self.error("',' or ')'")
        return members

    def members(self, depth: int) -> tuple[Member, ...]:
        members = [self._member(depth)]
        while self.take(","):
            members.append(self._member(depth))
        return tuple(members)

    def value(self, stops: str) -> str:
        if self.take('"'):
            text = self._unquoted()
            if not self.at_end and self._text[self._at] not in stops:
                raise self.error("',' behind the closing quote")
            return text
        return self._until(stops)

    def _member(self, depth: int) -> Member:
        name = self._until("=,()")
        if not name or not self.take("="):
            raise self.error("name=value")
        if name in GROUP_NAMES:
            return Member(name, self.group(depth + 1))
        if self.take("("):
            return Member(name, self._bracketed())
        return Member(name, self.value(",)"))

    def _bracketed(self) -> str:
        """The text of a list, which `split_list` takes apart; a bracket in quotes does not end it."""
        start = self._at
        while not self.take(")"):
            if self.at_end:
                raise self.error("')' at the end of the list")
            if self.take('"'):
                self._unquoted()
            else:
                self._at += 1
        return self._text[start : self._at - 1]

    def _unquoted(self) -> str:
        """What stands between quotes, the first of which has been read."""
        characters: list[str] = []
        while not self.take('"'):
            if self.at_end:
                raise self.error("a closing quote")
            if self._text[self._at] == "\\" and self._text[self._at + 1 : self._at + 2] in {'"', "\\"}:
                self._at += 1
            characters.append(self._text[self._at])
            self._at += 1
        return "".join(characters)

    def _until(self, stops: str) -> str:
        start = self._at
        while not self.at_end and self._text[self._at] not in stops:
            self._at += 1
        return self._text[start : self._at]
