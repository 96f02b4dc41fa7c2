"""Which part of a trace to draw: the whole of it, and a closer look with labels that can be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tilewright.sim.engine.trace import TraceCommand, TraceWindow

__all__ = ["READABLE_COMMANDS", "Closeup", "closeup", "commands_between", "fitting_label", "recorded_span"]

READABLE_COMMANDS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Closeup:
    """Cycles ``start`` to ``end`` of a trace."""

    start: int
    end: int


def recorded_span(trace: TraceWindow) -> tuple[int, int]:
    """The first and the last cycle that the window knows about (at least one cycle apart)."""
    if trace.complete:
        return 0, max(trace.total_cycles, 1)
    start = min((c.start for c in trace.commands), default=0)
    return start, max(max((c.end for c in trace.commands), default=0), start + 1)


def closeup(trace: TraceWindow, *, n_commands: int = READABLE_COMMANDS) -> Closeup | None:
    """A stretch from the middle of the trace that holds about ``n_commands`` commands.

    It begins where a command of the matrix unit begins (any command if there is none), so that the
    steady state is seen and not the start-up. None when the whole trace is no longer than that.
    """
    anchored = any(c.kind == "matrix" for c in trace.commands)
    commands = sorted(trace.commands, key=lambda c: (c.start, c.end))
    if len(commands) <= n_commands * 3 // 2:
        return None
    first = (len(commands) - n_commands) // 2
    while anchored and first > 0 and commands[first].kind != "matrix":
        first -= 1
    last = min(first + n_commands, len(commands) - 1)
    start = commands[first].start
    return Closeup(start=start, end=max(commands[last].start, start + 1))


def commands_between(trace: TraceWindow, start: int, end: int) -> list[TraceCommand]:
    """The commands of which some part lies between two cycles, in order of their start."""
    inside = [c for c in trace.commands if c.end > start and c.start < end]
    return sorted(inside, key=lambda c: (c.start, c.end))


def fitting_label(label: str, n_letters: int) -> str:
    """``label``, or as many of the last parts of a dotted name as ``n_letters`` have room for; else nothing."""
    while len(label) > n_letters:
        _, dot, label = label.partition(".")
        if not dot:
            return ""
    return label
