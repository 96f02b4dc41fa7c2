"""The README's table of fused groups: what they move and take, beside their operators run one after the other.

Each operator apart runs with its best mapping (activations ride on products); each group runs exactly under the schemes
that have programs for it, on one core. ``python tests/benchmarks/compare_fused_groups.py [-a MACHINE]``: half a minute.
"""

from __future__ import annotations

import argparse

from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.fusion.group_runs import part_of
from tilewright.search.network import simulate_stream
from tilewright.sim.fusion.fused_run import simulate_scheme
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.graph.transformer import transformer_blocks
from tilewright.sim.fusion.scheme import get_scheme
from tilewright.units import KIB
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream


def up_to(graph: FusionGraph, prefix: str) -> int:
    """All nodes up to the last one whose name begins with ``prefix``."""
    last = max(node.index for node in graph.nodes if node.name.startswith(prefix))
    return (2 << last) - 1


def a_layer(graph: FusionGraph) -> int:
    """The second whole transformer layer."""
    return [block for block in transformer_blocks(graph) if block.kind == "layer"][1].mask


def compare(title: str, stream: OperatorStream, graph: FusionGraph, mask: int, machine: MachineSpec) -> None:
    """One row for the operators apart and one for each scheme."""
    names = tuple(name for i in members(mask) for name in graph.nodes[i].operators)
    apart = simulate_stream(part_of(stream, names), machine)
    rows = [("apart", 0, apart.dram_bytes, apart.cycles, apart.energy_pj)]
    capacity = machine.working_buffer.capacity_bytes
    for name in ("lbdf", "brr"):
        scheme = get_scheme(name, capacity)
        if scheme.cost(graph, mask).valid(capacity):
            run = simulate_scheme(scheme, stream, graph, mask, machine, fastest=True)
            moved = run.dram_read_bytes + run.dram_write_bytes
            rows.append((name, run.peak_buffer_bytes, moved, run.cycles, run.energy_pj))
    for name, room, moved, cycles, energy in rows:
        print(f"| {title} | {name} | {room / KIB:,.0f} | {moved / 1e6:.2f} | {cycles / 1e6:.2f} | {energy / 1e9:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-a", "--machine", default="edge-16x16")
    machine = load_machine(parser.parse_args().machine)
    print("| group | run | KiB on chip | DRAM MB | Mcycle | mJ |\n| --- | --- | ---: | ---: | ---: | ---: |")
    for title, network, choose in (
        ("ResNet-18, stem and first stage", "resnet-18", lambda g: up_to(g, "stages.0.")),
        ("MobileNetV2, stem and blocks 0 to 5", "mobilenet-v2", lambda g: up_to(g, "blocks.5.")),
        ("FSRCNN, all of it", "fsrcnn", lambda g: g.all_mask),
        ("BERT-Base, one layer", "bert-base", a_layer),
        ("ViT-B/16, one layer", "vit-b-16", a_layer),
    ):
        stream = load_network(network)
        graph = fusion_graph(stream)
        compare(title, stream, graph, choose(graph), machine)


if __name__ == "__main__":
    main()
