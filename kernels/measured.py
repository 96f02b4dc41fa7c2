"""Measured kernel times as columns: one table for each operator and family of kernels, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from tilewright.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["COLUMNS", "LEAST_SIZES", "MeasuredOperator", "MeasuredTable"]

MeasuredOperator = Literal[
    "gemm",
    "attention",
    "rowwise",
    "mlp",
    "norm_gemm",
    "block_sparse_attention",
    "experts",
    "latent",
    "scan",
    "short_conv",
    "state_step",
    "token_top_k",
    "block_lists",
]

#: The shape columns of each operator. gemm: C[m, n] = A[m, k] B[k, n]. attention: queries and keys of one sequence,
#: ``window`` of 0 sees all keys. rowwise: ``m`` rows of ``n`` values. mlp: two products, an activation between them.
#: norm_gemm: rows are normalised before the product. block_sparse_attention: of 1,000 blocks, so many are computed.
#: experts: a mixture-of-experts layer (:class:`tilewright.sim.gpu.experts.ExpertsShapes`). latent: multi-head latent
#: attention of ``heads`` on this GPU. scan: whole sequences of a state-space model or linear attention; state_step: one
#: token of it. short_conv: a causal depthwise convolution. token_top_k: ``queries`` behind ``cached`` tokens.
#: block_lists: attention over lists of blocks: rows of ``row_tokens`` queries, the mean length of their lists in
#: thousandths of a block, the longest in blocks.
COLUMNS: dict[MeasuredOperator, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention": ("batch", "queries", "keys", "heads", "kv_heads", "head_dim", "window"),
    "rowwise": ("m", "n"),
    "mlp": ("m", "width", "hidden", "out_width"),
    "norm_gemm": ("m", "n", "k"),
    "block_sparse_attention": ("batch", "queries", "keys", "heads", "kv_heads", "head_dim", "kept_per_mille"),
    "experts": ("tokens", "hidden", "inner", "top_k", "experts", "tensor_parts", "expert_parts", "skew_milli"),
    "latent": ("batch", "queries", "keys", "heads"),
    "scan": ("batch", "tokens", "heads", "key_heads", "key_dim", "value_dim"),
    "short_conv": ("batch", "tokens", "channels"),
    "state_step": ("batch", "heads", "key_heads", "key_dim", "value_dim"),
    "token_top_k": ("batch", "queries", "cached"),
    "block_lists": ("batch", "heads", "queries", "head_dim", "row_tokens", "block", "mean_milli", "longest"),
}
#: Least size of a column where it is not 1.
LEAST_SIZES = {"window": 0, "skew_milli": 0, "cached": 0}  # sizes are 1 or more


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTable:
    """Times of one family of kernels on one device.

    ``name`` is unique among the tables of a file; ``family`` as the simulator names it. ``columns``: the operator's
    shape columns (:data:`COLUMNS`), for tile sweeps also ``tile_...``. ``seconds``: one positive time a row.
    ``weight_copies``: copies of the weights that the measurement rotates through, so that small ones are not found in
    the L2; ``copies``: of all operands. ``cache_bits``: of one key or value. ``sustained``: each kernel was
    repeated for 0.1 s and more. ``source``: where the figures come from.

    Where power was read: ``watts`` of each row, over a run of ``run_seconds`` by a meter that averages over its own
    window (without: by an energy counter, exactly over the run), in the order of ``place``; ``clock_hz`` of the
    multiprocessors; ``idle_w`` with nothing running; ``zeros``: of each row, whether operands were zeros.
    """

    name: str
    operator: MeasuredOperator
    family: str
    device: str
    columns: Mapping[str, NDArray[np.int64]] = field(hash=False)
    seconds: NDArray[np.float64] = field(hash=False)
    source: str
    weight_copies: int = 1
    copies: int = 1
    cache_bits: int = 16
    sustained: bool = False
    watts: NDArray[np.float64] | None = field(default=None, hash=False)
    run_seconds: NDArray[np.float64] | None = field(default=None, hash=False)
    place: NDArray[np.int64] | None = field(default=None, hash=False)
    clock_hz: NDArray[np.float64] | None = field(default=None, hash=False)
    idle_w: float | None = None
    zeros: NDArray[np.bool_] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        for column, values in self.columns.items():
            least = LEAST_SIZES.get(column, 1)
            if len(values) and values.min() < least:
                raise InputError(f"{self.name}: {column}: given {values.min()}; allowed {least} or more")
        mean, longest = self.columns.get("mean_milli"), self.columns.get("longest")
        if mean is not None and longest is not None and (mean > longest * 1000).any():
            at = int((mean > longest * 1000).argmax())
            raise InputError(
                f"{self.name}: mean_milli: given {mean[at]} with a longest list of {longest[at]} blocks; "
                f"allowed at most {longest[at] * 1000}"
            )
        groups = self.columns.get("heads"), self.columns.get("kv_heads")
        if groups[0] is not None and groups[1] is not None and (groups[0] % groups[1] != 0).any():
            at = int((groups[0] % groups[1] != 0).argmax())
            raise InputError(
                f"{self.name}: heads: given {groups[0][at]} with {groups[1][at]} key heads; allowed a multiple of them"
            )

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def tile_columns(self) -> tuple[str, ...]:
        """Names of the columns that describe a tiling."""
        return tuple(name for name in self.columns if name.startswith("tile_"))

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> MeasuredTable:
        """The table with the ``chosen`` rows (a mask or positions)."""
        return replace(
            self,
            columns={name: values[chosen] for name, values in self.columns.items()},
            seconds=self.seconds[chosen],
            watts=None if self.watts is None else self.watts[chosen],
            run_seconds=None if self.run_seconds is None else self.run_seconds[chosen],
            place=None if self.place is None else self.place[chosen],
            clock_hz=None if self.clock_hz is None else self.clock_hz[chosen],
            zeros=None if self.zeros is None else self.zeros[chosen],
        )
