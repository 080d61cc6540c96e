"""PostgreSQL's COPY as streams: rows out as an iterator of bytes, rows in from a file; neither is ever held whole."""

from __future__ import annotations

import contextvars
import io
import queue
import threading
from contextlib import closing, contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Self

import psycopg2

from api.core.database.failures import as_sqlalchemy
from api.core.database.session import translated_failures
from api.core.database.watchdog import hang_up, waiting
from api.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

CHUNK_SIZE = 65_536
"""Bytes that are handed on at a time, or a little more."""
_ROW_SIZE = 8_192
"""Of most rows, at the most: a chunk is handed on before the row that has no place in it."""

CHUNKS_AHEAD = 8
"""How many chunks the server may be ahead of whoever takes them."""

_NOT_TAKEN = "Nobody has taken the rows that were sent."


def copy_in(connection: Connection, statement: str, source: IO[bytes]) -> None:
    """Run `COPY … FROM STDIN` with the content of `source`, in the transaction of `connection`.

    Raises:
        DBAPIError: as any other statement does.
    """
    with _as_sqlalchemy(connection, statement), closing(_cursor(connection)) as cursor:
        cursor.copy_expert(statement, source, CHUNK_SIZE)


class CopyOut:
    """The output of `COPY … TO STDOUT` in chunks of bytes, while the server is still writing it.

    A thread takes it off the server, at most `CHUNKS_AHEAD` chunks ahead. `close()`, which may be called at any time,
    breaks the COPY off and gives the connection back. When the server sends nothing for `silence` seconds, or nobody
    takes a chunk for as long, the COPY is broken off, too.
    """

    def __init__(self, connection: Connection, statement: str, *, silence: float) -> None:
        """Wait for the first chunk, so that what goes wrong at once is raised here.

        `connection` is in a transaction, which is ended; then it is closed.

        Raises:
            APIError: for what the database refused.
        """
        self._connection = connection
        self._statement = statement
        self._silence = silence
        self._driver: Any = connection.connection.driver_connection
        self._chunks: queue.Queue[bytes | BaseException | None] = queue.Queue(CHUNKS_AHEAD)
        self._lock = threading.Lock()
        self._is_copying = True
        self._is_abandoned = False
        self._is_over = False
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._work,), name="copy-out", daemon=True)
        self._thread.start()
        self._first = self._taken()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """The next chunk.

        Raises:
            APIError: when the COPY has failed; what came before is not all.
        """
        chunk, self._first = self._first, None
        if chunk is None:
            chunk = self._taken()
        if chunk is None:
            raise StopIteration
        return chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the COPY if it is still running, and give the connection back."""
        self._is_over = self._is_abandoned = True
        self._first = None
        # Under the lock, so that no socket is shut down whose number has been given to another one meanwhile.
        with self._lock:
            if self._is_copying:
                hang_up(self._driver)
        self._make_room()
        self._thread.join()

    def _taken(self) -> bytes | None:
        if self._is_over:
            return None
        try:
            chunk = self._chunks.get(timeout=self._silence)
        except queue.Empty:
            self.close()
            raise UnavailableError("The database took too long to answer; narrow the request or try again.") from None
        if isinstance(chunk, bytes):
            return chunk
        self._is_over = True
        self._thread.join()
        if chunk is not None:
            with translated_failures():
                raise chunk
        return None

    # -- in the thread --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._copy()
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - told to whoever takes the chunks
            # In front of what is still waiting to be taken: the rest is missing anyway.
            self._make_room()
            self._chunks.put(error)

    def _copy(self) -> None:
        chunks = _Chunks(self._put)
        rows = io.BufferedWriter(chunks, CHUNK_SIZE + _ROW_SIZE)
        try:
            with waiting(None), _as_sqlalchemy(self._connection, self._statement):
                # The driver hands over a row at a time; Python's own code sees them by the chunk.
                _cursor(self._connection).copy_expert(self._statement, rows)
        except BaseException:
            # What is left in the buffer is not handed on.
            chunks.close()
            self._stop_copying()
            self._connection.invalidate()
            raise
        else:
            self._stop_copying()
            self._connection.rollback()
        finally:
            self._connection.close()
        with chunks:
            rows.flush()

    def _stop_copying(self) -> None:
        with self._lock:
            self._is_copying = False

    def _put(self, chunk: bytes | None) -> None:
        if self._is_abandoned:
            raise UnavailableError(_NOT_TAKEN)
        try:
            self._chunks.put(chunk, timeout=self._silence)
        except queue.Full:
            raise UnavailableError(_NOT_TAKEN) from None

    def _make_room(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._chunks.get_nowait()


class _Chunks(io.RawIOBase):
    """A file whose content is handed on as it is written."""

    def __init__(self, hand_on: Callable[[bytes], None]) -> None:
        self._hand_on = hand_on

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any, /) -> int:
        """Hand a chunk on."""
        self._hand_on(bytes(data))
        return len(data)


def _cursor(connection: Connection) -> Any:
    """The driver's own cursor, which can COPY."""
    return connection.connection.cursor()


@contextmanager
def _as_sqlalchemy(connection: Connection, statement: str) -> Iterator[None]:
    """Turn the driver's errors into SQLAlchemy's, which it does itself only for what goes through its own cursor."""
    driver: Any = connection.connection.driver_connection
    try:
        yield
    except psycopg2.Error as error:
        raise as_sqlalchemy(statement, error, lost=bool(driver.closed)) from error
