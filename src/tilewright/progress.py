"""How work that takes a while tells how far it is: the one form that every function with ``progress`` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress", "named", "part"]

#: Called with how much is done, of how much in all, and what is being worked on.
Progress: TypeAlias = Callable[[int, int, str], None]

_PARTS = 1000  # of one run: the whole is told in thousandths of its runs


def part(
    progress: Progress | None, at: int, n_runs: int, *, before: str = "", instead: str | None = None
) -> Progress | None:
    """Progress of run ``at`` of ``n_runs`` as progress of the whole; ``before`` (``instead``) of what the run says."""
    if progress is None:
        return None
    tell = progress

    def told(done: int, total: int, what: str) -> None:
        words = before + what if instead is None else instead
        tell(_PARTS * at + _PARTS * done // max(1, total), _PARTS * n_runs, words)

    return told


def named(progress: Progress | None, what: str) -> Progress | None:
    """The same progress under the name ``what``."""
    if progress is None:
        return None
    tell = progress
    return lambda done, total, _: tell(done, total, what)
