"""Running a search for fusion groups."""

from __future__ import annotations

import time
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.errors import InputError
from tilewright.hw_models.buffer import refuse_parts
from tilewright.hw_models.groups import main_alone
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress, named
from tilewright.search.fusion.methods.method import fusion_method_names, get_fusion_method
from tilewright.search.fusion.outcome import FusionOutcome
from tilewright.search.fusion.plan import ordered, singles
from tilewright.search.fusion.problem import FusionProblem, check_fusion_objective
from tilewright.search.fusion.split import Splitter, random_splitter
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.fusion.scheme import FusionScheme, get_scheme
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream

if TYPE_CHECKING:
    from tilewright.search.fusion.group_runs import GroupRuns

__all__ = ["USUAL_BUDGET", "fusion_methods", "search_fusion", "search_groups"]

USUAL_BUDGET = 2000


def fusion_methods() -> dict[str, str]:
    """The ways to search fusion groups, with a line on each."""
    return {name: get_fusion_method(name).summary for name in fusion_method_names()}


def search_fusion(
    network: str | Path | OperatorStream,
    machine: str | MachineSpec | None = None,
    scheme: str | None = None,
    objective: str = "dram",
    method: str | None = None,
    *,
    buffer_bytes: int | None = None,
    absorb: bool = True,
    budget: int = USUAL_BUDGET,
    seed: int = 0,
    explainer: str = "pg",
    progress: Progress | None = None,
) -> FusionOutcome:
    """The fusion groups of ``network`` with the least DRAM traffic, cycles or energy that ``method`` finds.

    ``network``: what :func:`load_network` takes, or a stream. The groups must fit in ``buffer_bytes``, or else in the
    first on-chip buffer of ``machine``. ``objective``: ``dram``; ``feature_maps`` (without weights); or, of exact runs
    on the machine, ``latency`` or ``energy``. ``absorb``: activations are part of the operator that they follow.
    ``budget``: the most plans proposed by methods that prove nothing; the same ``seed`` gives the same outcome.
    ``scheme`` and ``method`` None: the usual ones. ``explainer``: for ``get-`` methods, one of ``gnn``, ``pg``, ``rg``.

    Raises InputError for bad names and numbers, and for a method whose library is not installed.
    """
    spec = load_machine(machine) if isinstance(machine, str) else machine
    spec = main_alone(spec) if spec is not None else None
    refuse_parts(spec, "fused groups")
    if buffer_bytes is None:
        if spec is None:
            raise InputError("search_fusion: buffer_bytes: missing; give it, or a machine that has a buffer")
        buffer_bytes = spec.buffers[0].capacity_bytes
    stream = network if isinstance(network, OperatorStream) else load_network(network)
    graph, way, goal = (
        fusion_graph(stream, absorb=absorb),
        get_scheme(scheme, buffer_bytes),
        check_fusion_objective(objective),
    )
    runs = None
    if goal == "latency" or goal == "energy":
        if spec is None:
            raise InputError(f"search_fusion: machine: missing; {goal} is that of runs on one")
        from tilewright.search.fusion.group_runs import GroupRuns

        runs = GroupRuns(
            stream=stream, graph=graph, scheme=way, machine=spec, capacity_bytes=buffer_bytes, objective=goal
        )
    return search_groups(
        graph,
        way,
        capacity_bytes=buffer_bytes,
        objective=goal,
        method=method,
        budget=budget,
        seed=seed,
        explainer=explainer,
        machine="" if spec is None else spec.name,
        runs=runs,
        progress=progress,
    )


def search_groups(
    graph: FusionGraph,
    scheme: FusionScheme,
    *,
    capacity_bytes: int,
    objective: str = "dram",
    method: str | None = None,
    budget: int = USUAL_BUDGET,
    seed: int = 0,
    explainer: str = "pg",
    machine: str = "",
    runs: GroupRuns | None = None,
    splitter: Splitter | None = None,
    progress: Progress | None = None,
) -> FusionOutcome:
    """:func:`search_fusion` for a graph and a scheme that are there already (and remember what groups cost).

    ``runs``: for an objective of latency or energy. ``splitter``: what a ``get-`` method splits groups with that do
    not fit, where it is there already; it must be of the same graph, scheme, capacity and objective.
    """
    way = get_fusion_method(method)
    for name, value, least in (("buffer_bytes", capacity_bytes, 1), ("budget", budget, 1), ("seed", seed, 0)):
        if not isinstance(value, Integral) or not value >= least:  # a budget of not-a-number would never be spent
            raise InputError(f"search_fusion: {name}: given {value!r}; allowed a whole number of {least} or more")
    begin = time.perf_counter()
    problem = FusionProblem(
        graph=graph,
        scheme=scheme,
        capacity_bytes=capacity_bytes,
        objective=check_fusion_objective(objective),
        budget=budget,
        seed=seed,
        runs=runs,
        progress=named(progress, way.name),
    )
    split: Splitter = random_splitter
    if way.explained:
        from tilewright.search.fusion.explain.splitter import explained_splitter

        told = named(progress, "training the validity model")
        split = splitter or explained_splitter(problem, explainer, progress=told)
    way.search(problem, split)
    plan = ordered(graph, problem.best)
    return FusionOutcome(
        network=graph.name,
        scheme=scheme,
        method=way.name,
        objective=problem.objective,
        seed=seed,
        budget=budget,
        capacity_bytes=capacity_bytes,
        graph=graph,
        plan=plan,
        costs=tuple(problem.cost(mask) for mask in plan),
        values=tuple(problem.group_value(mask) for mask in plan),
        unfused=tuple(problem.cost(mask) for mask in singles(graph)),
        unfused_values=tuple(problem.group_value(mask) for mask in singles(graph)),
        fusable=problem.fusable,
        n_plans=problem.n_plans,
        lower_bound=problem.lower_bound,
        curve=tuple(problem.curve),
        n_groups_listed=problem.n_groups_listed,
        n_split=problem.n_split,
        model_accuracy=getattr(getattr(split, "quality", None), "accuracy", None),
        model_f1=getattr(getattr(split, "quality", None), "f1", None),
        machine=machine,
        seconds=time.perf_counter() - begin,
    )
