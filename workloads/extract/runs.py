"""Large tensors of known numbers, held as what they are made of: runs of equal numbers, or a sum of two vectors.

A mask of n queries and n keys has n^2 entries, but it is made by comparing positions, so each row is a few runs. Held
so, a mask of any length is worked out exactly in time proportional to its rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Indices = NDArray[Any]

__all__ = [
    "Known",
    "OuterSum",
    "Runs",
    "combine",
    "constant_runs",
    "is_vector",
    "kept_triangle",
    "runs_of",
    "visible_runs",
]

#: More runs in one row than this are no structure.
MOST_RUNS = 64
#: Dense tensors up to this many entries are looked through for runs.
MOST_ENTRIES = 1 << 28

_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_TURNED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq", "ne": "ne"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """A tensor of ``shape`` whose rows (along the last dimension) are runs of equal numbers.

    ``starts`` and ``values`` have shape (rows..., n_runs), where rows... broadcasts to ``shape[:-1]``. The first run
    starts at 0; each ends where the next begins; runs without a width stand at the end, at ``shape[-1]``, with value 0.
    """

    shape: tuple[int, ...]
    starts: Indices
    values: Array

    def dense(self) -> Array:
        """All entries."""
        import numpy as np

        places = np.arange(self.shape[-1])
        index = (self.starts[..., None, :] <= places[:, None]).sum(axis=-1) - 1
        return np.broadcast_to(np.take_along_axis(self.values, index, axis=-1), self.shape)

    def shown_as(self, shape: Sequence[int]) -> Runs | None:
        """The same entries in another shape whose last dimension is the same; None for others."""
        import numpy as np

        if not shape or shape[-1] != self.shape[-1] or math.prod(shape) != math.prod(self.shape):
            return None
        wanted = tuple(shape[:-1])
        if [n for n in wanted if n > 1] != [n for n in self.shape[:-1] if n > 1]:
            starts, values = (
                np.broadcast_to(one, (*self.shape[:-1], one.shape[-1])).reshape(*wanted, -1)
                for one in (self.starts, self.values)
            )
            return Runs(shape=tuple(shape), starts=starts, values=values)
        rows = iter([n for n, full in zip(self._rows(), self.shape[:-1], strict=True) if full > 1])
        kept = [next(rows) if n > 1 else 1 for n in wanted]
        n_runs = self.starts.shape[-1]
        return Runs(
            shape=tuple(shape), starts=self.starts.reshape(*kept, n_runs), values=self.values.reshape(*kept, n_runs)
        )

    def _rows(self) -> tuple[int, ...]:
        rows = self.starts.shape[:-1]
        return (1,) * (len(self.shape) - 1 - len(rows)) + tuple(rows)

    def expanded(self, shape: Sequence[int]) -> Runs | None:
        """Entries repeated along dimensions of size 1, or along new ones in front."""
        if self.shape and shape[-1] != self.shape[-1] and self.shape[-1] != 1:
            return None
        return Runs(shape=tuple(shape), starts=self.starts, values=self.values)

    def part(self, dimension: int, start: int, stop: int) -> Runs:
        """Entries ``start`` to ``stop`` - 1 along a dimension."""
        import numpy as np

        dimension %= len(self.shape)
        shape = (*self.shape[:dimension], stop - start, *self.shape[dimension + 1 :])
        if dimension == len(self.shape) - 1:
            return _shortest(shape, np.clip(self.starts - start, 0, stop - start), self.values)
        rows = self._rows()
        starts, values = (one.reshape(*rows, one.shape[-1]) for one in (self.starts, self.values))
        if rows[dimension] > 1:
            where = (*[slice(None)] * dimension, slice(start, stop))
            starts, values = starts[where], values[where]
        return Runs(shape=shape, starts=starts, values=values)


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterSum:
    """A tensor of ``shape`` that is ``row`` (last dimension 1) plus ``key`` (one number per entry of the last
    dimension), or the size of that.
    """

    shape: tuple[int, ...]
    row: Array
    key: Array
    is_absolute: bool = False


Known: TypeAlias = "Array | Runs | OuterSum"


def is_vector(shape: Sequence[int]) -> bool:
    """Whether at most one dimension is longer than 1."""
    return sum(extent > 1 for extent in shape) <= 1


def constant_runs(shape: Sequence[int], value: Any) -> Runs:
    """A tensor with the same number everywhere."""
    import numpy as np

    return Runs(shape=tuple(shape), starts=np.zeros(1, dtype=np.int64), values=np.asarray([value]))


def runs_of(known: Known, n_columns: int) -> Runs | None:
    """``known`` as runs in rows of ``n_columns``; None when its rows have too many."""
    import numpy as np

    if isinstance(known, OuterSum):
        return None
    if isinstance(known, Runs):
        return known if known.shape[-1] in (1, n_columns) else None
    if known.ndim == 0 or known.shape[-1] == 1:
        values = known.reshape(1) if known.ndim == 0 else known
        return Runs(shape=values.shape, starts=np.zeros(values.shape, dtype=np.int64), values=values)
    if known.shape[-1] != n_columns or known.size > MOST_ENTRIES:
        return None
    flat = known.reshape(-1, n_columns)
    changes = flat[:, 1:] != flat[:, :-1]
    n_runs = int(changes.sum(axis=1).max(initial=0)) + 1
    if n_runs > MOST_RUNS:
        return None
    starts = np.full((flat.shape[0], n_runs), n_columns, dtype=np.int64)
    starts[:, 0] = 0
    row, place = np.nonzero(changes)
    counts = changes.sum(axis=1)
    order = np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)
    starts[row, order + 1] = place + 1
    values = np.take_along_axis(flat, np.minimum(starts, n_columns - 1), axis=1)
    shape = (*known.shape[:-1], n_runs)
    return _shortest(known.shape, starts.reshape(shape), values.reshape(shape))


def combine(
    function: str, arguments: Sequence[Known], shape: Sequence[int], apply: Callable[[list[Array]], Array]
) -> Known | None:
    """A function of each entry of ``arguments``, which broadcast to ``shape``; None when the result has no structure.

    ``function`` is lt, le, gt, ge, eq, ne, add, sub, neg, abs or any other name; ``apply`` computes it of arrays of the
    same shape (single numbers among its operands are its own affair, but for comparisons and sums, which need all).
    """
    wanted = tuple(shape)
    if function in _COMPARISONS and len(arguments) == 2:
        compared = _compared(function, arguments[0], arguments[1], wanted)
        if compared is not None:
            return compared
    runs = [runs_of(argument, wanted[-1]) for argument in arguments]
    if all(one is not None for one in runs):
        starts, values = _aligned([one for one in runs if one is not None])
        return _shortest(wanted, starts, apply(values))
    return _summed(function, arguments, wanted)


def _aligned(runs: Sequence[Runs]) -> tuple[Indices, list[Array]]:
    """Common starts of several tensors' runs, and the value of each in every one of them."""
    import numpy as np

    if len(runs) == 1:
        return runs[0].starts, [runs[0].values]
    rows = np.broadcast_shapes(*(one.starts.shape[:-1] for one in runs))
    spread = [np.broadcast_to(one.starts, (*rows, one.starts.shape[-1])) for one in runs]
    starts = np.sort(np.concatenate(spread, axis=-1), axis=-1)
    values = []
    for own, one in zip(spread, runs, strict=True):
        index = (own[..., None, :] <= starts[..., :, None]).sum(axis=-1) - 1
        values.append(np.take_along_axis(np.broadcast_to(one.values, own.shape), index, axis=-1))
    return starts, values


def _shortest(shape: tuple[int, ...], starts: Indices, values: Array) -> Runs:
    """Runs without those of no width, and with equal neighbours joined."""
    import numpy as np

    n_columns = shape[-1]
    for joined in (False, True):
        ends = np.concatenate([starts[..., 1:], np.full_like(starts[..., :1], n_columns)], axis=-1)
        kept = starts < ends
        if joined:
            kept[..., 1:] &= values[..., 1:] != values[..., :-1]
        n_runs = max(1, int(kept.sum(axis=-1).max(initial=1)))
        order = np.argsort(~kept, axis=-1, kind="stable")[..., :n_runs]
        is_kept = np.take_along_axis(kept, order, axis=-1)
        starts = np.where(is_kept, np.take_along_axis(starts, order, axis=-1), n_columns)
        values = np.where(is_kept, np.take_along_axis(values, order, axis=-1), np.zeros((), dtype=values.dtype))
    return Runs(shape=shape, starts=starts, values=values)


# --- sums of positions ----------------------------------------------------------------------------------------------


def _as_sum(known: Known, n_columns: int) -> OuterSum | None:
    """``known`` as a sum of a number per row and a number per entry of a row."""
    import numpy as np

    if isinstance(known, OuterSum):
        return known
    if isinstance(known, Runs):
        return None
    if known.dtype == np.bool_:
        known = known.astype(np.int8)
    none = np.zeros((1,), dtype=known.dtype)
    if known.ndim == 0 or known.shape[-1] == 1:
        return OuterSum(shape=known.shape, row=known.reshape(known.shape or (1,)), key=none)
    if known.shape[-1] == n_columns and known.size == n_columns:
        return OuterSum(shape=known.shape, row=none, key=known.reshape(-1))
    return None


def _summed(function: str, arguments: Sequence[Known], shape: tuple[int, ...]) -> OuterSum | None:
    """The sum or difference of two sums, or one turned around or without its sign."""
    parts = [_as_sum(argument, shape[-1]) for argument in arguments]
    if any(part is None or part.is_absolute for part in parts):
        return None
    known = [part for part in parts if part is not None]
    if function in ("add", "sub") and len(known) == 2:
        return _joined(function, known[0], known[1], shape)
    if function == "neg" and len(known) == 1:
        return OuterSum(shape=shape, row=-_signed(known[0].row), key=-_signed(known[0].key))
    if function == "abs" and len(known) == 1:
        return OuterSum(shape=shape, row=known[0].row, key=known[0].key, is_absolute=True)
    return known[0] if function in ("same", "to") and len(known) == 1 else None


def _joined(function: str, first: OuterSum, second: OuterSum, shape: tuple[int, ...]) -> OuterSum:
    sign = 1 if function == "add" else -1
    row = _signed(first.row) + sign * _signed(second.row)
    key = _signed(first.key) + sign * _signed(second.key)
    return OuterSum(shape=shape, row=row, key=key)


def _signed(array: Array) -> Any:
    """Whole numbers in 64 bits, others in double precision, so that differences are exact."""
    import numpy as np

    return array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)


def _compared(function: str, first: Known, second: Known, shape: tuple[int, ...]) -> Runs | None:
    """Where ``first`` is lt, le, gt, ge, eq or ne ``second``; None when neither side changes along the rows, or both do
    in a way that is no sum.
    """
    import numpy as np

    one, other = (_as_sum(known, shape[-1]) for known in (first, second))
    if one is None or other is None:
        return None
    if other.is_absolute:
        one, other, function = other, one, _TURNED[function]
    if one.is_absolute:
        return None if other.is_absolute or other.key.size > 1 else _compared_size(function, one, other, shape)
    difference = _joined("sub", one, other, shape)
    key, limit = np.asarray(difference.key), -np.asarray(difference.row)
    if key.size == 1:
        return None
    steps = np.diff(key)
    if (steps <= 0).all() and (steps < 0).any():
        key, limit, function = -key, -limit, _TURNED[function]
    elif not (steps >= 0).all():
        return None
    return _side_of(function, key, limit, shape)


def _side_of(function: str, key: Any, limit: Any, shape: tuple[int, ...]) -> Runs:
    """Where numbers that grow along the rows are below, at or above a limit of each row."""
    import numpy as np

    n_columns = shape[-1]
    below, up_to = (np.searchsorted(key, limit, side=side) for side in ("left", "right"))
    nothing, everything = np.zeros_like(below), np.full_like(below, n_columns)
    first, stop = {
        "lt": (nothing, below),
        "le": (nothing, up_to),
        "gt": (up_to, everything),
        "ge": (below, everything),
        "eq": (below, up_to),
        "ne": (below, up_to),
    }[function]
    starts = np.concatenate([nothing, first, stop], axis=-1).astype(np.int64)
    inside = function != "ne"
    values = np.broadcast_to(np.array([not inside, inside, not inside]), starts.shape)
    return _shortest(shape, starts, values)


def _compared_size(function: str, one: OuterSum, limit: OuterSum, shape: tuple[int, ...]) -> Runs | None:
    """Where a size |key + row| is below, at or above a limit of each row."""
    import numpy as np

    plain = OuterSum(shape=one.shape, row=one.row, key=one.key)
    turned = OuterSum(shape=limit.shape, row=-_signed(limit.row), key=-_signed(limit.key))
    above = _compared(function, plain, limit, shape)
    below = _compared(_TURNED[function], plain, turned, shape)
    if above is None or below is None:
        return None
    starts, values = _aligned([above, below])
    join = np.logical_and if function in ("lt", "le", "ne") else np.logical_or
    return _shortest(shape, starts, join(*values))


def kept_triangle(known: Known, shape: Sequence[int], diagonal: int, *, upper: bool) -> Runs | None:
    """``known`` below its diagonal (``upper``: above), the diagonal included, and 0 elsewhere."""
    import numpy as np

    runs = runs_of(known, shape[-1])
    rows, keys = np.arange(shape[-2])[:, None], np.arange(shape[-1])
    kept = _compared("ge" if upper else "le", keys, rows + diagonal, tuple(shape))
    if runs is None or kept is None:
        return None
    starts, (values, is_kept) = _aligned([runs, kept])
    return _shortest(tuple(shape), starts, np.where(is_kept.astype(bool), values, np.zeros((), dtype=values.dtype)))


def visible_runs(planes: Sequence[Runs], rows: int, keys: int) -> Runs | None:
    """Where all of ``planes`` (booleans) are true, as runs of shape (rows, keys); None when batch entries or heads
    differ, or a shape does not fit.
    """
    import numpy as np

    common, truths = _aligned(planes)
    seen = _shortest((rows, keys), common, np.logical_and.reduce([one.astype(bool) for one in truths]))
    starts, values = np.atleast_2d(seen.starts), np.atleast_2d(seen.values)
    starts, values = (one.reshape(-1, *one.shape[-2:]) for one in (starts, values))
    if (starts != starts[:1]).any() or (values != values[:1]).any() or starts.shape[1] not in (1, rows):
        return None
    return Runs(shape=(rows, keys), starts=starts[0], values=values[0])
