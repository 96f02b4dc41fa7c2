"""The order in which a group makes, loads and stores its rows.

Every node of the group that computes is one *stream* of commands, in the order of its rows; so is every map that is
loaded and every one that is stored. All commands stand in one order in time (see
:mod:`tilewright.sim.fusion.schemes.lbdf`), in
which each comes behind what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import gcd, lcm
from typing import Literal, NamedTuple

from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.graph.geometry import AxisWindow
from tilewright.sim.fusion.places import Places
from tilewright.sim.fusion.rows import Number, RowPlan

__all__ = ["RowCommand", "Stream", "needed_rows", "row_commands"]

Action = Literal["load", "make", "store"]


class Stream(NamedTuple):
    """Loading or storing map ``on``, or what node ``on`` does."""

    action: Action
    on: int


class RowCommand(NamedTuple):
    """The ``number``-th command of its stream: rows [first, first + rows).

    They are rows of the map of the stream, but of the input of a node that ``sweeps`` over it (a global pooling).
    ``step`` numbers the repeating sections of the whole order.
    """

    stream: Stream
    number: int
    first: int
    rows: int
    step: tuple[int, int]


def needed_rows(window: AxisWindow, first: int, rows: int) -> range:
    """The input rows that output rows [first, first + rows) need; none where they see only padding."""
    if window.whole:
        return range(window.n_in)
    begin = (first * window.stride - window.pad) // window.up
    end = ((first + rows - 1) * window.stride - window.pad + window.reach - 1) // window.up
    return range(max(begin, 0), min(end, window.n_in - 1) + 1)


def row_commands(graph: FusionGraph, mask: int, plan: RowPlan, places: Places) -> tuple[RowCommand, ...]:
    """The commands of one image of a group whose maps keep the rows of ``plan``, in order.

    What ``plan`` keeps in a place of its own is neither loaded nor stored.
    """
    maps, clock = plan.maps, _Clock(plan)
    swept = {r.consumer: source for source, reading in plan.readers.items() for r in reading if r.sweeps}
    streams = [Stream("load", i) for i in plan.readers if not places.is_inside(i) and i not in plan.kept]
    streams += [Stream("make", i) for i in members(mask) if not places.is_silent(i)]
    streams += [Stream("store", i) for i in graph.needed_outside(mask) if i not in plan.kept]
    found: list[tuple[tuple[int, ...], RowCommand]] = []
    for stream in streams:
        i = stream.on
        rank = {"load": (0, i, 0), "make": (1, i, 0), "store": (1, i, 1)}[stream.action]
        timed = swept[i] if i in swept and stream.action == "make" else i
        blocks = list(clock.blocks(timed, maps.tensors[timed].height))
        if stream.action == "store" and i in swept:  # when the last row has been added
            *_, (_, _, time) = clock.blocks(swept[i], maps.tensors[swept[i]].height)
            blocks = [(0, 1, time)]
        for number, (first, rows, time) in enumerate(blocks):
            command = RowCommand(stream, number, first, rows, (plan.phases[i], clock.section(time)))
            found.append(((plan.phases[i], time, *rank), command))
    return tuple(command for _, command in sorted(found, key=lambda pair: pair[0]))


class _Clock:
    """Times as whole numbers: when each block of rows of a map is due."""

    def __init__(self, plan: RowPlan) -> None:
        self.plan = plan
        self.rates = {i: Fraction(plan.maps.rates[i]) for i in plan.readers}
        ahead = {i: Fraction(plan.offsets[i]) for i in plan.readers}
        self.ahead: dict[int, Number] = dict(ahead)
        self.scale = lcm(*(rate.numerator * ahead[i].denominator for i, rate in self.rates.items()))
        numerators = [rate.numerator for rate in self.rates.values()]
        unit = Fraction(lcm(*(rate.denominator for rate in self.rates.values())), gcd(*numerators))
        self.period = unit * self.scale

    def section(self, time: int) -> int:
        """The number of the repeating section in which a time lies."""
        if self.plan.steps:
            return time
        return int(-(-time // self.period))

    def blocks(self, i: int, height: int) -> Iterator[tuple[int, int, int]]:
        """(first row, rows, time) of the blocks of map i."""
        rate, ahead = self.rates[i], Fraction(self.ahead[i])
        if not self.plan.steps:
            for row in range(height):
                yield row, 1, int((row + 1 - ahead) * self.scale / rate)
            return
        step = self.plan.steps[i]
        done, time = 0, _floor_div(1 - ahead, step)
        while done < height:
            made = min(height, int((step * time + ahead) // 1))
            if made > done:
                yield done, made - done, time
                done = made
            time += 1


def _floor_div(value: Fraction, step: int) -> int:
    return int((value / step) // 1)
