"""Traffic of loop nests, counted in closed form: what a walk through the loops moves, and what programs move."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tilewright.errors import InputError
from tilewright.hw_models.hierarchy import AxisSpec, HierarchySpec, MemorySpec, Operand
from tilewright.sim.hierarchy.loop_order import LoopStudy
from tilewright.sim.hierarchy.nest import LOOPS, LoopNest
from tilewright.sim.hierarchy.traffic import Keep, Loop, Mapping, Moved, settled, traffic

OPERANDS: tuple[Operand, ...] = ("weight", "input", "output")
MEMORIES = ("dram", "l2", "l1")
Bounds = dict[str, range]
# `make fuzz N=10000` sets this; the quick suite runs some.
N_ORDERS = int(os.environ.get("TILEWRIGHT_FUZZ", "30"))


@st.composite
def nests(draw: st.DrawFn) -> LoopNest:
    """Small convolutions, holes and dilations included; products where all but K, C and OX are 1."""
    k, c, ox, oy, fx, fy, g = (draw(st.integers(1, most)) for most in (4, 3, 5, 3, 3, 2, 2))
    if draw(st.booleans()):
        oy = fx = fy = 1
    stride, dilation = ((draw(st.integers(1, most)), draw(st.integers(1, 2))) for most in (3, 2))
    width, height = (
        (n - 1) * stride[place] + (taps - 1) * dilation[place] + 1
        for place, (n, taps) in enumerate(((ox, fx), (oy, fy)))
    )
    return LoopNest(
        k=k, c=c, ox=ox, oy=oy, fx=fx, fy=fy, g=g, stride=stride, dilation=dilation, map_width=width, map_height=height
    )  # fmt: skip


@st.composite
def mappings(draw: st.DrawFn) -> tuple[LoopNest, tuple[Loop | Keep, ...]]:
    """A nest, and loops with the places of up to three memories among them."""
    nest = draw(nests())
    left = nest.extents
    nodes: list[Loop | Keep] = [Keep("dram", operand) for operand in OPERANDS]
    for memory in MEMORIES[1:]:
        section: list[Loop | Keep] = []
        for name in draw(st.permutations(LOOPS)):
            sizes = range(1, left[name])
            if sizes and draw(st.booleans()):
                left[name] = draw(st.sampled_from(sizes))
                section.append(Loop(name, left[name]))
        for operand in OPERANDS:
            if draw(st.booleans()):
                section.insert(draw(st.integers(0, len(section))), Keep(memory, operand))
        nodes += section
    return nest, tuple(nodes)


def touched(nest: LoopNest, operand: Operand, bounds: Bounds) -> set[tuple[int, ...]]:
    """Indices of the values of an operand that the loops within ``bounds`` touch."""
    k, c, ox, oy, fx, fy, g = (bounds[name] for name in LOOPS)
    if operand == "weight":
        return set(product(g, k, c, fx, fy))
    if operand == "output":
        return set(product(g, k, ox, oy))
    columns = {x * nest.stride[0] + tap * nest.dilation[0] for x, tap in product(ox, fx)}
    rows = {y * nest.stride[1] + tap * nest.dilation[1] for y, tap in product(oy, fy)}
    return set(product(g, c, columns, rows))


def walk(nest: LoopNest, mapping: Mapping) -> Iterator[tuple[int, Bounds]]:
    """(place, what the loops there cover) of every storage node as it is reached, and of every multiply-add."""

    def at(place: int, bounds: Bounds) -> Iterator[tuple[int, Bounds]]:
        if place == len(mapping):
            for point in product(*bounds.values()):
                yield place, {name: range(i, i + 1) for name, i in zip(bounds, point, strict=True)}
            return
        node = mapping[place]
        if isinstance(node, Keep):
            yield place, bounds
            yield from at(place + 1, bounds)
            return
        whole = bounds[node.name]
        for start in range(whole.start, whole.stop, node.tile):
            yield from at(place + 1, bounds | {node.name: range(start, min(start + node.tile, whole.stop))})

    return at(0, {name: range(n) for name, n in nest.extents.items()})


def walked(nest: LoopNest, mapping: Mapping) -> dict[tuple[str, Operand], Moved]:
    """Traffic, value by value."""
    reads: Counter[tuple[str, Operand]] = Counter()
    writes: Counter[tuple[str, Operand]] = Counter()
    keeps = [(place, node) for place, node in enumerate(mapping) if isinstance(node, Keep)]
    above = {
        (place, operand): next(
            (node.memory for at, node in reversed(keeps) if at < place and node.operand == operand), None
        )
        for place in (*(place for place, _ in keeps), len(mapping))
        for operand in OPERANDS
    }
    seen: dict[tuple[int, Operand], set[tuple[int, ...]]] = {}
    for place, bounds in walk(nest, mapping):
        node = mapping[place] if place < len(mapping) else None
        for operand in (node.operand,) if isinstance(node, Keep) else OPERANDS:
            outer, inner = above[place, operand], node.memory if isinstance(node, Keep) else "array"
            if outer is None:
                continue
            values = touched(nest, operand, bounds)
            if operand != "output":
                reads[outer, operand] += len(values)
                writes[inner, operand] += len(values)
                continue
            known = seen.setdefault((place, operand), set())
            again = len(values & known)
            known |= values
            writes[outer, operand] += len(values)
            reads[inner, operand] += len(values)
            reads[outer, operand] += again
            writes[inner, operand] += again
    return {(node.memory, node.operand): Moved(reads[keep], writes[keep]) for _, node in keeps for keep in [node]}


@given(mappings())
def test_traffic_is_that_of_a_walk(case: tuple[LoopNest, Mapping]) -> None:
    nest, mapping = case
    assume(nest.macs <= 800)
    assert traffic(nest, mapping) == walked(nest, mapping)


@given(mappings())
def test_what_stays_is_not_moved_again(case: tuple[LoopNest, Mapping]) -> None:
    nest, mapping = case
    before, after = traffic(nest, mapping), traffic(nest, settled(mapping))
    assert settled(settled(mapping)) == settled(mapping)
    assert set(after) == set(before)
    for key, moved in before.items():
        assert after[key].reads + after[key].writes <= moved.reads + moved.writes


@given(mappings())
def test_copies_in_space_share_reads_and_do_not_change_work(case: tuple[LoopNest, Mapping]) -> None:
    """Loops in space instead of in time: no memory reads more, and the values that reach the array are as many."""
    nest, mapping = case
    at_once = tuple(node._replace(in_space=True) if isinstance(node, Loop) else node for node in mapping)
    in_time, in_space = traffic(nest, mapping), traffic(nest, at_once)
    for key, moved in in_time.items():
        assert in_space[key].reads <= moved.reads
    assert all(in_space["dram", operand] <= in_time["dram", operand] for operand in OPERANDS)


def one_lane() -> HierarchySpec:
    """Three levels without an array to spread loops over, small enough that loops lie in all of them."""
    memories = tuple(
        MemorySpec(name=name, holds=OPERANDS, capacity_bytes=n_bytes, width_bits=8, read_pj=1, write_pj=1)
        for name, n_bytes in (("l1", 24), ("l2", 96), ("dram", 2**20))
    )
    return HierarchySpec(
        name="one lane",
        axes={"lane": AxisSpec(size=1, loops=("K",))},
        multiply_accumulate_pj=0,
        partial_sum_bits=8,
        memories=memories,
    )


@settings(max_examples=N_ORDERS)
@given(nests(), st.data())
def test_the_study_of_loop_orders_moves_the_same(nest: LoopNest, data: st.DataObject) -> None:
    """Orders, as the study of a hierarchy gives their loops to its memories, written as mappings: equal traffic."""
    assume(nest.dilation == (1, 1))
    study = LoopStudy(nest, one_lane(), dict.fromkeys(OPERANDS, "dram"), 4)
    assume(study.fitting.size)
    row = int(study.fitting[data.draw(st.integers(0, study.fitting.size - 1))])
    moved = traffic(nest, written(study, row))
    for operand, side in study.sides.items():
        down, again = ([0.0], [0.0])
        for level in (1, 2):
            values = float(study.elements(side, level, whole=True)[row])
            down.append(float(study.times(side, level)[row]) * values)
            again.append(float(study.returning(side, level)[row]) * values)
        l2, dram = moved["l2", operand], moved["dram", operand]
        if operand == "output":
            assert dram == pytest.approx((again[2], down[2]))
            assert l2 == pytest.approx((again[1] + down[2], down[1] + again[2]))
        else:
            assert dram == pytest.approx((down[2], 0))
            assert l2 == pytest.approx((down[1], down[2]))


def written(study: LoopStudy, row: int) -> list[Loop | Keep]:
    """One order of a study as a mapping."""
    nodes: list[Loop | Keep] = []
    inside = dict.fromkeys(LOOPS, 1)
    for place in range(study.length + 1):  # innermost first
        for operand, side in study.sides.items():
            for memory, cut in zip(side.memories[:-1], side.cuts[1:-1], strict=True):
                if int(cut[row]) == place:
                    nodes.insert(0, Keep(memory.name, operand))
        if place < study.length:
            name = LOOPS[int(study.orders.loop[row, place])]
            nodes.insert(0, Loop(name, inside[name]))
            inside[name] *= int(study.orders.size[row, place])
    return [*(Keep("dram", operand) for operand in OPERANDS), *nodes]


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ((Keep("dram", "weight"), Keep("dram", "input"), Keep("dram", "output"), Loop("K", 0)), "tile: given 0"),
        ((*(Keep("dram", one) for one in OPERANDS), Loop("OZ", 1)), 'unknown loop; given "OZ".*did you mean "O'),
        ((Keep("dram", "weight"), Keep("dram", "input")), "no memory keeps output"),
        ((*(Keep("dram", one) for one in OPERANDS), Keep("dram", "input")), "dram keeps input in 2 places"),
    ],
)
def test_mappings_that_say_nothing_are_refused(mapping: Mapping, text: str) -> None:
    with pytest.raises(InputError, match=text):
        traffic(LoopNest(ox=2, oy=1, map_width=2, map_height=1), mapping)
