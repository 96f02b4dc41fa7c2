"""Units that do convolutions in their own way: against figures that documents and tools of their makers state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.hw_models.block_steps import ConvShape
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.matrix_unit import product
from tilewright.hw_models.spec import BlockSpec, MatrixUnitSpec, StripeSpec, VectorUnitSpec
from tilewright.hw_models.vector_unit import Passing, vector_cycles
from tilewright.search.api import simulate_network
from tilewright.sim.dataflows.gemm.lower import GEMM
from tilewright.sim.dataflows.gemm.numbers import run_product_on_numbers
from tilewright.sim.jobs import jobs_of
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.vector_work import UnitValues


def engine(rows: int, columns: int, stationarity: str = "output", **block: object) -> MatrixUnitSpec:
    spec = BlockSpec(style="cube", step_cycles=1, pipeline_cycles=0, sums="by_tap", **block)  # type: ignore[arg-type]
    return MatrixUnitSpec(
        rows=rows,
        columns=columns,
        stationarity=stationarity,  # type: ignore[arg-type]
        fill_drain="hidden",
        multiplies_per_pe_per_cycle={"int8": 1},
        block=spec,
    )


#: PG338: 8 pixels x 16 input x 16 output channels; a kernel's row of up to twice the channels is augmented.
B4096 = engine(8, 16, depth=16, pixels="of_a_row", joined_values=32)
#: NVDLA hardware manual: 64 channels of one pixel into 32 kernels, stripes of 16 to 32, pictures with post-extension.
NVDLA = engine(
    1, 32, "weight", depth=64, joined_values=128, joined_rows=4, stripe=StripeSpec(least_steps=16, most_steps=32)
)
#: 1,024 multiply-adds as 32 x 32, stripes of 16.
RKNPU = engine(1, 32, "weight", depth=32, stripe=StripeSpec(least_steps=16, most_steps=16))


def cycles(unit: MatrixUnitSpec, pixels: int, kernel: int, ins: int, outs: int, width: int | None = None) -> int:
    conv = ConvShape(kernel, kernel, width or round(pixels**0.5))
    return product(unit, pixels, kernel * kernel * ins, outs, "int8", conv).cycles


@pytest.mark.parametrize(
    ("pixels", "kernel", "ins", "outs", "stated"),
    [
        (960 * 960, 3, 3, 16, 8_294_400),  # a first layer: as long as 32 channels would take
        (480 * 480, 3, 16, 32, 2_073_600),
        (480 * 480, 3, 16, 16, 2_073_600),
        (240 * 240, 3, 32, 64, 1_036_800),
        (120 * 120, 3, 64, 64, 518_400),
        (120 * 120, 1, 128, 128, 230_400),
        (120 * 120, 1, 384, 128, 691_200),
        (60 * 60, 3, 128, 128, 518_400),
        (112 * 112, 3, 3, 32, 112_896),
        (14 * 14, 1, 64, 384, 4_992),  # 196 pixels as 13 stripes of 16
        (14 * 14, 1, 384, 96, 7_488),
    ],
)
def test_rockchips_runtime_states_the_same_cycles(pixels: int, kernel: int, ins: int, outs: int, stated: int) -> None:
    """NPU cycles that RKNN's per-layer report (toolkit 2) prints for YOLOv8n and MobileNetV2 on RK3588."""
    assert cycles(RKNPU, pixels, kernel, ins, outs) == stated


def test_channels_are_rounded_for_each_tap() -> None:
    assert cycles(B4096, 8, 3, 17, 16, width=8) == 9 * 2
    assert cycles(B4096, 8, 3, 32, 17, width=8) == 9 * 2 * 2
    joined = replace(B4096, block=replace(B4096.block, sums="joined", joined_values=0))
    assert cycles(joined, 8, 3, 17, 16, width=8) == -(-9 * 17 // 16)


def test_a_kernels_row_is_one_run_in_a_first_layer() -> None:
    assert cycles(B4096, 8, 7, 3, 16, width=8) == 7 * 2  # 21 values of a row in blocks of 16, not 49 blocks
    assert cycles(B4096, 8, 7, 5, 16, width=8) == 49  # 35 values are too many
    assert cycles(NVDLA, 32, 4, 4, 32) == 32  # the manual's example: 4 x 4 x 4 with 4 lines: every multiplier busy
    assert cycles(NVDLA, 32, 7, 3, 32) == 32 * 4  # 21 values: two lines together


def test_pixels_of_a_block_lie_in_one_row() -> None:
    assert cycles(B4096, 14 * 14, 1, 16, 16) == 14 * 2
    assert cycles(B4096, 7 * 7, 1, 16, 16) == 7
    assert cycles(B4096, 4, 1, 16, 16, width=14) == 1
    anywhere = replace(B4096, block=replace(B4096.block, pixels="any"))
    assert cycles(anywhere, 14 * 14, 1, 16, 16) == 25


def test_weights_stay_for_a_stripe() -> None:
    """The manual: a fully connected layer waits 16 cycles for every block of weights, and so uses 6.25 % of them."""
    one = product(NVDLA, 1, 640, 320, "int8")
    assert one.cycles == 16 * 10 * 10 and one.macs / (one.cycles * 2048) == 0.0625
    long = product(NVDLA, 100, 64, 32, "int8")
    assert long.cycles == 100 and long.read_elements_b == 4 * 64 * 32 and long.read_partial_elements == 0
    assert product(NVDLA, 33, 64, 32, "int8").cycles == 33  # two stripes of 17 and 16
    assert product(NVDLA, 3, 128, 32, "int8").write_elements == 3 * 32  # sums wait in the accumulators


def test_a_block_may_stay_as_any_operand() -> None:
    of: dict[str, tuple[int, int, int, int]] = {}
    for stays in ("output", "weight", "input", "flexible"):
        cost = product(engine(8, 16, stays, depth=16), 24, 64, 48, "int8")
        assert cost.cycles == 3 * 4 * 3
        of[stays] = (cost.read_elements_a, cost.read_elements_b, cost.write_elements, cost.read_partial_elements)
    a, b, c = 24 * 64, 64 * 48, 24 * 48
    assert of["output"] == (3 * a, 3 * b, c, 0)
    assert of["weight"] == (3 * a, b, 4 * c, 3 * c)
    assert of["input"] == (a, 3 * b, 4 * c, 3 * c)
    assert sum(of["flexible"]) == min(sum(of[stays]) for stays in ("output", "weight", "input"))


def lanes(**changes: object) -> VectorUnitSpec:
    cycles = {"add": 1, "sub": 1, "mul": 1, "max": 1, "exp": 4, "div": 4}
    spec = VectorUnitSpec(lanes=8, cycles=cycles, startup_cycles=3, reduction_depth_cycles=0)
    return replace(spec, **changes)  # type: ignore[arg-type]


def test_a_pipeline_is_as_slow_as_its_slowest_stage() -> None:
    silu = (("add", 100), ("div", 100), ("exp", 100), ("mul", 100))
    assert vector_cycles(lanes(), silu, reduces=False, values=Passing("elementwise", 100)) == 3 + 13 * (1 + 4 + 4 + 1)
    pipeline, passing = lanes(arrangement="pipeline"), Passing("elementwise", 100)
    assert vector_cycles(pipeline, silu, reduces=False, values=Passing("elementwise", 100)) == 3 + 13 * 4
    assert vector_cycles(pipeline, (("max", 200),), reduces=False, values=passing) == 3 + 13  # a clip: two stages
    free = replace(pipeline, cycles={**pipeline.cycles, "max": 0})
    assert vector_cycles(free, (("max", 100),), reduces=False, values=passing) == 3 + 13  # they pass all the same


def test_an_operator_takes_the_faster_way() -> None:
    unit = lanes(rates={"depthwise": 2.5, "pool": 64})
    work = (("add", 160), ("mul", 160))
    assert vector_cycles(unit, work, reduces=False, values=Passing("depthwise", 160)) == 3 + 2 * 20
    assert vector_cycles(unit, work, reduces=False, values=Passing("pool", 160)) == 3 + 3
    assert vector_cycles(unit, work, reduces=False, values=Passing("elementwise", 160)) == 3 + 2 * 20
    lines = lanes(rates={"pool_inputs": 8})  # every input once, however many windows have it
    assert vector_cycles(lines, work, reduces=False, values=Passing("pool", 160, 72)) == 3 + 9
    faster = lanes(rates={"depthwise": 4.5})
    assert vector_cycles(faster, work, reduces=False, values=Passing("depthwise", 160)) == 3 + 36


EDGE = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4, "vector.lanes": 2})


def test_rates_are_those_of_the_operators_kinds() -> None:
    def of(text: str, **rates: float) -> int:
        machine = EDGE.with_(**{"dram.bandwidth_gb_per_s": 1000, "dram.first_access_latency_ns": 0})
        machine = replace(machine, vector=replace(machine.vector, rates=rates))
        return simulate_network(text, machine, keep_mappings=False).cycles

    depthwise = "conv:in=16x8x8,out_channels=16,groups=16,kernel=3,padding=1"
    pool = "pool:in=16x8x8,kernel=2"
    slow = of(depthwise)
    assert of(depthwise, pool=64) == slow
    assert 16 * 64 * 9 / 64 <= of(depthwise, depthwise=64) < slow / 4
    assert of(depthwise, depthwise=1) == slow
    assert of(pool, depthwise=64) == of(pool) > of(pool, pool=64)
    assert of(pool, pool=64) == of(pool, pool_inputs=64)  # windows that do not overlap


@pytest.mark.parametrize("columns", [4, 3, 5])
def test_results_pass_the_vector_unit_in_whole_groups(columns: int) -> None:
    layer = GemmLayer(
        name="product", groups=1, m=6, k=4, n=columns, a_bits=8, b_bits=8, out_bits=8, accumulator_bits=32,
        compute_format="int8",
    )  # fmt: skip
    machine = replace(EDGE, vector=replace(EDGE.vector, passes_results=True))
    tiling = {"m": 6, "n": columns, "k": 4, "order": 0, "depth": 2, "outputs": 2, "prefetched": 0}
    plain, passing = (evaluate(GEMM, layer, one, tiling) for one in (EDGE, machine))
    startup = EDGE.vector.startup_cycles
    assert passing.cycles - plain.cycles == startup + 6 * (4 if columns <= 4 else 8) // 2
    assert passing.lower_bound.vector_cycles == 6 * columns // 2
    assert plain.lower_bound.vector_cycles == 0
    a, b = np.arange(24.0).reshape(1, 6, 4), np.arange(4.0 * columns).reshape(1, 4, columns)
    assert np.array_equal(run_product_on_numbers(layer, machine, tiling, a, b, []), a @ b)


def test_a_global_pooling_is_dealt_out_by_channel() -> None:
    built = StreamBuilder("pool", activations="int8")
    x = built.input("x", (1, 2048, 7, 7), number_format="int8")
    attributes = {"function": "mean", "rows": 2048, "columns": 49}
    stream = built.finish([built.add("reduction", "mean", [x], (1, 2048), attributes)])
    layer = jobs_of(stream)[0].layer
    assert isinstance(layer, VectorLayer) and (layer.rows, layer.results) == (1, 2048)
    parts = layer.for_cores(16)
    assert (parts.rows, parts.groups, parts.results) == (1, 16, 1)
    assert (parts.read_bytes, parts.write_bytes) == (layer.read_bytes // 16, layer.write_bytes // 16)
    assert parts.cut is not None and parts.cut.kept_bytes == 4 * 2048 // 16
    assert parts.values == UnitValues("reduction", 2048 * 49 // 16)
    assert layer.for_cores(1) == layer
    assert layer.for_cores(4096).groups == 2048
    fast = load_machine("edge-16x16").with_(**{"dram.bandwidth_gb_per_s": 3000, "vector.lanes": 1})
    cycles = [simulate_network(stream, fast.with_(n_cores=n), keep_mappings=False).cycles for n in (1, 16)]
    assert cycles[1] < cycles[0] / 12


KERNELS = st.integers(1, 5)
SIZES = st.integers(1, 70)


@given(
    unit=st.sampled_from([B4096, NVDLA, RKNPU]), height=KERNELS, width=KERNELS, ins=SIZES, outs=SIZES, side=SIZES,
    split=st.integers(1, 70),
)  # fmt: skip
def test_no_way_to_cut_a_convolution_is_faster_than_its_multipliers(
    unit: MatrixUnitSpec, height: int, width: int, ins: int, outs: int, side: int, split: int
) -> None:
    conv, taps = ConvShape(height, width, side), height * width
    whole = product(unit, side * side, taps * ins, outs, "int8", conv)
    assert whole.cycles * unit.n_multipliers >= whole.macs
    if split < ins:  # channels in two parts
        parts = [product(unit, side * side, taps * n, outs, "int8", conv).cycles for n in (split, ins - split)]
        assert sum(parts) * unit.n_multipliers >= whole.macs


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(["dpu-b4096-zcu104", "rk3588-npu-core", "nvdla-small"]),
    ins=st.integers(1, 40), outs=st.integers(1, 40), side=st.integers(3, 20), kernel=st.integers(1, 3),
    stride=st.integers(1, 2), what=st.sampled_from(["plain", "grouped", "depthwise", "pool"]),
)  # fmt: skip
def test_no_result_is_below_its_bound_and_twice_the_bandwidth_never_slower(
    name: str, ins: int, outs: int, side: int, kernel: int, stride: int, what: str
) -> None:
    groups = {"grouped": 2, "depthwise": ins}.get(what, 1)
    if what == "grouped":
        ins, outs = 2 * ins, 2 * outs
    size = f"in={ins}x{side}x{side},kernel={kernel},stride={stride}"
    text = f"conv:{size},out_channels={ins if what == 'depthwise' else outs},groups={groups},padding={kernel // 2}"
    text = f"pool:{size},format=int8" if what == "pool" else f"{text},a_format=int8,b_format=int8"
    machine = load_machine(name)
    found = simulate_network(text, machine, keep_mappings=False)
    assert found.cycles >= found.lower_bound_cycles
    twice = machine.with_(**{"dram.bandwidth_gb_per_s": 2 * machine.dram.bandwidth_gb_per_s})
    assert simulate_network(text, twice, keep_mappings=False).cycles <= found.cycles
