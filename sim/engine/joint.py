"""Several groups of engines that run unlike programs at once, as one program: they meet on channels and by tokens.

Each group has a *script*: tasks one after the other, and repeats of tasks. A task is a number of programs, each of
which begins when all engines of the one before have ended; it begins when its tokens are there, and gives tokens when
it has ended (on its way, too, by :class:`Exchange`). What is shared is said once: the channels (by name; any other
channel of a program is the group's own) and the tokens. So a pipeline of layers, networks on groups of cores side by
side, or a processor that takes a part of the work are one simulation, exact to the cycle, and nothing but this file
knows how: the engine has no rule for it.

A group's control is an engine of its own, whose commands take no time but the fixed cost of a task (``before_cycles``).
It fills the semaphores of the next program as that program says, starts its engines, waits until all have ended, and
empties the semaphores. So programs that follow each other in a group can share semaphores, loops and engines, and a
script that comes back to its start finds everything as it was: a repeat of a million trips is jumped over as any loop.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from typing import NamedTuple, TypeAlias, TypeVar

from tilewright.errors import ProgramError
from tilewright.sim.engine.program import (
    MAX_LOOP_DEPTH,
    Channel,
    Command,
    Engine,
    Loop,
    Program,
    Queue,
    Semaphore,
)

__all__ = ["CONTROL", "Exchange", "Group", "Joint", "Mark", "Repeat", "Script", "Task", "Token", "at_clock", "join"]

CONTROL = "control"  # kind of the engine that runs a group's script
H = TypeVar("H", bound=Hashable)

MOST_AT_ONCE = 64  # tokens of one semaphore that one command takes; more are taken in a loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Programs that a group runs one after the other, ``before_cycles`` after the tokens ``waits`` are there.

    ``signals``: tokens that it gives when all is done. A task without programs only takes its fixed cost.
    """

    name: str
    programs: tuple[Program, ...] = ()
    before_cycles: int = 0
    waits: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """``body`` so many times; repeats of the same name in several groups are one loop, whose trips are compared."""

    name: str
    count: int
    body: Script


Script: TypeAlias = tuple["Task | Repeat", ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Engines that run one script."""

    name: str
    script: Script


class Token(NamedTuple):
    """A counting semaphore between tasks: how many there are at the start, and whether it stands for free room."""

    initial: int
    is_slot: bool = False


class Exchange(NamedTuple):
    """The ``cost`` of a command that takes no time inside a program: tokens between tasks that it takes and gives."""

    waits: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()


class Mark(NamedTuple):
    """What a command of a control engine means: a task of a group that begins, or ends."""

    group: int
    task: str
    ends: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """``program``, in which ``controls`` are the numbers of the groups' control engines, in order of the groups.

    ``engines``: the numbers of each group's other engines.
    """

    program: Program
    controls: tuple[int, ...]
    engines: tuple[tuple[int, ...], ...]


def at_clock(program: Program, scale: Fraction, name: str, shared: Collection[str]) -> Program:
    """``program`` of a unit whose cycle takes ``scale`` cycles of the others, each command rounded up to whole ones.

    Its channels carry as much in the same time; those but the ones called in ``shared`` are its own, and are named
    after it.
    """
    channels = tuple(
        Channel(channel.name if channel.name in shared else f"{name} {channel.name}", channel.bytes_per_cycle / scale)
        for channel in program.channels
    )

    def scaled(queue: Queue) -> Queue:
        found: Queue = []
        for item in queue:
            if isinstance(item, Command):
                found.append(item._replace(cycles=ceil(item.cycles * scale)))
            else:
                loop = Loop(item.ident, item.count, item.step, item.over)
                loop.body = scaled(item.body)
                found.append(loop)
        return found

    return replace(program, channels=channels, queues=tuple(map(scaled, program.queues)))


def join(groups: Sequence[Group], channels: Sequence[Channel], tokens: Mapping[str, Token] = {}) -> Joint:
    """The program of ``groups`` that run at once, sharing ``channels`` (by name) and ``tokens``.

    Raises ProgramError for a token that is not there, and for loops nested too deep.
    """
    book = _Book(channels=list(channels))
    shared = {name: book.semaphore(name, token.initial, is_slot=token.is_slot) for name, token in tokens.items()}
    n_shared = len(channels)
    controls, numbers = [], []
    for at, group in enumerate(groups):
        control = book.engine(Engine(f"{group.name}: control", CONTROL))
        writer = _Writer(book, at, group, control, shared, n_shared)
        first = len(book.engines)
        writer.script(group.script)
        controls.append(control)
        numbers.append(tuple(range(first, len(book.engines))))
    return Joint(program=book.program(), controls=tuple(controls), engines=tuple(numbers))


@dataclass(slots=True)
class _Book:
    """All that the joint program consists of, as it grows."""

    channels: list[Channel]
    engines: list[Engine] = field(default_factory=list)
    queues: list[Queue] = field(default_factory=list)
    semaphores: list[Semaphore] = field(default_factory=list)
    loops: dict[object, int] = field(default_factory=dict)
    loop_names: list[str] = field(default_factory=list)
    left: dict[int, tuple[Program, tuple[int, ...]]] = field(default_factory=dict)

    def engine(self, engine: Engine) -> int:
        self.engines.append(engine)
        self.queues.append([])
        return len(self.engines) - 1

    def semaphore(self, name: str, initial: int = 0, *, is_slot: bool = False) -> int:
        self.semaphores.append(Semaphore(name, initial, is_slot))
        return len(self.semaphores) - 1

    def loop(self, key: object, name: str) -> int:
        if key not in self.loops:
            self.loops[key] = len(self.loop_names)
            self.loop_names.append(name)
        return self.loops[key]

    def tokens_left(self, program: Program) -> tuple[int, ...]:
        """Tokens of each semaphore when ``program`` has ended."""
        known = self.left.get(id(program))
        if known is None:
            counts = [semaphore.initial for semaphore in program.semaphores]
            for _, command, times in program.commands():
                for semaphore in command.signals:
                    counts[semaphore] += times
                for semaphore in command.waits:
                    counts[semaphore] -= times
            known = self.left[id(program)] = program, tuple(counts)
        return known[1]

    def program(self) -> Program:
        return Program(
            engines=tuple(self.engines),
            channels=tuple(self.channels),
            semaphores=tuple(self.semaphores),
            queues=tuple(self.queues),
            loop_names=tuple(self.loop_names),
        )


class _Part(NamedTuple):
    """A program in the numbers of the joint one."""

    program: Program
    engines: tuple[int, ...]  # -1 for one without commands
    channels: tuple[int, ...]
    semaphores: tuple[int, ...]
    loops: tuple[int, ...]


class _Writer:
    """Writes the queues of one group. What its programs use is shared by programs that follow each other."""

    def __init__(
        self, book: _Book, number: int, group: Group, control: int, shared: Mapping[str, int], n_shared: int
    ) -> None:
        self.book, self.number, self.name, self.control, self.shared = book, number, group.name, control, shared
        self.channels = {channel.name: at for at, channel in enumerate(book.channels[:n_shared])}
        self.ended = book.semaphore(f"{group.name}: ended")
        self.own: dict[object, int] = {}
        self.go: dict[int, int] = {}
        self.bodies: dict[int, list[Queue]] = {control: [book.queues[control]]}
        self.open: list[Loop] = []

    def script(self, script: Script) -> None:
        for item in script:
            if isinstance(item, Task):
                self.task(item)
            elif item.count > 0:
                ident = self.book.loop(item.name, item.name)
                self.open.append(Loop(ident, item.count))
                self.script(item.body)
                self.open.pop()
                for bodies in self.bodies.values():
                    del bodies[len(self.open) + 1 :]

    def task(self, task: Task) -> None:
        """A command that begins, the programs, and one that ends each of them."""
        parts = [self.part(program) for program in task.programs]
        waits, signals = self.tokens(task, task.waits), self.tokens(task, task.signals)
        for at in range(len(parts) + 1):
            before = parts[at - 1] if at else None
            after = parts[at] if at < len(parts) else None
            takes, many = self.taken(before) if before else (waits, [])
            gives = self.given(after) if after else signals
            label = f"{task.name} {'begins' if at == 0 else 'ends' if after is None else 'goes on'}"
            mark = Mark(self.number, task.name, after is None)
            cycles = task.before_cycles if at == 0 else 0
            if many:  # what one wait list would be too long for, when all engines have ended
                self.append(self.control, Command(0, -1, 0, takes, (), label))
                takes = ()
            for semaphore, n in many:
                drain = Loop(self.book.loop((self.number, "drain"), f"{self.name}: tokens left"), n)
                drain.body.append(Command(0, -1, 0, (semaphore,), (), label))
                self.append(self.control, drain)
            self.append(self.control, Command(cycles, -1, 0, takes, gives, label, mark))
            if after is not None:
                self.program(after)

    def tokens(self, task: Task, names: Sequence[str]) -> tuple[int, ...]:
        return self.numbered(task.name, names)

    def numbered(self, what: str, names: Sequence[str]) -> tuple[int, ...]:
        for name in names:
            if name not in self.shared:
                raise ProgramError(f"{self.name}: {what}: there is no token {name!r}")
        return tuple(self.shared[name] for name in names)

    def given(self, part: _Part) -> tuple[int, ...]:
        """Tokens that start a program: those that its semaphores begin with, and one for each of its engines."""
        filled = [
            number
            for semaphore, number in zip(part.program.semaphores, part.semaphores, strict=True)
            for _ in range(semaphore.initial)
        ]
        return (*filled, *(self.go[engine] for engine in part.engines if engine >= 0))

    def taken(self, part: _Part) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
        """Tokens that the end of a program takes, and those that are too many for one command."""
        takes = [self.ended for engine in part.engines if engine >= 0]
        many = []
        for number, left in zip(part.semaphores, self.book.tokens_left(part.program), strict=True):
            if left > MOST_AT_ONCE:
                many.append((number, left))
            else:
                takes += [number] * left
        return tuple(takes), many

    def part(self, program: Program) -> _Part:
        """The numbers of what ``program`` uses, made where no program of this group has used the like before."""
        engines = [
            self.unit(engine, seen) if queue else -1
            for (engine, seen), queue in zip(_counted(program.engines), program.queues, strict=True)
        ]
        depended = {loop.over for queue in program.queues for loop in _loops(queue) if loop.step}
        loops = [
            self.book.loop((self.number, *key), program.loop_names[at])
            for at, key in enumerate(_counted([at in depended for at in range(len(program.loop_names))]))
        ]
        channels = [self.channel(channel, seen) for channel, seen in _counted(program.channels)]
        semaphores = [
            self.kept(("semaphore", is_slot, seen), is_slot=is_slot, name=program.semaphores[at].name)
            for at, (is_slot, seen) in enumerate(_counted([one.is_slot for one in program.semaphores]))
        ]
        return _Part(program, tuple(engines), tuple(channels), tuple(semaphores), tuple(loops))

    def unit(self, engine: Engine, seen: int) -> int:
        key = ("engine", engine, seen)
        if key not in self.own:
            number = self.book.engine(engine._replace(name=f"{self.name}: {engine.name}"))
            self.own[key] = number
            self.bodies[number] = [self.book.queues[number]]
            self.go[number] = self.book.semaphore(f"{self.name}: {engine.name} may start")
        return self.own[key]

    def channel(self, channel: Channel, seen: int) -> int:
        if channel.name in self.channels:
            return self.channels[channel.name]
        key = ("channel", channel, seen)
        if key not in self.own:
            self.book.channels.append(channel._replace(name=f"{self.name}: {channel.name}"))
            self.own[key] = len(self.book.channels) - 1
        return self.own[key]

    def kept(self, key: object, *, is_slot: bool, name: str) -> int:
        if key not in self.own:
            self.own[key] = self.book.semaphore(f"{self.name}: {name}", is_slot=is_slot)
        return self.own[key]

    def program(self, part: _Part) -> None:
        for engine, queue in zip(part.engines, part.program.queues, strict=True):
            if engine < 0:
                continue
            label = self.book.engines[engine].name
            self.append(engine, Command(0, -1, 0, (self.go[engine],), (), label))
            for item in queue:
                self.append(engine, self.renumbered(item, part, len(self.open)))
            self.append(engine, Command(0, -1, 0, (), (self.ended,), label))

    def renumbered(self, item: Command | Loop, part: _Part, depth: int) -> Command | Loop:
        if isinstance(item, Command):
            if isinstance(item.cost, Exchange):
                waits, signals = (self.numbered(item.label, names) for names in item.cost)
                return item._replace(waits=waits, signals=signals)
            return item._replace(
                channel=part.channels[item.channel] if item.channel >= 0 else -1,
                waits=tuple(part.semaphores[s] for s in item.waits),
                signals=tuple(part.semaphores[s] for s in item.signals),
            )
        if depth >= MAX_LOOP_DEPTH:
            raise ProgramError(f"{self.name}: loops nest at most {MAX_LOOP_DEPTH} deep, repeats among them")
        over = part.loops[item.over] if item.step else -1
        loop = Loop(part.loops[item.ident], item.count, item.step, over)
        loop.body = [self.renumbered(inner, part, depth + 1) for inner in item.body]
        return loop

    def append(self, engine: int, item: Command | Loop) -> None:
        bodies = self.bodies[engine]
        for loop in self.open[len(bodies) - 1 :]:
            own = Loop(loop.ident, loop.count)
            bodies[-1].append(own)
            bodies.append(own.body)
        bodies[-1].append(item)


def _counted(items: Sequence[H]) -> Iterator[tuple[H, int]]:
    """Each item with the number of equal ones before it."""
    seen: dict[H, int] = {}
    for item in items:
        yield item, seen.setdefault(item, 0)
        seen[item] += 1


def _loops(queue: Queue) -> Iterator[Loop]:
    for item in queue:
        if isinstance(item, Loop):
            yield item
            yield from _loops(item.body)
