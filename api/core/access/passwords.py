"""Passwords: hashed with argon2id, never compared in less time for an account that does not exist.

Parameters: RFC 9106, section 4, its second choice, for machines where memory is not plenty.
"""

from __future__ import annotations

import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from api.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH_MIN = 12
"""Characters; NIST SP 800-63B asks for 8, OWASP ASVS 4.0.3 (2.1.1) for 12."""
LENGTH_MAX = 128
PATIENCE = 5.0
"""Seconds for which a request waits for its turn to hash."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a hash costs: passes over the memory, its size in KiB, threads; and how many a process makes at once."""

    passes: int = 3
    memory_kib: int = 65_536
    threads: int = 4
    at_once: int = 4


class Passwords:
    """Hashes and verifies passwords, so many at once and no more: each takes memory on purpose.

    One for each process, `PASSWORDS`, because the memory is the process's.
    """

    def __init__(self, cost: Cost | None = None) -> None:
        self.configure(cost or Cost())

    def configure(self, cost: Cost) -> None:
        """Hash at this cost from now on."""
        self._hasher = PasswordHasher(cost.passes, cost.memory_kib, cost.threads)
        self._turns = BoundedSemaphore(cost.at_once)
        self._dummy: str | None = None

    def hash(self, password: str) -> str:
        """The hash of `password`, with its salt and parameters in it.

        Raises:
            UnavailableError: when too many are being made already.
        """
        with self._turn():
            return self._hasher.hash(_prepared(password))

    def verify(self, stored: str | None, password: str) -> bool:
        """Whether `stored` is the hash of `password`; without one, no, but after the same work.

        Raises:
            UnavailableError: when too many are being verified already.
        """
        with self._turn():
            if stored is not None:
                try:
                    return self._hasher.verify(stored, _prepared(password))
                except InvalidHashError:
                    # Something else has been stored in its place: nobody's password, and no sooner said.
                    pass
                except VerificationError:
                    return False
            self._pretend(password)
            return False

    def is_outdated(self, stored: str) -> bool:
        """Whether `stored` was made with other parameters than new hashes are."""
        return self._hasher.check_needs_rehash(stored)

    def _pretend(self, password: str) -> None:
        if self._dummy is None:
            self._dummy = self._hasher.hash(b"nobody's password")
        try:
            self._hasher.verify(self._dummy, _prepared(password))
        except VerificationError:
            return

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=PATIENCE):
            raise UnavailableError("Too many passwords are being checked; please try again.")
        try:
            yield
        finally:
            self._turns.release()


def _prepared(password: str) -> bytes:
    """The same bytes for what looks the same, whichever keyboard it was typed on (RFC 8265, section 4.2: NFC)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


PASSWORDS = Passwords()
"""The one of this process; `create_app` gives it the cost that is set."""
