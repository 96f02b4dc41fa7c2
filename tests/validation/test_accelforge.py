"""Is our count of what a loop nest moves at every level of memory AccelForge's? Figures of ``record_accelforge.py``.

Every read and write of every operand at every memory is equal. Where the two count differently by convention, that is
named here, and the tool's figure is ours under its convention:

* **Holes.** Where a stride or a dilation leaves input columns or rows out, the tool moves all between the first and the
  last (a bounding box); ours moves what is touched, unless ``whole_runs`` is asked for.
* **Short last tiles.** In a tile that the extent cuts short, the tool lets the loops inside run as often as in a whole
  tile for the operands that they do not change; ours runs what is left.

Conventions that both share: a tile is filled anew at every step of the loops above its storage node, halos included; of
a sum's round trips the first return is left out; copies in space get what they share by one read.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tilewright.hw_models.hierarchy import Operand
from tilewright.sim.hierarchy.nest import RELEVANT, LoopNest
from tilewright.sim.hierarchy.traffic import Keep, Loop, Mapping, Moved, traffic
from tilewright.units import ceil_div

pytestmark = pytest.mark.validation

OPERANDS: dict[str, Operand] = {"I": "input", "W": "weight", "O": "output"}


class Case(NamedTuple):
    """A recorded mapping; ``counted``: by (memory, operand)."""

    hierarchy: str
    nest: LoopNest
    mapping: tuple[Loop | Keep, ...]
    counted: dict[tuple[str, Operand], Moved]


@cache
def cases() -> tuple[Case, ...]:
    with Path(__file__).with_name("accelforge_traffic.csv").open(newline="", encoding="utf-8") as lines:
        return tuple(
            Case(
                row["hierarchy"],
                nest_of({key: int(n) for key, n in (one.split("=") for one in row["layer"].split())}),
                tuple(node_of(text) for text in row["mapping"].split()),
                dict(moved_of(text) for text in row["traffic"].split()),
            )
            for row in csv.DictReader(lines)
        )


def nest_of(layer: dict[str, int]) -> LoopNest:
    extents: dict[str, Any] = {name: layer.get(name.upper(), 1) for name in ("k", "c", "ox", "oy", "fx", "fy", "g")}
    stride, dilation = ((layer.get(f"{way}X", 1), layer.get(f"{way}Y", 1)) for way in "SD")
    width, height = (
        (extents[f"o{axis}"] - 1) * stride[place] + (extents[f"f{axis}"] - 1) * dilation[place] + 1
        for place, axis in enumerate("xy")
    )
    return LoopNest(**extents, stride=stride, dilation=dilation, map_width=width, map_height=height)


def node_of(text: str) -> Loop | Keep:
    if "." in text:
        memory, operand = text.split(".")
        return Keep(memory, OPERANDS[operand])
    in_space = ":" in text
    name, tile = text.split("@")[0].split(":" if in_space else "=")
    return Loop(name, int(tile), in_space)


def moved_of(text: str) -> tuple[tuple[str, Operand], Moved]:
    node, moved = text.split("=")
    memory, operand = node.split(".")
    reads, writes = moved.split("/")
    return (memory, OPERANDS[operand]), Moved(int(reads), int(writes))


def with_whole_tiles(nest: LoopNest, mapping: Mapping, operand: Operand) -> LoopNest:
    """``nest`` with the loops that do not change ``operand`` as long as whole tiles of their outermost loop."""
    longer: dict[str, int] = {}
    for node in mapping:
        if isinstance(node, Loop) and node.name not in RELEVANT[operand] and node.name.lower() not in longer:
            longer[node.name.lower()] = ceil_div(nest.extents[node.name], node.tile) * node.tile
    return replace(nest, **longer)  # type: ignore[arg-type]


@cache
def counted(number: int, *, holes: bool, short: bool) -> dict[tuple[str, Operand], Moved]:
    """Traffic of a case; ``holes``, ``short``: by these conventions of the tool."""
    case = cases()[number]
    if not short:
        return traffic(case.nest, case.mapping, whole_runs=holes)
    found = {}
    for operand in OPERANDS.values():
        nest = with_whole_tiles(case.nest, case.mapping, operand)
        is_same = nest == case.nest
        moved = counted(number, holes=holes, short=False) if is_same else traffic(nest, case.mapping, whole_runs=holes)
        found.update({key: value for key, value in moved.items() if key[1] == operand})
    return found


def n_equal(*, holes: bool, short: bool) -> int:
    return sum(counted(i, holes=holes, short=short) == case.counted for i, case in enumerate(cases()))


def test_traffic_at_every_level_is_equal() -> None:
    found = {i: counted(i, holes=True, short=True) for i in range(len(cases()))}
    assert [(cases()[i], ours) for i, ours in found.items() if ours != cases()[i].counted] == []


def test_the_record_is_broad() -> None:
    found = cases()
    n_convolutions = sum(case.nest.oy > 1 for case in found)
    assert {case.hierarchy for case in found} == {"two", "three", "four"}
    assert min(n_convolutions, len(found) - n_convolutions) >= 100
    assert sum(len(case.counted) for case in found) >= 2000
    assert sum(node.in_space for case in found for node in case.mapping if isinstance(node, Loop)) >= 100


def test_the_conventions_are_the_only_deviations() -> None:
    """Without them at least 200 mappings are equal as they are; each of the two is needed, and only ever adds."""
    as_ours, holes, short = (n_equal(holes=h, short=s) for h, s in ((False, False), (True, False), (False, True)))
    print(f"\n{len(cases())} mappings: {as_ours} equal as they are, {holes} with holes moved, {short} with whole tiles")
    assert as_ours >= 200
    assert as_ours < min(holes, short) <= max(holes, short) < len(cases())
    for i, case in enumerate(cases()):
        ours = counted(i, holes=False, short=False)
        assert all(n <= theirs for key in ours for n, theirs in zip(ours[key], case.counted[key], strict=True))
