"""Tables of NVIDIA's aiconfigurator: kernel latencies by shape, named DEVICE_OPERATOR_FRAMEWORK_VERSION....csv."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.errors import InputError, unknown
from tilewright.kernels.measured import MeasuredTable
from tilewright.kernels.reading.aiconfigurator_layers import experts_tables, latent_tables
from tilewright.kernels.reading.aiconfigurator_power import power_columns
from tilewright.kernels.reading.columns import need_columns, read_frame, seconds_column, whole_column

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_aiconfigurator"]

_SOURCE = "NVIDIA aiconfigurator (Apache-2.0)"
_FORMATS = {
    "bfloat16": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8_block",
    "int8_wo": "int8_wo",
    "int4_wo": "int4_wo",
    "sq": "int8_sq",
}
#: Copies of the weights in the collector's loop: 6 in vLLM's (1 for fp8 blocks), 5 in TensorRT-LLM's and SGLang's.
_WEIGHT_COPIES = {"vllm": 6}
_OTHER_COPIES = 5
_ATTENTION = {"context_attention": "prefill", "generation_attention": "decode", "encoder_attention": "encoder"}
_LATENT = {"context_mla": False, "generation_mla": True}  # whether it decodes
_OPERATORS = ("gemm", *_ATTENTION, *_LATENT, "moe", "quant_computescale", "quant_scalematrix")
_OLDER = ("a100", "l40s")
_SUSTAINED = "_power"  # runs stretched to 0.3 to 1 s, so that the board's power could be read
_QUANTISED_COPIES = 5  # kernels in a call of the row-wise tables


def read_aiconfigurator(path: Path) -> list[MeasuredTable]:
    """The tables of one file: one for each number format and kernel family in it."""
    device, operator, framework = _name_parts(path)
    frame = read_frame(path)
    if operator == "gemm":
        return _gemm_tables(path, frame, device, framework)
    if operator in _ATTENTION:
        return _attention_tables(path, frame, device, _ATTENTION[operator])
    if operator == "moe":
        return experts_tables(path, frame, device, _SOURCE)
    if operator in _LATENT:
        return latent_tables(path, frame, device, _SOURCE, decodes=_LATENT[operator])
    return [_rowwise_table(path, frame, device, operator)]


def _name_parts(path: Path) -> tuple[str, str, str]:
    """Device, operator and framework from the file's name."""
    device, _, rest = path.stem.partition("_")
    operator = next((name for name in _OPERATORS if rest.startswith(f"{name}_")), None)
    if operator is None:
        raise InputError(
            f"{path}: the name does not say what was measured; allowed DEVICE_OPERATOR_FRAMEWORK_VERSION.csv with "
            f"one of {', '.join(_OPERATORS)}"
        )
    return device, operator, rest.removeprefix(f"{operator}_").partition("_")[0]


def _gemm_tables(path: Path, frame: pd.DataFrame, device: str, framework: str) -> list[MeasuredTable]:
    groups: list[tuple[Hashable, pd.DataFrame]]
    if "gemm_dtype" in frame:
        groups = list(frame.groupby("gemm_dtype", sort=False, dropna=False))
    else:
        groups = [(_format_of_name(path), frame)]
    tables = []
    for dtype, rows in groups:
        family = _FORMATS.get(str(dtype), str(dtype))
        if family in ("fp8", "fp8_block") and framework != "vllm":
            family = f"{family}_{framework}"
        copies = 1 if family == "fp8_block" else _WEIGHT_COPIES.get(framework, _OTHER_COPIES)
        seconds = seconds_column(path, rows, "latency_ms", 1e-3)
        tables.append(
            MeasuredTable(
                name=f"{path.stem}: {family}",
                operator="gemm",
                family=family,
                device=device,
                columns={column: whole_column(path, rows, column) for column in ("m", "n", "k")},
                seconds=seconds,
                source=_SOURCE,
                weight_copies=copies,
                sustained=path.stem.endswith(_SUSTAINED),
                **power_columns(path, rows, seconds, copies),
            )
        )
    return tables


def _format_of_name(path: Path) -> str:
    """The number format behind the last two underscores of the file's name; bfloat16 where there are none."""
    _, separator, named = path.stem.rpartition("__")
    if separator and named not in _FORMATS:
        raise unknown("format", named, _FORMATS, place=str(path), fault="the name ends in an unknown format")
    return named if separator else "bfloat16"


def _attention_tables(path: Path, frame: pd.DataFrame, device: str, kind: str) -> list[MeasuredTable]:
    import numpy as np

    defaults: dict[str, str | int] = {
        "kernel_source": "",
        "kv_cache_dtype": "bfloat16",
        "head_dim": 128,
        "window_size": 0,
    }
    need_columns(path, frame, "num_heads")
    frame = frame.copy()
    for column, value in defaults.items():
        if column not in frame:
            frame[column] = value
    frame["kernel_source"] = frame["kernel_source"].fillna("")
    if "num_key_value_heads" not in frame:
        frame = frame.assign(num_key_value_heads=frame["num_heads"])
    tables = []
    for key, rows in frame.groupby(["kernel_source", "kv_cache_dtype"], sort=False, dropna=False):
        library, cache = str(key[0]), str(key[1])
        if library in ("", "vllm_flash_attn", "vllm_vit_flash_attn"):
            library = "fa2" if device in _OLDER else "fa3"
        elif "flashinfer" in library:
            library = "flashinfer"
        elif library == "torch_flow":
            library = "trtllm"
        family = f"{library}_{kind}" + ("_fp8" if cache == "fp8" else "")
        seconds = seconds_column(path, rows, "latency_ms", 1e-3)
        keys = whole_column(path, rows, "step", least=0) + 1 if kind == "decode" else whole_column(path, rows, "isl")
        columns = {
            "batch": whole_column(path, rows, "batch_size"),
            "queries": np.ones_like(keys) if kind == "decode" else keys,
            "keys": keys,
            "heads": whole_column(path, rows, "num_heads"),
            "kv_heads": whole_column(path, rows, "num_key_value_heads"),
            "head_dim": whole_column(path, rows, "head_dim"),
            "window": whole_column(path, rows, "window_size", least=0),
        }
        tables.append(
            MeasuredTable(
                name=f"{path.stem}: {family}",
                operator="attention",
                family=family,
                device=device,
                columns=columns,
                seconds=seconds,
                source=_SOURCE,
                cache_bits=8 if cache == "fp8" else 16,
                **power_columns(path, rows, seconds, 1),
            )
        )
    return tables


def _rowwise_table(path: Path, frame: pd.DataFrame, device: str, operator: str) -> MeasuredTable:
    family = operator.removeprefix("quant_")
    seconds = seconds_column(path, frame, "latency_ms", 1e-3)
    return MeasuredTable(
        name=f"{path.stem}: {family}",
        operator="rowwise",
        family=family,
        device=device,
        columns={"m": whole_column(path, frame, "m"), "n": whole_column(path, frame, "k")},
        seconds=seconds,
        source=_SOURCE,
        # The largest magnitude's power is the difference of two runs: of no kernel.
        **(power_columns(path, frame, seconds, _QUANTISED_COPIES) if family == "scalematrix" else {}),
    )
