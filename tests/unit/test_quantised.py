"""Quantised engines: what they ask for, worked out by hand, and how a machine times it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.matrix_unit import product
from tilewright.hw_models.quantised.attention import SAGE_ATTENTION, SAGE_ATTENTION_2_INT4
from tilewright.hw_models.quantised.bit_level import BitFusion, BitSerial, bricks
from tilewright.hw_models.quantised.catalogue import ENGINES as BY_NAME
from tilewright.hw_models.quantised.catalogue import engine_named
from tilewright.hw_models.quantised.demand import Engine, Step, moved_bytes, total
from tilewright.hw_models.quantised.dequantise import DequantiseFirst, Plain
from tilewright.hw_models.quantised.group_scaled import MixPE, OnlineScales
from tilewright.hw_models.quantised.low_rank import LowRankBranch
from tilewright.hw_models.quantised.machine_time import step_cycles, steps_cycles
from tilewright.hw_models.quantised.mixed import MixedBlocks, MixedChannels
from tilewright.hw_models.quantised.roofline import Peaks, peaks_of, step_seconds, steps_seconds

ENGINES: tuple[Engine, ...] = (
    Plain(),
    DequantiseFirst(),
    DequantiseFirst(where="array"),
    MixPE(),
    MixPE(where="array"),
    BitSerial(),
    BitFusion(),
    MixedBlocks(),
    MixedChannels(),
    LowRankBranch(),
    LowRankBranch(fused=False),
    LowRankBranch(rank=0),
    OnlineScales(),
    OnlineScales(fused=True),
)


def works(step: Step) -> dict[str, int]:
    found: dict[str, int] = {}
    for work in step.elements:
        found[work.why] = found.get(work.why, 0) + work.n_elements
    return found


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: f"{engine.name}-{type(engine).__name__}")
def test_every_engine_says_where_it_comes_from(engine: Engine) -> None:
    assert engine.name and engine.source and engine.assumptions
    with pytest.raises(InputError, match="extents must be positive; given 1 x 0 x 1"):
        engine.steps(1, 0, 1)


@given(engine=st.sampled_from(ENGINES), m=st.integers(1, 300), k=st.integers(1, 300), n=st.integers(1, 300))
def test_every_engine_multiplies_all_and_moves_its_operands(engine: Engine, m: int, k: int, n: int) -> None:
    everything = total(engine.steps(m, k, n))
    assert sum(p.m * p.k * p.n for p in everything.products) >= m * k * n
    assert everything.write_bytes >= 2 * m * n
    assert everything.read_bytes >= (k * n + m * k) // 2
    twice = total(engine.steps(2 * m, 2 * k, 2 * n))
    assert twice.macs >= everything.macs and twice.read_bytes > everything.read_bytes
    assert twice.n_elements >= everything.n_elements


def test_w4a16_by_hand() -> None:
    (step,) = DequantiseFirst().steps(16, 256, 64)
    assert works(step) == {"conversion and zero point": 256 * 64, "scale of each element": 256 * 64}
    assert step.read_bytes == 256 * 64 // 2 + 64 * 2 * 20 // 8 + 16 * 256 * 2
    assert step.macs == 16 * 256 * 64
    (array,) = DequantiseFirst(where="array", weight_passes=3).steps(16, 256, 64)
    assert array.elements == () and array.macs == (16 + 3) * 256 * 64
    (both,) = DequantiseFirst(activations="int8-token").steps(16, 256, 64)
    assert works(both)["scale of each element"] == 256 * 64 + 16 * 256


def test_mixpe_by_hand() -> None:
    (step,) = MixPE(slots=Fraction(1, 4)).steps(8, 300, 10)
    assert step.macs == Fraction(8 * 300 * 10, 4)
    assert works(step) == {"scale of a group": 8 * 10 * 3, "sum over groups": 8 * 10 * 3}
    (asymmetric,) = MixPE(weights="int4-g128-asym").steps(8, 300, 10)
    assert works(asymmetric)["zero point of a group"] == 8 * 10 * 3
    with pytest.raises(InputError, match='mixpe: weights need groups; given "int4-channel"'):
        MixPE(weights="int4-channel").steps(1, 1, 1)


def test_bit_serial_takes_p_times_q_planes() -> None:
    (step,) = BitSerial(weights="int3-channel", activations="int5-token").steps(3, 64, 32)
    assert step.macs == 15 * 8 * 64 * 32  # three rows fill an instruction of eight
    assert works(step)["shift and add planes"] == 15 * 3 * 32
    with pytest.raises(InputError, match='abq-llm: needs integers; given "fp8_e4m3-token"'):
        BitSerial(activations="fp8_e4m3-token").steps(1, 1, 1)


def test_bit_fusions_rates_are_the_published_ones() -> None:
    """Products of a fused PE in one cycle: figure 4 of the publication for 2 to 8 bits; 16 bits take four cycles."""
    rates = {}
    for weights in (2, 4, 8, 16):
        for activations in (2, 4, 8, 16):
            (step,) = BitFusion(weights=f"int{weights}-channel", activations=f"int{activations}-token").steps(1, 1, 1)
            rates[weights, activations] = 1 / step.macs
    assert [rates[2, 2], rates[2, 4], rates[4, 4], rates[2, 8], rates[4, 8], rates[8, 8]] == [16, 8, 4, 4, 2, 1]
    assert (rates[16, 16], rates[8, 16]) == (Fraction(1, 4), Fraction(1, 2))
    assert [bricks(bits) for bits in (1, 2, 3, 5, 9, 16)] == [1, 1, 2, 4, 8, 8]
    with pytest.raises(InputError, match="operands too wide; given 17 bits"):
        bricks(17)


def test_comets_blocks_are_whole() -> None:
    (step,) = MixedBlocks(share_high=Fraction(1, 5)).steps(16, 1024, 32)
    assert [(part.k, part.number_format) for part in step.products] == [(768, "int4"), (256, "int8")]
    assert works(step)["4-bit weights widened"] == 2 * 256 * 32
    for share, formats in ((Fraction(0), ["int4"]), (Fraction(1), ["int8"])):
        (step,) = MixedBlocks(share_high=share).steps(16, 1024, 32)
        assert [part.number_format for part in step.products] == formats
    with pytest.raises(InputError, match="comet: share_high out of range; given 2; allowed 0 to 1"):
        MixedBlocks(share_high=Fraction(2)).steps(1, 1, 1)


def test_mixllms_channels() -> None:
    (step,) = MixedChannels().steps(16, 256, 100)
    assert [part.n for part in step.products] == [90, 10]
    assert works(step) == {
        "4-bit weights unpacked, zero point": 256 * 90,
        "scales of a group": 2 * 16 * 100 * 2,
        "sum over groups": 16 * 100 * 2,
    }


def test_fusing_svdquants_branch_spares_the_inputs_and_the_results_once() -> None:
    m, k, n, rank = 64, 128, 256, 32
    apart, fused = total(LowRankBranch(fused=False).steps(m, k, n)), total(LowRankBranch().steps(m, k, n))
    assert apart.macs == fused.macs == m * k * n + m * rank * (k + n)
    spared = apart.read_bytes + apart.write_bytes - fused.read_bytes - fused.write_bytes
    assert spared == 2 * (m * k + 2 * m * n)
    assert len(LowRankBranch(rank=0).steps(m, k, n)) == 2


def test_attention_by_hand() -> None:
    prepare, attend = SAGE_ATTENTION.steps(heads=2, query_len=64, key_len=128, head_dim=32)
    assert attend.macs == 2 * 2 * 64 * 128 * 32
    assert [part.number_format for part in attend.products] == ["int8", "fp16"]
    assert works(attend) == {"scale of scores": 2 * 64 * 128}
    assert works(prepare)["mean of the keys"] == 2 * 128 * 32
    assert works(prepare)["scale and cast"] == 2 * (64 + 128) * 32
    prepare, attend = SAGE_ATTENTION_2_INT4.steps(heads=2, query_len=64, key_len=128, head_dim=32, value_dim=16)
    assert works(prepare)["scale and cast"] == 2 * (64 + 128) * 32 + 2 * 128 * 16
    assert "scale and cast of probabilities" in works(attend)
    with pytest.raises(InputError, match="extents must be positive"):
        SAGE_ATTENTION.steps(heads=1, query_len=0, key_len=1, head_dim=1)


def test_fp4dit_finds_its_scales_online() -> None:
    apart, fused = OnlineScales().steps(16, 256, 64), OnlineScales(fused=True).steps(16, 256, 64)
    assert [step.name for step in apart] == ["quantise", "multiply, then scale groups"]
    assert works(apart[0]) == {"largest of a token": 16 * 256, "scale and cast of activations": 16 * 256}
    assert total(apart).n_elements == total(fused).n_elements
    assert total(apart).read_bytes - total(fused).read_bytes == 16 * 256 * 2


def test_a_step_on_a_machine_lasts_as_long_as_its_slowest_part() -> None:
    machine = load_machine("edge-16x16")
    (step,) = DequantiseFirst().steps(64, 256, 128)
    cycles = step_cycles(machine, step)
    assert cycles.matrix_cycles == product(machine.matrix, 64, 256, 128, "fp16").cycles
    assert cycles.vector_cycles == 8 + 2 * 256 * 128 // 256
    assert cycles.dram_cycles == -(-(step.read_bytes + step.write_bytes) // 30)
    assert cycles.cycles == max(cycles.matrix_cycles, cycles.vector_cycles, cycles.dram_cycles)
    doubled = replace(step, products=(replace(step.products[0], times=Fraction(5, 2)),))
    assert step_cycles(machine, doubled).matrix_cycles == -(-cycles.matrix_cycles * 5 // 2)
    assert len(steps_cycles(machine, LowRankBranch(rank=0, multiply_format="int8").steps(8, 64, 64))) == 2
    with pytest.raises(InputError, match='no multiply rate for this number format; given "int4"'):
        steps_cycles(machine, MixedBlocks().steps(8, 512, 64))


def test_peak_rates_of_a_machine() -> None:
    peaks = peaks_of(load_machine("edge-16x16"))
    assert peaks.macs_per_s["fp16"] == 256e9 and peaks.bytes_per_s == 30e9
    assert peaks.elements_per_s["mul"] == 256e9 and peaks.elements_per_s["div"] == 64e9
    (step,) = Plain().steps(1024, 1024, 1024)
    assert step_seconds(step, peaks) == pytest.approx(1024**3 / 256e9)
    assert steps_seconds([step, step], peaks) == pytest.approx(2 * 1024**3 / 256e9)
    with pytest.raises(InputError, match='given "int4"; allowed fp16'):
        steps_seconds(MixedBlocks().steps(8, 512, 64), Peaks(macs_per_s={"fp16": 1.0}, bytes_per_s=1.0))


def test_moved_bytes_count_scales() -> None:
    assert moved_bytes("mxfp4", 4, 64) == 4 * 64 * 17 // 32
    assert moved_bytes("int4-g128", 256, 10, axis=0) == 256 * 10 // 2 + 2 * 10 * 2


def test_engines_are_found_by_name() -> None:
    assert {type(engine) for engine in ENGINES} == {type(engine) for engine in BY_NAME.values()}
    for name in BY_NAME.names():
        assert engine_named(name).name == name
    with pytest.raises(InputError, match=r'given "mixpee"; allowed plain, w8a8, w4a16, .* \(did you mean "mixpe"\?\)$'):
        engine_named("mixpee")
