"""What the pieces of a cut attention compute on, and how their results make up that of the whole."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tilewright.sim.numbers.hazards import FloatArray
from tilewright.sim.numbers.interpreter import given
from tilewright.workloads.attention import AttentionLayer

__all__ = ["joined", "pieces_of"]


def pieces_of(
    piece: AttentionLayer, q: npt.ArrayLike, k: npt.ArrayLike, v: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Q, K and V of all the pieces, in the shapes of ``piece``, from those of the whole.

    Rows and keys behind the last are 0.
    """
    whole = piece.whole or piece
    q = given("q", q, (whole.batch, whole.query_heads, whole.query_len, whole.head_dim))
    k = given("k", k, (whole.batch, whole.kv_heads, whole.key_len, whole.head_dim))
    v = given("v", v, (whole.batch, whole.kv_heads, whole.key_len, whole.value_dim))
    cuts = piece.batch // whole.batch
    heads = piece.kv_heads // whole.kv_heads
    if piece.key_parts > 1:
        q = np.repeat(q, cuts, axis=0)
        k, v = (_blocks_of_rows(x, cuts, piece.key_len, striped=piece.deals_keys) for x in (k, v))
    else:
        q = _blocks_of_rows(q, cuts, piece.query_len, striped=piece.stripes > 1)
        k, v = (np.repeat(x, cuts, axis=0) for x in (k, v))
    return q, np.repeat(k, heads, axis=1), np.repeat(v, heads, axis=1)


def joined(piece: AttentionLayer, found: FloatArray) -> FloatArray:
    """The result of the whole from those of all its pieces, whose rows they share."""
    whole = piece.whole or piece
    if piece.key_parts > 1:
        return found
    cuts = piece.batch // whole.batch
    found = found.reshape(whole.batch, cuts, whole.query_heads, piece.query_len, whole.value_dim)
    order = (0, 2, 3, 1, 4) if piece.stripes > 1 else (0, 2, 1, 3, 4)
    rows = found.transpose(order).reshape(whole.batch, whole.query_heads, -1, whole.value_dim)
    return rows[:, :, : whole.query_len]


def _blocks_of_rows(q: FloatArray, cuts: int, n_rows: int, *, striped: bool) -> FloatArray:
    batch, heads, rows, width = q.shape
    q = np.pad(q, ((0, 0), (0, 0), (0, cuts * n_rows - rows), (0, 0)))
    if striped:
        return q.reshape(batch, heads, n_rows, cuts, width).transpose(0, 3, 1, 2, 4).reshape(-1, heads, n_rows, width)
    return q.reshape(batch, heads, cuts, n_rows, width).transpose(0, 2, 1, 3, 4).reshape(-1, heads, n_rows, width)
