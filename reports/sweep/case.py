"""A sweep as a report sees it: its finished points as columns, what became of the others, and the best."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tilewright.errors import InputError
from tilewright.progress import Progress
from tilewright.reports.quantity import tiling_text
from tilewright.search.sweep.best import SweepBest, best_of_sweep
from tilewright.search.sweep.space import count_points
from tilewright.search.sweep.store import DamagedRow
from tilewright.search.sweep.stored import OpenedSweep, stored_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FIGURES", "OBJECTIVE_FIGURES", "Failure", "Figure", "SweepCase", "damage_text", "read_case"]

Row = Mapping[str, Any]

_TOLD_EVERY = 2000
_NUMBER = re.compile(r"\d[\d,.]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of a finished point: its column, its name and unit in words, how it is read from a row."""

    id: str
    label: str
    unit: str
    read: Callable[[Row], float | None]
    better: Literal["", "low"] = ""
    scale: Literal["linear", "log"] = "linear"


def _share(name: str) -> Callable[[Row], float | None]:
    return lambda row: None if row.get(name) is None else 100 * float(row[name])


FIGURES: tuple[Figure, ...] = (
    Figure(id="latency_ms", label="latency", unit="ms", read=lambda r: r["seconds"] * 1e3, better="low", scale="log"),
    Figure(id="energy_mj", label="energy", unit="mJ", read=lambda r: r["energy_pj"] * 1e-9, better="low", scale="log"),
    Figure(id="area_mm2", label="area", unit="mm2", read=lambda r: r.get("area_mm2"), better="low", scale="log"),
    Figure(id="power_w", label="power", unit="W", read=lambda r: r.get("power_w"), better="low", scale="log"),
    Figure(
        id="edp_mj_ms",
        label="energy x delay",
        unit="mJ ms",
        read=lambda r: r["energy_pj"] * 1e-9 * r["seconds"] * 1e3,
        better="low",
        scale="log",
    ),
    Figure(id="peak_tops", label="peak rate", unit="TOPS", read=lambda r: r.get("peak_tops"), scale="log"),
    Figure(id="bound_ratio", label="achieved / bound", unit="", read=lambda r: r.get("bound_ratio")),
    Figure(id="matrix_percent", label="matrix busy", unit="%", read=_share("matrix_utilization")),
    Figure(id="vector_percent", label="vector busy", unit="%", read=_share("vector_utilization")),
    Figure(id="dram_percent", label="DRAM busy", unit="%", read=_share("dram_utilization")),
    Figure(
        id="dram_mb",
        label="DRAM traffic",
        unit="MB",
        read=lambda r: (r.get("dram_read_bytes", 0) + r.get("dram_write_bytes", 0)) * 1e-6,
        scale="log",
    ),
)
#: The column that an objective makes small.
OBJECTIVE_FIGURES: Mapping[str, str] = {"latency": "latency_ms", "energy": "energy_mj", "edp": "edp_mj_ms"}


@dataclass(slots=True, kw_only=True)
class Failure:
    """Points that ended in the same way: status, error (of the first of them), how many, and one of the designs."""

    status: str
    error: str
    design: str
    n_points: int = 0
    workloads: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepCase:
    """One sweep of a store. ``points``: a frame with a row for each finished point; columns ``workload``,
    ``dataflow``, the parameters by their path, the :data:`FIGURES`, ``tiling`` (text), ``within_limits``.

    ``workloads``: names of those with a finished point, in the order of the sweep. ``counts`` is by status, ``missing``
    among them; ``current``: whether the code of this version wrote the rows;
    ``damaged``: rows of the store that are not as they were written, and left out;
    ``worker_s``: seconds of work in all points; ``kinds``: the types of the values of each column of the flat rows.
    """

    opened: OpenedSweep
    points: pd.DataFrame
    workloads: tuple[str, ...]
    counts: Counter[str]
    failures: tuple[Failure, ...]
    best: SweepBest
    current: bool
    worker_s: float
    kinds: Mapping[str, frozenset[type]]
    damaged: tuple[DamagedRow, ...] = ()

    @property
    def objective(self) -> str:
        """The column that the sweep's objective makes small."""
        return OBJECTIVE_FIGURES[self.opened.sweep.objective]

    @property
    def goals(self) -> list[str]:
        """Columns that a front is over: latency, energy, and area where it is known."""
        known = bool(self.points["area_mm2"].notna().any())
        return ["latency_ms", "energy_mj", *(["area_mm2"] if known else [])]

    @property
    def axes(self) -> tuple[str, str, str]:
        """Columns for a picture of the front: across, up, and a third goal (or "").

        Where area is known, what it buys is the question: area across and the objective up.
        """
        if "area_mm2" not in self.goals:
            return "latency_ms", "energy_mj", ""
        by_energy = self.opened.sweep.objective == "energy"
        return ("area_mm2", "energy_mj", "latency_ms") if by_energy else ("area_mm2", "latency_ms", "energy_mj")


def read_case(opened: OpenedSweep, progress: Progress | None = None) -> SweepCase:
    """Read the sweep's rows once. Raises InputError when the store holds none of them."""
    damaged: dict[tuple[str, int], DamagedRow] = {}

    def leave_out(row: DamagedRow) -> None:
        damaged[row.table, row.row] = row

    rows, current = stored_rows(opened.sweep, opened.store, damaged=leave_out)
    total = count_points(opened.sweep)
    reader = _Reader(opened, progress, total)
    best = best_of_sweep(opened.sweep, reader.read(rows))
    if not reader.counts.total() and damaged:
        first = next(iter(damaged.values()))
        raise InputError(
            f"{opened.store}: holds no point of the sweep {opened.sweep.name} that can be read; {first.text}"
        )
    if not reader.counts.total():
        raise InputError(
            f"{opened.store}: holds no finished point of the sweep {opened.sweep.name}; run it with: "
            f"tilewright sweep SWEEP.yaml --store {opened.store}"
        )
    if current:
        reader.counts["damaged"] = len(damaged)
    reader.counts["missing"] = max(0, total - reader.counts.total())
    points = reader.frame()
    there = set(points["workload"].unique())
    return SweepCase(
        opened=opened,
        points=points,
        workloads=tuple(layer.name for layer in opened.sweep.layers if layer.name in there),
        counts=reader.counts,
        failures=tuple(sorted(reader.failures.values(), key=lambda failure: -failure.n_points)),
        best=best,
        current=current,
        worker_s=reader.worker_s,
        kinds=reader.kinds(),
        damaged=(*opened.damaged, *damaged.values()),
    )


def damage_text(case: SweepCase) -> str:
    """What is left out because it is not as it was written."""
    rows = "1 row" if len(case.damaged) == 1 else f"{len(case.damaged):,} rows"
    return (
        f"{rows} of the store cannot be read, left out ({case.damaged[0].text}); set what is damaged aside and do "
        f"its points again with: tilewright sweep SWEEP.yaml --store {case.opened.store} --repair"
    )


class _Reader:
    """Takes rows into columns and hands on what :func:`best_of_sweep` needs of them."""

    def __init__(self, opened: OpenedSweep, progress: Progress | None, total: int) -> None:
        self.paths = opened.sweep.paths
        self.progress = progress
        self.total = total
        self.name = opened.sweep.name
        self.counts: Counter[str] = Counter()
        self.failures: dict[tuple[str, str], Failure] = {}
        self.worker_s = 0.0
        self.shapes: dict[tuple[tuple[str, ...], tuple[type, ...]], None] = {}
        self.plain = ("workload", "dataflow", *self.paths, "within_limits")
        self.columns: dict[str, list[Any]] = {
            name: [] for name in (*self.plain, *(figure.id for figure in FIGURES), "tiling")
        }
        self.tilings: dict[str, str] = {}

    def read(self, rows: Iterator[dict[str, Any]]) -> Iterator[Row]:
        for at, row in enumerate(rows):
            if self.progress is not None and at % _TOLD_EVERY == 0:
                self.progress(at, max(self.total, at + 1), f"reading {self.name}")
            self.counts[row["status"]] += 1
            self.worker_s += row["evaluation_s"]
            self.shapes[tuple(row), tuple(map(type, row.values()))] = None
            if row["status"] == "done":
                yield self.take(row)
            else:
                self.note(row)

    def take(self, row: dict[str, Any]) -> Row:
        tiling = {name[5:]: value for name, value in row.items() if name.startswith("tile_")}
        text = tiling_text(tiling)
        for name in self.plain:
            self.columns[name].append(row[name])
        for figure in FIGURES:
            self.columns[figure.id].append(figure.read(row))
        self.columns["tiling"].append(self.tilings.setdefault(text, text))
        kept = (*self.plain, "status", "cycles", "seconds", "energy_pj", "power_w", "area_mm2", "peak_tops")
        return {**{name: row[name] for name in kept}, "tiling": tiling}

    def note(self, row: Row) -> None:
        error = row["error"] or ""
        key = row["status"], _NUMBER.sub("#", error)
        if key not in self.failures:
            design = ", ".join(f"{path} {row[path]}" for path in self.paths)
            self.failures[key] = Failure(status=row["status"], error=error, design=design)
        self.failures[key].n_points += 1
        self.failures[key].workloads[f"{row['workload']} with {row['dataflow']}"] += 1

    def kinds(self) -> dict[str, frozenset[type]]:
        """The types of the values of each column, None aside; a column without a value is left out."""
        found: dict[str, set[type]] = {}
        for names, types in self.shapes:
            for name, kind in zip(names, types, strict=True):
                if kind is not type(None):
                    found.setdefault(name, set()).add(kind)
        return {name: frozenset(kinds) for name, kinds in found.items()}

    def frame(self) -> pd.DataFrame:
        import pandas as pd

        frame = pd.DataFrame(self.columns)
        numbers = [figure.id for figure in FIGURES]
        return frame.astype(dict.fromkeys(numbers, "float64"))
