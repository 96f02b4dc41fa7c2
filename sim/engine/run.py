"""Run programs on the compiled engine: one, a batch on all cores, or with a trace.

The first call compiles the event loop (about ten seconds, once per installation: Numba keeps the result
beside the package, or in the user's cache folder where that is read-only). :func:`is_compiled` tells
whether that is still to come, so that a command line can say so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tilewright.errors import ProgramError
from tilewright.sim.engine.image import pack
from tilewright.sim.engine.program import Command, Program, too_long

if TYPE_CHECKING:
    from tilewright.sim.engine.trace import Recording

__all__ = [
    "DeadlockError",
    "Run",
    "can_be_kept",
    "is_compiled",
    "run_images",
    "run_program",
    "simulate",
    "warm_up",
]

Int64Array = npt.NDArray[np.int64]

SHORT_S = 0.005  # what programs take of the clock before threads for the others are worth their making
FEW = 8


class DeadlockError(ProgramError):
    """No engine can go on. The text names each stuck engine, its command and what it waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of a program gave.

    ``cycles`` is the cycle at which the last command ended; ``busy_cycles`` is per engine;
    ``channel_bytes`` is what went over each channel for all the cores that the engines stand for;
    ``n_commands`` counts the commands that ran, skipped repetitions included. ``stuck`` is empty unless
    the run ended in a deadlock: then it holds (engine, command it stands at).
    """

    cycles: int
    busy_cycles: tuple[int, ...]
    channel_bytes: tuple[int, ...]
    n_commands: int
    n_jumps: int
    stuck: tuple[tuple[int, Command], ...] = ()


def run_program(program: Program, *, skip: bool = True) -> Run:
    """Run ``program`` exactly; with ``skip`` repeating loop trips are jumped over (same result)."""
    run, _ = _run(program, skip=skip, recording=None)
    return run


def simulate(program: Program, *, skip: bool = True) -> Run:
    """As :func:`run_program`, but a deadlock raises :class:`DeadlockError` with the report."""
    run = run_program(program, skip=skip)
    if run.stuck:
        raise DeadlockError(deadlock_report(program, run))
    return run


def deadlock_report(program: Program, run: Run) -> str:
    """One sentence: which engines stand at which commands, waiting for which semaphores."""
    parts = []
    for engine, command in run.stuck:
        names = ", ".join(dict.fromkeys(program.semaphores[s].name for s in command.waits))
        parts.append(f"{program.engines[engine].name} stands at {command.label!r} waiting for {names}")
    return f"deadlock at cycle {run.cycles:,}: " + "; ".join(parts)


def _run(program: Program, *, skip: bool, recording: Recording | None) -> tuple[Run, list[Command]]:
    from tilewright.sim.engine import kernel

    image, commands = pack(program)
    n_engines = len(program.engines)
    out = np.zeros(kernel.OUT_FIXED_FIELDS + 2 * n_engines + len(program.channels), dtype=np.int64)
    if recording is None:
        events = np.empty((0, kernel.EVENT_FIELDS), dtype=np.int64)
        jumps = np.empty((0, 1), dtype=np.int64)
        kernel.run_one(image, skip, -1, -1, -1, events, jumps, kernel.NO_LIMIT, out)
    else:
        first, last = recording.window
        window = recording.loop, first, last
        kernel.run_one(image, skip, *window, recording.events, recording.jumps, kernel.NO_LIMIT, out)
        recording.close(out, commands)
    if out[kernel.OUT_DEADLOCK] == kernel.TOO_LONG:
        raise too_long("the sum of its commands")
    return _read(out, n_engines, commands), commands


def _read(out: Int64Array, n_engines: int, commands: list[Command]) -> Run:
    from tilewright.sim.engine import kernel

    per_engine = out[kernel.OUT_FIXED_FIELDS :][: 2 * n_engines].reshape(n_engines, 2)
    stuck = [(e, commands[row[1]]) for e, row in enumerate(per_engine) if row[1] >= 0]
    return Run(
        cycles=int(out[kernel.OUT_CYCLES]),
        busy_cycles=tuple(int(row[0]) for row in per_engine),
        channel_bytes=tuple(int(b) for b in out[kernel.OUT_FIXED_FIELDS + 2 * n_engines :]),
        n_commands=int(out[kernel.OUT_N_COMMANDS_RUN]),
        n_jumps=int(out[kernel.OUT_N_JUMPS]),
        stuck=tuple(stuck) if out[kernel.OUT_DEADLOCK] else (),
    )


def run_images(
    images: Sequence[Int64Array], *, skip: bool = True, n_threads: int | None = None, limit: int | None = None
) -> Int64Array:
    """End cycles of many packed programs (:func:`tilewright.sim.engine.image.pack`), on all cores.

    Python is not entered between the programs of one thread. A program that deadlocks gets -1, one that would last
    longer than MAX_CYCLES a figure beyond that. One that ends behind ``limit`` may be given up before its end: it
    gets a figure behind the limit, no more than its end.
    """
    from tilewright.sim.engine import kernel

    n, most = len(images), kernel.NO_LIMIT if limit is None else limit
    if n == 0:
        return np.empty(0, dtype=np.int64)
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum([len(image) for image in images], out=offsets[1:])
    flat = np.concatenate(images)
    per_program = max(2 * int(image[kernel.N_ENGINES]) + int(image[kernel.N_CHANNELS]) for image in images)
    outs = np.zeros((n, kernel.OUT_FIXED_FIELDS + per_program), dtype=np.int64)
    threads = n_threads or _n_cores()
    begun, done = time.perf_counter(), 0
    while done < n and (threads == 1 or n - done < 2 * threads or time.perf_counter() - begun < SHORT_S):
        some = n - done if threads == 1 or n - done < 2 * threads else min(FEW, n - done)
        kernel.run_batch(flat, offsets, done, done + some, skip, most, outs)
        done += some
    if done < n:
        # Several chunks a thread, so that one slow program does not hold up the rest.
        bounds = np.linspace(done, n, min(n - done, 4 * threads) + 1).astype(int)
        with ThreadPoolExecutor(threads) as pool:
            jobs = [
                pool.submit(kernel.run_batch, flat, offsets, int(a), int(b), skip, most, outs)
                for a, b in pairwise(bounds)
            ]
            for job in jobs:
                job.result()
    return np.where(outs[:, kernel.OUT_DEADLOCK] == 1, -1, outs[:, kernel.OUT_CYCLES])


@lru_cache(maxsize=1)
def _n_cores() -> int:
    return os.cpu_count() or 1


def channel_bytes(image: Int64Array) -> list[int]:
    """The bytes that pass each channel of a packed program in a run."""
    from tilewright.sim.engine import kernel

    n_engines, n_channels = int(image[kernel.N_ENGINES]), int(image[kernel.N_CHANNELS])
    left, due = np.zeros(n_engines, dtype=np.int64), np.zeros(n_channels, dtype=np.int64)
    if kernel.all_to_come(image, left, due, np.zeros(n_channels)) == kernel.EXACTLY:
        found: list[int] = due.tolist()
        return found
    outs = np.zeros((1, kernel.OUT_FIXED_FIELDS + 2 * n_engines + n_channels), dtype=np.int64)
    kernel.run_batch(image, np.array([0, len(image)], dtype=np.int64), 0, 1, True, kernel.NO_LIMIT, outs)
    return [int(n_bytes) for n_bytes in outs[0, kernel.OUT_FIXED_FIELDS + 2 * n_engines :]]


def is_compiled() -> bool:
    """Whether the event loop has been compiled for this installation (in memory or in the cache)."""
    from tilewright.sim.engine import kernel
    from tilewright.sim.engine.kept_code import is_kept

    dispatcher = kernel.run_batch
    if getattr(dispatcher, "signatures", None):
        return True
    return not hasattr(dispatcher, "_cache") or is_kept(dispatcher)  # Numba may be switched off: nothing to compile


def can_be_kept() -> bool:
    """Whether there is a folder in which the compiled event loop is kept."""
    from tilewright.sim.engine import kernel
    from tilewright.sim.engine.kept_code import can_be_kept as has_place

    return has_place(kernel.run_batch)


def warm_up() -> None:
    """Compile the event loop, or load it from the cache."""
    from tilewright.sim.engine.program import Engine, ProgramBuilder

    builder = ProgramBuilder([Engine("matrix", "matrix")])
    builder.compute(0, cycles=1)
    program = builder.build()
    run_program(program)
    run_images([pack(program)[0]])
