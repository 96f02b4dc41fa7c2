"""Our own measurement files as tables: which family of the simulator each kernel belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tilewright.errors import InputError
from tilewright.kernels.measured import COLUMNS, MeasuredOperator, MeasuredTable
from tilewright.kernels.measurement import Measurement, load_measurements
from tilewright.kernels.suite import Configuration

__all__ = ["n_networks", "placed", "read_own"]

#: Inputs rotate through up to so many sets, more than the L2 holds.
_COPIES = 8

_GEMM_FAMILIES = {
    ("torch_matmul", "fp16"): "bf16",
    ("torch_matmul", "bf16"): "bf16",
    ("torch_scaled_mm", "fp8_e4m3"): "fp8_cublas",
    ("torch_int_mm", "int8"): "int8_cublas",
}
_ROWWISE = {"elementwise": "gelu", "softmax": "softmax", "rmsnorm": "layernorm"}
_SHAPES = {"mlp": ("m", "width", "hidden", "out_width"), "norm_gemm": ("m", "n", "k")}
_Key = tuple[MeasuredOperator, str, tuple[str, ...], bool]


def n_networks(path: Path) -> int:
    """Whole networks in a file; :func:`read_own` passes them over."""
    return sum(entry.operator == "network" for entry in load_measurements(path).measurements)


def read_own(path: Path) -> list[MeasuredTable]:
    """One table for each operator, family and set of tile parameters, and with energy or without; networks are none."""
    import numpy as np

    file = load_measurements(path)
    groups: dict[_Key, list[tuple[dict[str, int], Measurement]]] = {}
    for entry in file.measurements:
        if entry.operator == "network":
            continue  # read as runs of networks
        try:
            place = placed(entry)
        except KeyError as missing:
            what = f"{entry.operator}, {entry.kernel}"
            raise InputError(f"{path}: measurements: shape: {what}: lacks {missing.args[0]}") from None
        operator, family, shape = place
        groups.setdefault((operator, family, tuple(sorted(entry.tiles)), _counted(entry)), []).append((shape, entry))
    tables = []
    for (operator, family, tiles, has_energy), entries in groups.items():
        columns = {name: np.array([shape[name] for shape, _ in entries], dtype=np.int64) for name in entries[0][0]}
        columns |= {f"tile_{n}": np.array([entry.tiles[n] for _, entry in entries], dtype=np.int64) for n in tiles}
        tables.append(
            MeasuredTable(
                name=f"{path.stem}: {family}" + (" tiles" if tiles else "") + (" energy" if has_energy else ""),
                operator=operator,
                family=family,
                device=file.device.name,
                columns=columns,
                seconds=np.array([_seconds(entry) for _, entry in entries]),
                source=f"tilewright measure, {file.device.name}, {file.taken}",
                copies=_COPIES,
                sustained=True,
                **(_energy([entry for _, entry in entries], file.device.idle_w) if has_energy else {}),
            )
        )
    return tables


def _counted(entry: Measurement) -> bool:
    """Whether the entry is of a run between two readings of the board's energy counter."""
    return bool(entry.joules) and bool(entry.power_w)


def _seconds(entry: Measurement) -> float:
    """Of one call: of the run whose energy was counted, else the median of samples."""
    return (entry.joules or 0.0) / (entry.power_w or 1.0) if _counted(entry) else entry.median_s


def _energy(entries: list[Measurement], idle_w: float | None) -> dict[str, Any]:
    """Columns of power: joules over the time of a call, and the clock, where every entry has it."""
    import numpy as np

    clocks = [entry.sm_clock_mhz for entry in entries]
    return {
        "watts": np.array([entry.power_w for entry in entries]),
        "clock_hz": None if None in clocks else np.array([(clock or 0.0) * 1e6 for clock in clocks]),
        "idle_w": idle_w,
    }


def placed(entry: Measurement | Configuration) -> tuple[MeasuredOperator, str, dict[str, int]]:
    """Operator, family and shape columns of one measurement, taken or to be taken."""
    shape, operator = entry.shape, cast(MeasuredOperator, entry.operator)
    if entry.operator == "gemm":
        weights = entry.formats.get("b", "fp16")
        family = _GEMM_FAMILIES.get((entry.kernel, weights), f"{entry.kernel}_{weights}")
        return "gemm", family, {name: shape[name] for name in ("m", "n", "k")}
    if entry.operator in ("mlp", "norm_gemm"):
        return (
            operator,
            f"{entry.kernel}_{entry.operator}",
            {name: shape[name] for name in _SHAPES[entry.operator]},
        )
    if entry.operator in _ROWWISE:
        return "rowwise", f"{_ROWWISE[entry.operator]}_graph", {"m": shape["rows"], "n": shape["columns"]}
    if entry.operator == "scan":
        names = {"key_heads": "groups", "key_dim": "state_dim", "value_dim": "head_dim"}
        return (
            "scan",
            entry.kernel,
            {name: shape[names.get(name, name)] for name in COLUMNS["scan"]},
        )
    columns = {
        "batch": shape["batch"],
        "queries": shape["query_len"],
        "keys": shape["key_len"],
        "heads": shape["heads"],
        "kv_heads": shape.get("kv_heads", shape["heads"]),
        "head_dim": shape["head_dim"],
    }
    if entry.operator == "block_sparse_attention":
        columns["kept_per_mille"] = shape["kept_per_mille"]
        return operator, f"{entry.kernel}_block_sparse", columns
    kind = "decode" if shape["query_len"] == 1 else "prefill" if shape.get("causal", 0) else "encoder"
    return "attention", f"{entry.kernel}_{kind}", columns | {"window": shape.get("window", 0)}
