"""What stages hand to each other: the maps between them, how many of each there are at a time, and where they live.

A map is handed over whole, from the job that makes it to the jobs of a later stage that read it. With the stages apart
by n there are n + 1 of it: the one that is written, the one that is read, and those in between for the images that are
on their way through the stages between (two, then, for neighbours). The stage that makes it waits for a free one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tilewright.search.residency.tensors import JobOperands
from tilewright.sim.engine.joint import Token
from tilewright.sim.engine.program import Program
from tilewright.sim.jobs import Job
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["Exchanged", "Handover", "WholeMaps", "hand_overs", "on_chip"]

OUTSIDE = -1  # the maker of the network's inputs, where a link brings them


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """A map made by job ``maker`` (-1: from outside) in stage ``made_in``, and read in stage ``read_in`` by jobs
    ``first`` to ``last``.
    """

    name: str
    n_bytes: int
    maker: int
    made_in: int
    read_in: int
    first: int
    last: int

    @property
    def n_maps(self) -> int:
        """How many of it there are at a time."""
        return self.read_in - self.made_in + 1

    @property
    def there(self) -> str:
        """The token of a map that is there."""
        return f"{self.name} for stage {self.read_in + 1}"

    @property
    def free(self) -> str:
        """The token of room for one."""
        return f"room for {self.there}"


def hand_overs(
    stream: OperatorStream, jobs: Sequence[Job], stage_of: Sequence[int], *, has_link: bool
) -> tuple[Handover, ...]:
    """What is made in one stage and read in a later one, by job; with a link to a host its inputs and results, too."""
    made: dict[str, int] = {}
    reads: dict[tuple[str, int], list[int]] = {}
    n_stages = stage_of[-1] + 1
    if has_link:
        made = {stream.base(name).name: OUTSIDE for name in stream.inputs if stream.base(name).role == "activation"}
    for at, job in enumerate(jobs):
        for member in job.operators:
            for name in member.inputs:
                base = stream.base(name).name
                if base in made and made[base] != at:
                    reads.setdefault((base, stage_of[at]), []).append(at)
            for name in member.outputs:
                made[stream.base(name).name] = at
    if has_link:
        for name in stream.outputs:
            if stream.base(name).name in made:
                reads.setdefault((stream.base(name).name, n_stages), []).append(len(jobs))
    found = []
    for (name, stage), users in reads.items():
        maker = made[name]
        made_in = stage_of[maker] if maker != OUTSIDE else OUTSIDE
        if made_in != stage:
            found.append(
                Handover(
                    name=name,
                    n_bytes=stream.base(name).n_bytes,
                    maker=maker,
                    made_in=made_in,
                    read_in=stage,
                    first=users[0],
                    last=users[-1],
                )
            )
    return tuple(found)


class Exchanged(Protocol):
    """How jobs of different stages wait for each other."""

    @property
    def tokens(self) -> Mapping[str, Token]:
        """What they wait for and give, and how many of each there are at the start."""
        ...

    def waits_and_signals(self, job: int) -> tuple[list[str], list[str]]:
        """What job number ``job`` waits for before it begins, and what it gives when it has ended."""
        ...

    def programs(self, job: int, programs: tuple[Program, ...]) -> tuple[Program, ...]:
        """The programs of a job with what they wait for and give on their way."""
        ...


@dataclass(frozen=True, slots=True)
class WholeMaps:
    """Maps are handed over whole; there is room for so many of each at the start."""

    handovers: Sequence[Handover]

    @property
    def tokens(self) -> dict[str, Token]:
        found = {}
        for one in self.handovers:
            found[one.there] = Token(0)
            found[one.free] = Token(one.n_maps, is_slot=True)
        return found

    def waits_and_signals(self, job: int) -> tuple[list[str], list[str]]:
        own = self.handovers
        waits = [one.free for one in own if one.maker == job] + [one.there for one in own if one.first == job]
        signals = [one.there for one in own if one.maker == job] + [one.free for one in own if one.last == job]
        return waits, signals

    def programs(self, job: int, programs: tuple[Program, ...]) -> tuple[Program, ...]:
        return programs


def on_chip(
    handovers: Sequence[Handover],
    operands: Sequence[JobOperands],
    may_live: Mapping[str, object],
    room_bytes: int,
    buffers: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Which maps live in a memory of ``room_bytes`` that all stages reach, with the bytes of all of each: of whole
    maps, or of ``buffers`` where these are given; those first that save most bytes of the DRAM for one of the room.
    """
    of_each: dict[str, int] = {}
    of_map: dict[str, int] = {}
    for one in handovers:
        if one.name in may_live and one.maker != OUTSIDE and one.last < len(operands):
            n_bytes = one.n_bytes * one.n_maps if buffers is None else buffers[one.name]
            of_each[one.name] = max(of_each.get(one.name, 0), n_bytes)
            of_map[one.name] = one.n_bytes
    worth = sorted(of_each.items(), key=lambda item: (item[1] / of_map[item[0]] if buffers else 0, item[1]))
    return dict(_within(worth, room_bytes))


def _within(items: Sequence[tuple[str, int]], room: int) -> Iterator[tuple[str, int]]:
    for name, n_bytes in items:
        if n_bytes <= room:
            room -= n_bytes
            yield name, n_bytes
