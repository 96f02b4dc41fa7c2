"""Binds a list of tasks that use cells of the buffer into a program: who waits for whom follows from the cells.

Tasks stand in an order in which they could run one after the other. Each runs on one engine and says which cells (any
hashable names) it reads and writes. It must come behind whoever wrote what it reads, and behind everybody who used what
it writes over. Engines run their tasks in order, so between two engines one semaphore for data and one for room are
enough: a task takes a token only where it needs a later task of the other engine than any task before it did.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from tilewright.sim.lowering.core import ENGINE_KINDS, LOAD, MATRIX, STORE, TileCore
from tilewright.sim.lowering.costs import Work

__all__ = ["Task", "write_tasks"]


class Task(NamedTuple):
    """One command. ``run``: for a run on numbers.

    ``section``: the parts of the order in which it stands, the widest first; neighbours that are the same become a
    loop, and their own parts loops in it. ``times``: how many such parts in a row each stands for (once where it says
    nothing); those that are left out must be bound as this one is, and leave the cells as they would be with them.
    """

    engine: int
    work: Work
    reads: tuple[Hashable, ...]
    writes: tuple[Hashable, ...]
    label: str
    section: tuple[Hashable, ...] = ()
    run: Any = None
    times: tuple[int, ...] = ()


class _Text(NamedTuple):
    """What makes two commands the same."""

    engine: int
    work: Work
    waits: tuple[int, ...]
    signals: tuple[int, ...]
    label: str


_Link = tuple[int, int, bool]


def write_tasks(core: TileCore[Any], tasks: Sequence[Task]) -> None:
    """Write all tasks as commands of ``core``, with loops where sections repeat (none when it is unrolled)."""
    _write_part(core, tasks, _texts(core, tasks), range(len(tasks)), 0)


def _write_part(
    core: TileCore[Any], tasks: Sequence[Task], texts: Sequence[_Text], part: Sequence[int], depth: int
) -> None:
    """The tasks at the places ``part``, which share the sections above ``depth``."""
    sections = [list(some) for _, some in groupby(part, key=lambda i: tasks[i].section[: depth + 1])]
    keys = [[(texts[i], tasks[i].times[depth + 1 :]) for i in section] for section in sections]
    at = 0
    while at < len(sections):
        section, same = sections[at], 1
        while not core.unroll and at + same < len(sections) and keys[at + same] == keys[at]:
            same += 1
        n_trips = sum((*tasks[one[0]].times, *(1,) * (depth + 1))[depth] for one in sections[at : at + same])
        for _ in core.loop(n_trips, name="steps") if n_trips > 1 else (0,):
            if len(tasks[section[0]].section) > depth + 1:
                _write_part(core, tasks, texts, section, depth + 1)
            else:
                for i in section:
                    _write(core, texts[i], tasks[i].run if core.unroll else None)
        at += same


def _write(core: TileCore[Any], text: _Text, run: Any) -> None:
    write = {LOAD: core.load, STORE: core.store, MATRIX: core.matrix}.get(text.engine, core.vector)
    write(text.work, waits=text.waits, signals=text.signals, label=text.label, run=run)


def _texts(core: TileCore[Any], tasks: Sequence[Task]) -> list[_Text]:
    numbers = _numbers(tasks)
    waits: list[list[_Link]] = [[] for _ in tasks]
    signals: list[list[_Link]] = [[] for _ in tasks]
    place: dict[tuple[int, int], int] = {(task.engine, numbers[i]): i for i, task in enumerate(tasks)}
    waited: dict[_Link, int] = {}
    for i, needs in enumerate(_needs(tasks, numbers)):
        for (engine, data), number in needs.items():
            link = (engine, tasks[i].engine, data)
            if number > waited.get(link, -1):
                waited[link] = number
                waits[i].append(link)
                signals[place[engine, number]].append(link)
    known: dict[_Link, int] = {}

    def semaphores(links: list[_Link]) -> tuple[int, ...]:
        if not links:
            return ()
        for link in links:
            if link not in known:
                source, target, data = link
                name = f"{ENGINE_KINDS[source]} to {ENGINE_KINDS[target]} {'data' if data else 'room'}"
                known[link] = core.semaphore(name, 0, is_slot=not data)
        return tuple(known[link] for link in links)

    return [
        _Text(task.engine, task.work, semaphores(waits[i]), semaphores(signals[i]), task.label)
        for i, task in enumerate(tasks)
    ]


def _numbers(tasks: Sequence[Task]) -> list[int]:
    """The place of each task in the queue of its engine."""
    counts = [0] * len(ENGINE_KINDS)
    found = []
    for task in tasks:
        found.append(counts[task.engine])
        counts[task.engine] += 1
    return found


def _needs(tasks: Sequence[Task], numbers: list[int]) -> Iterator[dict[tuple[int, bool], int]]:
    """For each task, by other engine and whether it is for data: the last task there that it must come behind."""
    writer: dict[Hashable, tuple[int, int]] = {}
    users: dict[Hashable, dict[int, int]] = {}
    for task, number in zip(tasks, numbers, strict=True):
        needs: dict[tuple[int, bool], int] = {}
        for cell in task.reads:
            if cell in writer:
                engine, last = writer[cell]
                _need(needs, task, engine, last, data=True)
        for cell in task.writes:
            for engine, last in users.get(cell, {}).items():
                _need(needs, task, engine, last, data=False)
        yield needs
        for cell in task.reads:
            users.setdefault(cell, {})[task.engine] = number
        for cell in task.writes:
            writer[cell] = (task.engine, number)
            users[cell] = {task.engine: number}


def _need(needs: dict[tuple[int, bool], int], task: Task, engine: int, last: int, *, data: bool) -> None:
    if engine != task.engine:
        key = (engine, data)
        needs[key] = max(last, needs.get(key, -1))
