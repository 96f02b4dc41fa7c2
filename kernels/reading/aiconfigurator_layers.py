"""Layers of NVIDIA's aiconfigurator that are several kernels: mixtures of experts, multi-head latent attention."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.errors import InputError
from tilewright.kernels.measured import MeasuredTable
from tilewright.kernels.reading.aiconfigurator_power import power_columns
from tilewright.kernels.reading.columns import need_columns, seconds_column, whole_column

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["experts_tables", "latent_tables"]

_FORMATS = {"bfloat16": "bf16"}
_EXPERTS = {
    "tokens": "num_tokens",
    "hidden": "hidden_size",
    "inner": "inter_size",
    "top_k": "topk",
    "experts": "num_experts",
    "tensor_parts": "moe_tp_size",
    "expert_parts": "moe_ep_size",
}
_POWER_LAW = re.compile(r"power_law_(\d+(?:\.\d+)?)")
_FIRST_LINE = 2
_DRAWS = 5  # of a power law: the collector's call is one layer for each draw
_HOST_S = 150e-6  # of the kernels of a layer, launched one by one


def experts_tables(path: Path, frame: pd.DataFrame, device: str, source: str) -> list[MeasuredTable]:
    """One table for each number format."""
    need_columns(path, frame, "moe_dtype", "distribution")
    tables = []
    for dtype, rows in frame.groupby("moe_dtype", sort=False, dropna=False):
        family = f"moe_{_FORMATS.get(str(dtype), str(dtype))}"
        columns = {name: whole_column(path, rows, column) for name, column in _EXPERTS.items()}
        uneven = columns["experts"] % columns["expert_parts"] != 0
        if uneven.any():
            at = int(uneven.argmax())
            raise InputError(
                f"{path}:{int(rows.index[at]) + _FIRST_LINE}: num_experts: given {columns['experts'][at]} in "
                f"{columns['expert_parts'][at]} parts; allowed a multiple of moe_ep_size"
            )
        too_many = columns["top_k"] > columns["experts"]
        if too_many.any():
            at = int(too_many.argmax())
            raise InputError(
                f"{path}:{int(rows.index[at]) + _FIRST_LINE}: topk: given {columns['top_k'][at]} of "
                f"{columns['experts'][at]} experts; allowed at most all of them"
            )
        columns["skew_milli"] = _skew(path, rows)
        tables.append(_table(path, rows, family, "experts", device, columns, source, cache_bits=16))
    return tables


def latent_tables(path: Path, frame: pd.DataFrame, device: str, source: str, *, decodes: bool) -> list[MeasuredTable]:
    """One table for each format of the cache."""
    need_columns(path, frame, "kv_cache_dtype")
    tables = []
    for dtype, rows in frame.groupby("kv_cache_dtype", sort=False, dropna=False):
        fp8 = str(dtype) == "fp8"
        family = ("mla_decode" if decodes else "mla_prefill") + ("_fp8" if fp8 else "")
        queries = whole_column(path, rows, "isl")
        columns = {
            "batch": whole_column(path, rows, "batch_size"),
            "queries": queries,
            "keys": queries + whole_column(path, rows, "step", least=0),
            "heads": whole_column(path, rows, "num_heads"),
        }
        tables.append(_table(path, rows, family, "latent", device, columns, source, cache_bits=8 if fp8 else 16))
    return tables


def _table(
    path: Path,
    rows: pd.DataFrame,
    family: str,
    operator: str,
    device: str,
    columns: dict[str, NDArray[np.int64]],
    source: str,
    *,
    cache_bits: int,
) -> MeasuredTable:
    import numpy as np

    time = "latency_ms" if "latency_ms" in rows else "latency"
    seconds = seconds_column(path, rows, time, 1e-3)
    draws = np.where(columns["skew_milli"] > 0, _DRAWS, 1) if operator == "experts" else 1
    return MeasuredTable(
        name=f"{path.stem}: {family}",
        operator="experts" if operator == "experts" else "latent",
        family=family,
        device=device,
        columns=columns,
        seconds=seconds,
        source=source,
        cache_bits=cache_bits,
        **power_columns(path, rows, seconds, draws, host_s=_HOST_S),
    )


def _skew(path: Path, rows: pd.DataFrame) -> NDArray[np.int64]:
    """Thousandths of the exponent of the power law by which tokens fall on experts; 0 for an even spread."""
    import numpy as np

    known = {"balanced": 0}
    for at, text in zip(rows.index, rows["distribution"].astype(str), strict=True):
        if text in known:
            continue
        found = _POWER_LAW.fullmatch(text)
        if found is None or not 1 < float(found[1]) < 10:
            raise InputError(
                f"{path}:{int(at) + _FIRST_LINE}: distribution: given {text[:60]}; allowed balanced, or "
                "power_law_A with an exponent A above 1 and below 10"
            )
        known[text] = round(float(found[1]) * 1000)
    return np.array([known[text] for text in rows["distribution"].astype(str)], dtype=np.int64)
