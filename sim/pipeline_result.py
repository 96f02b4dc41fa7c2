"""What a network as a pipeline of stages over the chip tells: each stage, one image, a batch, and the steady state."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from tilewright.presented import Shown
from tilewright.sim.figures import Figures, Measured

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["HAND_OVERS", "HandedOver", "PipelineResult", "StageResult", "StageSpan"]

HAND_OVERS = ("maps", "rows")  # how stages hand over what they make, the usual way first


class StageSpan(NamedTuple):
    """One image in one stage: cycles [start, end), both counted from the start of the batch."""

    stage: int
    image: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """A map between stages (numbers from 0): bytes of one, how many there are, the memory they live in ("dram").

    ``buffer_bytes``: what is reserved for all of them, at ``address`` of the memory (None: in the DRAM). Handed over by
    rows, it is a line buffer of ``line_rows`` of the ``map_rows`` rows of a map (of ``n_maps`` of them where a ring of
    fewer would hold the pipeline up); in fewer than ``least_rows`` no image could pass. None: handed over whole.
    """

    name: str
    made_in: int
    read_in: int
    n_bytes: int
    n_maps: int
    memory: str
    buffer_bytes: int = 0
    address: int | None = None
    map_rows: int | None = None
    line_rows: int | None = None
    least_rows: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """One stage. ``alone_cycles``: of an image when nothing else runs; ``work_cycles``: in the steady state, with what
    the other stages take of the shared channels; ``stay_cycles``: from its first job's start to its last one's end,
    waits between jobs included. DRAM bytes, bytes of weights and energy (without constant power) are of one image.
    ``kept_weight_bytes``: weights that stay in ``memory`` from image to image. ``units``: what does it, in words.
    """

    first: str
    last: str
    n_jobs: int
    units: str
    n_cores: int
    alone_cycles: int
    work_cycles: float
    stay_cycles: float
    bound_cycles: int
    macs: int
    weight_bytes: int
    kept_weight_bytes: int
    memory: str
    dram_read_bytes: int
    dram_write_bytes: int
    matrix_cycles: int
    vector_cycles: int

    @property
    def dram_bytes(self) -> int:
        return self.dram_read_bytes + self.dram_write_bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PipelineResult(Measured, Shown):
    """``n_images`` through the stages; ``figures`` are those of the whole batch.

    ``fill_cycles``: latency of one image with the chip to itself. ``interval_cycles``: between two images that leave in
    the steady state, the mean over ``period_images`` after which the state of the whole machine, to the last byte, is
    as it was (None: it was not seen to come back; then the mean over the later half of the images watched).
    ``steady_latency_cycles``: of an image in the steady state, from its first job's start to its last one's end.
    ``in_turn_cycles``: of one image layer after layer on all cores, with a plan of what stays on chip if this has one
    (None: the cores cannot do it alone).
    ``bound_cycles``: what no partition's interval is below. ``partition_cycles``: the interval as reckoned from stages
    that run alone;
    ``guess_cycles``: of the usual guess, equal shares (None: it does not come out); ``searched``: what the partition is
    the best of. ``hand_over``: whether "maps" are handed over whole or by "rows".
    """

    network: str
    machine: str
    stages: tuple[StageResult, ...]
    handed_over: tuple[HandedOver, ...]
    n_images: int
    figures: Figures
    fill_cycles: int
    interval_cycles: Fraction
    period_images: int | None
    steady_latency_cycles: float
    in_turn_cycles: int | None
    in_turn_dram_bytes: int | None
    bound_cycles: int
    partition_cycles: int
    guess_cycles: int | None
    searched: str
    takes_turns: bool
    hand_over: str
    spans: tuple[StageSpan, ...]
    assumptions: tuple[str, ...]
    stream: OperatorStream | None = field(default=None, compare=False)
    machine_spec: MachineSpec | None = field(default=None, compare=False)

    @property
    def throughput_per_s(self) -> float:
        """Images a second in the steady state."""
        return 1 / (float(self.interval_cycles) * self.seconds_of_a_cycle)

    @property
    def seconds_of_a_cycle(self) -> float:
        return self.seconds / max(1, self.cycles)

    @property
    def independent_cycles(self) -> float:
        """Of the batch if stages did not feel each other: the first image, then one a longest stage."""
        return self.fill_cycles + (self.n_images - 1) * max(stage.alone_cycles for stage in self.stages)

    @property
    def contention_cycles(self) -> float:
        """By how much the batch takes longer than that (or, below 0, shorter)."""
        return self.cycles - self.independent_cycles

    @property
    def gap(self) -> float:
        """By how much of it the interval may miss the best partition's."""
        return float(1 - self.bound_cycles / self.interval_cycles)

    @property
    def speedup(self) -> float | None:
        """Images a second over those of one image after the other on all cores (None: these cannot do it alone)."""
        return None if self.in_turn_cycles is None else float(self.in_turn_cycles / self.interval_cycles)

    @property
    def bottleneck(self) -> int:
        """The number of the stage that works longest in the steady state."""
        return max(range(len(self.stages)), key=lambda at: self.stages[at].work_cycles)

    @property
    def handed_over_bytes(self) -> int:
        """What is reserved between stages in all; a map that several stages read counts once."""
        largest: dict[str, int] = {}
        for one in self.handed_over:
            largest[one.name] = max(largest.get(one.name, 0), one.buffer_bytes)
        return sum(largest.values())

    def busy(self, stage: int) -> float:
        """Share of the steady state in which a stage works (0 to 1)."""
        return self.stages[stage].work_cycles / float(self.interval_cycles)

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per stage: what a table or a CSV file holds."""
        rows = []
        for at, stage in enumerate(self.stages):
            core_cycles = max(1, stage.n_cores) * float(self.interval_cycles)
            rows.append(
                {
                    "stage": at + 1,
                    "first": stage.first,
                    "last": stage.last,
                    "n_jobs": stage.n_jobs,
                    "units": stage.units,
                    "n_cores": stage.n_cores,
                    "alone_cycles": stage.alone_cycles,
                    "work_cycles": stage.work_cycles,
                    "stay_cycles": stage.stay_cycles,
                    "busy": self.busy(at),
                    "bound_cycles": stage.bound_cycles,
                    "macs": stage.macs,
                    "weight_bytes": stage.weight_bytes,
                    "kept_weight_bytes": stage.kept_weight_bytes,
                    "memory": stage.memory,
                    "dram_read_bytes": stage.dram_read_bytes,
                    "dram_write_bytes": stage.dram_write_bytes,
                    "matrix_utilization": stage.matrix_cycles / core_cycles,
                    "vector_utilization": stage.vector_cycles / core_cycles,
                }
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "network": self.network,
            "machine": self.machine,
            "n_images": self.n_images,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "energy_pj": self.energy_pj,
            "energy_by_component": dict(self.energy_by_component),
            "dram_read_bytes": self.dram_read_bytes,
            "dram_write_bytes": self.dram_write_bytes,
            "matrix_utilization": self.matrix_utilization,
            "vector_utilization": self.vector_utilization,
            "fill_cycles": self.fill_cycles,
            "interval_cycles": float(self.interval_cycles),
            "period_images": self.period_images,
            "steady_latency_cycles": self.steady_latency_cycles,
            "throughput_per_s": self.throughput_per_s,
            "bottleneck_stage": self.bottleneck + 1,
            "independent_cycles": self.independent_cycles,
            "contention_cycles": self.contention_cycles,
            "in_turn_cycles": self.in_turn_cycles,
            "in_turn_dram_bytes": self.in_turn_dram_bytes,
            "bound_cycles": self.bound_cycles,
            "gap": self.gap,
            "partition_cycles": self.partition_cycles,
            "guess_cycles": self.guess_cycles,
            "searched": self.searched,
            "takes_turns": self.takes_turns,
            "hand_over": self.hand_over,
            "handed_over_bytes": self.handed_over_bytes,
            "stages": self.rows(),
            "handed_over": [_plain(one) for one in self.handed_over],
            "assumptions": list(self.assumptions),
        }


def _plain(one: HandedOver) -> dict[str, Any]:
    return {
        "name": one.name,
        "made_in": one.made_in + 1,
        "read_in": one.read_in + 1,
        "bytes": one.n_bytes,
        "n_maps": one.n_maps,
        "memory": one.memory,
        "buffer_bytes": one.buffer_bytes,
        "address": one.address,
        "map_rows": one.map_rows,
        "line_rows": one.line_rows,
        "least_rows": one.least_rows,
    }
