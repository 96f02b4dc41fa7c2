"""Quantised engines as parts of machines: the figures of their steps, right numbers, what they change, refusals."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.cli import main
from tilewright.errors import InputError
from tilewright.formats import bits_per_element, element_format
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.quantised.attention import SAGE_ATTENTION, QuantisedAttention
from tilewright.hw_models.quantised.bit_level import BitFusion, BitSerial
from tilewright.hw_models.quantised.catalogue import ATTENTION_ENGINES, ENGINES
from tilewright.hw_models.quantised.demand import Engine
from tilewright.hw_models.quantised.dequantise import DequantiseFirst
from tilewright.hw_models.quantised.group_scaled import MixPE, OnlineScales
from tilewright.hw_models.quantised.low_rank import LowRankBranch
from tilewright.hw_models.quantised.machine_time import steps_cycles
from tilewright.hw_models.quantised.mixed import MixedBlocks, MixedChannels
from tilewright.hw_models.quantised.roofline import peaks_of, steps_seconds
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.api import compare, simulate, simulate_network
from tilewright.search.workload import layer_of
from tilewright.sim.dataflows.attention.engine import stored_narrow
from tilewright.sim.dataflows.gemm.engines import on_engine
from tilewright.sim.dataflows.gemm.numbers import run_product_on_numbers
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import get_dataflow
from tilewright.testing import check_bound, check_capacity, check_engine, check_forms, check_numbers, products
from tilewright.testing.attention import layers as attention_layers
from tilewright.testing.dataflows import machines, plain_dataflows
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.homes import ALL_IN_DRAM, Homes

RATES = {"fp16": 1, "bf16": 1, "int8": 1, "int4": 4, "int1": 64, "fp8_e4m3": 2}
NAMES = tuple(name for name in ENGINES.names() if name != "plain")
M, K, N = 256, 1024, 512
# `make fuzz N=10000` sets this; the quick suite runs some.
N_EXAMPLES = int(os.environ.get("TILEWRIGHT_FUZZ", "20"))


def machine_with(name: str, **changes: Any) -> MachineSpec:
    changes = {
        "matrix.multiplies_per_pe_per_cycle": RATES,
        "energy.multiply_accumulate_pj": dict.fromkeys(RATES, 1.0),
        "matrix.engine": name,
        **changes,
    }
    return load_machine("edge-16x16").with_(**changes)


def formats_of(engine: Engine) -> tuple[str, str]:
    """Of weights and activations: the pair; of engines that take all integers, 4 and 8 bits."""
    weights, activations = engine.pair.split(" x ")
    return "int4" if " to " in weights else weights, "int8" if " to " in activations else activations


def product_of(engine: Engine, m: int = M, k: int = K, n: int = N) -> GemmLayer:
    weights, activations = formats_of(engine)
    layer = layer_of(f"gemm:m={m},n={n},k={k},a_format={activations},b_format={weights},out_format=fp16")
    assert isinstance(layer, GemmLayer)
    return layer


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_product_takes_what_the_steps_take(name: str) -> None:
    """As one tile: busy cycles, multiply-adds, bytes and energy of the engine's steps; no less time than they take."""
    machine = machine_with(name, **{"vector.startup_cycles": 0, "vector.reduction_depth_cycles": 0})
    machine = machine.with_(**{"buffers.l1.capacity_kib": 2**20, "dram.burst_bytes": 1})
    layer = on_engine(product_of(ENGINES.get(name)), machine)
    steps = layer.engine.steps(M, K, N)
    tiling = {"m": M, "n": N, "k": K, "order": 0, "depth": 1, "outputs": 1, "prefetched": 0}
    result = evaluate(get_dataflow("gemm", "gemm"), layer, machine, tiling)
    alone = steps_cycles(machine, steps)
    matrix, vector = (round(result.cycles * u) for u in (result.matrix_utilization, result.vector_utilization))
    assert vector == sum(step.vector_cycles for step in alone)
    # A pass multiplies block by block of rows, which fills and drains the array again.
    products = sum(step.matrix_cycles for step in alone)
    assert matrix == products if len(steps) == 1 else products <= matrix < 1.4 * products
    moved = sum(step.read_bytes + step.write_bytes for step in steps)
    assert abs(result.dram_bytes - moved) <= 2
    multiplied = sum(product.macs for step in steps for product in step.products)
    pj_of_a_mac = 1 + machine.energy.register_pj_per_multiply_accumulate
    assert result.energy_by_component["matrix"] == pytest.approx(float(multiplied) * pj_of_a_mac)
    # At least the largest of what overlaps; at most everything one after the other with a first access for each block.
    assert max(step.cycles for step in alone) <= result.cycles
    assert result.cycles <= sum(s.matrix_cycles + s.vector_cycles + s.dram_cycles for s in alone) * 1.1 + 20_000
    seconds = steps_seconds(steps, peaks_of(machine))
    assert machine.seconds(result.lower_bound.cycles) <= seconds * (1 + 1e-6) + machine.seconds(1)
    assert result.lower_bound.cycles <= result.cycles


@pytest.mark.parametrize("name", ["w4a16", "mixpe", "comet", "svdquant"])
def test_the_best_tiling_comes_near_the_roof(name: str) -> None:
    """Products, element-wise work and bytes overlap as the roofline has them: within a sixth of it on this machine."""
    machine = machine_with(name)
    result = simulate(_text(ENGINES.get(name)), machine, tiling={"depth": 2, "outputs": 2, "order": 1})
    steps = on_engine(product_of(ENGINES.get(name)), machine).engine.steps(M, K, N)
    assert result.search is not None and result.search.proven
    assert result.seconds < 1.17 * steps_seconds(steps, peaks_of(machine))
    assert any(name in note and ENGINES.get(name).source in note for note in result.assumptions)


def _text(engine: Engine) -> str:
    weights, activations = formats_of(engine)
    return f"gemm:m={M},n={N},k={K},a_format={activations},b_format={weights},out_format=fp16"


# --- numbers, counts, room ------------------------------------------------------------------------------------------

SMALL: tuple[Engine, ...] = (  # with groups of a few
    BitSerial(),
    MixedBlocks(block=4),
    DequantiseFirst(weights="int4-g4-asym"),
    DequantiseFirst(weights="int4-g4-asym", where="array"),
    DequantiseFirst(weights="int4-channel", activations="int8-token"),
    MixPE(weights="int4-g4", slots=Fraction(1, 4)),
    MixPE(weights="int4-g4", where="array"),
    BitFusion(),
    MixedChannels(group=4, share_high=Fraction(1, 3), spread=True),
    LowRankBranch(rank=2, weights="int4-g4", activations="int4-g4", group=4, multiply_format="int8"),
    LowRankBranch(rank=2, weights="int4-g4", activations="int4-g4", group=4, multiply_format="int8", fused=False),
    OnlineScales(weights="fp4_e2m1-g4", multiply_format="int8"),
    OnlineScales(weights="fp4_e2m1-g4", multiply_format="int8", fused=True),
)


@pytest.mark.parametrize("engine", SMALL, ids=lambda engine: engine.name)
def test_any_product_on_any_engine(engine: Engine) -> None:
    check_engine(engine, n_examples=max(2, N_EXAMPLES // 5))


@pytest.mark.parametrize("engine", SMALL, ids=lambda engine: engine.name)
def test_operands_that_stay_in_the_working_buffer(engine: Engine) -> None:
    """Prepared without being loaded; what passes leave or take lies in the DRAM."""
    flow, machine = get_dataflow("gemm", "gemm"), machines()[0]
    homes = st.sampled_from(("", machine.working_buffer.name))

    @settings(max_examples=max(2, N_EXAMPLES // 5), deadline=None)
    @given(data=st.data(), seed=st.integers(0, 99))
    def holds(data: st.DataObject, seed: int) -> None:
        a, b, out = (data.draw(homes) for _ in range(3))
        layer = replace(data.draw(products.on_engine(engine)), homes=Homes(a=a, b=b, out=out))
        tiling = data.draw(products.tilings(flow, layer, machine))
        result = evaluate(flow, layer, machine, tiling)
        assert result.cycles >= result.lower_bound.cycles
        found, wanted = products.numbers(flow, layer, machine, tiling, np.random.default_rng(seed))
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)

    holds()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_it_computes_the_product(name: str, order: int) -> None:
    machine = machine_with(name)
    layer = on_engine(product_of(ENGINES.get(name), 10, 300, 7), machine)
    assert layer.engine is not None
    tiling = {"m": 4, "n": 5, "k": 128, "order": order, "depth": 2, "outputs": 2, "prefetched": 1}
    random = np.random.default_rng(order)
    a, b = random.normal(size=(1, 10, 300)), random.normal(size=(1, 300, 7))
    np.testing.assert_allclose(run_product_on_numbers(layer, machine, tiling, a, b), a @ b)


# --- which products, stored how -------------------------------------------------------------------------------------


def test_only_products_of_weights_in_its_formats() -> None:
    machine = machine_with("mixpe")
    mine = on_engine(product_of(MixPE()), machine)
    assert mine.engine == MixPE()
    assert mine.b_bits == bits_per_element("int4-g128") and mine.a_bits == 8 + Fraction(16, K)
    for text in (
        "gemm:m=64,n=64,k=256,a_format=int8,b_format=int8",
        "gemm:m=64,n=64,k=256,a_format=fp16,b_format=int4",
        "gemm:m=64,n=64,k=256,a_format=int8,b_format=int4,b=activation",
    ):
        layer = layer_of(text)
        assert isinstance(layer, GemmLayer)
        assert on_engine(layer, machine) is layer
    grouped = layer_of("gemm:m=64,n=64,k=256,a_format=int8,b_format=int4-g32")
    assert isinstance(grouped, GemmLayer)
    assert on_engine(grouped, machine).engine == MixPE(weights="int4-g32")
    assert on_engine(mine, machine) is mine


def test_engines_of_two_precisions_spread_them() -> None:
    comet, mixllm = MixedBlocks(share_high=Fraction(1, 3)), MixedChannels(share_high=Fraction(1, 3))
    for engine, own in ((comet, comet.for_product("int4", "int4", 64, 1000, 60)), (mixllm, None)):
        spread = own or engine.for_product("int4", "int8", 64, 1000, 60)
        assert spread is not None
        (whole,), (part,) = engine.steps(64, 1000, 60), spread.steps(64, 1000, 60)
        assert part.macs == whole.macs and part.n_elements == whole.n_elements
        assert abs(part.read_bytes - whole.read_bytes) <= 2
        halves = [spread.steps(64, 512, 60)[0], spread.steps(64, 488, 60)[0]]
        assert sum(step.macs for step in halves) == whole.macs


def test_convolutions_prepare_their_slab_and_passes_leave_them() -> None:
    text = "conv:in=64x14x14,out_channels=64,kernel=3,padding=1,a_format=fp16,b_format=int4"
    slow = simulate(text, machine_with("w4a16"))
    plain = simulate(text, machine_with("w4a16", **{"matrix.engine": None}))
    assert slow.dram_bytes > plain.dram_bytes  # scales and zero points
    # Once for each weight at least: two operations.
    assert slow.energy_by_component["vector"] >= plain.energy_by_component["vector"] + 1.5 * 64 * 576
    layer = layer_of(text)
    assert isinstance(layer, GemmLayer)
    assert on_engine(layer, machine_with("svdquant")) is layer


# --- networks, comparisons ------------------------------------------------------------------------------------------


def test_networks_and_comparisons_use_it() -> None:
    machine = machine_with("bitfusion", **{"matrix.engine_options": {"multiply_format": "int8"}})
    plain = machine.with_(**{"matrix.engine": None, "matrix.engine_options": {}}, name="plain")
    fast, slow = (simulate_network("resnet-8", one, weights="int4", activations="int8") for one in (machine, plain))
    products = {operator.name for operator in slow.operators if operator.kind in ("conv", "matmul")}
    matrix = [sum(one.matrix_utilization * one.cycles for one in r.operators) for r in (fast, slow)]
    assert matrix[0] < 0.7 * matrix[1]  # half of the bricks for 4 x 8 bits
    assert products and any("engine bitfusion does" in note for note in fast.assumptions)
    other = simulate_network("resnet-8", machine, weights="fp16", activations="fp16")
    assert any("engine bitfusion does none of" in note for note in other.assumptions)
    text = "gemm:m=64,n=64,k=256,a_format=int8,b_format=int4"
    both = compare(text, [machine, plain])
    cycles = {row.machine: row.cycles for row in both.runs}
    assert cycles[machine.name] < cycles["plain"]


# --- attention -------------------------------------------------------------------------------------------------------

INT8_ALONE = QuantisedAttention(
    name="int8", scores="int8-token", values="int8-channel", score_multiply="int8", value_multiply="int8"
)
FLOWS = plain_dataflows()


def attentions(engine: QuantisedAttention) -> st.SearchStrategy[AttentionLayer]:
    wide = {"qkv_format": "fp16", "key_format": "fp16", "value_format": "fp16", "homes": ALL_IN_DRAM}
    return attention_layers().map(lambda layer: stored_narrow(replace(layer, **wide), engine))


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("check", [check_numbers, check_bound])
def test_attention_on_an_engine(flow: str, check: Any) -> None:
    check(get_dataflow(flow), n_examples=max(4, N_EXAMPLES // 5), layers=attentions(INT8_ALONE))


@pytest.mark.parametrize("check", [check_forms, check_capacity])
def test_counts_and_room_of_attention_on_an_engine(check: Any) -> None:
    for flow in ("layerwise", "mas"):
        check(get_dataflow(flow), n_examples=N_EXAMPLES // 2, layers=attentions(SAGE_ATTENTION))


@pytest.mark.parametrize("name", ATTENTION_ENGINES.names())
def test_an_attention_takes_its_steps_besides_softmax(name: str) -> None:
    """Beside the same attention with narrow operands: the pass, its bytes, and the scales of scores."""
    rates = {**RATES, "fp4_e2m1": 4}
    machine = load_machine("edge-16x16").with_(
        **{
            "matrix.multiplies_per_pe_per_cycle": rates,
            "energy.multiply_accumulate_pj": dict.fromkeys(rates, 1.0),
            "matrix.attention_engine": name,
            "dram.burst_bytes": 1,
            "vector.startup_cycles": 0,
            "vector.reduction_depth_cycles": 0,
        }
    )
    engine, tiling = ATTENTION_ENGINES.get(name), {"query": 64, "key": 64}
    mine = simulate("attention:heads=2,seq=256,head_dim=64", machine, "flash2", tiling)
    formats = {"qkv": engine.scores, "key": engine.scores, "value": engine.values, "output": "fp16"}
    text = ",".join(f"{tensor}_format={one}" for tensor, one in formats.items())
    narrow = f"attention:heads=2,seq=256,head_dim=64,{text},probability_format={element_format(engine.values)}"
    without = simulate(narrow, machine, "flash2", tiling)
    quantise, attend = engine.steps(heads=2, query_len=256, key_len=256, head_dim=64)
    assert mine.layer is not None and mine.layer.engine == engine
    assert without.layer is not None and without.layer.engine is None
    passed = quantise.read_bytes + quantise.write_bytes + 1  # and the read behind it; scales of tensors by head
    assert abs(mine.dram_bytes - without.dram_bytes - passed) <= 16
    more = sum(work.n_elements for work in (*quantise.elements, *attend.elements)) // machine.vector.lanes
    busy = [round(one.vector_utilization * one.cycles) for one in (mine, without)]
    assert busy[0] - busy[1] == more
    assert mine.energy_by_component["matrix"] == without.energy_by_component["matrix"]
    assert any(engine.source in note for note in mine.assumptions)


def test_networks_use_both_engines() -> None:
    rates = {"matrix.attention_engine": "sageattention", "matrix.engine": "w4a16"}
    result = simulate_network("bert-base:seq=64", machine_with("w4a16", **rates), weights="int4", activations="fp16")
    assert any("engine w4a16 does 7" in note for note in result.assumptions)
    assert any("engine sageattention does 12 of 12 attentions" in note for note in result.assumptions)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"matrix.engine": "mixpee"}, 'unknown quantised engine; given "mixpee"'),
        ({"matrix.engine": "plain"}, 'changes nothing; given "plain"'),
        ({"matrix.engine": "abq-llm"}, 'multiplies in a format that has no rate; given "int1"'),
        ({"matrix.engine": "mixpe", "matrix.engine_options": {"slot": 1}}, 'unknown option; given "slot"'),
        ({"matrix.engine": "mixpe", "matrix.engine_options": {"results": "fp16"}}, 'unknown option; given "results"'),
        ({"matrix.engine": "mixpe", "matrix.engine_options": {"slots": "a"}}, 'slots: given "a"'),
        ({"matrix.engine": "mixpe", "matrix.engine_options": {"where": "here"}}, 'unknown value; given "here"'),
        ({"matrix.engine": "mixpe", "matrix.engine_options": {"weights": "int4"}}, "weights need groups"),
        ({"matrix.engine_options": {"slots": 1}}, "given without an engine"),
        ({"matrix.attention_engine": "sage"}, 'unknown quantised engine of attention; given "sage"'),
        ({"matrix.attention_engine": "sageattention2-4b"}, 'a format that has no rate; given "int4"'),
    ],
)
def test_what_an_engine_cannot_be_is_one_sentence(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as fault:
        load_machine("edge-16x16").with_(**changes)
    assert told in str(fault.value) and "\n" not in str(fault.value)


def test_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["list", "engines", "--json", "-"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["engines"]}
    assert set(rows) == {*NAMES, *ATTENTION_ENGINES.names()}
    assert rows["mixpe"]["formats"] == "int4 x int8" and "slots" in rows["mixpe"]["options"]


def test_a_row_stationary_array_has_none() -> None:
    with pytest.raises(InputError, match="beside scratchpads"):
        load_machine("eyeriss").with_(**{"matrix.engine": "bitfusion"})


def test_options_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "base: edge-16x16\nname: mine\nmatrix:\n  engine: mixpe\n"
        '  engine_options: {slots: "1/4", where: array, weights: int4-g64}\n'
    )
    machine = load_machine(path)
    engine = on_engine(product_of(MixPE()), machine).engine
    assert engine == MixPE(slots=Fraction(1, 4), where="array", weights="int4-g64")
