"""Tables of NeuSight (FP32 kernels of PyTorch on eight GPUs) and Tenstorrent (matrix products on Wormhole)."""

from __future__ import annotations

from pathlib import Path

from tilewright.errors import InputError
from tilewright.kernels.measured import MeasuredTable
from tilewright.kernels.reading.columns import need_columns, read_frame, seconds_column, whole_column

__all__ = ["read_neusight", "read_tenstorrent"]

_NEUSIGHT_ROWWISE = ("softmax", "ln", "add", "mul", "gelu", "relu", "tanh", "div", "pow")


def read_neusight(path: Path) -> list[MeasuredTable]:
    """One table for each operator and device; linear layers and row-wise operators, in FP32 on the CUDA lanes.

    Batched products are left out: their second operand is another one for each product.
    """
    frame = read_frame(path)
    if "op" not in frame:
        raise InputError(f"{path}: NeuSight's table has no column op; convolutions are not read")
    need_columns(path, frame, "device")
    tables = []
    for key, rows in frame.groupby(["op", "device"], sort=False, dropna=False):
        op, device = str(key[0]), str(key[1])
        product = op == "linear"
        if not product and op not in _NEUSIGHT_ROWWISE:
            continue
        batch = whole_column(path, rows, "B")
        if product:
            columns = {
                "m": whole_column(path, rows, "M") * batch,
                "n": whole_column(path, rows, "N"),
                "k": whole_column(path, rows, "K"),
            }
        else:
            columns = {"m": batch, "n": whole_column(path, rows, "H")}
        tables.append(
            MeasuredTable(
                name=f"{path.stem}: {op} on {device}",
                operator="gemm" if product else "rowwise",
                family=f"fp32_{op}",
                device=_neusight_device(device),
                columns=columns,
                seconds=seconds_column(path, rows, "latency_ms", 1e-3),
                source="NeuSight (MIT), PyTorch 2.1 in FP32 without TF32",
            )
        )
    return tables


def _neusight_device(text: str) -> str:
    """The machine's short name in a device name of the driver: ``NVIDIA A100-SXM4-40GB`` is ``a100-sxm4-40gb``."""
    return text.removeprefix("NVIDIA ").removeprefix("Tesla ").replace(" ", "-").lower()


def read_tenstorrent(path: Path) -> list[MeasuredTable]:
    """One table for each number format and math fidelity."""
    frame = read_frame(path)
    need_columns(path, frame, "dtype", "fidelity")
    tables = []
    for key, rows in frame.groupby(["dtype", "fidelity"], sort=False, dropna=False):
        family = f"{str(key[0]).lower()}_{str(key[1]).lower()}"
        tables.append(
            MeasuredTable(
                name=f"{path.stem}: {family}",
                operator="gemm",
                family=family,
                device="wormhole-n150",
                columns={column: whole_column(path, rows, column) for column in ("m", "n", "k")},
                seconds=seconds_column(path, rows, "time_ns", 1e-9),
                source="Tenstorrent tt-metal technical report on GEMM (Apache-2.0)",
            )
        )
    return tables
