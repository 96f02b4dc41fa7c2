"""Layers of experts in training on a GPU: how fast the kernels of several libraries run forward and backward.

A pass takes what its grouped products take, each expert's rows filled up to whole tiles; the rows' passes through
memory that no product hides (gathered, scattered, summed over a token's experts, as many as the library's kernels
make); the intermediate results that every library writes and reads; the weights; and a fixed time of sorting and
launches. Three figures a library and pass are fitted (:func:`tilewright.search.gpu.fit_expert_training`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.hw_models.spec import MachineSpec
from tilewright.registry import Registry
from tilewright.workloads.language.routing import Routing, routing_of

__all__ = ["EXPERT_TRAINING", "ExpertTraining", "TrainedExperts", "training_tera_flops"]

_BYTES = 2  # of bf16
_TILE_ROWS = 128
#: Passes of the intermediate results (tokens x top_k x inner): written twice as wide, read back, activated, read; and
#: as much again with their gradients.
_INNER_PASSES = {"fwd": 4, "bwd": 8}
_FLOPS = {"fwd": 6, "bwd": 12}  # of a weight pair, for each row


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedExperts:
    """A layer: ``tokens`` of width ``hidden``, each to ``top_k`` of ``experts`` with gate, up and down of ``inner``."""

    tokens: int
    hidden: int
    inner: int
    experts: int
    top_k: int

    @property
    def n_rows(self) -> int:
        """Rows of all experts."""
        return self.tokens * self.top_k

    def flops(self, which: str) -> float:
        """Of the pass, for the rows alone."""
        return float(_FLOPS[which]) * self.n_rows * self.inner * self.hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertTraining:
    """A library's pass ("fwd", "bwd"): ``tera_flops`` of its grouped products on whole tiles, ``row_passes`` of the
    rows (tokens x top_k x hidden) beside them, ``fixed_us``; ``rounds``: routing is rounded to whole tiles.
    """

    library: str
    which: str
    tera_flops: float
    row_passes: float
    fixed_us: float
    rounds: bool = False


EXPERT_TRAINING: Registry[ExpertTraining] = Registry("library of experts in training")


def training_parts(
    layer: TrainedExperts, machine: MachineSpec, which: str, *, routing: Routing | None = None, share: float = 0.9
) -> tuple[float, float, float]:
    """What does not depend on the library: flops on whole tiles, seconds of a pass of the rows, of inner and weights.

    ``share``: of the DRAM's bandwidth that streams reach.
    """
    spread = routing or routing_of("uniform")
    tiled = spread.tile_rows(layer.experts, layer.top_k, layer.tokens, _TILE_ROWS) / layer.n_rows
    bandwidth = machine.dram.bandwidth_gb_per_s * 1e9 * share
    rows = layer.n_rows * layer.hidden * _BYTES / bandwidth
    inner = _INNER_PASSES[which] * layer.n_rows * layer.inner * _BYTES / bandwidth
    weights = 3 * layer.experts * layer.hidden * layer.inner * _BYTES / bandwidth
    return layer.flops(which) * tiled, rows, inner + weights


def training_tera_flops(
    layer: TrainedExperts,
    machine: MachineSpec,
    figures: ExpertTraining,
    *,
    rounded: bool = False,
    routing: Routing | None = None,
) -> float:
    """TFLOP/s of the rows alone, as such figures are published; ``rounded``: tokens are rounded to whole tiles."""
    flops, rows, rest = training_parts(layer, machine, figures.which, routing=routing)
    useful = layer.flops(figures.which)
    computed = useful if rounded else flops
    seconds = computed / (figures.tera_flops * 1e12) + figures.row_passes * rows + rest + figures.fixed_us * 1e-6
    return useful / seconds / 1e12


for _library, _which, _rate, _passes, _fixed in (
    ("SonicMoE", "bwd", 709.9, 2.45, 143.4),
    ("SonicMoE", "fwd", 768.6, 1.662, 52.0),
    ("DeepGEMM++", "bwd", 523.6, 4.216, 33.89),
    ("DeepGEMM++", "fwd", 800.0, 4.169, 114.4),
    ("DeepGEMM-pt", "bwd", 566.2, 8.663, 101.3),
    ("DeepGEMM-pt", "fwd", 800.0, 7.683, 534.4),
    ("MegaBlocks", "bwd", 476.5, 11.93, 329.0),
    ("MegaBlocks", "fwd", 535.5, 7.32, 792.5),
    ("Megatron", "bwd", 497.3, 23.15, 798.1),
    ("Megatron", "fwd", 500.0, 9.312, 855.5),
    ("MoMoE", "bwd", 495.3, 12.59, 273.9),
    ("MoMoE", "fwd", 733.4, 5.16, 619.9),
    ("ScatterMoE", "bwd", 476.2, 8.477, 301.3),
    ("ScatterMoE", "fwd", 543.4, 3.463, 613.8),
):
    EXPERT_TRAINING.register(
        f"{_library} {_which}",
        ExpertTraining(library=_library, which=_which, tera_flops=_rate, row_passes=_passes, fixed_us=_fixed),
    )
