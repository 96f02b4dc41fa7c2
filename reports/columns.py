"""Tables as columns of texts, made once: terminal, pages and Markdown show the same figures in the same words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from tilewright.reports.layer_words import layer_words, network_words
from tilewright.reports.quantity import (
    bytes_text,
    change_text,
    cycles_text,
    energy_text,
    percent_text,
    ratio_text,
    seconds_text,
    sequence_text,
    tiling_text,
)
from tilewright.sim.machine_comparison import MachineComparison, MachineRun
from tilewright.sim.network_why import NetworkWhyResult
from tilewright.sim.result import SearchSummary, SimulationResult, WhyResult

__all__ = [
    "Column",
    "TextTable",
    "comparison_columns",
    "energy_shares",
    "machine_columns",
    "network_what_if_columns",
    "result_rows",
    "search_proof",
    "search_sentence",
    "sideways",
    "table_rows",
    "what_if_columns",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of text cells. A column with ``rank`` 0 is always shown; others go when room is short, highest first.

    With ``fold``, its text is broken over lines of that width before any column goes. ``short`` is the header where
    room is short, as on a terminal.
    """

    header: str
    cells: Sequence[str]
    short: str = ""
    right: bool = True
    rank: int = 0
    fold: int | None = None
    styles: Mapping[int, str] = field(default_factory=dict)


class TextTable(NamedTuple):
    """Columns, the row that is best (None: none is), and a sentence under the table where one is needed."""

    columns: tuple[Column, ...]
    best_row: int | None = None
    note: str = ""

    @property
    def head(self) -> list[str]:
        return [column.header for column in self.columns]

    @property
    def rows(self) -> list[list[str]]:
        return table_rows(self.columns)


def sideways(table: TextTable, *, droppable: bool = False) -> tuple[Column, ...]:
    """The same table with a column for each row: headers (the short ones) downwards, the first column's cells on top.

    ``droppable``: where room is short, the last columns go first, but never the first of them.
    """
    first, *others = table.columns
    turned = [Column(header="", cells=[column.short or column.header for column in others], right=False)]
    for at, name in enumerate(first.cells):
        turned.append(Column(header=name, cells=[c.cells[at] for c in others], rank=at if droppable else 0))
    return tuple(turned)


def table_rows(columns: Sequence[Column]) -> list[list[str]]:
    """The cells row by row."""
    return [list(row) for row in zip(*(column.cells for column in columns), strict=True)]


class _Figures(Protocol):
    """What a run has to say in any comparison."""

    @property
    def cycles(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def energy_pj(self) -> float: ...
    @property
    def dram_bytes(self) -> int: ...
    @property
    def bound_ratio(self) -> float: ...
    @property
    def matrix_utilization(self) -> float: ...
    @property
    def vector_utilization(self) -> float: ...
    @property
    def dram_utilization(self) -> float: ...


class _Figure(NamedTuple):
    header: str
    text: Callable[[_Figures], str]
    rank: int
    short: str = ""


_CYCLES = _Figure("cycles", lambda run: cycles_text(run.cycles), 0)
_TIME = _Figure("time", lambda run: seconds_text(run.seconds), 1)
_BOUND = _Figure("/ bound", lambda run: f"{run.bound_ratio:.3f}", 2)
_REST = (
    _Figure("energy", lambda run: energy_text(run.energy_pj), 0),
    _Figure("DRAM bytes", lambda run: bytes_text(run.dram_bytes), 3),
    _Figure("matrix busy", lambda run: percent_text(run.matrix_utilization), 4, "matrix"),
    _Figure("vector busy", lambda run: percent_text(run.vector_utilization), 5, "vector"),
    _Figure("DRAM busy", lambda run: percent_text(run.dram_utilization), 6, "DRAM"),
)


def _column(figure: _Figure, runs: Sequence[_Figures], *, rank: int | None = None) -> Column:
    return Column(
        header=figure.header,
        short=figure.short,
        cells=[figure.text(run) for run in runs],
        rank=figure.rank if rank is None else rank,
    )


def comparison_columns(
    results: Sequence[SimulationResult], *, best: SimulationResult | None, baseline: SimulationResult | None
) -> TextTable:
    """Dataflows on one workload, with their speed against ``baseline``."""
    speed = [ratio_text(baseline.cycles / run.cycles) if baseline else "" for run in results]
    columns = (
        Column(header="dataflow", cells=[run.dataflow for run in results], right=False),
        _column(_CYCLES, results),
        _column(_TIME, results),
        Column(header=f"vs {baseline.dataflow if baseline else ''}".strip(), cells=speed),
        _column(_BOUND, results),
        *(_column(figure, results) for figure in _REST),
    )
    at = next((row for row, run in enumerate(results) if run is best), None)
    return TextTable(columns, at)


def machine_columns(comparison: MachineComparison, workload: str) -> TextTable:
    """The machines on one workload in their order, with the time against the fastest; what cannot run says so."""
    runs = {run.machine: run for run in comparison.of_workload(workload)}
    shown = [runs.get(machine) for machine in comparison.machines]
    best = comparison.best(workload) if runs else None
    fastest = min((run.seconds for run in runs.values()), default=1.0)

    def cells(text: Callable[[MachineRun], str], missing: str = "") -> list[str]:
        return [missing if run is None else text(run) for run in shown]

    columns = [
        Column(header="machine", cells=list(comparison.machines), right=False, fold=20),
        Column(header="cycles", cells=cells(_CYCLES.text), rank=2),
        Column(header="time", cells=cells(_TIME.text, "cannot run")),
        Column(header="vs fastest", cells=cells(lambda run: ratio_text(run.seconds / fastest)), rank=1),
        Column(header="/ bound", cells=cells(_BOUND.text), rank=3),
        Column(header="energy", cells=cells(_REST[0].text)),
        Column(header="DRAM bytes", cells=cells(_REST[1].text)),
        Column(header="of array", cells=cells(lambda run: percent_text(run.array_use))),
        Column(header="matrix busy", short="matrix", cells=cells(_REST[2].text), rank=6),
        Column(header="vector busy", short="vector", cells=cells(_REST[3].text), rank=5),
        Column(header="DRAM busy", short="DRAM", cells=cells(_REST[4].text), rank=4),
    ]
    if any(run.dataflow for run in runs.values()):
        columns.insert(1, Column(header="dataflow", cells=cells(lambda run: run.dataflow), right=False, rank=1))
    at = next((row for row, run in enumerate(shown) if run is not None and run is best), None)
    return TextTable(tuple(columns), at)


_ANOMALY = (
    "slower with more, and no mistake: commands that end sooner meet the others in another order, which here is worse "
    "(a timing anomaly as in Graham, 1966); no tiling of the space avoids it"
)


class _WhatIf(NamedTuple):
    label: str
    cycles: int
    same: int
    energy_pj: float


def what_if_columns(why: WhyResult) -> TextTable:
    """The exact outcome of each what-if of a layer."""
    items = [_WhatIf(w.label, w.cycles, w.cycles_same_tiling, w.energy_pj) for w in why.what_ifs]
    is_fastest = why.result.search is None or why.result.search.objective == "latency"
    return _what_ifs(items, why.result.cycles, why.result.energy_pj, "same tiling", is_fastest=is_fastest)


def network_what_if_columns(why: NetworkWhyResult) -> TextTable:
    """The exact outcome of each what-if of a network."""
    items = [_WhatIf(w.label, w.cycles, w.cycles_same_mappings, w.energy_pj) for w in why.what_ifs]
    is_fastest = why.result.objective == "latency"
    return _what_ifs(items, why.result.cycles, why.result.energy_pj, "same tilings", is_fastest=is_fastest)


def _what_ifs(items: Sequence[_WhatIf], cycles: int, energy_pj: float, same: str, *, is_fastest: bool) -> TextTable:
    """``is_fastest``: tilings were chosen for speed; otherwise more cycles are a choice, and no anomaly."""
    columns: tuple[Column, ...] = (
        Column(header="change", cells=[item.label for item in items], right=False),
        Column(header="cycles", cells=[cycles_text(item.cycles) for item in items]),
        Column(header="change", cells=[change_text(item.cycles / cycles) for item in items]),
        Column(header="speed-up", cells=[ratio_text(cycles / item.cycles) for item in items]),
        Column(header=same, cells=[ratio_text(cycles / item.same) for item in items], rank=1),
        Column(
            header="energy",
            cells=[change_text(item.energy_pj / energy_pj) if energy_pj else "" for item in items],
        ),
    )
    notes = [_why_slower(item, cycles, energy_pj) for item in items]
    if any(notes):
        columns = (*columns, Column(header="why slower", cells=notes, right=False, fold=40))
    fewest = min((item.cycles for item in items), default=cycles)
    at = next((row for row, item in enumerate(items) if item.cycles == fewest < cycles), None)
    slower = [item.label for item in items if item.cycles > cycles and is_fastest]
    return TextTable(columns, at, f"{', '.join(slower)}: {_ANOMALY}" if slower else "")


def _why_slower(item: _WhatIf, cycles: int, energy_pj: float) -> str:
    """More of a resource can make an exact schedule longer; empty where it does not."""
    if item.cycles <= cycles:
        return ""
    if item.energy_pj < energy_pj:
        return "another mapping, chosen for its energy"
    return "an anomaly of exact schedules: commands that end earlier meet others on the bus or at a unit"


def result_rows(result: SimulationResult) -> list[tuple[str, str]]:
    """What a person asks first of one result: names and values in words."""
    bound = result.lower_bound
    rows: list[tuple[str, str]] = [
        *_workload_rows(result),
        *_model_rows(result),
        ("tiling", tiling_text(result.tiling)),
        ("cycles", cycles_text(result.cycles)),
        *_beside_rows(result),
        ("time", seconds_text(result.seconds)),
        (
            "lower bound",
            f"{cycles_text(bound.cycles)} cycles, set by {bound.limited_by}; achieved / bound {result.bound_ratio:.3f}",
        ),
        ("energy", f"{energy_text(result.energy_pj)}  ({energy_shares(result.energy_by_component)})"),
        ("DRAM traffic", f"{bytes_text(result.dram_read_bytes)} read, {bytes_text(result.dram_write_bytes)} written"),
        ("matrix unit busy", percent_text(result.matrix_utilization)),
        ("vector unit busy", percent_text(result.vector_utilization)),
        ("DRAM busy", percent_text(result.dram_utilization)),
    ]
    rows += [(f"peak use of {name}", bytes_text(peak)) for name, peak in result.peak_buffer_bytes.items()]
    if result.longest_sequence is not None:
        rows.append(("longest sequence that fits", sequence_text(result.longest_sequence)))
    if result.search is not None:
        rows.append(("tiling found by", search_sentence(result)))
    return rows


_BESIDE = {
    "choosing": "choosing the lists",
    "reorder": "tokens in another order",
    "cached": "what an earlier step left",
}


def _beside_rows(result: SimulationResult) -> list[tuple[str, str]]:
    """What of the cycles is for more than the attention itself."""
    return [
        (f"of these, {_BESIDE[name]}", f"{cycles_text(n)} ({percent_text(n / result.cycles)})")
        for name, n in result.beside_cycles.items()
    ]


def _workload_rows(result: SimulationResult) -> list[tuple[str, str]]:
    """What the workload is, and where the network is that has the same name."""
    words = layer_words(result.layer)
    other = network_words(result.workload) if words.startswith("attention") else ""
    return [("workload", f"{words}; {other}" if other else words)] if words else []


def _model_rows(result: SimulationResult) -> list[tuple[str, str]]:
    """On a GPU: whether library kernels were timed or the engine's schedules run."""
    if result.kernels:
        return [("model", f"library kernels ({result.kernels}), by their calibrated model")]
    on_gpu = result.machine_spec is not None and result.machine_spec.gpu is not None
    return [("model", "the engine's exact schedules, multiprocessors as cores")] if on_gpu else []


def energy_shares(by_component: Mapping[str, float]) -> str:
    """The components that take half a per cent of the energy or more, most first."""
    total = sum(by_component.values()) or 1.0
    parts = sorted(by_component.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {part / total * 100:.0f} %" for name, part in parts if part / total >= 0.005)


def search_proof(summary: SearchSummary, dataflow: str) -> str:
    """What is proven of a tiling, and within what: no other dataflow and no other schedule is covered."""
    if summary.proven:
        return f"proven best of the {summary.n_candidates:,} tilings in {dataflow}'s space"
    return f"best seen of the {summary.n_candidates:,} tilings in {dataflow}'s space, not proven"


def search_sentence(result: SimulationResult) -> str:
    """How the tiling was found, in one phrase."""
    search = result.search
    if search is None:
        return "given"
    return (
        f"search for {search.objective}: {search_proof(search, result.dataflow)}; {search.n_fitting:,} fit on chip, "
        f"{search.n_simulated:,} simulated in {seconds_text(search.seconds)}"
    )
