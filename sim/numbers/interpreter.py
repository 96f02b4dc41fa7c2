"""Programs executed on numbers, in the order in which their simulated commands finish.

An unrolled program is simulated exactly; then its commands work on NumPy arrays: at one cycle first everything that
finishes, in engine order, then everything that starts. What a command does is an :func:`operation`, registered by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError, ProgramError
from tilewright.sim.engine.program import Command, Program
from tilewright.sim.engine.run import simulate
from tilewright.sim.engine.trace import record_path
from tilewright.sim.numbers.hazards import Execution, FloatArray, Order

__all__ = ["after", "given", "interpret", "operation"]

Operation = Callable[..., None]


def given(name: str, array: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """``array`` in float64; raises InputError for another shape or values that are not finite."""
    values = np.asarray(array, dtype=np.float64)
    if values.shape != shape:
        raise InputError(f"{name}: wrong shape; given {values.shape}; allowed {shape}")
    if not np.isfinite(values).all():
        raise InputError(f"{name}: holds values that are not finite")
    return values


_OPERATIONS: dict[str, Operation] = {}


def operation(*names: str) -> Callable[[Operation], Operation]:
    """Register what a command with ``run=(name, …)`` does to numbers, called as f(chip, execution, …).

    The function runs when the command starts: it reads and writes through the execution, whose writes appear
    when the command finishes.
    """

    def register(function: Operation) -> Operation:
        for name in names:
            if name in _OPERATIONS:
                raise ProgramError(f"operation {name!r} is registered already")
            _OPERATIONS[name] = function
        return function

    return register


def interpret(program: Program, chip: Any) -> None:
    """Run the commands of an unrolled ``program`` on ``chip``, which their operations are called with."""
    order = Order(program)
    running: dict[int, Execution] = {}
    for cycle, starts, engine, command in _timeline(program):
        if not starts:
            running.pop(engine).finish()
            order.finish(engine, command)
            continue
        order.start(engine, command)
        running[engine] = Execution(
            label=command.label,
            engine=engine,
            engine_name=program.engines[engine].name,
            cycle=cycle,
            known=order.known[engine],
        )
        if command.run is not None:
            name, *arguments = command.run
            if name not in _OPERATIONS:
                raise ProgramError(f"command {command.label!r}: no operation is registered under {name!r}")
            _OPERATIONS[name](chip, running[engine], *arguments)


def _timeline(program: Program) -> list[tuple[int, bool, int, Command]]:
    """(cycle, is a start, engine, command): by cycle, finishes before starts, in engine order."""
    from tilewright.sim.engine import kernel

    n_commands = program.n_commands
    recording = record_path(program, max_events=n_commands + 1, skip=False)
    if len(recording.events) < n_commands:
        simulate(program, skip=False)  # raises DeadlockError with the report
    moments = []
    for row in recording.events:
        engine, command = int(row[kernel.EV_ENGINE]), recording.commands[row[kernel.EV_COMMAND]]
        moments.append((int(row[kernel.EV_START]), True, engine, command))
        moments.append((int(row[kernel.EV_END]), False, engine, command))
    return sorted(moments, key=lambda moment: moment[:3])


def after(what: str, n_tiles: int) -> str:
    """The state of a running value that has seen ``n_tiles`` tiles of its row block."""
    return f"{what} after {n_tiles} tiles"
