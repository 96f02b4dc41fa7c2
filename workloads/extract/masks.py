"""What the mask of an attention says, read from its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

__all__ = ["HIDDEN_BELOW", "read_mask"]

#: A score this low, or lowered by as much, leaves a weight of zero.
HIDDEN_BELOW = -1e4


def read_mask(data: Array, rows: int, keys: int) -> dict[str, Any] | None:
    """The attributes (mask, window_left, window_right) of a mask in numbers, or None when it is no band.

    ``data`` broadcasts to (..., rows, keys); true, or zero, where a key is seen. The same for all heads and batch
    entries.
    """
    import numpy as np

    visible = _visible(data)
    if visible is None or (visible.ndim > 2 and not (visible == visible.reshape(-1, *visible.shape[-2:])[0]).all()):
        return None
    plane = visible.reshape(-1, *visible.shape[-2:])[0] if visible.ndim > 1 else visible
    plane = np.broadcast_to(plane, (rows, keys))
    if plane.all():
        return {"mask": "none"}
    if not plane.any(axis=1).all():
        return None
    first, stop = plane.argmax(axis=1), keys - plane[:, ::-1].argmax(axis=1)
    position = np.arange(rows) + keys - rows
    if not ((stop - first) == plane.sum(axis=1)).all():
        return None
    right = stop - 1 - position
    left = position - first
    cut_right, cut_left = stop < keys, first > 0
    after = int(right.max()) if cut_right.any() else None
    before = int(left.max()) if cut_left.any() else None
    return _band(position, first, stop, keys, before, after)


def _visible(data: Array) -> NDArray[np.bool_] | None:
    import numpy as np

    if data.dtype == np.bool_:
        return np.asarray(data, dtype=np.bool_)
    numbers = data.astype(np.float64)
    seen = numbers == 0
    return seen if bool((seen | (numbers <= HIDDEN_BELOW)).all()) else None


def _band(
    position: Array, first: Array, stop: Array, keys: int, before: int | None, after: int | None
) -> dict[str, Any] | None:
    """The band with these reaches, when it is the one that the rows show."""
    import numpy as np

    starts = np.zeros_like(first) if before is None else np.maximum(0, position - before)
    stops = np.full_like(stop, keys) if after is None else np.minimum(keys, position + after + 1)
    if not ((starts == first).all() and (stops == stop).all()):
        return None
    if before is None and after == 0:
        return {"mask": "causal"}
    window = {"window_left": before, "window_right": after}
    return {"mask": "banded", **{key: value for key, value in window.items() if value is not None}}
