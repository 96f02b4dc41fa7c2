"""Families of GEMM kernels: the tiles a library chooses from and the formats it works in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tilewright.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GemmFamily", "GemmTile", "gemm_family", "row_spans", "table_of", "tile_table", "tiles_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmTile:
    """One kernel: a tile of ``rows`` x ``columns`` results for a thread block, k cut into ``splits`` parts.

    ``cluster``: thread blocks that share the loads of the tile's longer side.
    """

    rows: int
    columns: int
    splits: int = 1
    cluster: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmFamily:
    """Kernels of one library for C[m, n] = A[m, k] B[k, n], B the weights.

    ``multiply_format`` names the tensor cores' rate; ``older_products``: compiled for the generation before.
    ``on_lanes``: not on the tensor cores but, a multiply-add a lane and cycle, on the CUDA lanes.
    ``convert_weights``: narrow weights are widened on the CUDA lanes. ``vector_rows``: up to so many rows of A the
    library also has kernels on the CUDA lanes (matrix-vector), which start ``vector_macs`` multiply-adds a lane and
    cycle. ``rules``: where the library chooses its tile by the rows of A alone: (rows at most, sides), smallest first.
    ``quantises``: activations are quantised by a kernel of its own before each product, by thread blocks that take
    ``quantised_values`` of a row at a time. ``host_bound``: launched one by one, so that the host's part and
    the GPU's run side by side. ``relatives``: families whose parameters stand in where these kernels are not
    calibrated, nearest first; ``alone``: a call is one kernel in a graph, so that a relative's launch, which holds the
    kernels of its framework, is not its own.
    """

    name: str
    summary: str
    activation_bits: int
    weight_bits: int
    result_bits: int
    multiply_format: str
    sides: tuple[tuple[int, int], ...]
    splits: tuple[int, ...]
    older_products: bool = False
    on_lanes: bool = False
    convert_weights: bool = False
    vector_rows: int = 0
    vector_macs: int = 1
    rules: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = ()
    quantises: bool = False
    quantised_values: int = 2048
    host_bound: bool = False
    relatives: tuple[str, ...] = ()
    alone: bool = False


_SIDES = (
    *((64, 64), (64, 128), (64, 256), (128, 64), (128, 128), (128, 192), (128, 256), (256, 64), (256, 128)),
    *((192, 128), (192, 192), (64, 32), (64, 16), (32, 64), (16, 64)),
)
_AMPERE_SIDES = (
    *((64, 64), (64, 128), (64, 256), (128, 64), (128, 128), (128, 256), (256, 64), (256, 128), (32, 64), (64, 32)),
    *((32, 128), (128, 32), (16, 64), (16, 128)),
)
_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 32)
_FEW_SPLITS = (1, 2, 3, 4, 5, 6, 7)

_BUILT_IN = (
    GemmFamily(
        name="bf16",
        summary="cuBLAS, bf16 or fp16 operands and results",
        activation_bits=16,
        weight_bits=16,
        result_bits=16,
        multiply_format="bf16",
        sides=_SIDES,
        splits=_SPLITS,
        alone=True,
    ),
    GemmFamily(
        name="tf32",
        summary="cuBLAS or cuDNN, fp32 operands that the tensor cores round to tf32, fp32 results",
        activation_bits=32,
        weight_bits=32,
        result_bits=32,
        multiply_format="tf32",
        sides=_SIDES,
        splits=_SPLITS,
        relatives=("bf16", "fp16_host"),
        alone=True,
    ),
    GemmFamily(
        name="fp32",
        summary="cuBLAS or cuDNN without tf32, fp32 operands on the CUDA lanes, fp32 results",
        activation_bits=32,
        weight_bits=32,
        result_bits=32,
        multiply_format="fp32",
        sides=_AMPERE_SIDES,
        splits=_SPLITS,
        on_lanes=True,
        relatives=("bf16", "fp16_host"),
        alone=True,
    ),
    GemmFamily(
        name="fp16_host",
        summary="cuBLAS or rocBLAS called from PyTorch, timed with the host's part, fp16",
        activation_bits=16,
        weight_bits=16,
        result_bits=16,
        multiply_format="fp16",
        sides=_SIDES,
        splits=_SPLITS,
        relatives=("bf16",),
    ),
    GemmFamily(
        name="fp8",
        summary="CUTLASS as vLLM calls it, fp8 operands, activations quantised by row on the way, bf16 results",
        activation_bits=8,
        weight_bits=8,
        result_bits=16,
        multiply_format="fp8_e4m3",
        sides=((16, 64), (64, 64), (64, 128), (128, 128), (256, 128)),
        splits=(1,),
        rules=(
            (16, ((16, 64),)),
            (64, ((16, 64), (64, 64))),
            (128, ((64, 128),)),
            (8191, ((128, 128),)),
            (2**31, ((128, 128), (256, 128))),
        ),
        quantises=True,
        relatives=("fp8_trtllm", "bf16"),
    ),
    GemmFamily(
        name="fp8_trtllm",
        summary="TensorRT-LLM's linear layer, fp8 operands, activations quantised on the way, bf16 results",
        activation_bits=8,
        weight_bits=8,
        result_bits=16,
        multiply_format="fp8_e4m3",
        sides=_SIDES,
        splits=_SPLITS,
        quantises=True,
        quantised_values=128,
        relatives=("bf16",),
    ),
    GemmFamily(
        name="fp8_block_trtllm",
        summary="TensorRT-LLM's linear layer, fp8 with a scale for 128 x 128 weights and 128 activations",
        activation_bits=8,
        weight_bits=8,
        result_bits=16,
        multiply_format="fp8_e4m3",
        sides=((64, 16), (64, 32), (64, 64), (64, 96), (64, 128), (128, 64), (128, 96), (128, 128), (128, 160)),
        splits=(1,),
        quantises=True,
        quantised_values=128,
        relatives=("fp8_trtllm", "bf16"),
    ),
    GemmFamily(
        name="fp8_block",
        summary="vLLM's linear layer, fp8 with a scale for 128 x 128 weights and 128 activations",
        activation_bits=8,
        weight_bits=8,
        result_bits=16,
        multiply_format="fp8_e4m3",
        sides=((64, 16), (64, 32), (64, 64), (64, 96), (64, 128), (128, 64), (128, 96), (128, 128), (128, 160)),
        splits=(1,),
        quantises=True,
        quantised_values=128,
        host_bound=True,
        relatives=("fp8_block_trtllm",),
    ),
    GemmFamily(
        name="fp8_cublas",
        summary="cuBLAS through PyTorch's scaled product, fp8 operands, bf16 results",
        activation_bits=8,
        weight_bits=8,
        result_bits=16,
        multiply_format="fp8_e4m3",
        sides=_SIDES,
        splits=_SPLITS,
        relatives=("bf16",),
        alone=True,
    ),
    GemmFamily(
        name="nvfp4",
        summary="linear layer in fp4 with a scale for 16 values, activations quantised on the way, bf16 results",
        activation_bits=4,
        weight_bits=4,
        result_bits=16,
        multiply_format="fp4_e2m1",
        sides=_SIDES,
        splits=_SPLITS,
        quantises=True,
        relatives=("fp8", "fp8_trtllm", "bf16"),
    ),
    GemmFamily(
        name="int8_cublas",
        summary="cuBLAS through PyTorch, int8 operands, int32 results",
        activation_bits=8,
        weight_bits=8,
        result_bits=32,
        multiply_format="int8",
        sides=_AMPERE_SIDES,
        splits=_SPLITS,
        older_products=True,
        relatives=("bf16",),
        alone=True,
    ),
    GemmFamily(
        name="int8_sq",
        summary="TensorRT SmoothQuant plug-in, int8 operands, fp16 results",
        activation_bits=8,
        weight_bits=8,
        result_bits=16,
        multiply_format="int8",
        sides=_AMPERE_SIDES,
        splits=_FEW_SPLITS,
        older_products=True,
        vector_rows=4,
        vector_macs=4,
        relatives=("bf16",),
    ),
    GemmFamily(
        name="int8_wo",
        summary="TensorRT weight-only plug-in, int8 weights widened to fp16",
        activation_bits=16,
        weight_bits=8,
        result_bits=16,
        multiply_format="fp16",
        sides=_SIDES,
        splits=_FEW_SPLITS,
        convert_weights=True,
        vector_rows=15,
        relatives=("bf16",),
    ),
    GemmFamily(
        name="int4_wo",
        summary="TensorRT weight-only plug-in, int4 weights widened to fp16",
        activation_bits=16,
        weight_bits=4,
        result_bits=16,
        multiply_format="fp16",
        sides=_SIDES,
        splits=_FEW_SPLITS,
        convert_weights=True,
        vector_rows=15,
        relatives=("int8_wo", "bf16"),
    ),
)
GEMM_FAMILIES: Registry[GemmFamily] = Registry("family of GEMM kernels")
for _family in _BUILT_IN:
    GEMM_FAMILIES.register(_family.name, _family)


def gemm_family(name: str) -> GemmFamily:
    """The family called ``name``; raises :class:`InputError` for another word."""
    return GEMM_FAMILIES.get(name)


@cache
def tiles_of(family: GemmFamily, cluster_size: int) -> Sequence[GemmTile]:
    """Every kernel that the library may choose on a device whose thread blocks can share loads in ``cluster_size``."""
    return tuple(
        GemmTile(rows=rows, columns=columns, splits=splits, cluster=cluster)
        for rows, columns in family.sides
        for splits in family.splits
        for cluster in range(1, cluster_size + 1)
        if cluster == 1 or rows * columns >= 64 * 128
    )


def table_of(tiles: Sequence[GemmTile]) -> NDArray[np.float64]:
    """Rows, columns, splits and cluster of ``tiles``: an array of 4 x tiles."""
    import numpy as np

    return np.array([[t.rows, t.columns, t.splits, t.cluster] for t in tiles], dtype=np.float64).reshape(-1, 4).T


@cache
def tile_table(family: GemmFamily, cluster_size: int) -> NDArray[np.float64]:
    """:func:`table_of` of all of :func:`tiles_of`."""
    table = table_of(tiles_of(family, cluster_size))
    table.flags.writeable = False
    return table


@cache
def row_spans(family: GemmFamily, cluster_size: int) -> Sequence[tuple[int, int]]:
    """For each of :func:`tiles_of`: rows of A above which, and up to which, the library's rules allow it."""
    spans = []
    for tile in tiles_of(family, cluster_size):
        above, span = 0, (0, 0) if family.rules else (0, 2**31)
        for most, sides in family.rules:
            if (tile.rows, tile.columns) in sides:
                span = (above if span == (0, 0) else span[0], most)
            above = most
        spans.append(span)
    return tuple(spans)
