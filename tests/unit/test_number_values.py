"""Values of number formats: bit for bit those of ml_dtypes and torch, and the scales of the published definitions."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.formats import bits_per_element, format_bits, format_names, number_format, tensor_format
from tilewright.hw_models.number_values import decode, encode, largest_exponent, largest_value, round_to
from tilewright.hw_models.quantise import dequantise, quantise, round_trip

ML_DTYPES = {
    "fp4_e2m1": ml_dtypes.float4_e2m1fn,
    "fp6_e2m3": ml_dtypes.float6_e2m3fn,
    "fp6_e3m2": ml_dtypes.float6_e3m2fn,
    "fp8_e3m4": ml_dtypes.float8_e3m4,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
    "fp32": np.float32,
    "int2": ml_dtypes.int2,
    "int4": ml_dtypes.int4,
    "int8": np.int8,
    "int16": np.int16,
}
NARROW = [name for name in format_names() if format_bits(name) <= 16]


def drawn(name: str, n: int = 20_000) -> np.ndarray:
    """Values over the whole range of a format and beyond it, with exact ties between its values among them."""
    random = np.random.default_rng(7)
    reach = min(largest_value(name), 1e30)
    values = [random.standard_normal(n), random.uniform(-1.3 * reach, 1.3 * reach, n), 2.0 ** random.uniform(-30, 9, n)]
    if format_bits(name) <= 8:
        grid = np.unique(decode(np.arange(1 << format_bits(name)), name))
        ties = (grid[np.isfinite(grid)][1:] + grid[np.isfinite(grid)][:-1]) / 2
        values += [grid[np.isfinite(grid)], ties, np.nextafter(ties, np.float32(np.inf), dtype=np.float32)]
    return np.concatenate(values).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("name", [name for name in ML_DTYPES if format_bits(name) <= 16])
def test_every_code_means_what_it_means_to_ml_dtypes(name: str) -> None:
    bits = format_bits(name)
    codes = np.arange(1 << bits, dtype=np.uint8 if bits <= 8 else np.uint16)
    with np.errstate(invalid="ignore"):
        theirs = codes.view(ML_DTYPES[name]).astype(np.float64)
    np.testing.assert_array_equal(decode(codes, name), theirs)


@pytest.mark.parametrize("name", ML_DTYPES)
def test_rounding_is_that_of_ml_dtypes_bit_for_bit(name: str) -> None:
    dtype = np.dtype(ML_DTYPES[name])
    values = drawn(name)
    if number_format(name).kind == "integer":
        largest = largest_value(name)
        theirs = np.clip(np.rint(values), -largest - 1, largest).astype(np.int16).astype(dtype)
    else:
        theirs = np.clip(values, -largest_value(name), largest_value(name)).astype(dtype)
    codes = encode(values, name)
    raw = np.dtype(f"u{dtype.itemsize}")
    mask = (1 << format_bits(name)) - 1
    np.testing.assert_array_equal(codes, theirs.view(raw) & mask)
    np.testing.assert_array_equal(decode(codes, name), theirs.astype(np.float64))


@pytest.mark.parametrize("name", ["fp8_e3m4", "fp8_e4m3", "fp8_e5m2", "bf16", "fp16"])
def test_without_saturation_overflow_is_that_of_ml_dtypes(name: str) -> None:
    values = np.array([np.inf, -np.inf, 1e39, -1e39, np.nan, -0.0])
    with np.errstate(over="ignore"):
        theirs = values.astype(ML_DTYPES[name]).astype(np.float64)
    np.testing.assert_array_equal(round_to(values, name, saturate=False), theirs)
    ours = round_to(values, name)
    np.testing.assert_array_equal(ours[:4], largest_value(name) * np.array([1, -1, 1, -1]))
    assert np.isnan(ours[4])


@pytest.mark.parametrize("name", ["fp4_e2m1", "fp6_e2m3", "fp6_e3m2"])
def test_the_values_worked_out_here_are_those_of_ml_dtypes_where_both_exist(name: str) -> None:
    from tilewright.hw_models.number_values import _positive_values

    np.testing.assert_array_equal(_positive_values(name), decode(np.arange(1 << (format_bits(name) - 1)), name))


def test_a_float64_is_rounded_once() -> None:
    above_the_tie = np.nextafter(0.25, 1.0)
    assert round_to(above_the_tie, "fp4_e2m1") == 0.5
    assert float(np.float64(above_the_tie).astype(ml_dtypes.float4_e2m1fn)) == 0.0  # by way of float32: two roundings


def test_values_of_the_formats_that_no_library_has() -> None:
    assert decode(np.arange(8), "fp4_e1m2").tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert decode(np.arange(8), "fp4_e3m0").tolist() == [0, 0.25, 0.5, 1, 2, 4, 8, 16]
    assert decode(np.arange(8, 16), "fp4_e3m0").tolist() == [-0.0, -0.25, -0.5, -1, -2, -4, -8, -16]
    assert round_to([1 + 2.0**-10, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1e39], "tf32").tolist()[:3] == [
        1 + 2.0**-10,
        1.0,
        1 + 2.0**-9,
    ]
    assert np.isinf(round_to(1e39, "tf32", saturate=False))
    bits = encode(np.random.default_rng(1).standard_normal(1000), "tf32")
    assert bits.dtype == np.uint32 and not (bits & 0x1FFF).any()


@pytest.mark.extras
def test_torch_casts_to_the_same_bits() -> None:
    torch = pytest.importorskip("torch")
    for name, dtype in (
        ("fp8_e4m3", torch.float8_e4m3fn),
        ("fp8_e5m2", torch.float8_e5m2),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ):
        values = np.clip(drawn(name), -largest_value(name), largest_value(name)).astype(np.float32)
        wide = torch.uint8 if format_bits(name) == 8 else torch.uint16
        theirs = torch.from_numpy(values).to(dtype).view(wide).numpy()
        np.testing.assert_array_equal(encode(values, name), theirs)


@pytest.mark.extras
def test_torch_reads_the_shared_exponents_of_mx_as_we_write_them() -> None:
    torch = pytest.importorskip("torch")
    tensor = quantise(np.random.default_rng(3).standard_normal((8, 64)) * 1e3, "mxfp4")
    theirs = torch.from_numpy(tensor.scale_codes.copy()).view(torch.float8_e8m0fnu).to(torch.float32).numpy()
    np.testing.assert_array_equal(theirs, tensor.scales)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("mxfp4", Fraction(17, 4)),
        ("nvfp4", Fraction(9, 2)),
        ("mxfp6", Fraction(25, 4)),
        ("mxfp8", Fraction(33, 4)),
        ("mxint8", Fraction(33, 4)),
        ("msfp12", Fraction(9, 2)),
        ("bfp5-g8", Fraction(6)),
        ("int4-g128", Fraction(33, 8)),
        ("int4-g128-asym", Fraction(133, 32)),
        ("int8-channel", Fraction(8)),
        ("tf32", Fraction(32)),
    ],
)
def test_bits_per_element_are_the_published_ones(name: str, bits: Fraction) -> None:
    assert bits_per_element(name) == bits
    shape = (6, 3 * 2048)
    n_elements, scheme = 6 * 3 * 2048, tensor_format(name).scale
    beyond = 0 if scheme is None or name == "mxint8" else scheme.tensor_scale_bits
    if scheme is not None and scheme.shared_by == "channel":
        beyond += 6 * 16
    assert quantise(np.ones(shape), name).n_bits == n_elements * bits + beyond


def test_a_group_cut_short_has_a_scale_of_its_own() -> None:
    assert tensor_format("mxfp4").bits((2, 33)) == 66 * 4 + 4 * 8
    assert tensor_format("mxfp4").bits((33, 2), axis=0) == 66 * 4 + 4 * 8
    assert tensor_format("int8-tensor").bits((5, 5)) == 25 * 8 + 16


def test_the_scale_of_mx_is_the_power_of_two_below() -> None:
    values = np.zeros((1, 64))
    values[0, 0], values[0, 32] = 3.0, 7.0
    tensor = quantise(values, "mxfp4")
    assert tensor.scales is not None
    assert tensor.scales.tolist() == [[0.5, 1.0]]  # 2^(floor(log2 3) - 2); rounding 3 / 6 up would not do for 7
    assert tensor.scale_codes.tolist() == [[126, 127]]
    assert dequantise(tensor)[0, [0, 32]].tolist() == [3.0, 6.0]
    assert quantise(np.zeros((1, 32)), "mxfp4").scale_codes.tolist() == [[0]]
    assert quantise(np.full((1, 32), 1e300), "mxfp8").scale_codes.tolist() == [[254]]


def test_mx_integers_have_six_bits_after_the_point() -> None:
    tensor = quantise(np.array([[1.0, 1.984375, -0.5, 1.999]]), "mxint8")
    assert tensor.scale_codes.tolist() == [[127]]
    assert tensor.codes.tolist() == [[64, 127, 224, 127]]


def test_nvfp4_uses_the_reach_of_both_scales() -> None:
    values = np.random.default_rng(2).standard_normal((4, 64))
    tensor = quantise(values, "nvfp4")
    assert tensor.tensor_scale == float(np.float32(np.abs(values).max() / (6 * 448)))
    assert tensor.scales is not None and tensor.scales.max() == 448
    theirs = tensor.scales.astype(np.float32).astype(ml_dtypes.float8_e4m3fn)
    np.testing.assert_array_equal(theirs.astype(np.float64), tensor.scales)
    assert np.abs(dequantise(tensor)).max() == pytest.approx(np.abs(values).max(), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "error"),
    [("mxfp4", 0.115), ("mxfp6_e3m2", 0.054), ("mxfp6_e2m3", 0.0284), ("mxfp8_e4m3", 0.0293), ("mxfp8_e5m2", 0.054)],
)
def test_errors_on_normal_values_are_those_measured_elsewhere(name: str, error: float) -> None:
    values = np.random.default_rng(0).standard_normal((2048, 32))
    wrong = round_trip(values, name) - values
    assert np.sqrt((wrong**2).mean() / (values**2).mean()) == pytest.approx(error, rel=0.03)


def test_largest_values() -> None:
    assert [largest_value(name) for name in ("fp4_e1m2", "fp4_e2m1", "fp4_e3m0", "fp6_e2m3", "fp6_e3m2")] == [
        3.5,
        6.0,
        16.0,
        7.5,
        28.0,
    ]
    assert [largest_exponent(name) for name in ("fp4_e2m1", "fp8_e4m3", "fp8_e5m2", "int8")] == [2, 8, 15, 6]


def test_what_cannot_be_held_is_refused() -> None:
    with pytest.raises(InputError, match='number format "fp4_e2m1" has no NaN'):
        encode([1.0, np.nan], "fp4_e2m1")
    with pytest.raises(InputError, match="a scale needs numbers"):
        quantise([1.0, np.inf], "mxfp8")
    with pytest.raises(InputError, match="code out of range; allowed 4 bits"):
        decode([16], "int4")
    with pytest.raises(InputError, match='"fp16" has no scales'):
        _ = quantise([1.0], "fp16").scale_codes
