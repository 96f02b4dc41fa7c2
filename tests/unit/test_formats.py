"""Number formats by name."""

from __future__ import annotations

from typing import get_args

import pytest

from tilewright.errors import InputError
from tilewright.formats import FormatName, format_bits, format_names, number_format


@pytest.mark.parametrize(
    ("name", "bits", "kind"),
    [
        ("int4", 4, "integer"),
        ("int8", 8, "integer"),
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
    other_names |= {"fp8_e4m3": "float8_e4m3fn", "fp8_e5m2": "float8_e5m2", "bf16": "bfloat16"}
    for name in format_names():
        kind = number_format(name).kind
        if name in other_names:
            assert ml_dtypes.finfo(getattr(ml_dtypes, other_names[name])).bits == format_bits(name)
        elif kind == "float":
            assert np.finfo(f"float{format_bits(name)}").bits == format_bits(name)
        else:
            assert ml_dtypes.iinfo(getattr(ml_dtypes, name, name)).bits == format_bits(name)


def test_the_names_are_those_of_the_type() -> None:
    assert set(format_names()) == set(get_args(FormatName))
    assert len(format_names()) == len(set(format_names()))


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError) as fault:
        format_bits("fp8_e4m4")
    assert str(fault.value) == (
        'unknown number format; given "fp8_e4m4"; allowed int4, int8, int16, int32, fp4_e2m1, fp6_e2m3, fp6_e3m2, '
        'fp8_e4m3, fp8_e5m2, fp16, bf16, fp32, fp64 (did you mean "fp8_e4m3"?)'
    )
