"""Steps of a decoder behind growing caches: what each takes, at the cost of what differs between them.

Jobs that are the same at both ends of the run are the same in between, and are mapped and run once. Attention, whose
keys grow, is run at every number of keys (:mod:`tilewright.search.runs.growing`). Between two attentions lies a stretch
of jobs with the same cost whatever came before, but for whether its first weights were brought early: attention has no
weights of its own, so nothing is brought over it, and a step is the sum of its stretches and attentions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import numpy.typing as npt

from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.overheads import host_cycles, overhead_cycles
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.network import Chains, Mapped, best_mapping
from tilewright.search.runs.growing import EACH, Flat, GrowingAttention, Table, flat_run
from tilewright.search.runs.memory import live_bytes
from tilewright.search.runs.simulator import RunSimulator
from tilewright.sim.jobs import Job, JobLayer
from tilewright.sim.network_result import NetworkResult
from tilewright.sim.runs.steps import Steps, steps_of_results
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.fallback import FallbackLayer
from tilewright.workloads.runs.line import StreamLine
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["MOST_PROGRAMS", "Decoding", "Group"]

#: Programs of attention of one stretch of steps; more numbers of keys share programs, unless the run says otherwise.
MOST_PROGRAMS = 1024
#: Steps of library kernels that are timed one by one; between more of them is a line.
MOST_TIMED = 33

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Group:
    """``count`` sequences with ``context`` tokens in the cache before the first step."""

    count: int
    context: int


#: Steps that were timed one by one in this process, the first ones forgotten first.
_timed_before: dict[str, Steps] = {}
_MOST_KEPT = 64


class Decoding:
    """The decoder ``networks`` (from sizes to its stream) on a machine.

    ``n_new``: tokens that each sequence takes in a step. ``bucket``: numbers of keys that share a program of attention
    (None: one each, or so many that there are at most :data:`MOST_PROGRAMS`).
    """

    def __init__(
        self,
        networks: Callable[..., OperatorStream],
        simulator: RunSimulator,
        *,
        n_new: int = 1,
        bucket: int | None = None,
    ) -> None:
        self._networks, self._simulator = networks, simulator
        self._n_new, self._bucket = n_new, bucket
        self._notes: dict[str, None] = {}
        self._lines: dict[tuple[int, int, int], StreamLine] = {}

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was taken for granted in the steps so far."""
        return tuple(self._notes)

    def line(self, groups: Sequence[Group], n_steps: int, stride: int = 1) -> StreamLine:
        """The decoder's streams from the first step to the last, all sequences behind as many tokens as the first
        group.
        """
        batch, first = sum(group.count for group in groups), groups[0].context
        key = batch, first, n_steps
        if key not in self._lines:

            def build(context: int) -> OperatorStream:
                stream = self._networks(decode=self._n_new, context=context, batch=batch)
                return self._simulator.rated(stream)

            self._lines[key] = StreamLine(build, first, first + (n_steps - 1) * stride)
        return self._lines[key]

    def live_bytes(self, groups: Sequence[Group], n_steps: int) -> int:
        """Activations of the last step."""
        stream = self.line(groups, n_steps).at(groups[0].context + n_steps - 1)
        return live_bytes(stream, self._simulator)

    def steps(self, groups: Sequence[Group], n_steps: int) -> Steps:
        """``n_steps`` steps of all ``groups`` together, each with a token more in the cache than the one before."""
        line = self.line(groups, n_steps)
        simulator = self._simulator
        if simulator.kernels.is_engine and not self._plans():
            stretches = self._stretches(line, groups, n_steps)
            if stretches is not None:
                return stretches
        return self._one_by_one(line, groups, n_steps)

    def _plans(self) -> bool:
        simulator = self._simulator
        return simulator.machine.residency != "none" if simulator.residency is None else simulator.residency

    # --- step by step ---------------------------------------------------------------------------------------------

    def _one_by_one(self, line: StreamLine, groups: Sequence[Group], n_steps: int) -> Steps:
        """Steps as whole networks: all of them, or those on a line between few."""
        first = groups[0].context
        shift = 0
        if len({group.context for group in groups}) > 1:
            batch = sum(group.count for group in groups)
            shift = ceil(sum(group.count * group.context for group in groups) / batch) - first
            self._notes["sequences of unlike lengths are timed as so many of their mean length, rounded up"] = None
        at = np.arange(n_steps)
        if n_steps > MOST_TIMED:
            at = np.unique(np.linspace(0, n_steps - 1, MOST_TIMED).round().astype(int))
            self._notes[
                f"of {n_steps:,} steps {len(at)} are timed; between two of them time, energy and bytes are on a line"
            ] = None
        contexts = [first + int(step) for step in at]
        key = self._fingerprint([line.at(contexts[0]), line.at(contexts[-1])], [shift, *contexts])
        steps = _timed_before.get(key)
        if steps is None:
            results: list[NetworkResult] = []
            for number, context in enumerate(contexts):
                self._simulator.tell(number, len(at), f"step {context - first + 1:,} of {n_steps:,}")
                results.append(self._simulator.network(self._shifted(line, context, shift)))
            steps = steps_of_results(results, contexts)
            if len(_timed_before) >= _MOST_KEPT:
                _timed_before.pop(next(iter(_timed_before)))
            _timed_before[key] = steps
        return steps if len(at) == n_steps else steps.between(at, n_steps)

    def _fingerprint(self, ends: Sequence[OperatorStream], contexts: Sequence[int]) -> str:
        """What steps that are timed one by one depend on."""
        simulator = self._simulator
        choices = (
            simulator.kernels, simulator.objective, simulator.prefetch, simulator.fuse, simulator.residency,
            tuple(simulator.attention_dataflows),
        )  # fmt: skip
        text = "".join(stream.to_json() for stream in ends)
        return simulator.cache.key("steps", text, simulator.machine, choices, list(contexts))

    def _shifted(self, line: StreamLine, context: int, shift: int) -> OperatorStream:
        return line.at(context + shift) if shift >= 0 else line.at(max(1, context + shift))

    # --- stretches and attentions -----------------------------------------------------------------------------------

    def _stretches(self, line: StreamLine, groups: Sequence[Group], n_steps: int) -> Steps | None:
        """The steps as sums; None where more than the keys of attention grows."""
        first, last = groups[0].context, groups[0].context + n_steps - 1
        jobs, others = (self._simulator.jobs(line.at(at)) for at in (first, last))
        if len(jobs) != len(others) or any(isinstance(job.layer, FallbackLayer) for job in jobs):
            return None
        shifts = {group.context - first for group in groups}
        grows = [
            at
            for at, (job, other) in enumerate(zip(jobs, others, strict=True))
            if job.layer != other.layer
            or (len(shifts) > 1 and isinstance(job.layer, AttentionLayer) and _is_cached(line.at(first), job))
        ]
        if not all(_only_keys_grow(jobs[at].layer, others[at].layer, n_steps) for at in grows):
            return None
        return _Composed(self._simulator, line, jobs, grows, groups, n_steps, self._width, self._notes).steps()

    def _width(self, n_keys: int, n_distinct: int) -> int:
        if self._bucket is not None:
            return self._bucket
        width = 1
        while ceil_div(n_distinct, width) > MOST_PROGRAMS:
            width *= 2
        return width


def _is_cached(stream: OperatorStream, job: Job) -> bool:
    return any(stream.base(name).role == "cache" for name in job.operators[0].inputs)


def _only_keys_grow(one: JobLayer, other: JobLayer, n_steps: int) -> bool:
    if not isinstance(one, AttentionLayer) or not isinstance(other, AttentionLayer):
        return False
    return other.key_len - one.key_len == n_steps - 1 and replace(one, key_len=other.key_len) == other


class _Composed:
    """The steps of one line as stretches of fixed jobs with attentions between them."""

    def __init__(
        self,
        simulator: RunSimulator,
        line: StreamLine,
        jobs: Sequence[Job],
        grows: Sequence[int],
        groups: Sequence[Group],
        n_steps: int,
        width: Callable[[int, int], int],
        notes: dict[str, None],
    ) -> None:
        self._simulator, self._line, self._jobs, self._grows = simulator, line, jobs, list(grows)
        self._groups, self._n_steps, self._width, self._notes = groups, n_steps, width, notes
        self._batch = sum(group.count for group in groups)
        self._mapped: dict[JobLayer, Mapped] = {}
        self._tables: dict[tuple[JobLayer, JobLayer | None, Group], Table] = {}
        self._macs = np.zeros(n_steps, dtype=np.int64)
        self._known_macs: dict[tuple[JobLayer, int], Ints] = {}

    def steps(self) -> Steps:
        machine, jobs = self._simulator.machine, self._jobs
        stream = self._line.at(self._groups[0].context)
        fixed = [job for at, job in enumerate(jobs) if at not in self._grows]
        distinct = list(dict.fromkeys(job.layer for job in fixed))
        for number, layer in enumerate(distinct):
            job = next(job for job in fixed if job.layer == layer)
            self._simulator.tell(number, len(distinct), job.name)
            self._mapped[layer] = self._best(job, [])
        chains = Chains(self._mapped, machine, prefetch=self._simulator.prefetch)
        total = _Sum(self._n_steps)
        costs: dict[tuple[tuple[JobLayer, ...], bool], Flat] = {}

        def stretch(begin: int, end: int, there: bool) -> Flat:
            key = tuple(job.layer for job in jobs[begin:end]), there
            if key not in costs:
                costs[key] = flat_run(*chains.cost(jobs[begin:end], there=there))
            return costs[key]

        ends = [*self._grows, len(jobs)]
        total.add(stretch(0, ends[0], False))
        alike: dict[tuple[JobLayer, ...], list[tuple[int, int]]] = {}
        for at, end in zip(self._grows, ends[1:], strict=True):
            alike.setdefault(tuple(job.layer for job in jobs[at:end]), []).append((at, end))
        for places in alike.values():
            (at, end), times = places[0], len(places)
            begin = at + 1
            following = jobs[begin] if begin < end and self._simulator.prefetch else None
            *others, own = self._groups
            for group in others:
                total.add_columns(self._table(jobs[at], None, group, times).plain, times)
            table = self._table(jobs[at], following, own, times)
            plain = stretch(begin, end, False)
            if not table.can.any():
                total.add(plain, times)
                total.add_columns(table.plain, times)
                continue
            early = stretch(begin, end, True)
            brings = table.can & (table.bring["cycles"] + early["cycles"] < table.plain["cycles"] + plain["cycles"])
            for flat, columns, where in ((plain, table.plain, ~brings), (early, table.bring, brings)):
                if where.any():
                    total.add(flat, times * where.astype(np.int64))
                    total.add_columns(columns, times * where.astype(np.int64))
        once, each = overhead_cycles(machine)
        n_jobs = len(jobs) + len(self._grows) * (len(self._groups) - 1)
        overhead = once + each * n_jobs + host_cycles(machine, stream.inputs_and_outputs_bytes())
        growing = (jobs[at].layer for at in self._grows)
        macs = stream.macs - sum(one.macs for one in growing if isinstance(one, AttentionLayer)) + self._macs
        sizes = self._groups[0].context + np.arange(self._n_steps)
        return total.steps(machine, sizes, overhead, macs)

    def _best(self, job: Job, near: Sequence[Mapped]) -> Mapped:
        simulator = self._simulator
        ways = [one.way for one in near]
        return best_mapping(
            job, simulator.machine, simulator.objective, simulator.attention_dataflows, simulator.cache, ways
        )

    def _table(self, job: Job, following: Job | None, group: Group, times: int) -> Table:
        layer = job.layer
        assert isinstance(layer, AttentionLayer)
        share = replace(layer, batch=layer.batch * group.count // self._batch)
        if share.bias_batch > 1:
            share = replace(share, bias_batch=share.bias_batch * group.count // self._batch)
        keys = layer.key_len + group.context - self._groups[0].context + np.arange(self._n_steps)
        self._count_macs(share, keys, times)
        known = share, None if following is None else following.layer, group
        if known not in self._tables:
            self._tables[known] = self._made(job, share, following, keys)
        return self._tables[known]

    def _made(self, job: Job, share: AttentionLayer, following: Job | None, keys: Ints) -> Table:
        width = self._width(int(keys[-1]), _n_seen(share, keys))
        if width > 1:
            more = int(np.mean(-keys % width) / np.mean(keys) * 1000) / 10
            self._notes[
                f"attention has a program for every {width} numbers of keys and does as many keys as the largest of "
                f"them, {more} % more than there are"
            ] = None
        padded = -(-keys // width) * width
        layers = {int(n): replace(share, key_len=int(n)).with_plain_mask() for n in np.unique(padded)}
        seen = {n: one.key_len for n, one in layers.items()}
        by_seen = {one.key_len: one for one in layers.values()}
        n_distinct = len(by_seen)
        if n_distinct > EACH:
            self._notes[
                f"attention over {n_distinct:,} numbers of keys: its mappings are searched at the largest and its "
                "halves, and each is run at all numbers of keys down to the next half"
            ] = None
        after = None
        if following is not None:
            mapped = self._mapped[following.layer]
            after = mapped, mapped.dataflow.costs(mapped.layer, self._simulator.machine)
        growing = GrowingAttention(
            at=by_seen.__getitem__,
            machine=self._simulator.machine,
            search=lambda layer, near: self._best(replace(job, layer=layer), near),
            tell=self._simulator.tell,
            cache=self._simulator.cache,
            choices=(self._simulator.objective, tuple(self._simulator.attention_dataflows)),
            following=after,
        )
        return growing.table(np.array([seen[int(n)] for n in padded], dtype=np.int64))

    def _count_macs(self, share: AttentionLayer, keys: Ints, times: int) -> None:
        known = share, int(keys[0])
        if known not in self._known_macs:
            if share.mask == "none":  # as many for each key
                self._known_macs[known] = share.macs // share.key_len * keys
            else:
                self._known_macs[known] = np.array([replace(share, key_len=int(n)).macs for n in keys], dtype=np.int64)
        self._macs += times * self._known_macs[known]


def _n_seen(layer: AttentionLayer, keys: Ints) -> int:
    """Different numbers of keys that are seen."""
    last = replace(layer, key_len=int(keys[-1])).with_plain_mask().key_len
    return int(np.count_nonzero(keys < last)) + 1


class _Sum:
    """Columns by name that add up."""

    def __init__(self, n_steps: int) -> None:
        self._n_steps = n_steps
        self._columns: dict[str, Ints] = {}

    def add(self, flat: Mapping[str, int], times: int | Ints = 1) -> None:
        """The same for every step, so many times (of each, where ``times`` is a column)."""
        for name, n in flat.items():
            if n:
                self._column(name)[:] += n * times

    def add_columns(self, columns: Mapping[str, Ints], times: int | Ints = 1) -> None:
        """Of each step its own, so many times."""
        for name, column in columns.items():
            self._column(name)[:] += column * times

    def _column(self, name: str) -> Ints:
        if name not in self._columns:
            self._columns[name] = np.zeros(self._n_steps, dtype=np.int64)
        return self._columns[name]

    def steps(self, machine: MachineSpec, sizes: Ints, overhead: int, macs: Ints) -> Steps:
        none = np.zeros(self._n_steps, dtype=np.int64)
        columns = {"matrix": none, "vector": none, **self._columns, "cycles": self._columns["cycles"] + overhead}
        energy: dict[str, npt.NDArray[np.float64]] = {}
        for name, column in columns.items():
            for part, rate in _energy_rates(machine, name).items():
                energy[part] = energy.get(part, np.zeros(self._n_steps)) + column * rate
        return Steps(
            sizes=sizes.astype(np.int64),
            cycles=columns["cycles"],
            seconds=np.asarray(columns["cycles"] / float(machine.clock_hz), dtype=np.float64),
            energy_by_component=energy,
            dram_read_bytes=columns.get("dram_read_bytes", none),
            dram_write_bytes=columns.get("dram_write_bytes", none),
            weight_memory_bytes=columns.get("weight_memory_bytes", none),
            matrix_busy=columns["matrix"] / machine.n_cores,
            vector_busy=columns["vector"] / machine.n_cores,
            macs=macs,
        )


def _energy_rates(machine: MachineSpec, name: str) -> dict[str, float]:
    """Picojoules of one of what ``name`` counts, by component."""
    if name in ("matrix", "vector"):
        return {}
    if name == "cycles":
        many = 10**9
        return {part: pj / many for part, pj in energy_by_component(machine, Counters(), many).items()}
    field, _, key = name.partition(".")
    counters = Counters(**{field: {key: 1} if key else 1})  # type: ignore[arg-type]
    return {part: pj for part, pj in energy_by_component(machine, counters, 0).items() if pj}
