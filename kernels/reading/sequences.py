"""Wide tables of sequence kernels: a row a shape, a column a device and library, empty where not measured.

Columns of the shape say which table it is: gated delta rule (``Hk,Hv,B,L``), Kimi delta attention (``H,B,L``),
Mamba-2 (``nheads,...``), short convolutions (``C,B,L``; with ``collector`` channels first), single tokens (without
``L``), token top-k (``B,isl,step``), lists of blocks, native sparse attention.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.errors import InputError
from tilewright.kernels.measured import MeasuredOperator, MeasuredTable
from tilewright.kernels.reading.columns import read_frame, seconds_column, whole_column

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Shape = dict[str, NDArray[np.int64]]

__all__ = ["is_sequences", "read_sequences"]

_SOURCE = "NVIDIA aiconfigurator (Apache-2.0), one column a device and library"
_MS = 1e-3
_FIRST_LINE = 2
_LEAST_WHOLE_CHUNK = 128  # Mamba-2's persistent kernel; shorter sequences have another one
#: Names of shape columns; all others hold times.
_SHAPES = {
    "gdn": {"Hk", "Hv", "B", "L"},
    "gdn_step": {"kernel", "Hk", "Hv", "B"},
    "kda": {"H", "B", "L"},
    "kda_step": {"H", "B"},
    "conv_first": {"collector", "C", "B", "L"},
    "conv_last": {"C", "B", "L"},
    "conv_update": {"C", "B"},
    "ssd": {"nheads", "head_dim", "d_state", "n_groups", "chunk_size", "B", "L"},
    "chunk_scan": {"gpu", "kernel", "B", "L", "H", "P", "N", "G", "chunk", "ms", "tflops"},
    "top_k": {"B", "isl", "step"},
    "published": {"gpu", "B", "T", "H", "D", "kernel", "pass", "ms"},
    "blocks": {"heads", "tokens", "head_dim", "block", "busiest_row", "mean_row", "sparse_ms"},
    "nsa": {"T", "nsa_fwd"},
}
#: Endings of column names, and the family of each; the first that fits.
_FAMILIES = {
    "gdn": {"_flashinfer": "gdn_flashinfer", "_fla": "gdn_fla", "_trtllm": "gdn_trtllm"},
    "kda": {"_flashkda": "kda_flashkda", "_fla": "kda_fla", "_conv_qkv3": "conv_last_qkv"},
    "gdn_step": {
        "_sglang0510": "gdn_step_0510",
        "_sglang": "gdn_step",
        "_vllm": "gdn_step_vllm",
        "_trtllm": "gdn_step_trtllm",
    },
    "kda_step": {"_sglang": "kda_step", "_vllm": "kda_step_vllm", "_conv_update": "conv_update_vllm"},
    "conv_last": {"_sglang": "conv_last", "_vllm": "conv_last_vllm"},
    "conv_first": {"_sglang0510": "conv_first_0510", "": "conv_first"},
    "conv_update": {"": "conv_update_trtllm"},
    "top_k": {"_attn": "dsa_attention", "_logits": "dsa_indexer"},
}
_UPDATES = {
    "gdn_step": "conv_update",
    "gdn_step_vllm": "conv_update_vllm",
    "gdn_step_trtllm": "conv_update_trtllm",
    "gdn_step_0510": "conv_update_0510",
}
_PUBLISHED = {"chunk_retention": "retention_fla", "chunk_gla": "gla_fla", "chunk_gdn": "gdn_fla_host"}
_WIDTH = 128  # of keys and values in the delta rules' tables


def is_sequences(header: list[str]) -> bool:
    """Whether a table with this header is one of these."""
    return _kind(header) is not None


def _kind(header: list[str]) -> str | None:
    found = [kind for kind, shape in _SHAPES.items() if shape <= set(header)]
    return max(found, key=lambda kind: len(_SHAPES[kind])) if found else None


def read_sequences(path: Path) -> list[MeasuredTable]:
    """One table for each column of times, or each kernel and device in it."""
    frame = read_frame(path)
    kind = _kind(list(frame.columns)) or _unkind(path, frame)
    if kind == "ssd":
        return _ssd_tables(path, frame)
    if kind == "chunk_scan":
        return _chunk_scan_tables(path, frame)
    if kind == "published":
        return _published_tables(path, frame)
    if kind == "blocks":
        return [_block_table(path, frame)]
    if kind == "nsa":
        return [_nsa_table(path, frame)]
    tables = []
    for column in frame.columns:
        device, _, _ = column.partition("_")
        ending = next((end for end in _FAMILIES[kind] if column == device + end), None)
        if column in _SHAPES[kind] or ending is None:
            continue  # selection kernels of token top-k are not modelled
        rows = frame[frame[column].notna()]
        family = _FAMILIES[kind][ending]
        if kind == "gdn_step":
            for kernel in ("recurrent_step", "conv1d_update"):
                part = rows[rows["kernel"] == kernel]
                if len(part):
                    tables.append(_step_table(path, part, column, device, family, kernel))
        elif len(rows):
            operator, shape = _shape(path, rows, kind, family)
            tables.append(_table(path, rows, column, device, family, operator, shape))
    return tables


def _unkind(path: Path, frame: pd.DataFrame) -> str:
    """Refuse a table that is one of these only when spaces are taken from the names of its columns."""
    names = ", ".join(repr(name) for name in frame.columns if name != name.strip())
    raise InputError(f"{path}: columns have spaces about their names; given {names}; allowed names alone")


def _table(
    path: Path,
    rows: pd.DataFrame,
    column: str,
    device: str,
    family: str,
    operator: MeasuredOperator,
    shape: Shape,
    *,
    source: str = _SOURCE,
    seconds: NDArray[np.float64] | None = None,
) -> MeasuredTable:
    return MeasuredTable(
        name=f"{path.stem}: {column}" + ("" if column.endswith(family) else f" {family}"),
        operator=operator,
        family=family,
        device=device,
        columns=shape,
        seconds=seconds_column(path, rows, column, _MS) if seconds is None else seconds,
        source=source,
    )


def _shape(path: Path, rows: pd.DataFrame, kind: str, family: str) -> tuple[MeasuredOperator, Shape]:
    batch = whole_column(path, rows, "B")
    if kind in ("conv_last", "conv_first", "conv_update"):
        tokens = batch * 0 + 1 if kind == "conv_update" else whole_column(path, rows, "L")
        return "short_conv", {"batch": batch, "tokens": tokens, "channels": whole_column(path, rows, "C")}
    if kind == "top_k":
        cached = whole_column(path, rows, "step", least=0)
        return "token_top_k", {"batch": batch, "queries": whole_column(path, rows, "isl"), "cached": cached}
    heads = whole_column(path, rows, "H" if kind.startswith("kda") else "Hv")
    keys = heads if kind.startswith("kda") else whole_column(path, rows, "Hk")
    if family.startswith("conv"):
        tokens = whole_column(path, rows, "L") if kind == "kda" else batch * 0 + 1
        return "short_conv", {"batch": batch, "tokens": tokens, "channels": 3 * heads * _WIDTH}
    shape = {"heads": heads, "key_heads": keys, "key_dim": heads * 0 + _WIDTH, "value_dim": heads * 0 + _WIDTH}
    if kind.endswith("_step"):
        return "state_step", {"batch": batch, **shape}
    return "scan", {"batch": batch, "tokens": whole_column(path, rows, "L"), **shape}


def _step_table(path: Path, rows: pd.DataFrame, column: str, device: str, family: str, kernel: str) -> MeasuredTable:
    if kernel == "recurrent_step":
        operator, shape = _shape(path, rows, "gdn_step", family)
        return _table(path, rows, column, device, family, operator, shape)
    keys, values = whole_column(path, rows, "Hk"), whole_column(path, rows, "Hv")
    batch = whole_column(path, rows, "B")
    # The older collectors take the key heads' channels alone.
    of_keys = family in ("gdn_step_trtllm", "gdn_step_0510")
    channels = keys * _WIDTH if of_keys else (2 * keys + values) * _WIDTH
    shape = {"batch": batch, "tokens": batch * 0 + 1, "channels": channels}
    return _table(path, rows, column, device, _UPDATES[family], "short_conv", shape)


def _ssd_tables(path: Path, frame: pd.DataFrame) -> list[MeasuredTable]:
    tables = []
    for column in frame.columns:
        device, _, unit = column.partition("_")
        if unit != "ms":
            continue
        rows = frame[frame[column].notna()]
        whole = whole_column(path, rows, "L") >= _LEAST_WHOLE_CHUNK
        for family, part in (("ssd_trtllm", rows[whole]), ("ssd_trtllm_short", rows[~whole])):
            if len(part):
                shape = _scan_shape(path, part, "nheads", "n_groups", "d_state", "head_dim")
                tables.append(_table(path, part, column, device, family, "scan", shape))
    return tables


def _scan_shape(path: Path, rows: pd.DataFrame, heads: str, groups: str, state: str, width: str) -> Shape:
    named = {"batch": "B", "tokens": "L", "heads": heads, "key_heads": groups, "key_dim": state, "value_dim": width}
    return {name: whole_column(path, rows, column) for name, column in named.items()}


def _chunk_scan_tables(path: Path, frame: pd.DataFrame) -> list[MeasuredTable]:
    """The chunk scan alone; where a figure gave TFLOP/s, the time is its FLOP over them."""
    tables = []
    for (gpu, kernel), rows in frame.groupby(["gpu", "kernel"], sort=False):
        device, library = str(gpu).split()[0].lower(), str(kernel).split()[0]
        shape = _scan_shape(path, rows, "H", "G", "N", "P")
        chunk = whole_column(path, rows, "chunk")
        tokens = shape["batch"] * shape["tokens"] * shape["heads"]
        flop = tokens * shape["value_dim"] * (chunk + 2 * shape["key_dim"])
        given = rows["ms"].notna().all()
        seconds = seconds_column(path, rows, "ms", _MS) if given else flop / (rows["tflops"].to_numpy(float) * 1e12)
        family = f"ssd_chunk_scan_{library}"
        source = "tile-ai/tilelang, benchmark of Mamba-2's chunk scan (MIT)"
        tables.append(
            _table(path, rows, f"{device} {library}", device, family, "scan", shape, source=source, seconds=seconds)
        )
    return tables


def _published_tables(path: Path, frame: pd.DataFrame) -> list[MeasuredTable]:
    """flash-linear-attention's own times of whole calls, forward only."""
    tables = []
    stated = frame[(frame["pass"] == "fwd") & frame["kernel"].isin(_PUBLISHED) & frame["D"].notna()]
    for (gpu, kernel), rows in stated.groupby(["gpu", "kernel"], sort=False):
        device = str(gpu).split()[0].lower()
        if not any(sign.isdigit() for sign in device):
            continue  # no GPU is named
        heads, width = whole_column(path, rows, "H"), whole_column(path, rows, "D")
        shape = {
            "batch": whole_column(path, rows, "B"),
            "tokens": whole_column(path, rows, "T"),
            "heads": heads,
            "key_heads": heads,
            "key_dim": width,
            "value_dim": width,
        }
        column = f"{device} {kernel}"
        source = "fla-org/flash-linear-attention, its own benchmarks (MIT)"
        seconds = seconds_column(path, rows, "ms", _MS)
        tables.append(
            _table(path, rows, column, device, _PUBLISHED[str(kernel)], "scan", shape, source=source, seconds=seconds)
        )
    return tables


def _block_table(path: Path, rows: pd.DataFrame) -> MeasuredTable:
    """Our own: flex_attention over lists of blocks."""
    import numpy as np

    mean = rows["mean_row"].to_numpy(float)
    if not (np.isfinite(mean) & (mean > 0)).all():
        at = int((~(np.isfinite(mean) & (mean > 0))).argmax())
        raise InputError(f"{path}:{at + _FIRST_LINE}: mean_row: given {mean[at]}; allowed a number above 0")
    block = whole_column(path, rows, "block")
    shape = {
        "batch": whole_column(path, rows, "batch"),
        "heads": whole_column(path, rows, "heads"),
        "queries": whole_column(path, rows, "tokens"),
        "head_dim": whole_column(path, rows, "head_dim"),
        "row_tokens": block,
        "block": block,
        "mean_milli": np.round(mean * 1000).astype(np.int64),
        "longest": whole_column(path, rows, "busiest_row"),
    }
    device = path.stem.partition("_")[0]
    source = "own measurement, flex_attention of PyTorch"
    return _table(path, rows, "sparse_ms", device, "flex_blocks", "block_lists", shape, source=source)


def _nsa_table(path: Path, rows: pd.DataFrame) -> MeasuredTable:
    """Four sequences, four key heads: a row a token, with a list of 16 blocks of 64, as far as there are, and one."""
    import numpy as np

    tokens = whole_column(path, rows, "T")
    kept = np.array([np.minimum(np.arange(n) // 64 + 1, 16).mean() + 1 for n in tokens])
    same = tokens * 0
    shape = {
        "batch": same + 4,
        "heads": same + 4,
        "queries": tokens,
        "head_dim": same + 128,
        "row_tokens": same + 1,
        "block": same + 64,
        "mean_milli": np.round(kept * 1000).astype(np.int64),
        "longest": np.minimum(-(-tokens // 64), 16) + 1,
    }
    source = "fla-org/native-sparse-attention (MIT); the GPU is not stated, by its dense rate an H100"
    return _table(path, rows, "nsa_fwd", "h100", "nsa", "block_lists", shape, source=source)
