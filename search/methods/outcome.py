"""What a search method reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tilewright.presented import Shown
from tilewright.search.objective import Objective, score
from tilewright.sim.result import SearchSummary

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SearchOutcome"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SearchOutcome(Shown):
    """The best tiling that a method found, how far it is from what is proven, and what it took.

    ``n_candidates`` counts the tilings of the declared space, ``n_fitting`` those that fit on chip, ``n_evaluations``
    the exact runs (one run of one phase each, none twice). ``curve`` is the best objective so far: (number of
    evaluations, objective), one entry wherever it improved. ``lower_bound`` (objective) is proven: no tiling of the
    space can be better. Objectives are cycles, picojoules, or their product. ``seconds`` is wall-clock time and takes
    no part in comparisons.
    """

    workload: str
    machine: str
    dataflow: str
    method: str
    objective: Objective
    seed: int
    budget: int | None
    tiling: Mapping[str, int]
    cycles: int
    energy_pj: float
    lower_bound: float
    proven: bool
    n_candidates: int
    n_fitting: int
    n_evaluations: int
    curve: tuple[tuple[int, float], ...]
    seconds: float = field(compare=False)

    @property
    def value(self) -> float:
        """The objective of the tiling found."""
        return score(self.objective, self.cycles, self.energy_pj)[0]

    @property
    def gap(self) -> float:
        """How far the result may at most be from the optimum, as a part of the proven bound (0.01 is 1 %)."""
        return 0.0 if self.proven else self.value / self.lower_bound - 1

    @property
    def summary(self) -> SearchSummary:
        """How the tiling was found, as it stands beside a result."""
        return SearchSummary(
            objective=self.objective,
            n_candidates=self.n_candidates,
            n_fitting=self.n_fitting,
            n_simulated=self.n_evaluations,
            proven=self.proven,
            seconds=self.seconds,
        )

    def to_row(self) -> dict[str, Any]:
        """Flat data: one column per tile (``tile.query``), the rest by name."""
        return {
            "workload": self.workload,
            "machine": self.machine,
            "dataflow": self.dataflow,
            "method": self.method,
            "objective": self.objective,
            "seed": self.seed,
            "value": self.value,
            "cycles": self.cycles,
            "energy_pj": self.energy_pj,
            "lower_bound": self.lower_bound,
            "gap": self.gap,
            "proven": self.proven,
            "n_candidates": self.n_candidates,
            "n_fitting": self.n_fitting,
            "n_evaluations": self.n_evaluations,
            "seconds": self.seconds,
            **{f"tile.{name}": size for name, size in self.tiling.items()},
        }

    def to_frame(self) -> pd.DataFrame:
        """A frame of one row (columns as in :meth:`to_row`)."""
        import pandas as pd

        return pd.DataFrame([self.to_row()])

    def curve_frame(self) -> pd.DataFrame:
        """The best objective so far, a row wherever it improved: ``evaluation``, ``best``."""
        import pandas as pd

        return pd.DataFrame(list(self.curve), columns=["evaluation", "best"])
