"""Packed programs of many tilings of one product, each written from that of another tiling of the same form.

Whether a loop has one, two or more trips, what is kept and what is staged make the *form* of a program: its
instructions, and what waits for what. Tilings of one form differ in the trips of the loops, in the slots of the pools
and in what commands cost. A search runs many tilings of few forms, so a program is lowered and packed once for each
form; for the others these figures alone are worked out, by the same functions that the lowering asks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.gemm.lower import GemmCore, Nest, Stage, Step, lower
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.engine import image as layout
from tilewright.sim.engine.program import (
    MAX_CYCLES,
    MAX_WORK_UNITS,
    Channel,
    Command,
    Loop,
    Program,
    Queue,
    channel_units,
    exact_shares,
    too_long,
)
from tilewright.sim.lowering.costs import Work
from tilewright.sim.lowering.evaluation import build_phase, core_shares
from tilewright.sim.lowering.levels import channels_by_share
from tilewright.sim.lowering.mapping import Phase, Tiling
from tilewright.units import ceil_div

__all__ = ["image", "port_bytes"]

Int64Array = npt.NDArray[np.int64]

MOST_FORMS = 3_000
ONLY, FIRST, MIDDLE, LAST = range(4)  # which of the tiles along an extent

_forms: dict[Hashable, _Form] = {}


def image(phase: Phase, costs: GemmCosts, tiling: Tiling) -> Int64Array | None:
    """As :func:`tilewright.sim.engine.image.pack` of the program of ``tiling``, which fits; None for programs that are
    not written here: of engines, of cores that do unlike much, of links that send, of memories of weights.
    """
    known = _known(phase, costs, tiling)
    return None if known is None else known.form.image(known.made, known.engines, known.channels, known.initial)


def port_bytes(phase: Phase, costs: GemmCosts, tiling: Tiling) -> Int64Array | None:
    """Bytes that each command of that program reads and writes through the ports of the working buffer before it ends,
    shape (n_commands, 2); 0 for a transfer. None where no program is written, or where operands have parts of it.
    """
    known = None if costs.working.parts else _known(phase, costs, tiling)
    if known is None:
        return None
    name, found = costs.working.name, []
    for ask in known.form.asks:
        counters = known.made.work(ask).counters
        moved = counters.buffer_read_bytes.get(name, 0), counters.buffer_write_bytes.get(name, 0)
        found.append((0, 0) if ask.moves else moved)
    bytes_of: Int64Array = np.array(found, dtype=np.int64)[known.form.which]
    return bytes_of


class _Known(NamedTuple):
    """The form of the program of a tiling, and what fills it."""

    form: _Form
    made: _Tiles
    engines: list[int]
    channels: tuple[Channel, ...]
    initial: list[int]


def _known(phase: Phase, costs: GemmCosts, tiling: Tiling) -> _Known | None:
    machine = costs.machine
    if type(costs) is not GemmCosts or costs.layer.engine is not None or phase.core is not GemmCore:
        return None
    if getattr(phase.lower, "lower", None) is not lower or costs.dma_engines is not None:
        return None
    if machine.weights.memory is not None or (costs.multicasts and tiling.get("shared", 0)):
        return None
    shares = core_shares(costs.layer, machine)
    if len(shares) > 1:
        return None
    slots = _Slots()
    core = GemmCore(costs, n_groups=shares[0].n_groups, builder=slots)
    made = _Tiles(core, Nest(core, tiling))
    engines = [engine.weight for engine in GemmCore.engines_for(costs, tiling, shares[0].n_cores)]
    channels, _ = channels_by_share(machine, GemmCore.channels(costs, tiling), [shares[0].n_cores])
    key = (*made.form(), len(engines), len(channels), len(slots.initial))
    form = _forms.get(key)
    if form is None:
        if len(_forms) >= MOST_FORMS:
            _forms.clear()
        form = _forms[key] = _Form.of(build_phase(phase, costs, tiling))
    return _Known(form, made, engines, channels, slots.initial)


class _Slots:
    """A builder that only hears of semaphores."""

    def __init__(self) -> None:
        self.initial: list[int] = []
        self.buffer_bytes: dict[str, int] = {}

    def semaphore(self, name: str, initial: int = 0, *, is_slot: bool = False) -> int:
        self.initial.append(initial)
        return len(self.initial) - 1


def _which(span: Span) -> int:
    if span.first:
        return ONLY if span.last else FIRST
    return LAST if span.last else MIDDLE


class _Place(NamedTuple):
    """Where a step stands: which part of the rows and columns, which tile in it, which along k."""

    row_part: int
    column_part: int
    row: int
    column: int
    depth: int


def _place(step: Step) -> _Place:
    return _Place(
        _which(step.part.rows),
        _which(step.part.columns),
        _which(step.rows),
        _which(step.columns),
        _which(step.k),
    )


#: Which of a place the work of each kind of command depends on: whole, or without what is zero here.
_DEPENDS = {
    "load_a": _Place(1, 0, 1, 0, 1),
    "fetch_a": _Place(1, 0, 1, 0, 1),
    "fill_a": _Place(1, 0, 1, 0, 1),
    "load_b": _Place(0, 1, 0, 1, 1),
    "fetch_b": _Place(0, 1, 0, 1, 1),
    "fill_b": _Place(0, 1, 0, 1, 1),
    "multiply": _Place(1, 1, 1, 1, 1),
    "fused": _Place(1, 1, 1, 1, 0),
    "store_c": _Place(1, 1, 1, 1, 0),
    "load_extra": _Place(1, 1, 1, 1, 0),
}


class _Ask(NamedTuple):
    """What a command does: ``kind`` and ``number`` as its ``run`` says, where, and on which engine; whether it moves
    bytes.
    """

    kind: str
    number: int
    place: _Place
    engine: int
    moves: bool


class _Along:
    """Tiles along an extent: how many, and the span of each place."""

    __slots__ = ("n", "spans")

    def __init__(self, extent: int, tile: int) -> None:
        self.n = n = ceil_div(extent, tile)
        whole = Span(extent, True, True)
        last = Span(extent - (n - 1) * tile, False, True, (n - 1) * tile)
        self.spans = (whole, Span(tile, True, False), Span(tile, False, False), last)


class _Tiles:
    """The tiles of a tiling, and what the commands of its program cost."""

    def __init__(self, core: GemmCore, nest: Nest) -> None:
        layer, tile, staged = core.layer, nest.tile, nest.staged
        self.core, self.costs, self.nest, self.tile = core, core.costs, nest, tile
        self.row_parts, self.column_parts = _Along(layer.m, staged.rows), _Along(layer.n, staged.columns)
        self.rows = [_Along(part.size, tile["m"]) for part in self.row_parts.spans]
        self.columns = [_Along(part.size, tile["n"]) for part in self.column_parts.spans]
        self.depths = _Along(layer.k, tile["k"])
        self._known = core.costs.asked
        self._of_a = (tile["m"], tile["k"], None if nest.stage_a is None else nest.stage_a.level)
        self._of_b = None if nest.stage_b is None else nest.stage_b.level

    def form(self) -> tuple[Hashable, ...]:
        """What makes the form of the program, beside the numbers of its engines, channels and semaphores."""
        nest, costs = self.nest, self.costs
        near = costs.is_near
        return (
            nest.keep_a,
            nest.keep_b,
            near["a"],
            near["b"],
            near["out"],
            costs.loaded_extras,
            costs.through_vector_unit,
            nest.prefetched,
            costs.layer.homes.b == "",
            nest.stage_a is not None,
            nest.stage_b is not None and (True, nest.stage_b.stays),
            *self.core.movers,
            *(
                min(3, along.n)
                for parts, tiles in ((self.row_parts, self.rows), (self.column_parts, self.columns))
                for along in (parts, *([tiles[ONLY]] if parts.n == 1 else [tiles[FIRST], tiles[LAST]]))
            ),
            min(3, self.depths.n),
        )

    def trips(self, name: str, place: _Place) -> int:
        """Of the loop ``name`` around a command at ``place``."""
        if name == "groups":
            return self.core.n_groups
        if name == "row parts":
            return self.row_parts.n - 2
        if name == "column parts":
            return self.column_parts.n - 2
        if name == "rows":
            return self.rows[place.row_part].n - 2
        if name == "columns":
            return self.columns[place.column_part].n - 2
        return self.depths.n - 2

    def work(self, ask: _Ask) -> Work:
        """What a command costs; remembered with the costs by all that it depends on."""
        kind, number, place = ask[:3]
        rows, depth = self.rows[place[0]].spans[place[2]], self.depths.spans[place[4]]
        if kind in _OF_A:
            key: tuple[object, ...] = (kind, self.row_parts.spans[place[0]], rows, depth, self._of_a)
        else:
            columns = self.columns[place[1]].spans[place[3]]
            key = (kind, number, rows[0], columns[0], depth[0], depth[1], self._of_b)
        work = self._known.get(key)
        if work is None:
            work = self._known[key] = _ASKED[kind](self, place, number)
        return work

    def _all_rows(self, place: _Place) -> Span:
        part, rows = self.row_parts.spans[place.row_part], self.rows[place.row_part].spans[place.row]
        return Span(rows.size, part.first and rows.first, part.last and rows.last, part.start + rows.start)

    def _sizes(self, place: _Place) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.rows[place.row_part], self.columns[place.column_part]
        return rows.spans[place.row].size, columns.spans[place.column].size

    def load_a(self, place: _Place, number: int) -> Work:
        return self.nest.load_a_work(self._all_rows(place), self.depths.spans[place.depth])

    def fetch_a(self, place: _Place, number: int) -> Work:
        return self.nest.fetch_a_work(self._stage("a"), self._all_rows(place), self.depths.spans[place.depth])

    def fill_a(self, place: _Place, number: int) -> Work:
        return self.costs.fill(self._stage("a").level, self.fetch_a(place, number))

    def load_b(self, place: _Place, number: int) -> Work:
        columns = self.columns[place.column_part].spans[place.column]
        return self.nest.load_b_work(self.depths.spans[place.depth].size, columns.size)

    def fetch_b(self, place: _Place, number: int) -> Work:
        columns = self.columns[place.column_part].spans[place.column]
        return self.costs.fetch_b(self._stage("b").level, self.depths.spans[place.depth].size, columns.size)

    def fill_b(self, place: _Place, number: int) -> Work:
        return self.costs.fill(self._stage("b").level, self.fetch_b(place, number))

    def _stage(self, operand: str) -> Stage:
        stage = self.nest.stage_a if operand == "a" else self.nest.stage_b
        assert stage is not None
        return stage

    def multiply(self, place: _Place, number: int) -> Work:
        rows, columns = self._sizes(place)
        depth = self.depths.spans[place.depth]
        return self.costs.multiply(rows, depth.size, columns, add_to=not depth.first)

    def fused(self, place: _Place, number: int) -> Work:
        return self.costs.epilogue(*self._sizes(place))

    def store_c(self, place: _Place, number: int) -> Work:
        return self.costs.store_c(*self._sizes(place))

    def load_extra(self, place: _Place, number: int) -> Work:
        return self.costs.load_extra(number, *self._sizes(place))


_OF_A = ("load_a", "fetch_a", "fill_a")
_ASKED: dict[str, Callable[[_Tiles, _Place, int], Work]] = {kind: getattr(_Tiles, kind) for kind in _DEPENDS}


class _Trips(NamedTuple):
    """Where the image holds the trips of a loop, and which loop it is."""

    at: int
    name: str
    place: _Place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """The packed program of one tiling, and where what is another's stands in it.

    ``asks``: what its commands do, each once; ``which``: which of these each command does.
    """

    packed: Int64Array
    asks: tuple[_Ask, ...]
    which: Int64Array
    trips: tuple[_Trips, ...]

    @classmethod
    def of(cls, program: Program) -> _Form:
        packed, _ = layout.pack(program)
        packed.setflags(write=False)
        numbers: dict[_Ask, int] = {}
        which = [numbers.setdefault(ask, len(numbers)) for ask in _asks(program)]
        return cls(
            packed=packed,
            asks=tuple(numbers),
            which=np.array(which, dtype=np.int64),
            trips=tuple(_loops(program, packed)),
        )

    def image(self, tiles: _Tiles, weights: list[int], channels: tuple[Channel, ...], initial: list[int]) -> Int64Array:
        """The image of another tiling."""
        works = [tiles.work(ask) for ask in self.asks]
        per_byte, per_cycle = self._units(works, weights, channels)
        found = self.packed.copy()
        at = int(found[layout.AT_ENGINES])
        found[at + 1 : at + 2 * len(weights) : 2] = weights
        at = int(found[layout.AT_CHANNELS])
        found[at : at + len(channels)] = per_cycle
        at = int(found[layout.AT_SEMAPHORES])
        found[at : at + len(initial)] = initial
        for trip in self.trips:
            found[trip.at] = tiles.trips(trip.name, trip.place)
        figures = [
            (work[0], work.channel, work[1] * per_byte[work.channel], work[1]) if ask.moves else (work[0], -1, 0, 0)
            for ask, work in zip(self.asks, works, strict=True)
        ]
        if max(one[0] for one in figures) > MAX_CYCLES:
            raise too_long("one command")
        at, n = int(found[layout.AT_COMMANDS]), len(self.which)
        commands = found[at : at + layout.COMMAND_SIZE * n].reshape(n, layout.COMMAND_SIZE)
        commands[:, :4] = np.array(figures, dtype=np.int64)[self.which]
        return found

    def _units(
        self, works: list[Work], weights: list[int], channels: tuple[Channel, ...]
    ) -> tuple[list[int], list[int]]:
        """Work units of a byte and of a cycle of each channel, as the program's
        :meth:`~tilewright.sim.engine.program.Program.channel_shares` tells them.
        """
        most_bytes = [1] * len(channels)
        users = [0] * len(channels)  # a bit each engine
        for ask, work in zip(self.asks, works, strict=True):
            if ask.moves:
                channel = work.channel
                users[channel] |= 1 << ask.engine
                if work.n_bytes > most_bytes[channel]:
                    most_bytes[channel] = work.n_bytes
        units = [
            _channel_units(channel, tuple(one for engine, one in enumerate(weights) if own >> engine & 1), most)
            for channel, own, most in zip(channels, users, most_bytes, strict=True)
        ]
        return [one for one, _ in units], [one for _, one in units]


def _channel_units(channel: Channel, weights: tuple[int, ...], most_bytes: int) -> tuple[int, int]:
    rate, shares = channel.bytes_per_cycle, exact_shares(weights)
    exact = rate.denominator * shares, rate.numerator * shares
    if exact[0] * most_bytes <= MAX_WORK_UNITS and exact[1] <= MAX_WORK_UNITS:
        return exact
    return channel_units(rate, shares, sum(weights), most_bytes)


def _asks(program: Program) -> Iterator[_Ask]:
    """What each command of the packed program does, in its order; what writes a level follows what fetches for it."""
    fetches: dict[str, list[_Ask]] = {"a": [], "b": []}
    found: list[_Ask | tuple[str, int]] = []
    for engine, queue in enumerate(program.queues):
        for command in _commands(queue):
            if command.run is None:
                found.append((program.engines[engine].name.split()[-1].lower(), engine))
                continue
            kind, step, *more = command.run
            place = _Place(*(which * counts for which, counts in zip(_place(step), _DEPENDS[kind], strict=True)))
            ask = _Ask(kind, more[0] if more else 0, place, engine, command.channel >= 0)
            if kind in ("fetch_a", "fetch_b"):
                fetches[kind[-1]].append(ask)
            found.append(ask)
    follow = {operand: iter(own) for operand, own in fetches.items()}
    for one in found:
        if isinstance(one, _Ask):
            yield one
        else:
            operand, engine = one
            yield next(follow[operand])._replace(kind=f"fill_{operand}", engine=engine)  # which moves bytes, too


def _commands(queue: Queue) -> Iterator[Command]:
    for item in queue:
        if isinstance(item, Loop):
            yield from _commands(item.body)
        else:
            yield item


def _loops(program: Program, packed: Int64Array) -> Iterator[_Trips]:
    """The loops of the packed program, in its order."""
    at = int(packed[layout.AT_INSTRUCTIONS])
    places = _places(program)
    loops = [loop for queue in program.queues for loop in _all_loops(queue)]
    n_instructions = (int(packed[layout.AT_COMMANDS]) - at) // layout.INSTRUCTION_SIZE
    begins = [
        at + layout.INSTRUCTION_SIZE * i
        for i in range(n_instructions)
        if packed[at + layout.INSTRUCTION_SIZE * i] == layout.OP_LOOP
    ]
    for begin, loop in zip(begins, loops, strict=True):
        yield _Trips(begin + 2, program.loop_names[loop.ident], places[loop.ident])


def _all_loops(queue: Queue) -> Iterator[Loop]:
    for item in queue:
        if isinstance(item, Loop):
            yield item
            yield from _all_loops(item.body)


def _places(program: Program) -> dict[int, _Place]:
    """Where some step in each loop stands."""
    found: dict[int, _Place] = {}

    def note(queue: Any, around: tuple[int, ...]) -> None:
        for item in queue:
            if isinstance(item, Loop):
                note(item.body, (*around, item.ident))
            elif item.run is not None:
                place = _place(item.run[1])
                for ident in around:
                    found.setdefault(ident, place)

    for queue in program.queues:
        note(queue, ())
    return found
