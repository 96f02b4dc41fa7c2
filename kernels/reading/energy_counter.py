"""Joules of back-to-back calls by a board's energy counter, one row a kernel, as a person writes them down.

Columns: what, seconds, joules, calls; also sm_clock_mhz. ``what`` begins with the kernel: ``gemm bf16 8192^3``,
``gemv bf16 4096x14336``, ``copy 2 GiB``, ``attention bf16 4x32x4096x128``, ``idle``; "zeros" in it: so were operands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.kernels.measured import MeasuredOperator, MeasuredTable
from tilewright.kernels.reading.columns import need_columns, read_frame, seconds_column, watts_column, whole_column

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["is_energy_counter", "read_energy_counter"]

_NEEDED = ("what", "seconds", "joules", "calls")
_GEMM = {"bf16": "bf16", "fp16": "bf16", "fp8": "fp8_cublas", "int8": "int8_cublas"}
_SIZES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_ROW = 4096  # values of a row of a copy
_LARGE_COPIES, _ONE_SET = 8, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernel:
    operator: MeasuredOperator
    family: str
    columns: Mapping[str, int]
    copies: int


def is_energy_counter(header: Sequence[str]) -> bool:
    """Whether a CSV table with these columns is one."""
    return all(name in header for name in _NEEDED)


def read_energy_counter(path: Path) -> list[MeasuredTable]:
    """One table for each family and state of the caches; rows whose kernel is not modelled are left out.

    The device is the file name's first word (``h100_energy.csv``).
    """
    import numpy as np

    frame = read_frame(path)
    need_columns(path, frame, *_NEEDED)
    idle = frame[frame["what"].astype(str).str.startswith("idle")]
    idle_w = float(watts_of(path, idle)[0]) if len(idle) else None
    groups: dict[tuple[MeasuredOperator, str, int], list[tuple[int, _Kernel]]] = {}
    for at, what in enumerate(frame["what"].astype(str)):
        kernel = _kernel(what)
        if kernel is not None:
            groups.setdefault((kernel.operator, kernel.family, kernel.copies), []).append((at, kernel))
    tables = []
    for (operator, family, copies), kernels in groups.items():
        rows = frame.iloc[[at for at, _ in kernels]]
        kernels_of_call = np.array([_kernels_of_call(what) for what in rows["what"].astype(str)])
        clock = whole_column(path, rows, "sm_clock_mhz") * 1e6 if "sm_clock_mhz" in rows else None
        tables.append(
            MeasuredTable(
                name=f"{path.stem}: {family}" + (" in the L2" if copies == _ONE_SET else ""),
                operator=operator,
                family=family,
                device=path.stem.partition("_")[0],
                columns={name: np.array([each.columns[name] for _, each in kernels]) for name in kernels[0][1].columns},
                seconds=seconds_column(path, rows, "seconds", 1.0)
                / whole_column(path, rows, "calls")
                / kernels_of_call,
                source="board's energy counter over back-to-back calls",
                copies=copies,
                sustained=True,
                watts=watts_of(path, rows),
                clock_hz=None if clock is None else clock.astype(float),
                idle_w=idle_w,
                zeros=rows["what"].astype(str).str.contains("zeros").to_numpy(dtype=bool),
            )
        )
    return tables


def watts_of(path: Path, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Joules over seconds of each row."""
    return watts_column(path, rows, "joules") / seconds_column(path, rows, "seconds", 1.0)


def _kernels_of_call(what: str) -> int:
    found = re.search(r"(\d+) weights in turn", what)
    return 1 if found is None else int(found[1])


def _kernel(what: str) -> _Kernel | None:
    for pattern, make in _PATTERNS.items():
        found = re.match(pattern, what)
        if found:
            return make(found)
    return None


def _cube(found: re.Match[str]) -> _Kernel | None:
    side, family = int(found[2]), _GEMM.get(found[1])
    columns = {"m": side, "n": side, "k": side}
    return None if family is None else _product(family, columns)


def _vector(found: re.Match[str]) -> _Kernel | None:
    family = _GEMM.get(found[1])
    columns = {"m": 1, "n": int(found[2]), "k": int(found[3])}
    return None if family is None else _product(family, columns)


def _product(family: str, columns: Mapping[str, int]) -> _Kernel:
    return _Kernel(operator="gemm", family=family, columns=columns, copies=_LARGE_COPIES)


def _copy(found: re.Match[str]) -> _Kernel:
    rows = int(found[1]) * _SIZES[found[2]] // 2 // _ROW  # of 16-bit values
    copies = _ONE_SET if "L2" in found.string else _LARGE_COPIES
    return _Kernel(operator="rowwise", family="gelu_graph", columns={"m": rows, "n": _ROW}, copies=copies)


def _attention(found: re.Match[str]) -> _Kernel:
    batch, heads, length, width = (int(found[i]) for i in range(1, 5))
    columns = {"batch": batch, "queries": length, "keys": length, "heads": heads, "kv_heads": heads}
    columns |= {"head_dim": width, "window": 0}
    return _Kernel(operator="attention", family="torch_sdpa_encoder", columns=columns, copies=_LARGE_COPIES)


_PATTERNS: dict[str, Callable[[re.Match[str]], _Kernel | None]] = {
    r"gemm (\w+) (\d+)\^3": _cube,
    r"gemv (\w+) (\d+)x(\d+)": _vector,
    r"copy (\d+) (KiB|MiB|GiB)": _copy,
    r"attention \w+ (\d+)x(\d+)x(\d+)x(\d+)": _attention,
}
