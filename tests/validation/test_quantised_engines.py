"""Do the quantised engines give the ratios that their authors publish? Peak rates of data sheets, nothing fitted.

``pytest tests/validation/test_quantised_engines.py -s`` prints every figure beside the published one. A model at peak
rates is an upper bound of what a kernel reaches, so GPU ratios that lie above the published ones are expected; the
bounds below say how far.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from statistics import mean

import pytest

from tilewright.hw_models.quantised.attention import SAGE_ATTENTION, SAGE_ATTENTION_2, SAGE_ATTENTION_3
from tilewright.hw_models.quantised.bit_level import BitFusion, BitSerial
from tilewright.hw_models.quantised.demand import Engine, total
from tilewright.hw_models.quantised.dequantise import DequantiseFirst, Plain
from tilewright.hw_models.quantised.group_scaled import MixPE, OnlineScales
from tilewright.hw_models.quantised.low_rank import LowRankBranch
from tilewright.hw_models.quantised.mixed import MixedBlocks, MixedChannels
from tilewright.hw_models.quantised.roofline import Peaks, steps_seconds

pytestmark = pytest.mark.validation

W8A8 = Plain(name="w8a8", weights="int8-channel", activations="int8-token", multiply_format="int8")
Shape = tuple[int, int, int]


def gpu(bandwidth_gb: float, fp32_tflops: float, **tera_ops: float) -> Peaks:
    """Peak dense rates of a data sheet, two operations a multiply-add; an addition is fused with a multiplication."""
    return Peaks(
        macs_per_s={name: value * 1e12 / 2 for name, value in tera_ops.items()},
        elements_per_s=dict.fromkeys(("mul", "sub", "max"), fp32_tflops * 1e12 / 2),
        bytes_per_s=bandwidth_gb * 1e9,
    )


# NVIDIA A100 (SXM 40 GB) white paper 2020, H100 (SXM) and B200 data sheets, Ada and Blackwell RTX white papers; without
# sparsity. Consumer cards run fp16 with sums in fp32 at half the rate of sums in fp16.
A100 = gpu(1555, 19.5, fp16=312, int8=624, int4=1248, int1=4992)
H100 = gpu(3350, 67, fp16=989, int8=1979, fp8_e4m3=1979)
B200 = gpu(8000, 80, fp16=2250, fp8_e4m3=4500)
RTX_4090 = gpu(1008, 82.6, fp16=165.2, fp16_in_fp16=330.3, int8=660.6, int4=1321.2, fp8_e4m3=330.3)
RTX_5090 = gpu(1792, 104.8, fp16=209.5, int8=838, fp8_e4m3=419, fp4_e2m1=1676)


def seconds(engine: Engine, shapes: Iterable[Shape], peaks: Peaks) -> float:
    return sum(steps_seconds(engine.steps(*shape), peaks) for shape in shapes)


def show(what: str, ours: float, published: float) -> float:
    """Print the two beside each other; the deviation as a fraction of the published figure."""
    deviation = ours / published - 1
    print(f"{what:48s} {ours:7.3f}  published {published:7.3f}  {deviation:+7.1%}")
    return deviation


# --- MixPE -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Design:
    """An array of equal area in MixPE's study: PEs, and the engine of narrow layers and of the patch convolution."""

    n_pes: int
    narrow: Engine
    wide: Engine
    output_projection: Engine | None = None


def dequantised(number_format: str) -> DequantiseFirst:
    """A baseline of the study: each weight dequantised on the array once for every 8 rows of the batch."""
    scaled = number_format if number_format == "fp16" else f"{number_format}-channel"
    return DequantiseFirst(
        weights=scaled, activations=scaled, multiply_format="pe", where="array", weight_passes=8, results="int32"
    )


def plain(number_format: str) -> Plain:
    return Plain(weights=number_format, activations=number_format, multiply_format="pe", results="int32")


# Iso-area arrays of the study. A PE of W x W bits does four products of W/2 x W/2 there, so MixPE takes 1/4 of a slot.
QUARTER = Fraction(1, 4)
DESIGNS = {
    "FP16": Design(32 * 28, dequantised("fp16"), plain("fp16")),
    "INT8": Design(32 * 32, dequantised("int8"), plain("int8")),
    "BitFusion": Design(
        32 * 40,
        dequantised("int8"),
        plain("int8"),
        BitFusion(weights="int4-channel", activations="int4-token", multiply_format="pe", results="int32"),
    ),
    "MixPE-W4A8": Design(
        64 * 64,
        MixPE(multiply_format="pe", slots=QUARTER, where="array", activations="int4-token", results="int32"),
        plain("int8"),
    ),
    "MixPE-W4A16": Design(
        32 * 32,
        MixPE(multiply_format="pe", slots=QUARTER, where="array", weights="int8-g128", results="int32"),
        plain("fp16"),
    ),
}
#: layers, hidden size, patch convolution before them
MODELS = {
    "ViT": (12, 768, True),
    "ViT-Huge": (32, 1280, True),
    "OPT-6.7B": (32, 4096, False),
    "Llama2-13B": (40, 5120, False),
}
#: time relative to FP16, mean of the four models (authors' summary)
MIXPE_MEANS = {"INT8": 0.84, "BitFusion": 0.68, "MixPE-W4A8": 0.12, "MixPE-W4A16": 0.31}


def mixpe_cycles(design: Design, model: str) -> float:
    layers, hidden, patches = MODELS[model]
    peaks = Peaks(macs_per_s={"pe": float(design.n_pes)}, bytes_per_s=128.0)  # of a cycle: 1024 bits from DRAM
    batch = 64
    linear = [(batch, hidden, 3 * hidden), (batch, hidden, 4 * hidden), (batch, 4 * hidden, hidden)]
    cycles = layers * seconds(design.narrow, linear, peaks)
    projection = [(batch, hidden, hidden)]
    other = design.output_projection or design.narrow  # BitFusion: every second one in 4 bits
    cycles += layers / 2 * (seconds(design.narrow, projection, peaks) + seconds(other, projection, peaks))
    if patches:
        cycles += seconds(design.wide, [(batch * 14 * 14, 3 * 16 * 16, hidden)], peaks)
    return cycles


def test_mixpe_and_its_baselines() -> None:
    ratios = {
        name: [mixpe_cycles(design, model) / mixpe_cycles(DESIGNS["FP16"], model) for model in MODELS]
        for name, design in DESIGNS.items()
    }
    print()
    for name, values in ratios.items():
        print(f"{name:12s}", *(f"{model} {value:.3f}  " for model, value in zip(MODELS, values, strict=True)))
    deviations = {name: show(f"{name} / FP16, mean", mean(ratios[name]), MIXPE_MEANS[name]) for name in MIXPE_MEANS}
    assert abs(deviations["INT8"]) < 0.06
    assert abs(deviations["BitFusion"]) < 0.06
    assert abs(deviations["MixPE-W4A16"]) < 0.07
    # Known gap: their simulator has W4A8 at 0.10 for OPT and Llama, where compute and weights' bytes alone give 0.055.
    assert -0.30 < deviations["MixPE-W4A8"] < -0.20


def test_mixpe_dequantises_once_a_group() -> None:
    per_element = total(DequantiseFirst(weights="int4-g128", where="vector", weight_passes=8).steps(64, 4096, 4096))
    per_group = total(MixPE().steps(64, 4096, 4096))
    assert per_element.n_elements == 2 * 8 * 4096 * 4096
    assert per_group.n_elements == 2 * 64 * 32 * 4096


# --- ABQ-LLM ---------------------------------------------------------------------------------------------------------

LLAMA_SHAPES = ((4096, 4096), (4096, 11008), (11008, 4096))
#: speed-up over CUTLASS W8A8 at batch 1, read from the figure
ABQ = {
    (8, 8): (1.1, 1.0, 1.1),
    (6, 6): (1.5, 1.4, 1.4),
    (4, 8): (2.1, 2.0, 2.1),
    (3, 8): (2.7, 2.7, 2.7),
    (2, 8): (7.5, 4.1, 3.9),
}
#: over CUTLASS W4A4
ABQ_4 = {(4, 4): (1.0, 1.0, 1.1), (2, 4): (3.6, 2.0, 2.0), (2, 2): (3.7, 2.0, 2.0)}


def bit_serial(weight_bits: int, activation_bits: int) -> BitSerial:
    return BitSerial(weights=f"int{weight_bits}-channel", activations=f"int{activation_bits}-token")


def test_abq_time_is_proportional_to_p_q_until_memory_bound() -> None:
    print()
    for published in (ABQ, ABQ_4):
        base = next(iter(published))
        for bits, values in published.items():
            for shape, value, base_value in zip(LLAMA_SHAPES, values, published[base], strict=True):
                ours = seconds(bit_serial(*base), [(1, *shape)], A100) / seconds(bit_serial(*bits), [(1, *shape)], A100)
                deviation = show(
                    f"W{bits[0]}A{bits[1]} over W{base[0]}A{base[1]}, 1 x {shape}", ours, value / base_value
                )
                if bits[0] == 2 and shape == (4096, 4096):
                    assert deviation < -0.4  # 4 MB of weights stay in the cache of the card, which the model has not
                else:
                    assert abs(deviation) < 0.14
    many = [(4096, 8192, 8192)]
    plane = seconds(BitSerial(weights="int2-channel", activations="int2-token"), many, A100) / 4
    for weight_bits, activation_bits in ((8, 8), (6, 6), (4, 8), (3, 8), (2, 8), (4, 4)):
        time = seconds(bit_serial(weight_bits, activation_bits), many, A100)
        assert time == pytest.approx(weight_bits * activation_bits * plane, rel=1e-9)


# --- SVDQuant --------------------------------------------------------------------------------------------------------

FLUX_LINEARS = tuple((4096 + 512, k, n) for k, n in ((3072, 9216), (3072, 3072), (3072, 12288), (12288, 3072)))


def test_svdquants_branch_unfused_and_fused() -> None:
    print()
    base = seconds(LowRankBranch(rank=0), FLUX_LINEARS, RTX_4090)
    unfused = seconds(LowRankBranch(fused=False), FLUX_LINEARS, RTX_4090) / base
    fused = seconds(LowRankBranch(), FLUX_LINEARS, RTX_4090) / base
    print(f"fused branch: {fused - 1:.1%} extra")
    assert abs(show("unfused branch, time over none", unfused, 1.57)) < 0.08
    assert 1.0 < fused < 1.06


# --- COMET, MixLLM, W4A16 --------------------------------------------------------------------------------------------


def test_comets_speed_up_over_the_kernels_it_is_compared_with() -> None:
    print()
    shapes = ((4096, 4096), (4096, 14336), (14336, 4096), (8192, 8192), (8192, 28672))
    rows = (16, 32, 64, 128, 256)
    published = {"FP16": (Plain(), 2.88), "W4A16": (DequantiseFirst(), 1.77), "W8A8": (W8A8, 1.33)}
    deviations = {}
    for name, (engine, value) in published.items():
        ours = mean(
            seconds(engine, [(m, *shape)], A100) / seconds(MixedBlocks(), [(m, *shape)], A100)
            for m in rows
            for shape in shapes
        )
        deviations[name] = show(f"COMET over {name}, batch 16 to 256", ours, value)
    assert abs(deviations["W4A16"]) < 0.10
    assert 0 < deviations["FP16"] < 0.30
    assert 0 < deviations["W8A8"] < 0.42


def test_mixllms_arithmetic_intensity() -> None:
    m = k = n = 4096
    m = 512

    def operand_bytes(weights: str, activations: str) -> int:
        return total(Plain(weights=weights, activations=activations, multiply_format="int8").steps(m, k, n)).read_bytes

    print()
    base = operand_bytes("int8", "int8")
    assert abs(show("intensity, 4-bit weights", base / operand_bytes("int4", "int8"), 1.80)) < 0.005
    assert abs(show("intensity, 4-bit activations", base / operand_bytes("int8", "int4"), 1.059)) < 0.005
    mixed = total(MixedChannels().steps(m, k, n))
    assert sum(product.macs for product in mixed.products) == m * k * n
    weight_bits = Fraction(8 * (mixed.read_bytes - (m * k + m * 32 * 2)), k * n)
    assert float(weight_bits) == pytest.approx(0.1 * (8 + 16 / 128) + 0.9 * (4 + 20 / 128), rel=0.001)


def test_mixllms_speed_up() -> None:
    print()
    shapes = [(m, 4096, 4096) for m in (1, 16, 64, 256, 512, 1024)]
    ours = mean(seconds(Plain(), [shape], A100) / seconds(MixedChannels(), [shape], A100) for shape in shapes)
    # Second-hand figures, 1.88 to 2.75 by variant; only their order of size is asserted.
    assert 0 < show("MixLLM over FP16, 1 to 1024 tokens", ours, 1.90) < 0.6


# --- attention -------------------------------------------------------------------------------------------------------

PREFILL = {"heads": 32, "query_len": 8192, "key_len": 8192, "head_dim": 128}


@pytest.mark.parametrize(
    ("what", "engine", "peaks", "published", "low", "high"),
    [
        ("A100, 8+16 over FlashAttention 2", SAGE_ATTENTION, A100, 272 / 204, -0.05, 0.05),
        ("RTX 4090, 8+8 over FlashAttention 2", SAGE_ATTENTION_2, RTX_4090, 418 / 164, -0.05, 0.06),
        ("RTX 5090, 8+8 over FlashAttention", SAGE_ATTENTION_2, RTX_5090, 548 / 212, -0.05, 0.06),
        ("H100, 8+8 over FlashAttention 3 fp16", SAGE_ATTENTION_2, H100, 900 / 459, -0.05, 0.06),
        # Sums of P V in fp16 double the rate of this card; the kernel gains less than that.
        (
            "RTX 4090, 8+16 over FlashAttention 2",
            replace(SAGE_ATTENTION, value_multiply="fp16_in_fp16"),
            RTX_4090,
            317 / 164,
            0.2,
            0.4,
        ),
        # Softmax is no longer hidden behind products this fast.
        ("RTX 5090, fp4 over FlashAttention", SAGE_ATTENTION_3, RTX_5090, 1038 / 212, 0.3, 0.7),
    ],
)
def test_sage_attentions_kernels(
    what: str, engine: object, peaks: Peaks, published: float, low: float, high: float
) -> None:
    """Products only, as the published rates are: quantising Q, K, V and smoothing K are not in them."""
    attend = engine.steps(**PREFILL)[-1]  # type: ignore[attr-defined]
    wide = sum(float(product.macs) for product in attend.products) / peaks.macs_per_s["fp16"]
    print()
    assert low < show(what, wide / steps_seconds([attend], peaks), published) < high


# --- FP4DiT ----------------------------------------------------------------------------------------------------------


def test_fp4dits_layers() -> None:
    print()
    pixart = [(4096, 1152, 1152)] * 6 + [(4096, 1152, 4608), (4096, 4608, 1152)]
    base = seconds(Plain(), pixart, B200)
    apart = show("FP4DiT over FP16, quantised apart", base / seconds(OnlineScales(), pixart, B200), 1.5)
    fused = show("FP4DiT over FP16, quantised before", base / seconds(OnlineScales(fused=True), pixart, B200), 1.5)
    assert -0.2 < apart < 0 < fused < 0.4  # the published figure, second-hand, lies between the two
