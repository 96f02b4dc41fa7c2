"""What moves between memories, counted in closed form, is what a walk through the loops counts step by step."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tilewright.hw_models.hierarchy import HierarchySpec, Operand, load_hierarchy
from tilewright.sim.hierarchy.loop_order import LoopStudy, best_order
from tilewright.sim.hierarchy.nest import LOOPS, RELEVANT, LoopNest
from tilewright.sim.hierarchy.ports import Activity, stall_cycles

META = load_hierarchy("meta-proto-like-df")
TOPS: dict[Operand, str] = {"weight": "dram", "input": "dram", "output": "dram"}


@st.composite
def nests(draw: st.DrawFn) -> LoopNest:
    extents = {name: draw(st.sampled_from((1, 2, 3, 4))) for name in ("ox", "oy", "fx", "fy")}
    k, c = draw(st.sampled_from((1, 8, 40, 96))), draw(st.sampled_from((1, 2, 6)))
    ox, oy = extents["ox"] * 4, extents["oy"] * 4
    return LoopNest(
        k=k, c=c, ox=ox, oy=oy, fx=extents["fx"], fy=extents["fy"],
        map_width=ox + extents["fx"] - 1, map_height=oy + extents["fy"] - 1,
    )  # fmt: skip


def tiny(hierarchy: HierarchySpec, kib: int) -> HierarchySpec:
    """The same machine with small memories, so that loops lie in all of them."""
    from dataclasses import replace

    sizes = {"weights_local": 256, "weights_global": 2048, "maps_local": 512 * kib, "maps_global": 4096 * kib}
    memories = tuple(replace(one, capacity_bytes=sizes.get(one.name, one.capacity_bytes)) for one in hierarchy.memories)
    return replace(hierarchy, memories=memories)


@settings(max_examples=40, deadline=None)
@given(nests(), st.sampled_from((1, 2, 8)), st.data())
def test_moves_are_those_of_a_walk(nest: LoopNest, kib: int, data: st.DataObject) -> None:
    study = LoopStudy(nest, tiny(META, kib), TOPS, 5)
    assume(study.fitting.size)
    row = int(study.fitting[data.draw(st.integers(0, study.fitting.size - 1))])
    loops = [LOOPS[place] for place in study.orders.loop[row]]
    sizes = [int(n) for n in study.orders.size[row]]
    steps = [tuple(reversed(index)) for index in product(*(range(n) for n in reversed(sizes)))]  # innermost first
    assert len(steps) == study.steps
    for operand, side in study.sides.items():
        for level, cuts in enumerate(side.cuts):
            cut = int(cuts[row])
            mine = [place for place in range(cut, len(loops)) if loops[place] in RELEVANT[operand]]
            held = [tuple(index[place] for place in mine) for index in steps]
            changes = 1 + sum(held[i] != held[i - 1] for i in range(1, len(held)))
            if level:  # the array takes its operands at every step, changed or not
                assert study.times(side, level)[row] == changes
                if operand == "output":
                    again = changes - len(set(held))
                    assert math.isclose(study.returning(side, level)[row], again, abs_tol=1e-6)


@settings(max_examples=40, deadline=None)
@given(nests(), st.sampled_from((1, 2, 8)))
def test_no_memory_holds_more_than_it_can(nest: LoopNest, kib: int) -> None:
    hierarchy = tiny(META, kib)
    study = LoopStudy(nest, hierarchy, TOPS, 5)
    for memory in hierarchy.memories[2:]:
        held = np.zeros(study.fitting.size)
        for side in study.sides.values():
            if memory in side.memories:
                level = side.memories.index(memory) + 1
                held += (study.elements(side, level, whole=False) * side.bits_at[level])[study.fitting]
        assert (held <= memory.capacity_bits).all()


@settings(max_examples=30, deadline=None)
@given(nests(), st.sampled_from((1, 2, 8)))
def test_more_room_never_costs_more(nest: LoopNest, kib: int) -> None:
    small, large = best_order(nest, tiny(META, kib), tuple(TOPS.items())), best_order(nest, META, tuple(TOPS.items()))
    assert large is not None
    if small is not None:
        assert large.total_pj <= small.total_pj * (1 + 1e-9)
        assert small.energy_pj["dram"] >= large.energy_pj["dram"] * (1 - 1e-9)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 6)), min_size=1, max_size=3))
def test_stalls_are_those_of_windows_marked_cycle_by_cycle(uses: list[tuple[int, int, int]]) -> None:
    """Periods that divide each other, windows at their start: the union is counted, not marked."""
    steps, period, found, marked = 1, 1, [], []
    for factor, part, busy in uses:
        period *= factor
        found.append((period, max(1, period // part), busy))
    steps = period * 2
    inside = np.zeros(steps, dtype=bool)
    for length, window, busy in found:
        if busy:
            inside |= np.arange(steps) % length < window
        marked.append((length, window, busy))
    late = sum(max(0, busy - window) * (steps // length - 1) for length, window, busy in marked)
    asked = sum(min(busy, window) * (steps // length - 1) for length, window, busy in marked)
    wanted = late + max(0, asked - int(inside.sum()))

    def one(value: float) -> np.ndarray:
        return np.array([float(value)])

    activities = [
        Activity(busy=one(busy), window=one(window), period=one(length), times=one(steps // length))
        for length, window, busy in marked
    ]
    assert stall_cycles(activities, float(steps))[0] == wanted
