"""The small grammar of query values: comma lists, quoted strings and nested groups. Pure.

group  = "(" member *("," member) ")"
member = name "=" (group | value)         name is `or`, `and` or `not` before a group, else a filter
value  = quoted | bare                    quoted: "…" with \\" and \\\\; bare: up to the next unnested comma or bracket
"""

from __future__ import annotations

from dataclasses import dataclass

GROUP_NAMES = frozenset({"and", "or", "not"})


class GrammarError(ValueError):
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
        GrammarError: naming the position, or saying that it nests deeper than `depth_max`.
    """
    reader = _Reader(text)
    members = reader.group(depth_max)
    if not reader.at_end:
        raise reader.error("nothing more")
    return members


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

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
        if depth <= 0:
            message = "Groups are nested too deeply."
            raise GrammarError(message)
        if not self.take("("):
            raise self.error("'('")
        members = [self._member(depth)]
        while self.take(","):
            members.append(self._member(depth))
        if not self.take(")"):
            raise self.error("',' or ')'")
        return tuple(members)

    def _member(self, depth: int) -> Member:
        name = self._until("=,()")
        if not name or not self.take("="):
            raise self.error("name=value")
        if name in GROUP_NAMES:
            return Member(name, self.group(depth - 1))
        # A list inside a group has brackets of its own, so that its commas are not the group's.
        if self._text.startswith("(", self._at):
            return Member(name, self._bracketed())
        return Member(name, self.value(",)"))

    def _bracketed(self) -> str:
        start = self._at + 1
        end = self._text.find(")", start)
        if end < 0:
            raise self.error("a list that ends with ')'")
        self._at = end + 1
        return self._text[start:end]

    def value(self, stops: str) -> str:
        if self.take('"'):
            return self._quoted(stops)
        return self._until(stops)

    def _quoted(self, stops: str) -> str:
        characters: list[str] = []
        while not self.at_end:
            character = self._text[self._at]
            self._at += 1
            if character == '"':
                if not self.at_end and self._text[self._at] not in stops:
                    raise self.error("',' behind the closing quote")
                return "".join(characters)
            if character == "\\" and self._text[self._at : self._at + 1] in {'"', "\\"}:
                character = self._text[self._at]
                self._at += 1
            characters.append(character)
        raise self.error("a closing quote")

    def _until(self, stops: str) -> str:
        start = self._at
        while not self.at_end and self._text[self._at] not in stops:
            self._at += 1
        return self._text[start : self._at]
