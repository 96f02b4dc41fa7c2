"""What a simulation tells: typed results, with the units in the names.

Every result can be turned into plain data (:meth:`SimulationResult.to_dict`) and into a pandas frame
(:meth:`SimulationResult.to_frame`, :meth:`ComparisonResult.to_frame`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tilewright.presented import Pictured
from tilewright.sim.figures import Figures, Measured

if TYPE_CHECKING:
    import pandas as pd

    from tilewright.hw_models.spec import MachineSpec
    from tilewright.sim.lowering.mapping import Layer

__all__ = [
    "Attribution",
    "ComparisonResult",
    "LowerBound",
    "SearchSummary",
    "SimulationResult",
    "WhatIf",
    "WhyResult",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowerBound:
    """Cycles below which no schedule of this workload can end on this machine.

    ``cycles`` is the largest of them: each resource must do at least this much work, whatever
    the dataflow and the tiling. ``fallback_cycles``: of an operator that the cores lack. ``weight_memory_cycles``: of
    weights that come from a memory beside the DRAM.
    """

    matrix_cycles: int
    vector_cycles: int
    dram_cycles: int
    fallback_cycles: int = 0
    weight_memory_cycles: int = 0

    @property
    def cycles(self) -> int:
        return max(
            self.matrix_cycles, self.vector_cycles, self.dram_cycles, self.fallback_cycles, self.weight_memory_cycles
        )

    @property
    def limited_by(self) -> str:
        """The resource that sets the bound: ``matrix``, ``vector``, ``dram``, ``fallback`` or ``weights``."""
        named = {
            "matrix": self.matrix_cycles,
            "vector": self.vector_cycles,
            "dram": self.dram_cycles,
            "fallback": self.fallback_cycles,
            "weights": self.weight_memory_cycles,
        }
        return max(named, key=lambda name: named[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Where the cycles of the critical path went; the parts add up to the run's cycles."""

    matrix_cycles: int
    vector_cycles: int
    dram_cycles: int
    buffer_wait_cycles: int
    fill_drain_cycles: int

    @property
    def total_cycles(self) -> int:
        return sum(self.to_dict().values())

    def __add__(self, other: Attribution) -> Attribution:
        """The attribution of two runs one after the other."""
        return Attribution(
            matrix_cycles=self.matrix_cycles + other.matrix_cycles,
            vector_cycles=self.vector_cycles + other.vector_cycles,
            dram_cycles=self.dram_cycles + other.dram_cycles,
            buffer_wait_cycles=self.buffer_wait_cycles + other.buffer_wait_cycles,
            fill_drain_cycles=self.fill_drain_cycles + other.fill_drain_cycles,
        )

    def to_dict(self) -> dict[str, int]:
        return {
            "matrix": self.matrix_cycles,
            "vector": self.vector_cycles,
            "dram": self.dram_cycles,
            "buffer_wait": self.buffer_wait_cycles,
            "fill_drain": self.fill_drain_cycles,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSummary:
    """How the tiling was found. ``proven`` is true when no legal tiling of the space can be better."""

    objective: str
    n_candidates: int
    n_fitting: int
    n_simulated: int
    proven: bool
    seconds: float


class LengthLimit:
    """The longest sequence that fits, worked out by ``find`` when it is first asked for: it takes longer than a run."""

    __slots__ = ("_find", "_value")

    def __init__(self, find: Callable[[], int]) -> None:
        self._find: Callable[[], int] | None = find
        self._value = 0

    @property
    def value(self) -> int:
        if self._find is not None:
            self._value, self._find = self._find(), None
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LengthLimit) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"LengthLimit({self.value})"

    def __reduce__(self) -> tuple[Callable[[int], LengthLimit], tuple[int]]:
        return known_limit, (self.value,)


def known_limit(value: int) -> LengthLimit:
    """A limit that need not be worked out."""
    return LengthLimit(lambda: value)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SimulationResult(Measured, Pictured):
    """One workload on one machine with one dataflow and one tiling.

    ``cycles``, ``energy_pj`` and the like are those of ``figures``. ``layer`` (as it was cut for the cores) and
    ``machine_spec`` are what was run. ``kernels``: on a GPU, ``eager`` or ``fused`` library kernels were timed
    (``dataflow`` is then their family, ``tiling`` the tile that the library takes); else the engine ran.
    """

    workload: str
    machine: str
    dataflow: str
    tiling: Mapping[str, int]
    figures: Figures
    buffer_read_bytes: Mapping[str, int]
    buffer_write_bytes: Mapping[str, int]
    dram_utilization: float
    peak_buffer_bytes: Mapping[str, int]
    lower_bound: LowerBound
    length_limit: LengthLimit | None = None
    assumptions: tuple[str, ...] = ()
    search: SearchSummary | None = None
    kernels: str = ""
    layer: Layer | None = field(default=None, compare=False)
    machine_spec: MachineSpec | None = field(default=None, compare=False)

    @property
    def longest_sequence(self) -> int | None:
        """The longest sequence for which some mapping fits on chip; None where it was not asked for."""
        return None if self.length_limit is None else self.length_limit.value

    @property
    def lower_bound_cycles(self) -> int:
        return self.lower_bound.cycles

    @property
    def bound_ratio(self) -> float:
        """Achieved cycles over the lower bound (1.0 is perfect)."""
        return self.cycles / self.lower_bound.cycles

    @property
    def beside_cycles(self) -> dict[str, int]:
        """Cycles that choosing lists, reordering tokens and cached values of earlier steps cost: those of the same
        mapping without each, run when this is asked for; empty for layers without.
        """
        from tilewright.sim.lowering.beside import beside_cycles  # which runs mappings, whose results these are

        return beside_cycles(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        data: dict[str, Any] = {
            "workload": self.workload,
            "machine": self.machine,
            "dataflow": self.dataflow,
            "tiling": dict(self.tiling),
            "cycles": self.cycles,
            "seconds": self.seconds,
            "energy_pj": self.energy_pj,
            "energy_by_component": dict(self.energy_by_component),
            "dram_read_bytes": self.dram_read_bytes,
            "dram_write_bytes": self.dram_write_bytes,
            "buffer_read_bytes": dict(self.buffer_read_bytes),
            "buffer_write_bytes": dict(self.buffer_write_bytes),
            "matrix_utilization": self.matrix_utilization,
            "vector_utilization": self.vector_utilization,
            "dram_utilization": self.dram_utilization,
            "peak_buffer_bytes": dict(self.peak_buffer_bytes),
            "lower_bound_cycles": self.lower_bound_cycles,
            "lower_bound": {
                "matrix_cycles": self.lower_bound.matrix_cycles,
                "vector_cycles": self.lower_bound.vector_cycles,
                "dram_cycles": self.lower_bound.dram_cycles,
                "limited_by": self.lower_bound.limited_by,
            },
            "bound_ratio": self.bound_ratio,
            "longest_sequence": self.longest_sequence,
            "assumptions": list(self.assumptions),
            **({"kernels": self.kernels} if self.kernels else {}),
            **({"beside_cycles": beside} if (beside := self.beside_cycles) else {}),
        }
        if self.search is not None:
            data["search"] = {
                "objective": self.search.objective,
                "n_candidates": self.search.n_candidates,
                "n_fitting": self.search.n_fitting,
                "n_simulated": self.search.n_simulated,
                "proven": self.search.proven,
                "seconds": self.search.seconds,
            }
        return data

    def to_row(self) -> dict[str, Any]:
        """One flat table row: nested fields become ``energy_dram_pj``, ``tile_query``, …"""
        row: dict[str, Any] = {}
        for key, value in self.to_dict().items():
            if key == "assumptions":
                continue
            if key == "tiling":
                row.update({f"tile_{name}": size for name, size in value.items()})
            elif key == "energy_by_component":
                row.update({f"energy_{name}_pj": part for name, part in value.items()})
            elif isinstance(value, dict):
                row.update({f"{key}_{name}": part for name, part in value.items()})
            else:
                row[key] = value
        return row

    def to_frame(self) -> pd.DataFrame:
        """A frame of one row (columns as in :meth:`to_row`)."""
        import pandas as pd

        return pd.DataFrame([self.to_row()])


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ComparisonResult(Pictured):
    """Results side by side: workloads x dataflows on one machine, each at its own best tiling.

    ``infeasible`` names the dataflows that cannot run, with the reason, by (workload, dataflow).
    """

    results: tuple[SimulationResult, ...]
    infeasible: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def best(self, workload: str) -> SimulationResult:
        """The fastest result of ``workload``; among equally fast ones, the one with the least energy."""
        return min((r for r in self.results if r.workload == workload), key=lambda r: (r.cycles, r.energy_pj))

    @property
    def workloads(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([r.workload for r in self.results] + [w for w, _ in self.infeasible]))

    def to_dict(self) -> dict[str, Any]:
        return {
            "results": [r.to_dict() for r in self.results],
            "infeasible": [
                {"workload": w, "dataflow": d, "reason": reason} for (w, d), reason in self.infeasible.items()
            ],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per result (columns as in :meth:`SimulationResult.to_row`)."""
        import pandas as pd

        return pd.DataFrame([r.to_row() for r in self.results])


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """The exact outcome of changing one resource: ``label`` says what (``"2x DRAM bandwidth"``)."""

    label: str
    cycles: int
    energy_pj: float
    cycles_same_tiling: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class WhyResult(Pictured):
    """A result, the critical path behind it, and exact what-ifs."""

    result: SimulationResult
    attribution: Attribution | None
    what_ifs: tuple[WhatIf, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "result": self.result.to_dict(),
            "attribution": None if self.attribution is None else self.attribution.to_dict(),
            "what_ifs": [
                {
                    "label": w.label,
                    "cycles": w.cycles,
                    "cycles_same_tiling": w.cycles_same_tiling,
                    "energy_pj": w.energy_pj,
                    "speedup": self.result.cycles / w.cycles,
                }
                for w in self.what_ifs
            ],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row per what-if."""
        import pandas as pd

        return pd.DataFrame(self.to_dict()["what_ifs"])
