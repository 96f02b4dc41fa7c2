"""Workloads x dataflows as cells: what each pair takes, which is best of its workload, and why one cannot run."""

from __future__ import annotations

from typing import NamedTuple

from tilewright.reports.quantity import change_text, cycles_text, energy_text, ratio_text
from tilewright.reports.ranking import BASELINE_DATAFLOW, OUR_DATAFLOW, dataflow_order
from tilewright.sim.result import ComparisonResult, SimulationResult

__all__ = ["PairCell", "PairRow", "PairTable", "pair_table"]


class PairCell(NamedTuple):
    """One workload with one dataflow; ``reason``: why it cannot run. All empty: never tried (another kind of work)."""

    text: str
    is_best: bool = False
    reason: str = ""


class PairRow(NamedTuple):
    """A workload with its cells, in the order of the dataflows; ``against``: one of them beside the baseline."""

    workload: str
    cells: tuple[PairCell, ...]
    against: str


class PairTable(NamedTuple):
    """``against`` is the header of the last column, empty where no workload has both dataflows."""

    dataflows: tuple[str, ...]
    rows: tuple[PairRow, ...]
    against: str


def pair_table(comparison: ComparisonResult, *, energy: bool = False, ours: str = OUR_DATAFLOW) -> PairTable:
    """Cycles (or ``energy``) of every pair, and ``ours`` against the baseline: speed-up, or change of the energy."""
    names = dataflow_order(comparison)
    by_pair = {(run.workload, run.dataflow): run for run in comparison.results}
    rows = []
    for workload in comparison.workloads:
        found = [by_pair.get((workload, name)) for name in names]
        least = min((_figure(run, energy) for run in found if run), default=0.0)
        cells = []
        for name, run in zip(names, found, strict=True):
            if run is not None:
                text = energy_text(run.energy_pj) if energy else cycles_text(run.cycles)
                cells.append(PairCell(text, _figure(run, energy) == least))
            else:
                reason = comparison.infeasible.get((workload, name), "")
                cells.append(PairCell("cannot run" if reason else "", reason=reason))
        rows.append(PairRow(workload, tuple(cells), _against(by_pair, workload, ours, energy)))
    has_both = any(row.against for row in rows) and ours != BASELINE_DATAFLOW
    return PairTable(tuple(names), tuple(rows), f"{ours} vs {BASELINE_DATAFLOW}" if has_both else "")


def _figure(run: SimulationResult, energy: bool) -> float:
    return run.energy_pj if energy else float(run.cycles)


def _against(by_pair: dict[tuple[str, str], SimulationResult], workload: str, ours: str, energy: bool) -> str:
    mine, theirs = by_pair.get((workload, ours)), by_pair.get((workload, BASELINE_DATAFLOW))
    if mine is None or theirs is None:
        return ""
    if not energy:
        return ratio_text(theirs.cycles / mine.cycles)
    return change_text(mine.energy_pj / theirs.energy_pj) if theirs.energy_pj else ""
