"""Which passwords are too easy to guess, by NIST SP 800-63B, section 3.1.1.2: no rules on kinds of characters."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from api.core.access.passwords import LENGTH_MAX, LENGTH_MIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DISTINCT_MIN = 5
"""Different characters that a password has at least."""
_NAME_MIN = 4
"""Characters of a name that a password must not contain; a shorter one may well be part of a word."""
# The words that the commonest passwords are made of, whatever digits and signs are put around and between them.
_COMMON_WORDS = """
abcdef admin adminadmin administrator baseball batman changeme charlie computer default dragon flower football
freedom guest hello iloveyou jesus killer letmein letmeinplease liverpool login master michael monkey mustang
mypassword ninja pass passpass passwd password passwordpassword passwort pokemon princess qazwsx qazwsxedc qwert
qwerty qwertyqwerty qwertyuiop qwertyuiopasdfghjkl root rootroot secret security shadow soccer starwars sunshine
superman system temporary test testtest thisisapassword trustno user username welcome welcometo whatever
"""
_COMMON = frozenset(_COMMON_WORDS.split())
_LOOKALIKES = str.maketrans("013457@$!", "oieastasi")
_RUNS = (
    "01234567890123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "1q2w3e4r5t6y7u8i9o0p",
)


def problems(password: str, names: Iterable[str | None] = ()) -> Iterator[str]:
    """What is wrong with a new password of somebody with these `names`: their username, their e-mail address."""
    if not LENGTH_MIN <= len(unicodedata.normalize("NFC", password)) <= LENGTH_MAX:
        yield f"Length must be between {LENGTH_MIN} and {LENGTH_MAX}."
        return
    plain = _folded(password)
    if any(part in plain for name in names if name for part in _parts(name)):
        yield "Must not contain the username or the e-mail address."
    elif is_common(password):
        yield "Must not be one of the commonest passwords, or made of one character after the other."


def is_common(password: str) -> bool:
    """Whether it is a common word with digits and signs, a run of keys, or one of few characters repeated."""
    plain = _folded(password)
    if len(set(plain)) < DISTINCT_MIN or any(plain in run or plain in run[::-1] for run in _RUNS):
        return True
    half = plain[: len(plain) // 2]
    if len(half) * 2 == len(plain) and half * 2 == plain and is_common(half):
        return True
    return not _COMMON.isdisjoint(_words(plain))


def _words(plain: str) -> Iterator[str]:
    """Only its letters, with or without digits and signs that are read as the letters that they look like."""
    inner = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", plain)
    for text in (plain, inner, plain.translate(_LOOKALIKES), inner.translate(_LOOKALIKES)):
        yield re.sub(r"[\W\d_]", "", text)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _parts(name: str) -> Iterator[str]:
    folded = _folded(name)
    for part in (folded, folded.partition("@")[0]):
        if len(part) >= _NAME_MIN:
            yield part
