"""What is told of all the tilings of a phase at once, before any of them is looked at alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias, overload

import numpy as np
import numpy.typing as npt

__all__ = ["Column", "Flags", "Screened", "Shortlist", "TilingTable"]

Column: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]


class Screened(NamedTuple):
    """By tiling: whether it fits on chip, and cycles and energy (pJ, idle power left out) that counting and running it
    never undercut (0 for one that does not fit; energy 0 where cycles are beyond what was asked for).
    """

    fits: Flags
    bound_cycles: Column
    energy_pj: npt.NDArray[np.float64]


class TilingTable(Sequence[dict[str, int]]):
    """Tilings as rows of one array, a column for each of ``names``; a row becomes a dictionary when it is asked for."""

    __slots__ = ("names", "rows")

    def __init__(self, names: Sequence[str], rows: Column) -> None:
        self.names = tuple(names)
        self.rows = rows

    @classmethod
    def of(cls, tilings: Sequence[dict[str, int]]) -> TilingTable:
        """``tilings``, all of the same parameters in one order, as a table."""
        if isinstance(tilings, TilingTable):
            return tilings
        rows = np.array([tuple(tiling.values()) for tiling in tilings], dtype=np.int64)
        return cls(tuple(tilings[0]), rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, at: int) -> dict[str, int]: ...

    @overload
    def __getitem__(self, at: slice) -> TilingTable: ...

    def __getitem__(self, at: int | slice) -> dict[str, int] | TilingTable:
        if isinstance(at, slice):
            return self.where(at)
        return dict(zip(self.names, self.rows[at].tolist(), strict=True))

    def __iter__(self) -> Iterator[dict[str, int]]:
        for row in self.rows.tolist():
            yield dict(zip(self.names, row, strict=True))

    def where(self, which: Flags | Column | slice) -> TilingTable:
        """Some of the tilings."""
        return TilingTable(self.names, self.rows[which])


class Shortlist(NamedTuple):
    """What a search with a score to beat needs of a space: the tilings that fit and may be as fast, in the order of the
    space, with cycles and energy that counting and running never undercut.

    ``n_candidates``: in the space; ``n_fitting``: at least so many of them fit.
    """

    tilings: TilingTable
    bound_cycles: Column
    energy_pj: npt.NDArray[np.float64]
    n_candidates: int
    n_fitting: int
