"""The search over steps: prices from the simulator, the best ways of each unit, and the best of all units together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.errors import InputError, unknown
from tilewright.hw_models.groups import main_alone
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.gpu.kernel_options import kernel_options
from tilewright.search.objective import Objective
from tilewright.search.runs.kinds.diffusion import evaluate_diffusion
from tilewright.search.runs.simulator import RunSimulator
from tilewright.search.steps.budget import METHODS, StepBudget, parse_budget
from tilewright.search.steps.choose import Choice, choose, whole_front
from tilewright.search.steps.result import StepsResult, UnitChoice, schedule_of
from tilewright.sim.network_result import NetworkResult, OperatorResult
from tilewright.sim.runs.diffusion import DiffusionResult
from tilewright.workloads.diffusion.blocks import NetworkBlocks, network_blocks
from tilewright.workloads.diffusion.features import StepPlan, plan_steps
from tilewright.workloads.diffusion.similarity import Similarities, load_similarities
from tilewright.workloads.diffusion.step import Cell, Schedule, Step
from tilewright.workloads.diffusion.streams import OperatorFormats, step_stream, with_operator_formats
from tilewright.workloads.diffusion.updates import Update, best_front, best_updates, grouped, joined
from tilewright.workloads.network import network_stream
from tilewright.workloads.runs.kinds.diffusion import DiffusionRun
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["search_steps"]

_ADDED = (
    "the search adds up what each unit takes in a step, from a step in which all are computed and kept and one in "
    "which none is; what it finds is simulated step by step, and found again with less where that is above the budget",
    "similarities of units are added: what one that is kept changes in those behind it is not seen",
)
_JOINED = "the units of a block are computed at every step at which one of a block behind it is (block-wise caching)"
_FORMATS = (
    "a format is that of a unit's weights and of what only its own operators read; what it takes in and gives is as "
    "the network has it"
)
_MOST_TRIES = 6
_MOST_POINTS = 101


def search_steps(
    network: str | OperatorStream,
    machine: str | MachineSpec,
    similarities: str | Path | Similarities,
    budget: str | Sequence[str],
    *,
    method: str | None = None,
    objective: Objective = "latency",
    curve: bool = False,
    progress: Progress | None = None,
) -> StepsResult:
    """Which units of ``network`` are computed at which steps, most alike to all being computed, within ``budget``.

    ``similarities``: a table or its file. ``budget``: ``latency=0.5x`` or ``energy=20J`` (of all steps: the best
    schedule, and the best format of each update where the table has formats), ``updates=10`` (each unit so often, and
    blocks before it join it: ``bac``), ``groups=5`` (all units at once, in groups of about so many steps). ``method``:
    ``dp``, ``bac``, ``groups`` (None: what the budget is of); ``dp`` with ``updates`` leaves joining out.

    ``curve``: with a budget of time or energy, also what is best at every other amount.

    Raises InputError for units that the network has not, and for a budget below what is possible.
    """
    spec = main_alone(load_machine(machine) if isinstance(machine, str) else machine)
    table = similarities if isinstance(similarities, Similarities) else load_similarities(similarities)
    asked = parse_budget([budget] if isinstance(budget, str) else budget)
    how = _method(asked, method)
    blocks = network_blocks(network_stream(network))
    cells = table.cells(blocks)
    _check_cells(cells, table)
    simulator = RunSimulator(
        machine=spec, kernels=kernel_options(spec, None, None), objective=objective, progress=progress
    )
    notes = [*_ADDED, *([_JOINED] if how == "bac" else []), *([_FORMATS] if len(table.formats) > 1 else [])]
    common: dict[str, Any] = {
        "network": blocks.stream.name,
        "machine": spec.name,
        "method": how,
        "budget": asked.text,
        "kind": asked.kind,
        "n_steps": table.n_steps,
        "formats": tuple(one.name for one in table.formats),
        "assumptions": tuple(notes),
    }
    n_cells = len(cells) * table.n_steps
    if asked.kind not in ("latency", "energy"):
        if curve:
            raise InputError(f"--pareto: needs a budget of latency or energy; given {asked.text}")
        units = (
            _updates(table, cells, asked, blocks.names if how == "bac" else ())
            if asked.kind == "updates"
            else _groups(table, cells, asked)
        )
        mean = sum(unit.value for unit in units) / n_cells
        run = _simulated(blocks, table, units, asked, simulator)
        return StepsResult(**common, units=units, mean_similarity=mean, bound=mean, price=0, whole_price=0, run=run)
    best = _Best(table, cells, _prices(blocks, cells, table, asked.kind, simulator), asked)
    limit = best.limit
    for _ in range(_MOST_TRIES):
        units, found = best.within(limit, progress)
        run = _simulated(blocks, table, units, asked, simulator)
        over = _price(run, asked.kind) - best.limit
        if over <= 0 or limit <= best.least:
            break
        limit = max(best.least, min(limit - over, best.fixed + found.price - 1))
    return StepsResult(
        **common,
        units=units,
        mean_similarity=found.value / n_cells,
        bound=found.bound / n_cells,
        price=best.fixed + found.price,
        whole_price=best.whole,
        run=run,
        curve=best.curve(n_cells, progress) if curve else (),
    )


def _method(asked: StepBudget, method: str | None) -> str:
    usual = METHODS[asked.kind]
    allowed = ("dp", "bac") if asked.kind == "updates" else (usual,)
    if method is not None and method not in allowed:
        raise unknown("method", method, allowed, place="--method", fault=f"goes with another budget than {asked.text}")
    return method or usual


def _check_cells(cells: Sequence[Cell], table: Similarities) -> None:
    whole = {block for block, part in cells if not part}
    for block, part in cells:
        if part and block in whole:
            raise InputError(
                f"{table.source or 'similarities'}: {block}.{part} and {block} are both units; allowed one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prices:
    """In picoseconds or picojoules: of a step that computes no unit (``none``), of an update of each unit in each
    format, and of a step with nothing kept (``whole``).
    """

    none: int
    whole: int
    units: Mapping[Cell, tuple[int, ...]]


def _prices(
    blocks: NetworkBlocks, cells: Sequence[Cell], table: Similarities, kind: str, simulator: RunSimulator
) -> _Prices:
    """Each unit's share of what a step takes more that computes all of them than one that computes none."""
    steps = (Step(), Step(cached=frozenset(cells)), Step(cached=frozenset(cells)))
    every, none, _ = plan_steps(blocks, Schedule(method="prices", steps=steps))
    found: dict[Cell, list[int]] = {cell: [] for cell in cells}
    bottom = _price(_run_step(blocks.stream, none, simulator), kind)
    for at, formats in enumerate(table.formats):
        simulator.tell(at, len(table.formats), f"a step in {formats.name}")
        own = OperatorFormats(formats.weights, formats.activations)
        names = [name for block, part in cells for name in blocks.block(block).of(part)]
        result = _run_step(blocks.stream, every, simulator, dict.fromkeys(names, own) if any(own) else {})
        of_operator = {one.name: _price(one, kind) for one in result.operators}
        raw = {cell: sum(of_operator.get(name, 0) for name in blocks.block(cell[0]).of(cell[1])) for cell in cells}
        share = max(0, _price(result, kind) - bottom) / max(1, sum(raw.values()))
        for cell in cells:
            found[cell].append(max(1, round(raw[cell] * share)))
    whole = _price(simulator.network(blocks.stream), kind)
    return _Prices(none=bottom, whole=whole, units={cell: tuple(own) for cell, own in found.items()})


def _run_step(
    stream: OperatorStream,
    plan: StepPlan,
    simulator: RunSimulator,
    formats: Mapping[str, OperatorFormats] | None = None,
) -> NetworkResult:
    made = step_stream(stream, plan).stream
    assert made is not None
    return simulator.network(with_operator_formats(made, formats) if formats else made)


def _price(result: NetworkResult | OperatorResult | DiffusionResult, kind: str) -> int:
    return round(result.energy_pj if kind == "energy" else result.seconds * 1e12)


class _Best:
    """The best within a budget of time or energy."""

    def __init__(self, table: Similarities, cells: Sequence[Cell], prices: _Prices, asked: StepBudget) -> None:
        self.cells = cells
        self.fixed = table.n_steps * prices.none
        self.whole = table.n_steps * prices.whole
        self.limit = asked.limit(self.whole)
        self.fronts = [
            best_front(unit.gains(), prices.units[cell]) for unit, cell in zip(table.units, cells, strict=True)
        ]
        self.least = self.fixed + sum(int(front.prices[0]) for front in self.fronts)
        if self.limit < self.least:
            share = math.ceil(1000 * self.least / self.whole) / 1000
            raise InputError(
                f"budget: {asked.text}: every unit computed once takes {share:g} of all steps with nothing kept; "
                f"allowed {asked.kind}={share:g}x and more"
            )

    def curve(self, n_cells: int, progress: Progress | None) -> tuple[tuple[int, float], ...]:
        """Price of all steps and mean similarity of what no other choice beats; of many, some evenly chosen."""
        found = whole_front(self.fronts, progress)
        places = np.unique(np.linspace(0, len(found) - 1, min(len(found), _MOST_POINTS)).round().astype(int))
        return tuple((self.fixed + found[at][0], found[at][1] / n_cells) for at in places)

    def within(self, limit: int, progress: Progress | None) -> tuple[tuple[UnitChoice, ...], Choice]:
        """The units' updates, and the choice of their ways."""
        found = choose(self.fronts, max(limit, self.least) - self.fixed, progress)
        units = tuple(
            UnitChoice(cell=cell, updates=front.ways[way], value=float(front.values[way]), price=int(front.prices[way]))
            for cell, front, way in zip(self.cells, self.fronts, found.ways, strict=True)
        )
        return units, found


def _updates(
    table: Similarities, cells: Sequence[Cell], asked: StepBudget, joining: Sequence[str]
) -> tuple[UnitChoice, ...]:
    """Each unit computed so often; of ``joining`` blocks those before another join its steps."""
    n = int(asked.amount)
    if not 1 <= n <= table.n_steps:
        raise InputError(f"budget: updates: given {n}; allowed 1 to {table.n_steps}, the steps of the table")
    steps = {cell: set(best_updates(unit.gains()[0])[n][1]) for unit, cell in zip(table.units, cells, strict=True)}
    if joining:
        steps = joined(steps, joining)
    return _chosen(table, cells, steps)


def _groups(table: Similarities, cells: Sequence[Cell], asked: StepBudget) -> tuple[UnitChoice, ...]:
    """All units at the same steps."""
    length = int(asked.amount)
    if length > table.n_steps:
        raise InputError(f"budget: groups: given {length}; allowed 1 to {table.n_steps}, the steps of the table")
    _, steps = grouped(sum(unit.gains()[0] for unit in table.units), length)
    return _chosen(table, cells, {cell: set(steps) for cell in cells})


def _chosen(table: Similarities, cells: Sequence[Cell], steps: dict[Cell, set[int]]) -> tuple[UnitChoice, ...]:
    found = []
    for unit, cell in zip(table.units, cells, strict=True):
        gains, own = unit.gains()[0], sorted(steps[cell])
        value = sum(float(gains[i, j]) for i, j in zip(own, [*own[1:], table.n_steps], strict=True))
        found.append(UnitChoice(cell=cell, updates=tuple(Update(at) for at in own), value=value, price=0))
    return tuple(found)


def _simulated(
    blocks: NetworkBlocks, table: Similarities, units: Sequence[UnitChoice], asked: StepBudget, simulator: RunSimulator
) -> DiffusionResult:
    """The steps as a run, each update in its format."""
    run = DiffusionRun(network=blocks.stream.name, steps=table.n_steps, schedule=f"steps within {asked.text}")
    schedule = schedule_of(asked.text, table.n_steps, units)
    formats: dict[int, dict[str, OperatorFormats]] = {}
    for unit in units:
        for update in unit.updates:
            chosen = table.formats[update.format]
            given = OperatorFormats(chosen.weights, chosen.activations)
            if any(given):
                names = blocks.block(unit.cell[0]).of(unit.cell[1])
                formats.setdefault(update.step, {}).update(dict.fromkeys(names, given))
    return evaluate_diffusion(run, simulator, network=blocks, schedule=schedule, formats=formats)
