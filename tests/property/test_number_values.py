"""Do formats obey their laws: what is representable comes back, rounding is nearest and monotone, scales hold?"""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tilewright.formats import format_bits, format_names, number_format, tensor_format
from tilewright.hw_models.number_values import decode, encode, largest_value, round_to
from tilewright.hw_models.quantise import dequantise, quantise, round_trip

NARROW = st.sampled_from([name for name in format_names() if format_bits(name) <= 16])
ELEMENTS = st.sampled_from(format_names())
MX = ("mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp8_e4m3", "mxfp8_e5m2", "mxint8", "msfp12", "bfp5-g8", "bfp12-g3")
SCALED = (
    *MX,
    "nvfp4",
    "int2-g4",
    "int4-g128",
    "int4-g8-asym",
    "int8-token",
    "int8-tensor-fp32",
    "int8-channel-asym",
    "int16-g7-fp32",
    "fp8_e4m3-tensor",
    "fp4_e1m2-g128",
    "fp4_e3m0-g16-bf16",
    "int1-g8-asym",
)
values = st.floats(-1e4, 1e4, width=32).filter(lambda value: value == 0 or abs(value) > 1e-3)
shapes = arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9)
tensors = arrays.arrays(np.float64, shapes, elements=values)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.array_equal(one, other, equal_nan=True))


@given(name=NARROW, code=st.integers(0, 2**16 - 1))
def test_every_code_comes_back(name: str, code: int) -> None:
    codes = np.array([code % (1 << format_bits(name))])
    value = decode(codes, name)
    if np.isfinite(value).all():
        assert encode(value, name).tolist() == codes.tolist()
    else:
        assert same(decode(encode(value, name, saturate=False), name), value)


@given(name=ELEMENTS, numbers=tensors)
def test_what_a_format_holds_it_keeps(name: str, numbers: np.ndarray) -> None:
    once = round_to(numbers, name)
    assert once.shape == numbers.shape
    assert same(round_to(once, name), once)
    assert same(decode(encode(numbers, name), name), once)
    assert (np.abs(once) <= largest_value(name) + (number_format(name).kind == "integer")).all()


@given(name=NARROW, one=values, other=values)
def test_rounding_keeps_the_order(name: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert round_to(low, name) <= round_to(high, name)


@given(name=NARROW.filter(lambda name: format_bits(name) <= 8), number=values)
def test_no_other_value_is_nearer(name: str, number: float) -> None:
    grid = decode(np.arange(1 << format_bits(name)), name)
    grid = grid[np.isfinite(grid)]
    assert abs(round_to(number, name) - number) == np.abs(grid - number).min()


@given(name=st.sampled_from(SCALED), numbers=tensors, data=st.data())
def test_a_scaled_tensor_keeps_shape_size_and_reach(name: str, numbers: np.ndarray, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-numbers.ndim, numbers.ndim - 1))
    tensor = quantise(numbers, name, axis=axis)
    back = dequantise(tensor)
    assert back.shape == numbers.shape
    found = tensor_format(name)
    assert tensor.n_bits == found.bits(numbers.shape, axis) >= prod(numbers.shape) * found.bits_per_element
    assert tensor.scales is not None and tensor.scales.size == found.n_scales(numbers.shape, axis)
    assert tensor.scale_codes.shape == tensor.scales.shape
    reach = max(numbers.max(), 0.0) - min(numbers.min(), 0.0)
    assert np.abs(back).max() <= 1.25 * reach + 1e-6
    assert (back[numbers == 0] == 0).all()


@given(name=st.sampled_from(MX), numbers=tensors)
def test_a_power_of_two_scale_gives_the_same_again(name: str, numbers: np.ndarray) -> None:
    once = round_trip(numbers, name)
    assert same(round_trip(once, name), once)


@given(name=st.sampled_from(MX), numbers=tensors, shift=st.integers(-20, 20))
def test_a_power_of_two_scale_follows_its_values(name: str, numbers: np.ndarray, shift: int) -> None:
    assert same(round_trip(numbers * 2.0**shift, name), round_trip(numbers, name) * 2.0**shift)


@given(bits=st.integers(2, 8), numbers=tensors)
def test_integers_are_within_half_a_step(bits: int, numbers: np.ndarray) -> None:
    tensor = quantise(numbers, f"int{bits}-token-fp32")
    assert tensor.scales is not None
    step = np.broadcast_to(tensor.scales, numbers.shape)
    assert (np.abs(dequantise(tensor) - numbers) <= step * 0.5000001).all()
    asymmetric = quantise(numbers, f"int{bits}-token-fp32-asym")
    assert asymmetric.scales is not None
    step = np.broadcast_to(asymmetric.scales, numbers.shape)
    assert (np.abs(dequantise(asymmetric) - numbers) <= step * 1.0000001).all()
