"""What holds a fusion scheme: costs that add up, a search that finds the best, programs that compute the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.fusion.scheme import FusionScheme
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["check_fusion_programs", "check_fusion_scheme", "plans"]

_MOST_NODES = 7
_CAPACITIES = (1, 300, 1200, 2**30)


def check_fusion_scheme(make: Callable[[int], FusionScheme], *, n_examples: int = 40) -> None:
    """On random networks: single layers always run, results are written once, and ``fusable_mask`` hides no plan.

    ``make(capacity_bytes)`` gives the scheme. The exact search with it is compared with all plans there are.
    """
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    from tilewright.search.fusion.run import search_groups
    from tilewright.sim.fusion.graph.build import fusion_graph
    from tilewright.testing.networks import networks

    @settings(max_examples=n_examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(stream=networks(most=4), capacity_bytes=st.sampled_from(_CAPACITIES))
    def run(stream: Any, capacity_bytes: int) -> None:
        graph, scheme = fusion_graph(stream), make(capacity_bytes)
        assert scheme.capacity_bytes == capacity_bytes
        for node in graph.nodes:
            assert scheme.cost(graph, node.bit).reason is None, "a layer alone is always possible"
        if len(graph) > _MOST_NODES:
            return
        for mask in _groups(graph):
            _check_cost(graph, scheme, mask)
        found = search_groups(graph, scheme, capacity_bytes=capacity_bytes, method="dp")
        assert found.value == min(_values(graph, scheme))

    run()


def check_fusion_programs(make: Callable[[int], FusionScheme], *, n_examples: int = 40) -> None:
    """On random networks: the programs of any group compute what the unfused network does, in the room they declare.

    A group that the scheme says it can run may be refused only where tiles leave no room for second slots. Schemes
    without programs have nothing to check.
    """
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    from tilewright.hw_models.load import load_machine
    from tilewright.sim.fusion.graph.build import fusion_graph
    from tilewright.sim.fusion.reference import random_values
    from tilewright.testing.networks import networks, partitions

    small = {"matrix.rows": 4, "matrix.columns": 4, "dram.burst_bytes": 1}
    edge = load_machine("edge-16x16").with_(**small)

    @settings(max_examples=n_examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        stream = data.draw(networks(most=5))
        graph = fusion_graph(stream, absorb=data.draw(st.booleans()))
        mask = max((one for one in data.draw(partitions(graph)) if graph.needed_outside(one)), key=int.bit_count)
        scheme = make(data.draw(st.sampled_from([600, 2400, 2**20])))
        machine = edge.with_(**{"buffers.l1.capacity_kib": scheme.capacity_bytes / 1024})
        values = random_values(stream, seed=data.draw(st.integers(0, 9)))
        _check_programs(scheme, stream, graph, mask, machine, values)

    if make(1).has_programs:
        run()


def _check_programs(
    scheme: FusionScheme,
    stream: OperatorStream,
    graph: FusionGraph,
    mask: int,
    machine: MachineSpec,
    values: Mapping[str, Any],
) -> None:
    import numpy as np

    from tilewright.sim.fusion.graph.fusion_graph import members
    from tilewright.sim.fusion.reference import network_on_numbers

    wanted = network_on_numbers(stream, values)
    try:
        programs = list(islice(scheme.programs(stream, graph, mask, machine), 2))
    except (InputError, MappingError):
        is_single = mask & (mask - 1) == 0  # whose cost may be that of the layer alone
        valid = scheme.cost(graph, mask).valid(scheme.capacity_bytes // 3)
        assert is_single or not valid, "tiles have two slots for what moves"
        return
    made = {graph.nodes[i].output.name for i in members(mask)}
    known = {name: value for name, value in wanted.items() if name not in made}
    assert programs
    for one in programs:
        assert scheme.least_bytes(graph, mask) <= sum(one.program.buffer_bytes.values()) <= scheme.capacity_bytes
        for tensor, value in one.on_numbers(known).items():
            np.testing.assert_allclose(value, wanted[tensor], rtol=1e-9, atol=1e-9, err_msg=tensor)


def plans(items: list[int]) -> Iterator[list[int]]:
    """All ways to deal ``items`` out to sets, as masks."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for plan in plans(rest):
        yield [1 << first, *plan]
        for at, mask in enumerate(plan):
            yield [*plan[:at], mask | 1 << first, *plan[at + 1 :]]


def _groups(graph: FusionGraph) -> Iterator[int]:
    return (mask for mask in range(1, graph.all_mask + 1) if graph.is_group(mask))


def _check_cost(graph: FusionGraph, scheme: FusionScheme, mask: int) -> None:
    cost = scheme.cost(graph, mask)
    assert cost == scheme.cost(graph, mask)
    assert min(cost.buffer_bytes, cost.dram_read_bytes, cost.dram_write_bytes, cost.weight_bytes) >= 0
    if cost.valid(scheme.capacity_bytes):
        written = sum(graph.nodes[i].output.n_bytes for i in graph.needed_outside(mask))
        assert cost.dram_write_bytes >= written, "what is needed outside must be written"
        if mask & (mask - 1):
            assert not mask & ~scheme.fusable_mask(graph), "a group of nodes that are said never to be in one"


def _values(graph: FusionGraph, scheme: FusionScheme) -> Iterator[int]:
    """DRAM traffic of every plan whose groups can run; a layer alone always can."""
    for plan in plans(list(range(len(graph)))):
        if not all(map(graph.is_group, plan)) or not graph.is_acyclic(plan):
            continue
        costs = [scheme.cost(graph, mask) for mask in plan]
        if all(
            not mask & (mask - 1) or cost.valid(scheme.capacity_bytes) for mask, cost in zip(plan, costs, strict=True)
        ):
            yield sum(cost.dram_bytes for cost in costs)
