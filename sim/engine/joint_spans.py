"""When each task of a joint program ran."""

from __future__ import annotations

import numpy as np

from tilewright.errors import ProgramError
from tilewright.sim.engine.joint import Joint, Mark
from tilewright.sim.engine.run import _run, simulate
from tilewright.sim.engine.trace import Recording

__all__ = ["MOST_COMMANDS", "task_spans"]

MOST_COMMANDS = 20_000_000  # that are recorded
_SOME_COMMANDS = 1_000_000
_ENDLESS = 2**62


def task_spans(joint: Joint) -> dict[tuple[int, str], tuple[int, int]]:
    """Cycles [start, end) of each task by its group's number and its name; of a task that is repeated, the last time.

    A task starts when its tokens are there, before what it costs beforehand, and ends when all its engines have ended.
    Raises ProgramError where more commands would have to be recorded than :data:`MOST_COMMANDS`.
    """
    from tilewright.sim.engine import kernel

    recording = _recorded(joint)
    groups = {engine: number for number, engine in enumerate(joint.controls)}
    columns = [kernel.EV_ENGINE, kernel.EV_COMMAND, kernel.EV_START, kernel.EV_END]
    events = recording.events[np.isin(recording.events[:, kernel.EV_ENGINE], joint.controls)][:, columns]
    starts: dict[tuple[int, str], int] = {}
    found: dict[tuple[int, str], tuple[int, int]] = {}
    for engine, command, start, end in events.tolist():
        mark = recording.commands[command].cost
        if not isinstance(mark, Mark):
            continue
        key = groups[engine], mark.task
        if recording.commands[command].label.endswith("begins"):
            starts[key] = start
        if mark.ends:
            found[key] = starts.get(key, start), end
    return found


def _recorded(joint: Joint) -> Recording:
    """What ran of the program: with repeats jumped over where that is little enough, else every command."""
    n_engines = len(joint.program.engines)
    recording = Recording(n_engines, _SOME_COMMANDS, (-1, -1))
    recording.jumps = np.empty((0, 1), dtype=np.int64)
    _run(joint.program, skip=True, recording=recording)
    if not recording.overflow:
        return recording
    n_commands = simulate(joint.program).n_commands
    if n_commands > MOST_COMMANDS:
        raise ProgramError(f"{n_commands:,} commands in all; allowed {MOST_COMMANDS:,} to tell when each task ran")
    recording = Recording(n_engines, n_commands + 1, (0, _ENDLESS))
    _run(joint.program, skip=False, recording=recording)
    return recording
