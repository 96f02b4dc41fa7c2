"""What stages hand to each other: the maps between them, how many of each there are at a time, and where they live.

A map is handed over whole, from the job that makes it to the jobs of a later stage that read it. With the stages apart
by n there are n + 1 of it: the one that is written, the one that is read, and those in between for the images that are
on their way through the stages between (two, then, for neighbours). The stage that makes it waits for a free one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tilewright.search.residency.tensors import JobOperands
from tilewright.sim.engine.joint import Token
from tilewright.sim.jobs import Job
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["Handover", "hand_overs", "on_chip", "tokens_of", "waits_and_signals"]

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


def tokens_of(handovers: Sequence[Handover]) -> dict[str, Token]:
    """The tokens of all maps: room for so many of each at the start."""
    found = {}
    for one in handovers:
        found[one.there] = Token(0)
        found[one.free] = Token(one.n_maps, is_slot=True)
    return found


def waits_and_signals(handovers: Sequence[Handover], job: int) -> tuple[list[str], list[str]]:
    """What job number ``job`` waits for, and what it gives when it has ended."""
    waits = [one.free for one in handovers if one.maker == job] + [one.there for one in handovers if one.first == job]
    signals = [one.there for one in handovers if one.maker == job] + [one.free for one in handovers if one.last == job]
    return waits, signals


def on_chip(
    handovers: Sequence[Handover], operands: Sequence[JobOperands], may_live: Mapping[str, object], room_bytes: int
) -> dict[str, int]:
    """Which maps live in a memory of ``room_bytes`` that all stages reach, with the bytes of all of each; the smallest
    first, since each saves as many bytes of the DRAM for one of its room.
    """
    of_each: dict[str, int] = {}
    for one in handovers:
        if one.name in may_live and one.maker != OUTSIDE and one.last < len(operands):
            of_each[one.name] = max(of_each.get(one.name, 0), one.n_bytes * one.n_maps)
    return dict(_within(sorted(of_each.items(), key=lambda item: item[1]), room_bytes))


def _within(items: Sequence[tuple[str, int]], room: int) -> Iterator[tuple[str, int]]:
    for name, n_bytes in items:
        if n_bytes <= room:
            room -= n_bytes
            yield name, n_bytes
