"""Rows go to the disk while the next points are being run: those that come during a commit share the next one.

A commit waits for the disk, which takes about as long as several points. The waiting is done in a thread; a row is on
its way within some milliseconds, however long the next point takes, and counts as finished only when it is on the disk.
"""

from __future__ import annotations

import threading
from pathlib import Path

from tilewright.search.sweep.store import ResultsStore, StoredPoint

__all__ = ["RowWriter"]

_GATHER_S = 0.01  # a commit waits so long for more rows


class RowWriter:
    """Writes rows into the store in the file ``path``.

    An error of the store is raised by the next :meth:`add` or :meth:`finish`; the rows handed over since the last
    :meth:`finish` are then not all on the disk.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._waiting: list[StoredPoint] = []
        self._n_left = 1  # rows not yet written, and the store that is to be opened
        self._error: BaseException | None = None
        self._is_urgent = False
        self._closing = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        self.finish()

    def add(self, row: StoredPoint) -> None:
        """Hand ``row`` over."""
        with self._changed:
            self._raise()
            self._waiting.append(row)
            self._n_left += 1
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def finish(self) -> None:
        """Come back when every row that was handed over is on the disk."""
        with self._changed:
            self._is_urgent = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._n_left == 0)
            self._is_urgent = False
            self._raise()

    def close(self) -> None:
        """Write what is left and release the file; errors are not heard of any more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        """The thread: it alone touches the store, since a connection belongs to the thread that opened it."""
        try:
            store = ResultsStore(self._path)
        except BaseException as fault:
            self._written(1, fault)
            return
        self._written(1, None)
        with store:
            while rows := self._next_rows():
                error: BaseException | None = None
                try:
                    store.add_all(rows)
                except BaseException as fault:
                    error = fault
                self._written(len(rows), error)

    def _next_rows(self) -> list[StoredPoint]:
        """The rows of the next commit; none when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(lambda: self._is_urgent or self._closing, _GATHER_S)
            rows, self._waiting = self._waiting, []
            return rows

    def _written(self, n: int, error: BaseException | None) -> None:
        with self._changed:
            self._n_left -= n
            self._error = error or self._error
            self._changed.notify_all()
