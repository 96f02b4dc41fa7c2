"""The formats of least sensitivity that a network can afford on a machine, held to the budget by whole runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.groups import main_alone
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.presented import Shown
from tilewright.progress import Progress
from tilewright.search.bits.budget import Budget, amount_text, limits_of, parse_budgets
from tilewright.search.bits.cost_kinds import COSTS
from tilewright.search.bits.costs import BitCosts, SimulationSettings, difference, simulated_costs
from tilewright.search.bits.matching import matched
from tilewright.search.bits.pareto import CurvePoint, pareto_curve
from tilewright.search.bits.problem import Assignment, BitProblem, CostKind
from tilewright.search.bits.program import InfeasibleError, Solution, solve
from tilewright.search.bits.sensitivity import Sensitivity, load_sensitivity
from tilewright.sim.network_result import NetworkResult
from tilewright.workloads.network import Module, network_stream
from tilewright.workloads.stream.formats import FORMAT_ASSUMPTIONS
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["BitPoint", "BitsResult", "choose_bits", "search_bits"]


_MOST_ROUNDS = 12
_MOST_CURVE_RUNS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class BitPoint:
    """An assignment with the costs of its whole run; ``name``: what it is (``chosen``, ``int4/int8``, ``curve``)."""

    name: str
    assignment: Assignment
    sensitivity: float
    costs: Mapping[CostKind, int]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BitsResult(Shown):
    """What a search over bit widths found.

    ``chosen``, ``reference`` and ``uniform`` hold costs of whole runs; ``model_costs`` are the sums of operators' costs
    of the chosen assignment that the integer program worked with, ``n_rounds`` how often it was solved until the whole
    run kept the budgets. ``binding``: budgets without which something less sensitive exists. ``curve``: sensitivity
    against ``curve_kind`` (empty unless asked for). ``run``: the simulation of the chosen network,
    ``stream``: that network in its formats.
    """

    network: str
    machine: str
    measured_by: str
    problem: BitProblem
    budgets: tuple[Budget, ...]
    limits: Mapping[CostKind, int]
    chosen: BitPoint
    model_costs: Mapping[CostKind, int]
    binding: tuple[CostKind, ...]
    gap: float
    solve_seconds: float
    n_rounds: int
    reference: BitPoint
    uniform: tuple[BitPoint, ...]
    run: NetworkResult = field(repr=False)
    stream: OperatorStream = field(repr=False)
    curve_kind: CostKind = ""
    curve: tuple[BitPoint, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether the integer program proved that nothing is less sensitive under the sums of costs."""
        return self.gap == 0.0

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the costs stand on: those of the run, and those of mixed formats."""
        own = "what no layer of the table decides is in the table's widest formats; biases stay as they are"
        return (own, *FORMAT_ASSUMPTIONS, *self.run.assumptions)

    @property
    def model_error(self) -> dict[CostKind, float]:
        """How far the sums of operators' costs are from the whole run, as a share of it."""
        return difference(self.model_costs, self.chosen.costs)

    def rows(self) -> list[dict[str, Any]]:
        """One row per layer: its formats, and its share of sensitivity and costs (tied layers: of all of them)."""
        rows = []
        for decision, option in zip(self.problem.decisions, self.problem.chosen(self.chosen.assignment), strict=True):
            rows += [
                {
                    "layer": layer,
                    "weights": option.weights,
                    "activations": option.activations,
                    "method": option.method,
                    "sensitivity": option.sensitivity,
                    "tied_to": " ".join(other for other in decision.layers if other != layer),
                    **{COSTS.get(kind).column: option.costs[kind] for kind in self.problem.kinds},
                }
                for layer in decision.layers
            ]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "network": self.network,
            "machine": self.machine,
            "sensitivity_measured_by": self.measured_by,
            "budgets": [budget.text for budget in self.budgets],
            "limits": {COSTS.get(kind).column: limit for kind, limit in self.limits.items()},
            "binding": list(self.binding),
            "proven": self.proven,
            "gap": self.gap,
            "solve_seconds": self.solve_seconds,
            "n_rounds": self.n_rounds,
            "model_error": self.model_error,
            "chosen": _point_data(self.chosen),
            "reference": _point_data(self.reference),
            "uniform": [_point_data(point) for point in self.uniform],
            "assumptions": list(self.assumptions),
            "layers": self.rows(),
            "curve_over": self.curve_kind,
            "curve": [_point_data(point) for point in self.curve],
        }


def _point_data(point: BitPoint) -> dict[str, Any]:
    costs = {COSTS.get(kind).column: cost for kind, cost in point.costs.items()}
    return {"name": point.name, "sensitivity": point.sensitivity, **costs}


def search_bits(
    network: str | Path | OperatorStream | Module,
    machine: str | MachineSpec,
    sensitivity: str | Path | Sensitivity,
    budget: str | Iterable[str],
    *,
    inputs: Any = None,
    curve: CostKind | None = None,
    settings: SimulationSettings | None = None,
    progress: Progress | None = None,
) -> BitsResult:
    """The number formats of least summed sensitivity within the budgets on ``machine``.

    ``sensitivity``: a table or its JSON file. ``budget``: ``latency=0.6x`` (times every layer in its widest format),
    ``size=5.5MB``, ``energy=2mJ``, ``dram=10MB``, ``bops=72G``; several with commas or as a list. ``curve``: a cost
    against which the whole Pareto curve is wanted, too. ``network`` may be a PyTorch module, with the ``inputs``
    that it is called with; layers of the table are found by the places of its modules.

    Raises InputError for names, files and formats that are wrong, InfeasibleError with the least possible where no
    assignment keeps the budgets.
    """
    table = sensitivity if isinstance(sensitivity, Sensitivity) else load_sensitivity(sensitivity)
    budgets = parse_budgets([budget] if isinstance(budget, str) else budget)
    stream = network_stream(network, inputs)
    spec = main_alone(load_machine(machine) if isinstance(machine, str) else machine)
    costs = simulated_costs(stream, spec, matched(table, stream), settings, progress=progress)
    return choose_bits(costs, budgets, curve=curve, progress=progress)


def choose_bits(
    costs: BitCosts, budgets: Sequence[Budget], *, curve: CostKind | None = None, progress: Progress | None = None
) -> BitsResult:
    """As :func:`search_bits`, from costs that are known already."""
    problem = costs.problem
    if curve is not None:
        problem.check_kind(curve)
    reference = _point("reference", costs, problem.reference)
    limits = limits_of(budgets, reference.costs, costs.machine.clock_hz)
    if not limits:
        raise InputError(f"budget: none given; allowed {', '.join(COSTS.names())}, as latency=0.6x")
    solution, n_rounds, seconds = _within_real(costs, limits)
    chosen = _point("chosen", costs, solution.assignment)
    found = _curve(costs, curve, limits, chosen, progress) if curve is not None else ()
    return BitsResult(
        network=costs.stream.name,
        machine=costs.machine.name,
        measured_by=costs.sensitivity.measured_by,
        problem=problem,
        budgets=tuple(budgets),
        limits=limits,
        chosen=chosen,
        model_costs=solution.costs,
        binding=solution.binding,
        gap=solution.gap,
        solve_seconds=seconds,
        n_rounds=n_rounds,
        reference=reference,
        uniform=_uniform(costs),
        run=costs.run(solution.assignment),
        stream=costs.formatted(solution.assignment),
        curve_kind=curve or "",
        curve=found,
    )


def _point(name: str, costs: BitCosts, assignment: Assignment) -> BitPoint:
    return BitPoint(
        name=name,
        assignment=assignment,
        sensitivity=costs.problem.sensitivity(assignment),
        costs=costs.real_costs(assignment),
    )


def _within_real(costs: BitCosts, limits: Mapping[CostKind, int]) -> tuple[Solution, int, float]:
    """The least sensitive solution whose whole run keeps ``limits``, rounds until then, seconds of solving.

    The program works with sums of operators' costs. After each whole run its limits are moved by the difference seen,
    so that a sum that is too high wastes no budget and one that is too low does not overdraw it.
    """
    problem, room = costs.problem, dict(limits)
    best: Solution | None = None
    tried: set[Assignment] = set()
    seconds, n_rounds = 0.0, 0
    while n_rounds < _MOST_ROUNDS:
        n_rounds += 1
        try:
            solution = solve(problem, room)
        except InfeasibleError:
            if best is not None or tried:
                break
            raise
        seconds = max(seconds, solution.seconds)
        real = costs.real_costs(solution.assignment)
        over = {kind: real[kind] - limit for kind, limit in limits.items()}
        kept = all(excess <= 0 for excess in over.values())
        if kept and (best is None or solution.sensitivity < best.sensitivity):
            best = solution
        if solution.assignment in tried and best is not None:
            break
        for kind in limits:
            if COSTS.get(kind).figure is not None:
                moved = limits[kind] + solution.costs[kind] - real[kind]
                again = solution.assignment in tried and over[kind] > 0
                room[kind] = min(moved, solution.costs[kind] - 1) if again else moved
        tried.add(solution.assignment)
    if best is None:
        told = ", ".join(f"{kind} {amount_text(kind, limit)}" for kind, limit in limits.items())
        raise InfeasibleError(f"budget: the whole run of no assignment tried keeps {told}; allowed a wider budget", {})
    return best, n_rounds, seconds


def _uniform(costs: BitCosts) -> tuple[BitPoint, ...]:
    """Every option given to all layers that have it."""
    points = [
        _point("/".join(filter(None, key)), costs, costs.problem.uniform(*key)) for key in costs.problem.option_keys()
    ]
    return tuple({point.assignment: point for point in reversed(points)}.values())[::-1]


def _curve(
    costs: BitCosts, kind: CostKind, limits: Mapping[CostKind, int], chosen: BitPoint, progress: Progress | None
) -> tuple[BitPoint, ...]:
    """The curve under the other budgets, every point from a whole run; at most some points, evenly over the curve."""
    others = {name: limit for name, limit in limits.items() if name != kind}
    points = _thinned(pareto_curve(costs.problem, kind, limits=others, progress=progress))
    found = [chosen]
    for at, point in enumerate(points):
        if progress is not None:
            progress(at, len(points), f"curve of {kind}, whole runs")
        one = _point("curve", costs, point.assignment)
        if all(one.costs[name] <= limit for name, limit in others.items()):
            found.append(one)
    front: list[BitPoint] = []
    for one in sorted(found, key=lambda point: (point.costs[kind], point.sensitivity)):
        if not front or one.sensitivity < front[-1].sensitivity:
            front.append(one)
    return tuple(front)


def _thinned(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    if len(points) <= _MOST_CURVE_RUNS:
        return list(points)
    last = len(points) - 1
    places = sorted({round(at * last / (_MOST_CURVE_RUNS - 1)) for at in range(_MOST_CURVE_RUNS)})
    return [points[at] for at in places]
