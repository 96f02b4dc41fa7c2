"""What a schedule keeps between steps: for each step, which operators run, what they take from earlier steps, and what
they leave for later ones.

Nothing is said by the method but which blocks and parts are not computed; the rest follows from the data's edges. A
tensor is kept from the last step that makes it to the last that reads it without making it. An operator whose result
nobody reads, at this step or a later one, does not run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tilewright.errors import InputError
from tilewright.workloads.diffusion.blocks import NetworkBlocks
from tilewright.workloads.diffusion.step import Schedule, Step
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["Feature", "StepPlan", "plan_steps"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A tensor that is kept. ``beside``: what is added to it where it is a change (the present input of the blocks that
    are not computed); ``order``: differences that are kept with it.
    """

    tensor: str
    beside: tuple[str, ...] = ()
    order: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """A step: the operators that run, the features that it takes and those that it leaves; ``kept``: all that are kept
    while it runs, in bytes. Everything is of one run of the network; ``at``: the step's place.
    """

    at: int
    step: Step
    runs: frozenset[str]
    takes: tuple[Feature, ...] = ()
    leaves: tuple[Feature, ...] = ()
    kept_bytes: int = 0


def plan_steps(network: NetworkBlocks, schedule: Schedule) -> tuple[StepPlan, ...]:
    """The steps of ``schedule`` with what is kept between them.

    Raises InputError for a step that takes what no step before it has made, and for a cell without operators.
    """
    graph = _Graph(network)
    cached = {step: graph.cached(step, schedule.method) for step in set(schedule.steps)}
    plans: list[StepPlan] = []
    pending: dict[str, tuple[Feature, int]] = {}  # features that later steps take, and the first that does
    for at in reversed(range(len(schedule.steps))):
        step = schedule.steps[at]
        if step.skipped:
            plans.append(StepPlan(at=at, step=step, runs=frozenset()))
            pending |= {name: (pending.get(name, (Feature(tensor=name), at))[0], at) for name in graph.results}
            continue
        off = cached[step]
        left = {name: one for name, one in pending.items() if graph.maker(name) not in off}
        runs, takes = graph.alive(step, off, [one for one, _ in left.values()])
        pending = {name: one for name, one in pending.items() if name not in left}
        for feature in takes:
            pending[feature.tensor] = (_wider(feature, pending.get(feature.tensor)), at)
        leaves = tuple(one for one, _ in left.values())
        plans.append(StepPlan(at=at, step=step, runs=runs, takes=takes, leaves=leaves))
    if pending:
        name, (_, at) = next(iter(pending.items()))
        maker = graph.maker(name)
        raise InputError(
            f"{schedule.method}: step {at} takes the result of {graph.block_of.get(maker, maker)} from an earlier "
            "step, and none before it computes that; allowed a first step that computes it"
        )
    plans.reverse()
    return _with_kept(network.stream, plans)


def _wider(feature: Feature, known: tuple[Feature, int] | None) -> Feature:
    """The feature as the step takes it that needs most of it."""
    if known is None or known[0].order <= feature.order:
        return feature
    return known[0]


def _with_kept(stream: OperatorStream, plans: list[StepPlan]) -> tuple[StepPlan, ...]:
    """The plans with the bytes that are kept while each runs, and orders cut to what earlier steps have left."""
    n_bytes = {one.tensor: stream.tensor(one.tensor).n_bytes for plan in plans for one in plan.leaves}
    last_use: dict[str, int] = {}
    ends: dict[tuple[int, str], int] = {}  # until when what a step leaves is kept
    for plan in reversed(plans):
        for one in plan.leaves:
            ends[plan.at, one.tensor] = last_use.pop(one.tensor, plan.at)
        taken = [one.tensor for one in plan.takes]
        taken += [stream.base(name).name for name in stream.outputs if plan.step.skipped]
        for name in taken:
            last_use.setdefault(name, plan.at)
    made: dict[str, int] = {}
    live: dict[str, tuple[int, int]] = {}
    found = []
    for plan in plans:
        takes = tuple(
            Feature(tensor=one.tensor, beside=one.beside, order=min(one.order, made[one.tensor] - 1))
            for one in plan.takes
        )
        leaves = tuple(
            Feature(tensor=one.tensor, beside=one.beside, order=min(one.order, made.get(one.tensor, 0)))
            for one in plan.leaves
        )
        for one in leaves:
            made[one.tensor] = made.get(one.tensor, 0) + 1
            differences = one.order if ends[plan.at, one.tensor] > plan.at else 0
            live[one.tensor] = (n_bytes[one.tensor] * (1 + differences), ends[plan.at, one.tensor])
        kept = sum(size for size, end in live.values() if end >= plan.at)
        found.append(StepPlan(at=plan.at, step=plan.step, runs=plan.runs, takes=takes, leaves=leaves, kept_bytes=kept))
    return tuple(found)


class _Graph:
    """The edges of a network, by operator and by stored tensor."""

    def __init__(self, network: NetworkBlocks) -> None:
        self.network, stream = network, network.stream
        self._alive: dict[object, tuple[frozenset[str], tuple[Feature, ...]]] = {}
        self.stream = stream
        self.block_of = {name: block.name for block in network.blocks for name in block.operators}
        self.reads = {op.name: tuple(dict.fromkeys(stream.base(n).name for n in op.inputs)) for op in stream.operators}
        self._maker = {name: op.name for op in stream.operators for name in op.outputs}
        self.makes = {op.name: op.outputs for op in stream.operators}
        self.order = {op.name: at for at, op in enumerate(stream.operators)}
        self.readers: dict[str, set[str]] = {op.name: set() for op in stream.operators}
        for op in stream.operators:
            for maker in stream.predecessors(op):
                self.readers[maker.name].add(op.name)
        self.results = tuple(stream.base(name).name for name in stream.outputs)

    def maker(self, tensor: str) -> str:
        """The operator that makes a stored tensor, empty for inputs and weights."""
        return self._maker.get(tensor, "")

    def cached(self, step: Step, method: str) -> frozenset[str]:
        """The operators that ``step`` does not compute."""
        found: set[str] = set()
        for block, part in step.cached:
            own = self.network.block(block, place=method).of(part)
            if not own:
                raise InputError(f"{method}: {block} has no {part}; allowed {', '.join(self._parts(block))}")
            found.update(own)
        for operator in self.stream.operators:  # what only joins blocks that are not computed is not, either
            name, makers = operator.name, {self.maker(one) for one in self.reads[operator.name]} - {""}
            joins = makers and self.readers[name] and makers | self.readers[name] <= found
            if joins and name not in self.block_of and not set(operator.outputs) & set(self.results):
                found.add(name)
        return frozenset(found)

    def _parts(self, block: str) -> list[str]:
        return [part for part, own in self.network.block(block).parts.items() if own and part != "rest"] or [
            "the block"
        ]

    def alive(
        self, step: Step, off: frozenset[str], leaves: Iterable[Feature]
    ) -> tuple[frozenset[str], tuple[Feature, ...]]:
        """The operators that must run, and what they take from earlier steps; worked out once for like steps."""
        key = (step, frozenset(leaves))
        if key not in self._alive:
            self._alive[key] = self._alive_at(step, off, key[1])
        return self._alive[key]

    def _alive_at(
        self, step: Step, off: frozenset[str], leaves: Iterable[Feature]
    ) -> tuple[frozenset[str], tuple[Feature, ...]]:
        whole = frozenset(
            name for block, part in step.cached if not part for name in self.network.block(block).operators
        )
        runs: set[str] = set()
        takes: dict[str, Feature] = {}
        wanted = [*self.results, *(name for one in leaves for name in (one.tensor, *one.beside))]
        while wanted:
            tensor = wanted.pop()
            maker = self.maker(tensor)
            if not maker or maker in runs or tensor in takes:
                continue
            if maker in off:
                beside = self._beside(tensor, off, maker in whole and step.how != "value")
                takes[tensor] = Feature(tensor=tensor, beside=beside, order=step.order)
                wanted += beside
            else:
                runs.add(maker)
                wanted += self.reads[maker]
        return frozenset(runs), tuple(takes[name] for name in sorted(takes, key=lambda n: self.order[self.maker(n)]))

    def _beside(self, tensor: str, off: frozenset[str], is_change: bool) -> tuple[str, ...]:
        """What goes now into the blocks that are not computed: of the shape of their result, or the parts it is of."""
        if not is_change:
            return ()
        shape = self.stream.tensor(tensor).shape
        first: dict[str, None] = {}
        for name in sorted(off, key=self.order.__getitem__):
            if self.order[name] <= self.order[self.maker(tensor)]:
                first.update(dict.fromkeys(one for one in self.reads[name] if self._comes_in(one, off)))
        same = [one for one in first if self.stream.tensor(one).shape == shape]
        if same:
            return (same[-1],)
        alike = [one for one in first if _is_part(self.stream.tensor(one).shape, shape)]
        return tuple(alike)

    def _comes_in(self, tensor: str, off: frozenset[str]) -> bool:
        is_made = self.maker(tensor) and self.maker(tensor) not in off
        return bool(is_made) or tensor in self.stream.inputs


def _is_part(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    return len(shape) == len(whole) > 1 and (shape[0], shape[-1]) == (whole[0], whole[-1])
