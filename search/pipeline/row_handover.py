"""Maps handed over by rows: a stage begins when the rows that its first tile needs are there, and gives rows on early.

Between the stage that makes a map and those that read it lies a *line buffer*: a ring of so many rows, in which the
rows of one image follow those of the one before. The maker waits for room before the tile that would write there; a
reader waits for the rows of its next tile (kernel, stride, padding; tokens of a product), and gives up the rows that no
later tile of its needs. Where several jobs read a map (a residual beside the branch), a row stays until the slowest of
them has done with it.

How many rows a ring has at least is found from a schedule of one image in which nothing is done before it is needed:
the most rows that lie in it at a time. In that many rows all images can go through one by one, so no ring of at
least that many holds the pipeline up for good; the tile that is written and the one that is read have room beside.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import NamedTuple

from tilewright.search.pipeline.handover import OUTSIDE, Handover
from tilewright.search.pipeline.rows import JobRows, Ports, Run
from tilewright.sim.engine.joint import Exchange, Token
from tilewright.sim.engine.program import Command, Program, Queue

__all__ = ["Ring", "RowExchange", "rings_of"]

WHOLE = -1  # the number of the queue that stands for a task as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """The line buffer of one map: ``n_rows`` of the map's ``map_rows`` rows of ``row_bytes`` each, in which at least
    ``least`` must fit. ``readers``: the jobs that read it.
    """

    handover: Handover
    readers: tuple[int, ...]
    map_rows: int
    n_rows: int
    least: int
    line: int

    @property
    def n_bytes(self) -> int:
        return -(-self.handover.n_bytes // self.map_rows) * self.n_rows

    @property
    def by_rows(self) -> bool:
        """Whether it holds less than all maps that are on their way."""
        return self.n_rows < self.map_rows * self.handover.n_maps


class _End(NamedTuple):
    """A queue of a job (WHOLE: its task) and what its items touch of a map."""

    job: int
    queue: int
    runs: Sequence[Run]


def needs(runs: Sequence[Run]) -> list[int]:
    """How many rows must be there before each run."""
    return list(accumulate((run.rows.end for run in runs), max))


def dones(runs: Sequence[Run], n_rows: int) -> list[int]:
    """How many rows, from the first, nobody touches any more after each run."""
    later = list(accumulate((run.rows.first for run in reversed(runs[1:])), min))
    return [*reversed(later), n_rows]


class RowExchange:
    """Who waits for whom, row by row. ``jobs``: what each job touches; ``stage_of``: the stage of each job."""

    def __init__(self, rings: Sequence[Ring], jobs: Sequence[JobRows]) -> None:
        self.rings, self.jobs = tuple(rings), jobs
        self.tokens: dict[str, Token] = {}
        self._task: dict[int, tuple[list[str], list[str]]] = {}
        self._items: dict[tuple[int, int, int], tuple[list[str], list[str]]] = {}
        for ring in self.rings:
            self._bind(ring)

    def waits_and_signals(self, job: int) -> tuple[list[str], list[str]]:
        """What the task of a job takes before it begins, and gives when it has ended."""
        waits, signals = self._task.get(job, ([], []))
        return list(waits), list(signals)

    def programs(self, job: int, programs: tuple[Program, ...]) -> tuple[Program, ...]:
        """The programs of a job, with what they wait for and give on their way."""
        own = {(queue, item): both for (at, queue, item), both in self._items.items() if at == job}
        opened = self.jobs[job].program if 0 <= job < len(self.jobs) else None
        if not own or opened is None:
            return programs
        queues = []
        for number, queue in enumerate(opened.queues):
            items: Queue = []
            for at, item in enumerate(queue):
                waits, signals = own.get((number, at), ([], []))
                before = [_exchange("wait for rows", Exchange(waits=tuple(waits)))] if waits else []
                behind = [_exchange("rows done", Exchange(signals=tuple(signals)))] if signals else []
                items += [*before, item, *behind]
            queues.append(items)
        return (replace(opened, queues=tuple(queues)),)

    def _bind(self, ring: Ring) -> None:
        """Tokens between every queue that writes a map and every one that reads it."""
        name, maker = ring.handover.name, ring.handover.maker
        for writer, wrote in _queues(self._ports(maker, name, writes=True)):
            for job in ring.readers:
                for reader, read in _queues(self._ports(job, name, writes=False)):
                    key = f"{ring.handover.there} (job {job}, queues {writer} and {reader})"
                    self._pair(ring, _End(maker, writer, wrote), _End(job, reader, read), key)

    def _ports(self, job: int, name: str, *, writes: bool) -> Ports | None:
        if not 0 <= job < len(self.jobs):
            return None
        own = self.jobs[job].writes if writes else self.jobs[job].reads
        return own.get(name)

    def _pair(self, ring: Ring, maker: _End, reader: _End, key: str) -> None:
        there, free, n = f"rows of {key}", f"room for {key}", ring.map_rows
        made, wanted = _steps(maker.runs, n), _steps(reader.runs, n)
        # tokens that tell of rows: the maker gives one where a reader may wait for just that
        levels = sorted({made.dones[bisect_left(made.dones, rows)] for rows in wanted.needs})
        self._spread(reader, wanted.items, [bisect_left(levels, rows) + 1 for rows in wanted.needs], there, 0)
        self._spread(maker, made.items, [_index(levels, rows) for rows in made.dones], there, 1)
        self.tokens[there] = Token(0)
        # and of room: image by image, rows of ``ring.n_rows`` before
        back = [divmod(rows - ring.n_rows - 1, n) for rows in made.needs]  # (images back, row in it)
        rooms = sorted({wanted.dones[bisect_left(wanted.dones, rest + 1)] for _, rest in back})
        most = len(rooms)
        taken = [image * most + bisect_left(rooms, rest + 1) + 1 for image, rest in back]
        start = taken[-1] - most
        self._spread(maker, made.items, [one - start for one in taken], free, 0)
        self._spread(reader, wanted.items, [_index(rooms, rows) for rows in wanted.dones], free, 1)
        self.tokens[free] = Token(-start, is_slot=True)

    def _spread(self, end: _End, items: Sequence[int], counts: Sequence[int], name: str, side: int) -> None:
        """Take or give (``side``) as many tokens at each item as the count grows by."""
        before = 0
        for item, count in zip(items, counts, strict=True):
            if count > before:
                if end.queue == WHOLE:
                    own = self._task.setdefault(end.job, ([], []))
                else:
                    own = self._items.setdefault((end.job, end.queue, item), ([], []))
                own[side].extend([name] * (count - before))
            before = max(before, count)


class _Steps(NamedTuple):
    items: list[int]
    needs: list[int]
    dones: list[int]


def _steps(runs: Sequence[Run], n_rows: int) -> _Steps:
    if not runs:
        return _Steps([0], [n_rows], [n_rows])
    touched = needs(runs)
    return _Steps([run.item for run in runs], touched, dones(runs, n_rows))


def _index(levels: Sequence[int], rows: int) -> int:
    """How many of ``levels`` are reached with so many rows."""
    return bisect_left(levels, rows + 1)


def _queues(ports: Ports | None) -> list[tuple[int, tuple[Run, ...]]]:
    """The queues of a job that touch a map, with what they do; the task where that is not known by rows."""
    return list(ports.runs.items()) if ports is not None and ports.by_rows else [(WHOLE, ())]


def _exchange(label: str, what: Exchange) -> Command:
    return Command(0, -1, 0, (), (), label, what)


# -- how many rows -----------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """What a job needs of each map for its next rows, what of it nobody else waits for then, and what it has made."""

    needs: dict[str, int]
    frees: dict[str, int]
    made: dict[str, int]


Key = tuple[str, int]  # a hand-over: the map, and the stage that reads it


@dataclass(slots=True)
class _Lazy:
    """One image in which nothing is done before it is needed. ``most``: the most rows that lay in each ring."""

    steps: Sequence[Sequence[_Step]]
    before: Sequence[int]  # the job of the same stage before each one; -1
    makers: Mapping[str, int]
    readers: Mapping[Key, Sequence[int]]
    at: list[int] = field(init=False)
    most: dict[Key, int] = field(init=False)

    def __post_init__(self) -> None:
        self.at = [0] * len(self.steps)
        self.most = dict.fromkeys(self.readers, 0)
        for job in reversed(range(len(self.steps))):
            self._to(job, len(self.steps[job]))

    def _to(self, job: int, count: int) -> None:
        """Run ``job`` until ``count`` of its steps are done, and all that these need before."""
        stack = [(job, count)]
        while stack:
            job, count = stack[-1]
            missing = self._missing(job) if self.at[job] < count else None
            if self.at[job] >= count:
                stack.pop()
            elif missing is not None:
                stack.append(missing)
            else:
                self.at[job] += 1
                self._note(job)

    def _missing(self, job: int) -> tuple[int, int] | None:
        """A job that must come so far first."""
        before = self.before[job]
        if before >= 0 and self.at[before] < len(self.steps[before]):
            return before, len(self.steps[before])
        for name, rows in self.steps[job][self.at[job]].needs.items():
            maker = self.makers.get(name)
            if maker is None:
                continue
            count = bisect_left([step.made[name] for step in self.steps[maker]], rows) + 1
            if self.at[maker] < count:
                return maker, count
        return None

    def _note(self, job: int) -> None:
        made = self.steps[job][self.at[job] - 1].made
        for (name, stage), readers in self.readers.items():
            if name in made:
                lying = made[name] - min(self._freed(reader, name) for reader in readers)
                self.most[name, stage] = max(self.most[name, stage], lying)

    def _freed(self, job: int, name: str) -> int:
        return self.steps[job][self.at[job] - 1].frees[name] if self.at[job] else 0


def _job_steps(rows: JobRows, reads: Mapping[str, int], makes: Mapping[str, int]) -> list[_Step]:
    """A job in steps by the rows of its results; a single one where it does not go row by row. ``reads``, ``makes``:
    the rows of maps that are handed over.
    """
    own = [rows.reads[name] for name in reads if name in rows.reads]
    own += [rows.writes[name] for name in makes if name in rows.writes]
    runs = [run for ports in own for run in ports.runs.values()]
    in_turn = all(list(one) == sorted(one, key=lambda run: run.outputs.first) for one in runs)
    marks = sorted({run.outputs.end for one in runs for run in one})
    if not marks or not in_turn:
        return [_Step(dict(reads), dict(reads), dict(makes))]
    found = []
    for mark in marks:
        is_last = mark == marks[-1]
        seen = {name: _read(rows.reads.get(name), n, mark, is_last=is_last) for name, n in reads.items()}
        made = {name: _made(rows.writes.get(name), n, mark, is_last=is_last) for name, n in makes.items()}
        found.append(_Step({name: one[0] for name, one in seen.items()}, {n: one[1] for n, one in seen.items()}, made))
    return found


def _read(ports: Ports | None, n_rows: int, mark: int, *, is_last: bool) -> tuple[int, int]:
    """(rows that results up to ``mark`` need, rows given up behind them)."""
    if ports is None or not ports.by_rows:
        return n_rows, n_rows if is_last else 0
    need, given = 0, n_rows
    for runs in ports.runs.values():
        count = sum(run.outputs.first < mark for run in runs)
        need = max([need, *needs(runs)[:count]])
        given = min(given, dones(runs, n_rows)[count - 1] if count else 0)
    return need, given


def _made(ports: Ports | None, n_rows: int, mark: int, *, is_last: bool) -> int:
    """Rows that are whole when all results up to ``mark`` are stored."""
    if is_last or ports is None or not ports.by_rows:
        return n_rows if is_last else 0
    counts = [(runs, sum(run.outputs.end <= mark for run in runs)) for runs in ports.runs.values()]
    return min(dones(runs, n_rows)[count - 1] if count else 0 for runs, count in counts)


def rings_of(
    handovers: Sequence[Handover],
    readers: Mapping[Key, Sequence[int]],
    jobs: Sequence[JobRows],
    stage_of: Sequence[int],
    map_rows: Mapping[str, int],
) -> list[Ring]:
    """A line buffer for each hand-over, at first with room for whole maps. ``readers``: the jobs that read each, those
    of the maker's own stage among them; ``map_rows``: of each map.
    """
    inside = [one for one in handovers if one.maker != OUTSIDE and one.last < len(jobs)]
    reads: list[dict[str, int]] = [{} for _ in jobs]
    makes: list[dict[str, int]] = [{} for _ in jobs]
    for one in inside:
        makes[one.maker][one.name] = map_rows[one.name]
        for job in readers[one.name, one.read_in]:
            reads[job][one.name] = map_rows[one.name]
    steps = [_job_steps(rows, reads[at], makes[at]) for at, rows in enumerate(jobs)]
    before = [at - 1 if at and stage_of[at - 1] == stage_of[at] else -1 for at in range(len(jobs))]
    own_readers = {(one.name, one.read_in): tuple(readers[one.name, one.read_in]) for one in inside}
    least = _Lazy(steps, before, {one.name: one.maker for one in inside}, own_readers).most
    found = []
    for one in handovers:
        n, key = map_rows[one.name], (one.name, one.read_in)
        line = needed = n
        if key in least:
            needed = least[key]
            line = needed + _longest([step.made[one.name] for step in steps[one.maker]])
            line += max(_longest([step.frees[one.name] for step in steps[job]]) for job in own_readers[key])
        deep = n * one.n_maps
        jobs_of = own_readers.get(key, tuple(readers[key]))
        found.append(Ring(handover=one, readers=jobs_of, map_rows=n, n_rows=deep, least=needed, line=min(line, deep)))
    return found


def _longest(counts: Sequence[int]) -> int:
    """The most that a count grows by at once."""
    return max(b - a for a, b in zip([0, *counts[:-1]], counts, strict=True))
