"""Which tiling of a kernel of ours is best on a GPU for a shape: every compiled one, timed and sorted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from tilewright.errors import InputError, unknown
from tilewright.hw_models.gpu.calibration import calibration_of
from tilewright.hw_models.gpu.schedule import CompiledSchedule, schedules_of
from tilewright.hw_models.spec import MachineSpec
from tilewright.kernels.measured import COLUMNS, MeasuredOperator, MeasuredTable
from tilewright.kernels.tiles import AttentionTiles, MlpTiles, ProductTiles, ScanTiles
from tilewright.search.gpu.launches import launches_of, rows_of
from tilewright.search.gpu.predict import predict
from tilewright.search.gpu.schedules import find_schedule, target_of
from tilewright.sim.gpu.device import GpuDevice, gpu_device
from tilewright.sim.gpu.gemm import BOUNDS
from tilewright.sim.gpu.scheduled import resident_blocks

__all__ = ["TILED_KERNELS", "RankedTiling", "rank_tilings"]


_TILES: dict[str, type[ProductTiles | AttentionTiles | MlpTiles | ScanTiles]] = {
    "attention": AttentionTiles,
    "block_sparse_attention": AttentionTiles,
    "mlp": MlpTiles,
    "scan": ScanTiles,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kernel:
    """How a kernel is called: the table that it would be measured in, its compiled name, usual shape columns."""

    operator: MeasuredOperator
    family: str
    compiled: str
    defaults: Mapping[str, int] = field(default_factory=dict, hash=False)


_ATTENTION = {"batch": 1, "window": 0}
TILED_KERNELS: dict[str, _Kernel] = {
    **{
        f"product-{weights}": _Kernel(operator="gemm", family=f"triton_{weights}", compiled=f"product {weights}")
        for weights in ("fp16", "int8", "fp8_e4m3", "int4")
    },
    "attention": _Kernel(
        operator="attention", family="triton_fused_encoder", compiled="attention", defaults=_ATTENTION
    ),
    "causal-attention": _Kernel(
        operator="attention", family="triton_fused_prefill", compiled="attention", defaults=_ATTENTION
    ),
    "norm-product": _Kernel(operator="norm_gemm", family="triton_fused_norm_gemm", compiled="norm and product"),
    "perceptron": _Kernel(operator="mlp", family="triton_fused_mlp", compiled="perceptron"),
    "block-sparse-attention": _Kernel(
        operator="block_sparse_attention",
        family="triton_block_sparse",
        compiled="block-sparse attention",
        defaults={"batch": 1, "kept_per_mille": 100},
    ),
    "ssd-persistent": _Kernel(
        operator="scan", family="triton_ssd_persistent", compiled="chunk scan", defaults={"batch": 1, "key_heads": 1}
    ),
    "ssd-chunked": _Kernel(
        operator="scan", family="triton_ssd_chunked", compiled="chunk outputs", defaults={"batch": 1, "key_heads": 1}
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedTiling:
    """A tiling with its predicted ``seconds`` and what ``bound`` them; ``blocks`` side by side on a multiprocessor."""

    tiles: dict[str, int] = field(hash=False)
    seconds: float
    bound: str
    blocks: int
    registers: int
    spill_bytes: int
    shared_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def rank_tilings(
    machine: MachineSpec, kernel: str, shape: Mapping[str, int], tilings: Sequence[Mapping[str, int]] = ()
) -> list[RankedTiling]:
    """The tilings of ``kernel`` on ``machine`` for ``shape``, fastest first: those of the package, or ``tilings``.

    ``shape``: m, n, k of products; batch, queries, keys, heads, kv_heads, head_dim, window of attention; m, width,
    hidden, out_width of the perceptron; as attention's, with kept_per_mille, of lists of blocks; batch, tokens, heads,
    key_heads, key_dim, value_dim of scans. Raises :class:`InputError` for another kernel or shape, a machine whose
    generation has no compiled schedules, and a tiling that cannot be compiled here.
    """
    if kernel not in TILED_KERNELS:
        raise unknown("kernel", kernel, list(TILED_KERNELS), place="tilings")
    of, device = TILED_KERNELS[kernel], gpu_device(machine)
    given = {**of.defaults, **shape}
    wanted = COLUMNS[of.operator]
    if "kv_heads" in wanted and "heads" in given:
        given = {"kv_heads": given["heads"], **given}
    if set(given) != set(wanted):
        raise InputError(f"{kernel}: shape given as {', '.join(given) or 'nothing'}; allowed {', '.join(wanted)}")
    chosen = [_checked(of.operator, tiles) for tiles in tilings] or _compiled_tilings(device, of, kernel, given)
    table = _table(machine, of, given, chosen)
    found = predict(device, calibration_of(machine), table)
    ranked = []
    for tiles, row, seconds, bound in zip(chosen, rows_of(table), found.seconds, found.bound, strict=True):
        schedule = _schedule(device, of, table, row)
        ranked.append(
            RankedTiling(
                tiles=tiles,
                seconds=float(seconds),
                bound=BOUNDS[int(bound)],
                blocks=resident_blocks(device, schedule),
                registers=schedule.registers,
                spill_bytes=schedule.spill_bytes,
                shared_bytes=schedule.shared_bytes,
            )
        )
    return sorted((each for each in ranked if each.blocks), key=lambda each: each.seconds)


def _checked(operator: MeasuredOperator, tiles: Mapping[str, int]) -> dict[str, int]:
    """``tiles`` with the usual numbers for what they leave out; raises :class:`InputError` for others."""
    kind = _TILES.get(operator, ProductTiles)
    for name in tiles:
        if name not in {each.name for each in fields(kind)}:
            raise unknown("tile", name, [each.name for each in fields(kind)], place="tiling")
    whole = kind(**tiles).to_dict()
    whole.pop("group", None)  # the order of blocks, not what one is compiled to
    return whole


def _schedule(device: GpuDevice, of: _Kernel, table: MeasuredTable, row: Mapping[str, int]) -> CompiledSchedule:
    """Of the launch that gives the kernel its name; others may come before it."""
    key = next(one.key for one in launches_of(table, row) if one.key is not None and one.key.kernel == of.compiled)
    return find_schedule(device, key)[0]


def _table(
    machine: MachineSpec, of: _Kernel, shape: Mapping[str, int], tilings: Sequence[Mapping[str, int]]
) -> MeasuredTable:
    n = len(tilings)
    columns = {name: np.full(n, shape[name], dtype=np.int64) for name in COLUMNS[of.operator]}
    columns |= {f"tile_{name}": np.array([tiles[name] for tiles in tilings], dtype=np.int64) for name in tilings[0]}
    return MeasuredTable(
        name=f"tilings of {of.compiled}",
        operator=of.operator,
        family=of.family,
        device=machine.name,
        columns=columns,
        seconds=np.ones(n),
        source="",
    )


def _compiled_tilings(device: GpuDevice, of: _Kernel, kernel: str, shape: Mapping[str, int]) -> list[dict[str, int]]:
    """The tilings in the package's table that are compiled for this shape's constants."""
    target = target_of(device)
    table = None if target is None else schedules_of(target)
    if table is None:
        raise InputError(f"{device.name}: no compiled schedules for this generation; allowed Hopper's (h100, h200)")
    fixed = {name: shape[name] for name in ("width", "out_width") if name in shape}
    if of.compiled == "attention":
        causal = int(kernel.startswith("causal") and shape["queries"] > 1)
        fixed = {"dim": shape["head_dim"], "causal": causal, "banded": 0, "single": int(shape["queries"] == 1)}
    if of.operator == "block_sparse_attention":
        fixed = {"dim": shape["head_dim"]}
    if of.operator == "scan":
        fixed = {"dim": shape["value_dim"], "state": shape["key_dim"]}
    found = []
    for schedule in table.schedules:
        name, numbers = _parts(schedule.name)
        if name == of.compiled and fixed.items() <= numbers.items():
            apart = {*fixed, "group_size"}
            found.append({key: size for key, size in numbers.items() if key not in apart})
    if not found:
        told = ", ".join(f"{key}={size}" for key, size in fixed.items())
        raise InputError(f"{kernel}: no tilings are compiled for {told}; give tilings, which Triton compiles here")
    return found


def _parts(name: str) -> tuple[str, dict[str, int]]:
    """Kernel and numbers of a schedule's name."""
    words = name.split(" ")
    first = next(place for place, word in enumerate(words) if "=" in word)
    numbers = dict(word.split("=") for word in words[first:])
    return " ".join(words[:first]), {key: int(size) for key, size in numbers.items()}
