"""Number formats by name."""

from __future__ import annotations

from typing import get_args

import pytest

from tilewright.errors import InputError
from tilewright.formats import (
    FormatName,
    bits_per_element,
    element_format,
    format_bits,
    format_names,
    number_format,
    tensor_bits,
    tensor_format,
    tensor_format_names,
)


@pytest.mark.parametrize(
    ("name", "bits", "kind"),
    [
        ("int4", 4, "integer"),
        ("int2", 2, "integer"),
        ("int8", 8, "integer"),
        ("fp4_e1m2", 4, "float"),
        ("fp4_e3m0", 4, "float"),
        ("tf32", 32, "float"),
        ("fp8_e4m3", 8, "float"),
        ("fp6_e3m2", 6, "float"),
        ("bf16", 16, "float"),
        ("fp16", 16, "float"),
        ("fp64", 64, "float"),
    ],
)
def test_widths_are_the_published_ones(name: str, bits: int, kind: str) -> None:
    assert format_bits(name) == bits
    assert number_format(name).name == name
    assert number_format(name).kind == kind


def test_widths_agree_with_ml_dtypes_and_numpy() -> None:
    import ml_dtypes
    import numpy as np

    other_names = {"fp4_e2m1": "float4_e2m1fn", "fp6_e2m3": "float6_e2m3fn", "fp6_e3m2": "float6_e3m2fn"}
    other_names |= {"fp8_e3m4": "float8_e3m4", "fp8_e4m3": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2"}
    other_names |= {"bf16": "bfloat16"}
    for name in format_names():
        found = number_format(name)
        if name in other_names:
            theirs = ml_dtypes.finfo(getattr(ml_dtypes, other_names[name]))
            assert (theirs.bits, theirs.nmant) == (found.bits, found.mantissa_bits)
            assert theirs.bits == 1 + found.exponent_bits + found.mantissa_bits
        elif name in ("fp16", "fp32", "fp64"):
            assert np.finfo(f"float{found.bits}").bits == found.bits == 1 + found.exponent_bits + found.mantissa_bits
        elif name in ("int1", "int2", "int4", "int8", "int16", "int32"):
            assert ml_dtypes.iinfo(getattr(ml_dtypes, name, name)).bits == found.bits
        elif found.kind == "float" and name != "tf32":
            assert found.bits == 1 + found.exponent_bits + found.mantissa_bits


def test_the_names_are_those_of_the_type() -> None:
    assert set(format_names()) == set(get_args(FormatName))
    assert len(format_names()) == len(set(format_names()))


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError) as fault:
        format_bits("fp8_e4m4")
    assert str(fault.value) == (
        'unknown number format; given "fp8_e4m4"; allowed int1 to int16, int32, fp4_e1m2, fp4_e2m1, fp4_e3m0, '
        'fp6_e2m3, fp6_e3m2, fp8_e3m4, fp8_e4m3, fp8_e5m2, fp16, bf16, tf32, fp32, fp64 (did you mean "fp8_e4m3"?)'
    )


def test_a_format_with_scales_has_no_whole_bits() -> None:
    with pytest.raises(InputError, match='unknown number format; given "mxfp4"'):
        format_bits("mxfp4")


def test_a_scaled_format_is_an_element_and_its_scales() -> None:
    asymmetric = tensor_format("int4-g128-fp32-asym")
    assert asymmetric.element.name == element_format("int4-g128-fp32-asym") == "int4"
    assert asymmetric.scale is not None
    assert (asymmetric.scale.group, asymmetric.scale.scale_bits, asymmetric.scale.zero_point_bits) == (128, 32, 4)
    assert tensor_format("mxfp8") == tensor_format("mxfp8_e4m3")
    assert [element_format(name) for name in ("nvfp4", "mxint8", "bfp12-g8", "fp16")] == [
        "fp4_e2m1",
        "int8",
        "int12",
        "fp16",
    ]
    assert tensor_format("msfp16").scale == tensor_format("bfp8-g16").scale


@pytest.mark.parametrize("name", tensor_format_names())
def test_named_formats_are_found_by_name(name: str) -> None:
    assert tensor_format(name).name == name
    assert bits_per_element(name) > format_bits(element_format(name))
    assert tensor_bits(name, (3, 96)) == 288 * bits_per_element(name) + (32 if name == "nvfp4" else 0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "int4-x",
            'number format "int4-x": unknown way to share a scale; given "x"; allowed gN (N from 1 to 1048576), ',
        ),
        ("int4-g0", 'number format "int4-g0": unknown way to share a scale; given "g0"; '),
        (
            "int4-g8-fp33",
            'number format "int4-g8-fp33": unknown part; given "fp33"; allowed fp16, bf16, fp32, fp8_e4m3 ',
        ),
        ("fp16-g8-asym", 'number format "fp16-g8-asym": unknown part; given "asym"; '),
        ("int1-g8", 'number format "int1-g8": one bit holds no sign and value; allowed int1-g8-asym'),
        ("bfp1-g8", 'number format: given "bfp1-g8"; allowed bfpB-gN with B from 2 to 16 and N a whole number'),
        ("bfp8-token", 'number format: given "bfp8-token"; allowed bfpB-gN'),
        ("mxfp4-g8", 'unknown number format; given "mxfp4-g8"; allowed int1 to int16, '),
    ],
)
def test_a_wrong_scaled_format_is_refused_with_its_part(name: str, text: str) -> None:
    with pytest.raises(InputError) as fault:
        tensor_format(name)
    assert str(fault.value).startswith(text)
