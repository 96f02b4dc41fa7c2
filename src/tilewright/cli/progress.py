"""News about work that takes a while, on standard error and only when somebody watches."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from tilewright.cli.outputs import note

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["ProgressBar", "announce_compilation", "patience"]

_PATIENCE_S = 1.0


class ProgressBar:
    """A progress bar that appears after a second, if standard error is a terminal, and leaves no trace.

    Call it with how much is done, of how much, and what is being done.
    """

    def __init__(self) -> None:
        self._begin_s = time.monotonic()
        self._watched = sys.stderr.isatty()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """Show the state, if the work has lasted long enough."""
        if not self._watched or (self._progress is None and time.monotonic() - self._begin_s < _PATIENCE_S):
            return
        if self._progress is None:
            self._progress = _new_progress()
            self._progress.start()
            self._task = self._progress.add_task(what, total=total)
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, description=what)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


@contextlib.contextmanager
def patience(what: str) -> Iterator[None]:
    """Say ``what`` is going on, for work that cannot tell how far it is; shown after a second, to a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    progress = _new_progress()
    progress.add_task(what, total=None)
    timer = threading.Timer(_PATIENCE_S, progress.start)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        progress.stop()


def announce_compilation() -> None:
    """Compile the simulation engine if that has not been done on this computer, and say so first."""
    from tilewright.sim.engine import run as engine

    if not engine.is_compiled():
        where = "only the first time" if engine.can_be_kept() else "each time: it cannot be kept (see NUMBA_CACHE_DIR)"
        note(f"compiling the simulation engine: about 10 s, {where}")
        engine.warm_up()


def _new_progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
