"""A working buffer split by operand: what fits, what its ports cost, and faulty descriptions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tilewright import simulate
from tilewright.cli import main
from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import BufferPartSpec, MachineSpec
from tilewright.search.api import simulate_network
from tilewright.search.fusion.run import search_fusion
from tilewright.search.tiling import best_tiling
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.workloads.gemm import GemmLayer

EDGE = load_machine("edge-16x16").with_(**{"dram.bandwidth_gb_per_s": 8})
LAYER = GemmLayer(
    name="product", groups=1, m=128, k=96, n=64, a_bits=8, b_bits=8, out_bits=8, accumulator_bits=32,
    compute_format="int8",
)  # fmt: skip
GEMM = get_dataflow("gemm", "gemm")
TILING = {"m": 32, "n": 16, "k": 48, "order": 2, "depth": 2, "outputs": 2, "prefetched": 0}
NEEDED = {"inputs": 2 * 32 * 48, "weights": 2 * 48 * 16, "sums": 2 * 32 * 16 * 4}  # bytes


def split(capacity_bytes: int, **parts: int) -> MachineSpec:
    """A part for each operand that is named, of so many bytes."""
    own = tuple(
        BufferPartSpec(name=f"{operand}_buffer", capacity_kib=n_bytes / 1024, holds=(operand,))  # type: ignore[arg-type]
        for operand, n_bytes in parts.items()
    )
    near = replace(EDGE.buffers[0], capacity_kib=capacity_bytes / 1024, parts=own)
    return replace(EDGE, buffers=(near, *EDGE.buffers[1:]))


@pytest.mark.parametrize("operand", NEEDED)
def test_every_operand_has_room_to_the_byte(operand: str) -> None:
    enough = split(sum(NEEDED.values()), **NEEDED)
    assert simulate(LAYER, enough, "gemm", TILING).cycles == simulate(LAYER, EDGE, "gemm", TILING).cycles
    less = NEEDED | {operand: NEEDED[operand] - 1}
    with pytest.raises(MappingError, match=rf"{NEEDED[operand]:,} bytes of buffer l1 \({operand}_buffer\)"):
        simulate(LAYER, split(sum(less.values()), **less), "gemm", TILING)


def test_operands_without_a_part_share_the_rest() -> None:
    rest = NEEDED["inputs"] + NEEDED["weights"]
    assert simulate(LAYER, split(rest + NEEDED["sums"], sums=NEEDED["sums"]), "gemm", TILING).cycles > 0
    with pytest.raises(MappingError, match=r"buffer l1 \(inputs, weights\)"):
        simulate(LAYER, split(rest - 1 + NEEDED["sums"], sums=NEEDED["sums"]), "gemm", TILING)


def test_a_split_buffer_is_never_better_than_one_for_all_and_more_of_a_part_never_worse() -> None:
    sizes = {"inputs": 2048, "weights": 1024, "sums": 2048}
    parts, whole = split(5120, **sizes), split(5120)
    for layer, flow in ((LAYER, GEMM), (None, get_dataflow("flash2"))):
        workload = layer or "attention:heads=2,seq=96,head_dim=16"
        own, one = (simulate(workload, machine, flow.name).cycles for machine in (parts, whole))
        assert one <= own
        for operand in sizes:
            more = sizes | {operand: 2 * sizes[operand]}
            assert simulate(workload, split(sum(more.values()), **more), flow.name).cycles <= own
    assert best_tiling(GEMM, LAYER, parts).tiling != best_tiling(GEMM, LAYER, whole).tiling


def test_ports_of_a_part_hold_products_up() -> None:
    machine = split(sum(NEEDED.values()), **NEEDED)
    near = machine.buffers[0]
    inputs, weights, sums = near.parts
    found = []
    for parts in (
        near.parts,
        (inputs, replace(weights, read_bytes_per_cycle=0.25), sums),
        (replace(inputs, read_bytes_per_cycle=0.25), weights, sums),
        (inputs, weights, replace(sums, write_bytes_per_cycle=1)),
    ):
        slow = replace(machine, buffers=(replace(near, parts=parts), *machine.buffers[1:]))
        found.append(simulate(LAYER, slow, "gemm", TILING).cycles)
    assert all(cycles > found[0] for cycles in found[1:])


def test_weights_come_ahead_where_their_part_has_room() -> None:
    """A network runs on a split buffer; the next operator's first weights need room among the weights."""
    sizes = {"inputs": 65536, "weights": 65536, "sums": 65536}
    result = simulate_network("ds-cnn", split(sum(sizes.values()), **sizes))
    tight = sizes | {"weights": 9000}
    assert simulate_network("ds-cnn", split(sum(tight.values()), **tight)).cycles >= result.cycles


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parts": [{"name": "w", "capacity_kib": 1, "holds": ["weights"]}], "capacity_kib": 1},
         "without a home for inputs, sums"),
        ({"parts": [{"name": "w", "capacity_kib": 2, "holds": ["weights"]}], "capacity_kib": 1},
         "1,024 bytes more than there are"),
        ({"parts": [{"name": "w", "capacity_kib": 1, "holds": ["weights"]}] * 2, "capacity_kib": 4},
         'name: "w" is there twice'),
        ({"parts": [{"name": name, "capacity_kib": 1, "holds": ["sums"]} for name in "ab"], "capacity_kib": 4},
         'holds: "sums" is there twice'),
        ({"parts": [{"name": "a", "capacity_kib": 1, "holds": ["inputs", "weights", "sums"]}], "capacity_kib": 4},
         "for no operand; allowed 1"),
        ({"parts": [{"name": "a", "capacity_kib": 1, "holds": []}], "capacity_kib": 4}, "holds"),
    ],
)  # fmt: skip
def test_what_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        EDGE.with_(buffers=[{"name": "l1", **changes}])


def test_where_parts_are_unknown() -> None:
    machine = split(sum(NEEDED.values()), **NEEDED)
    with pytest.raises(InputError, match=r"parts: fused groups take one buffer"):
        search_fusion("ds-cnn", machine)
    parts = [{"name": "w", "capacity_kib": 1, "holds": ["sums"]}]
    with pytest.raises(InputError, match=r"parts: a level holds any operand"):
        load_machine("tileflow-cloud").with_(**{"buffers.1.parts": parts})


def test_one_line_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    parts = "buffers.l1.parts=[{name: w, capacity_kib: 1000000, holds: [weights]}]"
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", "gemm:m=8,n=8,k=8", "-a", "edge-16x16", "--set", parts])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "more than there are" in said and "Traceback" not in said
