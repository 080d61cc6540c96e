"""Progress bars for commands that take a while."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Advance = Callable[[int], None]
"""Move the bar on by so many units."""

Bar = Callable[[str, int], AbstractContextManager[Advance]]
"""`with bar("Orders", 300) as advance:` shows a bar of that many units; 0 when nobody knows how many."""


@contextmanager
def terminal_bar(title: str, total: int) -> Iterator[Advance]:
    """A bar on standard error where that is a terminal, else nothing: a log file is spared."""
    # Here, because it is slow to import and every process of the application imports every command.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:-1], MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total or None)
        yield lambda amount: progress.advance(task, amount)


@contextmanager
def no_bar(_title: str, _total: int) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda _amount: None
