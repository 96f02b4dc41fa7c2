"""Bit widths of the networks trained on digits: searched, and held against uniform and random choices.

Quality is measured by running the quantised network. The search sees the images for choosing; the test images are only
reported.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from digits import accuracy, digits, trained

from tilewright.hw_models.load import load_machine
from tilewright.search.bits.costs import BitCosts, SimulationSettings
from tilewright.search.bits.explain import Explanation, explain, layer_roles
from tilewright.search.bits.measured import search_measured
from tilewright.search.bits.pareto import pareto_curve
from tilewright.search.bits.problem import Assignment
from tilewright.search.sensitivity.network import LayerFormats, QuantisableNetwork
from tilewright.search.sensitivity.table import measure_sensitivity
from tilewright.workloads.extract.torch import stream_from_torch

__all__ = ["OPTIONS", "UNIFORM", "Explored", "Point", "account", "explore"]

OPTIONS = (
    ("int8", "int8"), ("int6", "int8"), ("int6", "int6"), ("int4", "int8"), ("int4", "int6"), ("int4", "int4"),
    ("int3", "int4"), ("int3", "int3"), ("int2", "int4"), ("int2", "int3"),
)  # fmt: skip
UNIFORM = (("int8", "int8"), ("int6", "int6"), ("int4", "int4"), ("int3", "int3"))
BATCH = 16


@dataclass(frozen=True, slots=True)
class Point:
    """An assignment as it was measured: accuracies as shares, cycles and picojoules of one batch, really simulated."""

    name: str
    assignment: Assignment
    choice: float
    test: float
    cycles: int
    energy_pj: float

    def dominates(self, other: Point) -> bool:
        """No worse in accuracy (on the images for choosing), latency and energy."""
        return self.choice >= other.choice and self.cycles <= other.cycles and self.energy_pj <= other.energy_pj


@dataclass(frozen=True, slots=True)
class Explored:
    """What the search found (its front), beside the float network, uniform and random choices."""

    network: str
    machine: str
    float_choice: float
    float_test: float
    front: tuple[Point, ...]
    uniform: tuple[Point, ...]
    random: tuple[Point, ...]
    n_measured: int


class _Bench:
    def __init__(self, network: str, machine: str) -> None:
        import torch

        self.module = trained(network)
        images, _ = digits().calibration
        table = measure_sensitivity(self.module, images, OPTIONS, measure="output_mse", network=network)
        self.network = QuantisableNetwork(self.module, images)
        self.stream = stream_from_torch(self.module, [torch.empty(BATCH, 1, 8, 8)])
        self.table = table
        self.costs = BitCosts(self.stream, load_machine(machine), table, SimulationSettings())
        self.problem = self.costs.problem
        self.accuracies: dict[Assignment, float] = {}

    def quality(self, assignment: Assignment) -> float:
        """Accuracy on the images for choosing, of the network really quantised so."""
        if assignment not in self.accuracies:
            with self.network.quantised(self._formats(assignment)) as module:
                self.accuracies[assignment] = accuracy(module, digits().choice)
        return self.accuracies[assignment]

    def loss(self, assignment: Assignment) -> float:
        """Cross entropy on the images for choosing, of the network really quantised so."""
        from torch.nn.functional import cross_entropy

        images, labels = digits().choice
        return float(cross_entropy(self.network.output(self._formats(assignment), images), labels))

    def _formats(self, assignment: Assignment) -> dict[str, LayerFormats]:
        chosen = self.problem.by_layer(assignment)
        return {name: LayerFormats(o.weights, o.activations, o.method) for name, o in chosen.items()}

    def point(self, name: str, assignment: Assignment) -> Point:
        run = self.costs.run(assignment)
        with self.network.quantised(self._formats(assignment)) as module:
            test = accuracy(module, digits().test)
        return Point(name, assignment, self.quality(assignment), test, run.cycles, run.energy_pj)

    def search(self, n_measurements: int) -> list[Assignment]:
        """What is on the front of measured accuracy and summed costs, of all that the search looked at.

        It looked at the curves of summed sensitivity, and at what NSGA-II made of them by measuring.
        """
        seen: set[Assignment] = set()
        for kind in ("latency", "energy"):
            seen |= {point.assignment for point in pareto_curve(self.problem, kind, n_points=15)}
            found = search_measured(
                self.problem, lambda a: 1 - self.quality(a), kind, n_measurements=n_measurements, population=30
            )
            seen |= {point.assignment for point in found}
        cost = self.problem.cost
        kept = _front(
            Point("", one, self.quality(one), 0.0, cost("latency", one), cost("energy", one)) for one in sorted(seen)
        )
        return [point.assignment for point in kept]


@lru_cache(maxsize=4)
def _bench(network: str, machine: str) -> _Bench:
    return _Bench(network, machine)


def account(network: str, n_samples: int = 160) -> Explanation:
    """What a bit costs where, from losses measured on random assignments."""
    bench = _bench(network, "edge-16x16")
    return explain(bench.problem, layer_roles(bench.stream, bench.table), bench.loss, n_samples=n_samples)


@lru_cache(maxsize=4)
def explore(network: str, machine: str, n_measurements: int = 240, n_random: int = 40) -> Explored:
    """Search the front of ``network`` on ``machine`` and measure what it is held against."""
    bench = _bench(network, machine)
    problem = bench.problem
    uniform = [bench.point("/".join(formats), problem.uniform(*formats)) for formats in UNIFORM]
    draw = random.Random(0)
    drawn = [tuple(draw.randrange(len(d.options)) for d in problem.decisions) for _ in range(n_random)]
    found = [bench.point("found", assignment) for assignment in bench.search(n_measurements)]
    return Explored(
        network=network,
        machine=machine,
        float_choice=accuracy(bench.module, digits().choice),
        float_test=accuracy(bench.module, digits().test),
        front=_front(found),
        uniform=tuple(uniform),
        random=tuple(bench.point("random", assignment) for assignment in drawn),
        n_measured=len(bench.accuracies),
    )


def _front(points: Iterable[Point]) -> tuple[Point, ...]:
    """What no other point dominates, by energy; of equal points one."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.energy_pj, p.cycles, -p.choice)):
        if not any(other.dominates(point) for other in kept):
            kept.append(point)
    return tuple(kept)
