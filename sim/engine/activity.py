"""What a run does over time, in equal spans: how busy its engines are, bytes moved, bytes held on chip.

Exact sums of the commands as they ran: a command keeps its engine busy from start to end, a transfer moves its bytes
from the end of its latency to its own, sharing its channel with the others of that moment, and a slot of a pool is
taken from the start of the command that takes its token to the end of the one that gives it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.sim.engine.program import Engine, Program
from tilewright.sim.engine.run import _run, simulate
from tilewright.sim.engine.trace import Recording

__all__ = ["KINDS", "Activity", "activity_of"]

KINDS = ("matrix", "vector", "load", "store")
_MOST_COMMANDS = 1_000_000
_ENDLESS = 2**62

FloatArray = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]
AnyArray = npt.NDArray[np.int64] | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A run of ``cycles`` in spans that are equal but for rounding to whole cycles; at most ``cycles`` of them.

    ``busy``: by kind of engine the share of the span, over all cores (0 to 1). ``read_bytes``, ``write_bytes``: what
    all cores moved from and to DRAM. ``held_bytes``: the most that one core's working buffer held at a time. All (n
    spans). Not ``is_exact``: the run has too many commands to be recorded, and every span shows its mean.
    """

    cycles: int
    busy: Mapping[str, FloatArray] = field(hash=False)
    read_bytes: FloatArray = field(hash=False)
    write_bytes: FloatArray = field(hash=False)
    held_bytes: FloatArray = field(hash=False)
    is_exact: bool = True


def activity_of(
    programs: Sequence[Program], n_spans: int, *, n_cores: int, most_commands: int = _MOST_COMMANDS
) -> Activity:
    """The activity of ``programs``, run one after the other on ``n_cores`` cores, in ``n_spans`` equal spans.

    With more than ``most_commands`` commands in a program, that program's part is its mean.
    """
    runs = [simulate(program) for program in programs]
    cycles = sum(run.cycles for run in runs)
    edges = np.round(np.linspace(0, cycles, n_spans + 1))
    totals: dict[str, FloatArray] = {kind: np.zeros(n_spans + 1) for kind in (*KINDS, "read", "write")}
    held = np.zeros(n_spans)
    offset, is_exact = 0, True
    for program, run in zip(programs, runs, strict=True):
        local = np.clip(edges - offset, 0, run.cycles)
        if run.n_commands <= most_commands:
            recording = Recording(len(program.engines), run.n_commands + 1, (0, _ENDLESS))
            _run(program, skip=False, recording=recording)
            _add_recorded(totals, program, recording, local)
            own = _held(program, recording, local)
        else:
            is_exact = False
            _add_mean(totals, program, run.busy_cycles, local / run.cycles)
            own = np.where(np.diff(local) > 0, float(sum(program.buffer_bytes.values())), 0.0)
        held = np.maximum(held, own)
        offset += run.cycles
    width = np.diff(edges) * n_cores
    return Activity(
        cycles=cycles,
        busy={kind: np.diff(totals[kind]) / (width * _n_engines(programs, kind, n_cores)) for kind in KINDS},
        read_bytes=np.diff(totals["read"]),
        write_bytes=np.diff(totals["write"]),
        held_bytes=held,
        is_exact=is_exact,
    )


def _n_engines(programs: Sequence[Program], kind: str, n_cores: int) -> float:
    """Engines of a kind that a core has: filters and maps may be loaded by one each."""
    weights = (sum(engine.weight for engine in program.engines if engine.kind == kind) for program in programs)
    return max(1.0, max(weights, default=0) / n_cores)


class _Commands(NamedTuple):
    """An engine's commands as they ran, in order: start, end, and for transfers when they begin to move, and bytes."""

    engine: Engine
    start: Int64Array
    end: Int64Array
    moving: Int64Array
    n_bytes: Int64Array
    channel: Int64Array


def _by_engine(program: Program, recording: Recording) -> Iterator[_Commands]:
    from tilewright.sim.engine import kernel

    latency = np.array([c.cycles if c.channel >= 0 else 0 for c in recording.commands], dtype=np.int64)
    n_bytes = np.array([c.n_bytes for c in recording.commands], dtype=np.int64)
    channel = np.array([c.channel for c in recording.commands], dtype=np.int64)
    for number, engine in enumerate(program.engines):
        own = recording.events[recording.events[:, kernel.EV_ENGINE] == number]
        if len(own):
            start, end, command = own[:, kernel.EV_START], own[:, kernel.EV_END], own[:, kernel.EV_COMMAND]
            moving = np.minimum(start + latency[command], end - 1)
            yield _Commands(engine, start, end, moving, n_bytes[command], channel[command])


def _add_recorded(totals: dict[str, FloatArray], program: Program, recording: Recording, at: FloatArray) -> None:
    """Add what was done until each of the cycles ``at``."""
    commands = list(_by_engine(program, recording))
    for own in commands:
        totals[own.engine.kind] += _done(own.start, own.end, own.end - own.start, at) * own.engine.weight
    for channel in range(len(program.channels)):
        users = [own for own in commands if (own.channel == channel).any()]
        if not users:
            continue
        times, shares = _share_of_one(users, channel)
        for own in users:
            used = own.channel == channel
            moved = _done(
                np.interp(own.moving[used], times, shares),
                np.interp(own.end[used], times, shares),
                own.n_bytes[used],
                np.interp(at, times, shares),
            )
            totals["read" if own.engine.kind == "load" else "write"] += moved * own.engine.weight


def _share_of_one(users: Sequence[_Commands], channel: int) -> tuple[FloatArray, FloatArray]:
    """Times, and how much of the channel a transfer of weight 1 that were always active had had until each of them.

    The channel is shared equally by the weights that are active, so a transfer moves its bytes evenly in this measure.
    """
    starts = np.concatenate([own.moving[own.channel == channel] for own in users])
    ends = np.concatenate([own.end[own.channel == channel] for own in users])
    weights = np.concatenate([np.full((own.channel == channel).sum(), own.engine.weight) for own in users])
    times, place = np.unique(np.concatenate([starts, ends]), return_inverse=True)
    active = np.cumsum(np.bincount(place, weights=np.concatenate([weights, -weights])))[:-1]
    steps = np.diff(times) / np.maximum(active, 1)
    return times.astype(np.float64), np.concatenate([[0.0], np.cumsum(np.where(active > 0.5, steps, 0.0))])


def _done(start: AnyArray, end: AnyArray, amount: Int64Array, at: FloatArray) -> FloatArray:
    """How much of the amounts, each spread from its start to its end, lies before each of ``at``; none overlap."""
    after = np.cumsum(amount)
    times = np.stack([start, end], axis=1).ravel().astype(np.float64)
    return np.interp(at, times, np.stack([after - amount, after], axis=1).ravel())


def _add_mean(totals: dict[str, FloatArray], program: Program, busy_cycles: Sequence[int], share: FloatArray) -> None:
    for engine, busy in zip(program.engines, busy_cycles, strict=True):
        totals[engine.kind] += busy * engine.weight * share
    for number, command, times in program.commands():
        engine = program.engines[number]
        if command.channel >= 0:
            totals["read" if engine.kind == "load" else "write"] += command.n_bytes * times * engine.weight * share


def _held(program: Program, recording: Recording, at: FloatArray) -> FloatArray:
    """The most bytes that the first core's working buffer holds between neighbouring cycles of ``at``."""
    from tilewright.sim.engine import kernel

    slots, base = _slot_bytes(program)
    takes = np.array([_sum(command.waits, slots) for command in recording.commands], dtype=np.int64)
    gives = np.array([_sum(command.signals, slots) for command in recording.commands], dtype=np.int64)
    events = recording.events
    command = events[:, kernel.EV_COMMAND]
    times = np.concatenate([events[:, kernel.EV_END], events[:, kernel.EV_START]])
    change = np.concatenate([-gives[command], takes[command]])
    matters = change != 0
    times, change = times[matters], change[matters]
    order = np.argsort(times, kind="stable")  # in one cycle slots are given back before they are taken
    times, value = times[order], base + np.cumsum(change[order])
    entering = np.concatenate([[base], value])[np.searchsorted(times, at[:-1], side="right")].astype(np.float64)
    span = np.searchsorted(at, times, side="right") - 1
    inside = (span >= 0) & (span < len(entering))
    np.maximum.at(entering, span[inside], value[inside])
    return np.where(np.diff(at) > 0, entering, 0.0)


def _slot_bytes(program: Program) -> tuple[dict[int, int], int]:
    """Bytes of a slot by the semaphore that counts the free ones, of the first core; and bytes held at the start."""
    known: dict[str, tuple[int, int]] = {}
    for number, semaphore in enumerate(program.semaphores):
        known.setdefault(semaphore.name, (number, semaphore.initial))
    suffix = program.engines[0].name.removeprefix(program.engines[0].kind)
    slots: dict[int, int] = {}
    base = 0
    for name, n_bytes in program.buffer_bytes.items():
        free, ready = known.get(f"{name} slot free{suffix}"), known.get(f"{name} ready{suffix}")
        n_slots = free[1] + ready[1] if free and ready else 0
        if free and ready and n_slots:
            slots[free[0]] = n_bytes // n_slots
            base += ready[1] * (n_bytes // n_slots)
        else:
            base += n_bytes
    return slots, base


def _sum(semaphores: Sequence[int], slots: Mapping[int, int]) -> int:
    return sum(slots.get(semaphore, 0) for semaphore in semaphores)
