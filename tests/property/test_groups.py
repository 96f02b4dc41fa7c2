"""Laws of unlike groups of cores: the exact run is the reference's, no result is worse than the main group alone, and
no placement is below the proven bound."""

from __future__ import annotations

import dataclasses
from itertools import pairwise, permutations, product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.groups.exact import made_ready, spans_of
from tilewright.search.groups.handed import with_hand_over
from tilewright.search.groups.place import Placed, Placement, shortest
from tilewright.search.groups.prepare import Prepared, prepared
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, simulate_stream
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import simulate
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers


@st.composite
def machines(draw: st.DrawFn) -> MachineSpec:
    """A small array with a group of another array, clock and buffer beside it, and sometimes a processor."""
    groups: dict[str, Any] = {
        "other": {
            "n_cores": draw(st.integers(1, 2)),
            "clock_ghz": draw(st.sampled_from([None, 0.7, 1.5])),
            "buffers": [{"name": "own", "capacity_kib": draw(st.sampled_from([2, 8]))}],
            "energy": {"buffer_read_pj_per_byte": {"own": 1}, "buffer_write_pj_per_byte": {"own": 1}},
            "reaches": draw(st.sampled_from([[], ["l2"]])),
            "lacks": draw(st.sampled_from([[], ["pool"]])),
            "per_layer_us": draw(st.sampled_from([None, 0.05])),
        }
    }
    if draw(st.booleans()):
        groups["cpu"] = {"processor": {"name": "cpu", "giga_operations_per_s": 1, "bandwidth_gb_per_s": 1}}
    small = {"matrix.rows": 4, "matrix.columns": 4, "vector.lanes": draw(st.sampled_from([1, 8]))}
    ports = {"read_bytes_per_cycle": 8, "write_bytes_per_cycle": 4}
    l2 = {"name": "l2", "capacity_kib": 2, "shared_by_cores": True, **ports}
    shared: dict[str, Any] = {"dram.bandwidth_gb_per_s": draw(st.sampled_from([1, 5])), "overheads.per_layer_us": 0.1}
    edge = load_machine("edge-16x16")
    shared["buffers"] = [dataclasses.asdict(edge.buffers[0]), l2]
    shared |= {f"energy.buffer_{way}_pj_per_byte.l2": 2 for way in ("read", "write")}
    return edge.with_(**small, **shared, groups=groups)


@st.composite
def networks(draw: st.DrawFn) -> OperatorStream:
    """Two to four convolutions, each behind one of those before it, and their results as outputs."""
    b = Layers("random", activations="int8", weights="int8")
    made = [b.input("image", (1, 4, 6, 6))]
    for number in range(draw(st.integers(2, 4))):
        source = made[draw(st.integers(0, len(made) - 1))]
        groups = draw(st.sampled_from([1, 4]))
        made.append(b.conv(source, 4, draw(st.sampled_from([1, 3])), f"conv{number}", padding="same", groups=groups))
    return b.finish(made[1:])


def ready(stream: OperatorStream, machine: MachineSpec) -> Prepared:
    return prepared(
        stream, machine, objective="latency", fuse=True, widen=False, attention_dataflows=ATTENTION_DATAFLOWS,
        cache=MappingCache(), n_processes=1, progress=None,
    )  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(networks(), machines(), st.data())
def test_any_placement_runs_as_the_reference_runs_it(
    stream: OperatorStream, machine: MachineSpec, data: st.DataObject
) -> None:
    own = ready(stream, machine)
    units = [data.draw(st.sampled_from(sorted(options))) for options in own.options]
    placement = Placement(jobs=tuple(Placed(unit, at, at) for at, unit in enumerate(units)))
    own = with_hand_over(
        own, placement, objective="latency", attention_dataflows=ATTENTION_DATAFLOWS, cache=MappingCache()
    )
    made = made_ready(own, placement, prefetch=data.draw(st.booleans()))
    fast, slow = simulate(made.joint.program), run_reference(made.joint.program)
    assert (fast.cycles, fast.busy_cycles, fast.channel_bytes) == (slow.cycles, slow.busy_cycles, slow.channel_bytes)
    spans = spans_of(made)
    assert max(end for _, end in spans) == fast.cycles
    assert all(spans[edge.source][1] <= spans[edge.target][0] for edge in own.edges)
    for unit in range(len(own.units)):
        order = placement.order(unit)
        assert all(spans[a][1] <= spans[b][0] for a, b in pairwise(order))


@settings(max_examples=8, deadline=None)
@given(networks(), machines())
def test_the_bound_holds_and_nothing_is_lost(stream: OperatorStream, machine: MachineSpec) -> None:
    own = ready(stream, machine)
    best = shortest(own)
    result = simulate_stream(stream, machine, cache=MappingCache())
    alone = simulate_stream(stream, machine.group(machine.main), cache=MappingCache())
    assert result.cycles <= alone.cycles
    assert best.bound == best.cycles == min(_length(own, units) for units in product(*map(sorted, own.options)))


def _length(own: Prepared, units: tuple[int, ...]) -> int:
    """The shortest schedule with these units: the best of all orders in which each job begins as soon as it can."""
    lengths = []
    for order in permutations(range(len(units))):
        place = {number: at for at, number in enumerate(order)}
        if any(place[edge.source] > place[edge.target] for edge in own.edges):
            continue
        free: dict[int, int] = {}
        ends: dict[int, int] = {}
        for number in order:
            start = max([free.get(units[number], 0), *(ends[source] for source in own.before[number])])
            ends[number] = free[units[number]] = start + own.ticks(number, units[number])
        lengths.append(max(ends.values()))
    return min(lengths)
