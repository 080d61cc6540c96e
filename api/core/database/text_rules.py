"""Rules for texts that people read and compare: what can be seen, and what a name may not hide.

Unicode has characters that show nothing, and some that reverse what stands behind them; with these, two names look the
same, or one looks like another (Unicode Technical Report 36, section 2; CVE-2021-42574). Prose needs some of them, such
as marks for the direction of Hebrew and Arabic, and emoji need others; so it depends on the column which rule it has:

- `Readable`: a visible character. For what is shown, such as titles.
- `Label`: also no control characters and none that change the direction or show nothing, but joiners and variation
  selectors, of which emoji and some scripts are made. For names.
- `Identifier`: none of these either. For what is compared, such as names of users and keys of articles.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

from marshmallow import ValidationError
from marshmallow.validate import Validator

if TYPE_CHECKING:
    from collections.abc import Sequence

    Ranges = Sequence[tuple[int, int]]

# Without NUL, which no text may contain.
_CONTROLS: Ranges = ((0x01, 0x1F), (0x7F, 0x9F), (0x2028, 0x2029))
_DIRECTIONS: Ranges = ((0x61C, 0x61C), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069))
_INVISIBLE: Ranges = (
    *((0xAD, 0xAD), (0x115F, 0x1160), (0x180E, 0x180E), (0x200B, 0x200B), (0x2060, 0x2065), (0x206A, 0x206F)),
    *((0x2800, 0x2800), (0x3164, 0x3164), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF9, 0xFFFB)),
)
_JOINERS: Ranges = (
    *((0x34F, 0x34F), (0x180B, 0x180D), (0x200C, 0x200D), (0xFE00, 0xFE0F), (0xE0001, 0xE007F), (0xE0100, 0xE01EF)),
)
_BLANKS: Ranges = (
    (0x20, 0x20),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
)
_UNSEEN: Ranges = (*_CONTROLS, *_DIRECTIONS, *_INVISIBLE, *_JOINERS, *_BLANKS)


def _members(ranges: Ranges) -> str:
    """The inside of a bracket expression, with the characters themselves: so do Python and OpenAPI have it."""
    return "".join(chr(first) + (f"-{chr(last)}" if last > first else "") for first, last in ranges)


def _sql_members(ranges: Ranges) -> str:
    """The same with escapes, as PostgreSQL's patterns have it."""
    return "".join(_sql_escape(first) + (f"-{_sql_escape(last)}" if last > first else "") for first, last in ranges)


def _sql_escape(code: int) -> str:
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"  # noqa: PLR2004 - the basic plane's last


class Readable(Validator):
    """A text in which something can be seen; an empty one is the business of `Length`."""

    forbidden: ClassVar[Ranges] = ()
    message = "Must have a visible character."

    def __init__(self) -> None:
        self._hidden = re.compile(f"[{_members(self.forbidden)}]") if self.forbidden else None

    def _repr_args(self) -> str:
        return ""

    def __call__(self, value: str) -> str:
        """Check `value`.

        Raises:
            ValidationError: naming the first character that is not allowed.
        """
        if value and not _SEEN.search(value):
            raise ValidationError(self.message)
        if self._hidden is not None and (found := self._hidden.search(value)):
            raise ValidationError(f"Must not contain the character U+{ord(found[0]):04X}, which cannot be seen.")
        return value

    @property
    def pattern(self) -> str:
        """The rule as a pattern of JSON Schema, which is found anywhere in a text."""
        if not self.forbidden:
            return f"[^{_members(_UNSEEN)}]"
        allowed = f"[^{_members(self.forbidden)}]*"
        return f"^{allowed}[^{_members(_UNSEEN)}]{allowed}$"

    @property
    def sql_patterns(self) -> tuple[str, str | None]:
        """What a text must match, and what it must not, as PostgreSQL's `~` takes them."""
        return f"[^{_sql_members(_UNSEEN)}]", f"[{_sql_members(self.forbidden)}]" if self.forbidden else None


class Label(Readable):
    """A name, in which nothing is hidden."""

    forbidden = (*_CONTROLS, *_DIRECTIONS, *_INVISIBLE)
    message = "Must have a visible character, and none that cannot be seen."


class Identifier(Readable):
    """A text that is compared: no two that look alike because of what cannot be seen."""

    forbidden = (*_CONTROLS, *_DIRECTIONS, *_INVISIBLE, *_JOINERS)
    message = "Must have a visible character, and none that cannot be seen."


_SEEN = re.compile(f"[^{_members(_UNSEEN)}\\x00]")
