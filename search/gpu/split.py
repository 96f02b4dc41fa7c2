"""Which rows of a table may calibrate, and which are held out: a fixed rule, by shape family, the same for all.

A product belongs to the calibration part when the CRC-32 of its weights' shape "n,k" is odd, attention by
"keys,heads,kv_heads,head_dim", a row-wise operator by "m,n"; products timed with the host's part by "m,n,k", because
their tables hold one weight for half of their rows. All rows of a family of shapes are on one side, so that
the held-out part holds weights (or heads and lengths) that no parameter has seen.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from tilewright.kernels.measured import MeasuredOperator, MeasuredTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SPLIT_COLUMNS", "calibration_rows", "power_rows", "split_rule"]

#: The columns that name a family of shapes.
SPLIT_COLUMNS: dict[MeasuredOperator, tuple[str, ...]] = {
    "gemm": ("n", "k"),
    "attention": ("keys", "heads", "kv_heads", "head_dim"),
    "rowwise": ("m", "n"),
    "mlp": ("m", "width", "hidden", "out_width"),
    "norm_gemm": ("m", "n", "k"),
    "experts": ("hidden", "inner", "top_k", "experts", "tensor_parts", "expert_parts"),
    "latent": ("queries", "keys", "heads"),
    "scan": ("tokens", "heads", "key_heads"),
    "short_conv": ("channels", "tokens"),
    "state_step": ("heads", "key_heads", "batch"),
    "token_top_k": ("batch", "queries", "cached"),
    "block_lists": ("queries", "mean_milli", "longest"),
    "block_sparse_attention": ("keys", "heads", "kv_heads", "head_dim", "kept_per_mille"),
}


_FEW_ROWS = 10
_BY_ROW = {"fp16_host": ("m", "n", "k")}


def split_rule(table: MeasuredTable) -> str:
    """The rule in one sentence."""
    return f'calibration where the CRC-32 of "{",".join(_split_columns(table))}" is odd, the rest held out'


def _split_columns(table: MeasuredTable) -> tuple[str, ...]:
    return _BY_ROW.get(table.family, SPLIT_COLUMNS[table.operator])


def calibration_rows(table: MeasuredTable) -> NDArray[np.bool_]:
    """A mask of the rows that may calibrate."""
    import numpy as np

    columns = [table.columns[name] for name in _split_columns(table)]
    known: dict[tuple[int, ...], bool] = {}
    mask = np.empty(len(table), dtype=bool)
    for row, key in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        if key not in known:
            known[key] = zlib.crc32(",".join(map(str, key)).encode()) % 2 == 1
        mask[row] = known[key]
    return mask


def power_rows(table: MeasuredTable) -> NDArray[np.bool_]:
    """A mask of the rows whose power may calibrate: as for times, but all of a table of few, unlike rows."""
    import numpy as np

    return np.ones(len(table), dtype=bool) if len(table) < _FEW_ROWS else calibration_rows(table)
