"""Recording what ran when: windows for timelines, and the whole path for attribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilewright.presented import Shown
from tilewright.sim.engine.program import Command, Program
from tilewright.sim.engine.run import _run

__all__ = ["Recording", "TraceCommand", "TraceWindow", "record_path", "trace_program", "trace_trips"]

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceCommand:
    """One command as it ran: cycles [start, end) on engine number ``engine``."""

    start: int
    end: int
    engine: int
    label: str
    kind: str
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TraceWindow(Shown):
    """The commands that started in a window of cycles, in order of their start.

    ``complete`` is false when the window held more commands than were asked for.
    """

    commands: tuple[TraceCommand, ...]
    engines: tuple[str, ...]
    clock_ghz: float
    total_cycles: int
    complete: bool


class Recording:
    """Arrays that the compiled engine fills; ``window`` (-1, -1) records all that is not skipped.

    The window is in cycles or, with ``loop`` 0 or more, in trips of that loop.

    After the run: ``overflow`` when the arrays were too small, ``finished`` unless it ended in a deadlock.
    """

    def __init__(self, n_engines: int, max_events: int, window: tuple[int, int], loop: int = -1) -> None:
        from tilewright.sim.engine import kernel

        self.events: Int64Array = np.empty((max_events, kernel.EVENT_FIELDS), dtype=np.int64)
        n_jumps = max_events // 4 if window[0] < 0 else 0
        self.jumps: Int64Array = np.empty((n_jumps, kernel.JUMP_FIXED_FIELDS + 3 * n_engines), dtype=np.int64)
        self.window = window
        self.loop = loop
        self.overflow = False
        self.finished = False
        self.cycles = 0
        self.commands: list[Command] = []

    def close(self, out: Int64Array, commands: list[Command]) -> None:
        from tilewright.sim.engine import kernel

        self.events = self.events[: out[kernel.OUT_N_EVENTS]]
        self.jumps = self.jumps[: out[kernel.OUT_N_JUMPS]]
        self.overflow = bool(out[kernel.OUT_OVERFLOW])
        self.finished = not out[kernel.OUT_DEADLOCK]
        self.cycles = int(out[kernel.OUT_CYCLES])
        self.commands = commands


def trace_program(
    program: Program,
    *,
    clock_ghz: float = 1.0,
    first_cycle: int = 0,
    last_cycle: int | None = None,
    max_commands: int = 4000,
    skip: bool = True,
) -> TraceWindow:
    """Every command that starts in cycles [first_cycle, last_cycle), at most ``max_commands`` of them.

    Repetitions before and after the window are skipped, so a window deep inside a long run costs little.
    """
    to = 2**62 if last_cycle is None else last_cycle
    recording = Recording(len(program.engines), max_commands, (max(0, first_cycle), to))
    # Without an upper end the run would never skip again: find it first.
    if last_cycle is None:
        recording.window = (recording.window[0], _end_of_window(program, max(0, first_cycle), max_commands, skip))
    _run(program, skip=skip, recording=recording)
    return _window(program, recording, clock_ghz, complete=recording.window[1] >= recording.cycles)


def trace_trips(
    program: Program,
    loop: int,
    *,
    first_trip: int = 0,
    n_trips: int = 1,
    clock_ghz: float = 1.0,
    max_commands: int = 100_000,
    skip: bool = True,
) -> TraceWindow:
    """Every command of trips [first_trip, first_trip + n_trips) of ``loop``, the first time that it is run.

    ``loop`` is the loop's number (its name is ``program.loop_names[loop]``). Trips before the window are
    skipped, so trip one million costs no more than trip one.
    """
    recording = Recording(len(program.engines), max_commands, (first_trip, first_trip + n_trips), loop)
    _run(program, skip=skip, recording=recording)
    return _window(program, recording, clock_ghz, complete=True)


def _window(program: Program, recording: Recording, clock_ghz: float, *, complete: bool) -> TraceWindow:
    from tilewright.sim.engine import kernel

    commands = []
    for row in recording.events:
        if row[kernel.EV_END] < 0:
            continue
        command = recording.commands[row[kernel.EV_COMMAND]]
        engine = int(row[kernel.EV_ENGINE])
        commands.append(
            TraceCommand(
                start=int(row[kernel.EV_START]),
                end=int(row[kernel.EV_END]),
                engine=engine,
                label=command.label,
                kind=program.engines[engine].kind,
                n_bytes=command.n_bytes,
            )
        )
    return TraceWindow(
        commands=tuple(commands),
        engines=tuple(engine.name for engine in program.engines),
        clock_ghz=clock_ghz,
        total_cycles=recording.cycles,
        complete=complete and not recording.overflow,
    )


def _end_of_window(program: Program, first_cycle: int, max_commands: int, skip: bool) -> int:
    """The cycle by which about ``max_commands`` commands have started after ``first_cycle``.

    Doubles the window until it overflows or holds the run; each try is exact and skips outside.
    """
    width = 1024
    while True:
        recording = Recording(len(program.engines), max_commands, (first_cycle, first_cycle + width))
        _run(program, skip=skip, recording=recording)
        if recording.overflow:
            return int(recording.events[-1, 0])
        if first_cycle + width >= recording.cycles:
            return first_cycle + width
        width *= 4


def record_path(program: Program, *, max_events: int = 200_000, skip: bool = True) -> Recording:
    """Record all that really ran, with predecessors and jumps: the input of the critical path."""
    recording = Recording(len(program.engines), max_events, (-1, -1))
    _run(program, skip=skip, recording=recording)
    return recording
