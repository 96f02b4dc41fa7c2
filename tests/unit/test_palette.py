"""Colours that can be told from the text on them."""

from __future__ import annotations

import pytest

from tilewright.reports.palette import BASE_COLOUR, KIND_COLOURS, ink_on, operator_colours


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        values = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [BASE_COLOUR, *KIND_COLOURS.values(), *operator_colours().values()])
def test_a_label_can_be_read_on_its_mark(colour: str) -> None:
    assert contrast(colour, ink_on(colour)) >= 4.5


def test_ink_is_white_on_dark_and_dark_on_light() -> None:
    assert (ink_on("#000000"), ink_on("#ffffff")) == ("#ffffff", "#0d1117")
