"""The order in which a group makes, loads and stores its rows, and who waits for whom.

Every node of the group that computes is one *stream* of commands, in the order of its rows; so is every map that is
loaded and every one that is stored. All commands stand in one order in time (see :mod:`tilewright.sim.fusion.lbdf`), in
which each comes behind what it needs. Between two streams on different engines a semaphore carries one token for each
time that a command needs one more command of the other stream than the commands before it did: a row to read, or a
place on chip that must not be needed any more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from math import lcm
from typing import Literal, NamedTuple

from tilewright.errors import ProgramError
from tilewright.sim.fusion.geometry import AxisWindow
from tilewright.sim.fusion.graph import FusionGraph, members
from tilewright.sim.fusion.rows import Number, RowPlan
from tilewright.sim.lowering.core import LOAD, MATRIX, STORE, VECTOR

__all__ = ["Command", "Schedule", "Stream", "needed_rows", "schedule"]

Action = Literal["load", "make", "store"]


class Stream(NamedTuple):
    """Loading or storing map ``on``, or what node ``on`` does."""

    action: Action
    on: int


class Command(NamedTuple):
    """The ``number``-th command of its stream: rows [first, first + rows).

    They are rows of the map of the stream, but of the input of a node that ``sweeps`` over it (a global pooling).
    ``step`` numbers the repeating sections of the whole order.
    """

    stream: Stream
    number: int
    first: int
    rows: int
    step: tuple[int, int]


class Schedule(NamedTuple):
    """All commands of one image in order; ``engines`` by stream.

    ``waits`` and ``signals``: by stream and number of a command, the links of which it takes or gives a token.
    ``holders``: pairs of streams (a, b) such that b may begin an image only when a is done with the one before.
    ``openers``: by place, the maps that write its rows first. ``silent``: joins that do nothing.
    """

    commands: tuple[Command, ...]
    engines: dict[Stream, int]
    waits: dict[tuple[Stream, int], list[Link]]
    signals: dict[tuple[Stream, int], list[Link]]
    holders: tuple[tuple[Stream, Stream], ...]
    openers: dict[int, tuple[int, ...]]
    silent: frozenset[int]


class Link(NamedTuple):
    """A semaphore between two streams: ``data`` is there, or room is."""

    source: Stream
    target: Stream
    data: bool


def needed_rows(window: AxisWindow, first: int, rows: int) -> range:
    """The input rows that output rows [first, first + rows) need; none where they see only padding."""
    if window.whole:
        return range(window.n_in)
    begin = (first * window.stride - window.pad) // window.up
    end = ((first + rows - 1) * window.stride - window.pad + window.reach - 1) // window.up
    return range(max(begin, 0), min(end, window.n_in - 1) + 1)


def schedule(graph: FusionGraph, mask: int, plan: RowPlan) -> Schedule:
    """The commands of a group whose maps keep the rows of ``plan``."""
    return _Scheduler(graph, mask, plan).schedule()


class _Scheduler:
    def __init__(self, graph: FusionGraph, mask: int, plan: RowPlan) -> None:
        self.graph, self.mask, self.plan, self.maps = graph, mask, plan, plan.maps
        self.inside = members(mask)
        self.sources = [i for i in plan.readers if i >= self.maps.n_nodes or not mask >> i & 1]
        self.silent = frozenset(i for i in self.inside if self._is_silent(i))
        self.stored = graph.needed_outside(mask)
        self.sweeps = {r.consumer for reading in plan.readers.values() for r in reading if r.sweeps}
        self.engines: dict[Stream, int] = {}
        for i in self.sources:
            self.engines[Stream("load", i)] = LOAD
        for i in self.inside:
            if i not in self.silent:
                self.engines[Stream("make", i)] = MATRIX if graph.nodes[i].on_matrix else VECTOR
        for i in self.stored:
            self.engines[Stream("store", i)] = STORE

    def place(self, i: int) -> int:
        """The map in whose place on chip map i lies."""
        return self.plan.rides_on.get(i, i)

    def _is_silent(self, i: int) -> bool:
        """A join whose inputs are all made in its place."""
        return self.graph.nodes[i].kind == "concat" and all(
            self.plan.rides_on.get(p) == self.place(i) for p, _ in self.maps.sources[i]
        )

    def schedule(self) -> Schedule:
        commands = self._commands()
        position = {(c.stream, c.number): at for at, c in enumerate(commands)}
        by_stream: dict[Stream, list[Command]] = defaultdict(list)
        for command in commands:
            by_stream[command.stream].append(command)
        openers = {s: tuple(self._openers(s)) for s in self.plan.rings}
        needs = dict(self._data(by_stream))
        rooms, holders = self._rooms(by_stream, openers)
        waits: dict[tuple[Stream, int], list[Link]] = defaultdict(list)
        signals: dict[tuple[Stream, int], list[Link]] = defaultdict(list)
        for data, wanted in ((True, needs), (False, rooms)):
            for (source, target), asked in wanted.items():
                link, most = Link(source, target, data), -1
                for number in sorted(asked):
                    if asked[number] <= most:
                        continue
                    most = asked[number]
                    if position[source, most] >= position[target, number]:
                        raise ProgramError(f"{target} {number} comes before {source} {most}, which it needs")
                    if self.engines[source] != self.engines[target]:
                        waits[target, number].append(link)
                        signals[source, most].append(link)
        return Schedule(commands, self.engines, dict(waits), dict(signals), holders, openers, self.silent)

    # -- the order ---------------------------------------------------------------------------------------------

    def _commands(self) -> tuple[Command, ...]:
        found: list[tuple[tuple[int, ...], Command]] = []
        clock = _Clock(self.plan)
        for stream in self.engines:
            i = stream.on
            if stream.action == "make" and i in self.sweeps:
                (source,) = [p for p, r in self.maps.sources[i] if r.sweeps]
                rank, timed = (1, i, 0), source
            else:
                rank, timed = {"load": (0, i, 0), "make": (1, i, 0), "store": (1, i, 1)}[stream.action], i
            phase = self.plan.phases[i]
            blocks = list(clock.blocks(timed, self.maps.tensors[timed].height))
            if stream.action == "store" and i in self.sweeps:  # when the last row has been added
                (source,) = [p for p, r in self.maps.sources[i] if r.sweeps]
                *_, (_, _, time) = clock.blocks(source, self.maps.tensors[source].height)
                blocks = [(0, 1, time)]
            for number, (first, rows, time) in enumerate(blocks):
                command = Command(stream, number, first, rows, (phase, clock.section(time)))
                found.append(((phase, time, *rank), command))
        return tuple(command for _, command in sorted(found, key=lambda pair: pair[0]))

    # -- who needs whom ----------------------------------------------------------------------------------------

    def finals(self, i: int) -> list[Stream]:
        """The streams whose last touch finishes a row of map i."""
        if i in self.silent:
            return [final for p, _ in self.maps.sources[i] for final in self.finals(p)]
        if i >= self.maps.n_nodes or not self.mask >> i & 1:
            return [Stream("load", i)]
        return [Stream("make", i)]

    def _openers(self, place: int) -> Iterator[int]:
        """The maps whose streams write a row of ``place`` first (a join in place has several)."""
        for i in [place, *[i for i, host in self.plan.rides_on.items() if host == place]]:
            above = [p for p, _ in self.maps.sources[i]] if i < self.maps.n_nodes and self.mask >> i & 1 else []
            if i not in self.silent and not any(self.plan.rides_on.get(p) == place for p in above):
                yield i

    def _reads(self, i: int) -> Iterator[tuple[Stream, AxisWindow]]:
        """The streams that read map i, with the rows that their rows need."""
        for reader in self.plan.readers[i]:
            if reader.consumer not in self.silent:
                window = AxisWindow(reader.rows.n_in) if reader.sweeps else reader.rows
                yield Stream("make", reader.consumer), window
        if i in self.stored:
            yield Stream("store", i), AxisWindow(self.maps.tensors[i].height)

    def _data(self, by_stream: dict[Stream, list[Command]]) -> Iterator[tuple[tuple[Stream, Stream], dict[int, int]]]:
        """For each pair of streams: by number of the reading command, the last command that it needs."""
        asked: dict[tuple[Stream, Stream], dict[int, int]] = defaultdict(dict)
        for i in self.plan.readers:
            for final in self.finals(i):
                whole = final.action == "make" and final.on in self.sweeps
                made_by = _by_row(by_stream[final]) if not whole else {}
                for stream, window in self._reads(i):
                    for command in by_stream[stream]:
                        rows = needed_rows(window, command.first, command.rows)
                        if rows:
                            number = len(by_stream[final]) - 1 if whole else made_by[rows[-1]]
                            pair = asked[final, stream]
                            pair[command.number] = max(number, pair.get(command.number, -1))
        yield from asked.items()

    def _rooms(
        self, by_stream: dict[Stream, list[Command]], openers: dict[int, tuple[int, ...]]
    ) -> tuple[dict[tuple[Stream, Stream], dict[int, int]], tuple[tuple[Stream, Stream], ...]]:
        """For each pair of streams: by number of the writing command, the last one that uses what it overwrites."""
        asked: dict[tuple[Stream, Stream], dict[int, int]] = defaultdict(dict)
        holders: dict[tuple[Stream, Stream], None] = {}
        for place, ring in self.plan.rings.items():
            users = dict(self._last_uses(place, by_stream))
            for opener in openers[place]:
                (writer,) = self.finals(opener)
                holders |= {(user, writer): None for user in users if self.engines[user] != self.engines[writer]}
                if writer.on in self.sweeps and writer.action == "make":
                    continue  # one row, written once
                for command in by_stream[writer]:
                    for row in range(command.first, command.first + command.rows):
                        for user, last in users.items():
                            if row >= ring and row - ring in last:
                                pair = asked[user, writer]
                                pair[command.number] = max(last[row - ring], pair.get(command.number, -1))
        return dict(asked), tuple(holders)

    def _last_uses(self, place: int, by_stream: dict[Stream, list[Command]]) -> Iterator[tuple[Stream, dict[int, int]]]:
        """Streams that read or finish rows of ``place``: by row, the number of the last command that does."""
        found: dict[Stream, dict[int, int]] = defaultdict(dict)
        for stream, window in self._reads(place):
            for command in by_stream[stream]:
                for row in needed_rows(window, command.first, command.rows):
                    found[stream][row] = max(command.number, found[stream].get(row, -1))
        read = set().union(*(rows.keys() for rows in found.values())) if found else set()
        for final in self.finals(place):
            if final.action == "make" and final.on in self.sweeps:
                continue
            unread = {row: number for row, number in _by_row(by_stream[final]).items() if row not in read}
            if unread:
                found[final] = unread
        yield from found.items()


def _by_row(commands: list[Command]) -> dict[int, int]:
    return {row: c.number for c in commands for row in range(c.first, c.first + c.rows)}


class _Clock:
    """Times as whole numbers: when each block of rows of a map is due."""

    def __init__(self, plan: RowPlan) -> None:
        self.plan = plan
        self.rates = {i: Fraction(plan.maps.rates[i]) for i in plan.readers}
        ahead = {i: Fraction(plan.offsets[i]) for i in plan.readers}
        self.ahead: dict[int, Number] = dict(ahead)
        self.scale = lcm(*(rate.numerator * ahead[i].denominator for i, rate in self.rates.items()))
        numerators = [rate.numerator for rate in self.rates.values()]
        unit = Fraction(lcm(*(rate.denominator for rate in self.rates.values())), _gcd(numerators))
        self.period = unit * self.scale

    def section(self, time: int) -> int:
        """The number of the repeating section in which a time lies."""
        if self.plan.steps:
            return time
        return int(-(-time // self.period))

    def blocks(self, i: int, height: int) -> Iterator[tuple[int, int, int]]:
        """(first row, rows, time) of the blocks of map i."""
        rate, ahead = self.rates[i], Fraction(self.ahead[i])
        if not self.plan.steps:
            for row in range(height):
                yield row, 1, int((row + 1 - ahead) * self.scale / rate)
            return
        step = self.plan.steps[i]
        done, time = 0, _floor_div(1 - ahead, step)
        while done < height:
            made = min(height, int((step * time + ahead) // 1))
            if made > done:
                yield done, made - done, time
                done = made
            time += 1


def _floor_div(value: Fraction, step: int) -> int:
    return int((value / step) // 1)


def _gcd(values: list[int]) -> int:
    from math import gcd

    return gcd(*values)
