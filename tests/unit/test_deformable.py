"""Deformable convolutions: on numbers, what they read, where they run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.sim.fusion.reference import network_on_numbers, random_values
from tilewright.sim.jobs import jobs_of
from tilewright.sim.kinds.conv import _values as conv_values
from tilewright.testing import check_operator_kind
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.network import load_network

PLAIN = "deformable_conv:in=6x7x5,out_channels=6,kernel=3,padding=1"


def value_at(image: np.ndarray, row: float, column: float, *, nearest: bool) -> float:
    """One value of a map, pixel by pixel; 0 beyond it."""
    height, width = image.shape

    def pixel(r: int, c: int) -> float:
        return float(image[r, c]) if 0 <= r < height and 0 <= c < width else 0.0

    if nearest:
        return pixel(math.floor(row + 0.5), math.floor(column + 0.5))
    r, c = math.floor(row), math.floor(column)
    down, right = row - r, column - c
    return (
        (1 - down) * ((1 - right) * pixel(r, c) + right * pixel(r, c + 1))
        + down * ((1 - right) * pixel(r + 1, c) + right * pixel(r + 1, c + 1))
    )  # fmt: skip


@pytest.mark.parametrize("shape", ["free", "square"])
@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize(("groups", "stride", "bound"), [(1, 1, 0), (2, 2, 1), (6, 1, 2), (3, 1, 0)])
def test_numbers_are_those_of_the_loop_over_taps(
    shape: str, sampling: str, groups: int, stride: int, bound: int
) -> None:
    text = f"{PLAIN},groups={groups},stride={stride},shape={shape},sampling={sampling},bound={bound},batch=2"
    stream = load_network(text)
    values = random_values(stream, seed=3)
    values["offsets"] = values["offsets"] * 3
    found = network_on_numbers(stream, values)[stream.outputs[0]]
    x, weight, offsets = values["x"], values["weight"], values["offsets"]
    offsets = np.clip(offsets, -bound, bound) if bound else offsets
    for n, o, r, c in ((0, 0, 0, 0), (1, 5, 2, 1), (0, 3, 1, 2), (1, 2, found.shape[2] - 1, found.shape[3] - 1)):
        total = 0.0
        for tap in range(9):
            i, j = divmod(tap, 3)
            if shape == "square":
                move = ((i - 1) * offsets[n, 0, r, c], (j - 1) * offsets[n, 0, r, c])
            else:
                move = (offsets[n, 2 * tap, r, c], offsets[n, 2 * tap + 1, r, c])
            row, column = r * stride + i - 1 + move[0], c * stride + j - 1 + move[1]
            of_group = 6 // groups
            for at in range(of_group):
                image = x[n, o // of_group * of_group + at]
                total += weight[o, at, i, j] * value_at(image, row, column, nearest=sampling == "nearest")
        assert found[n, o, r, c] == pytest.approx(total, rel=1e-12, abs=1e-12)


def test_without_offsets_it_is_a_convolution() -> None:
    stream = load_network(f"{PLAIN},groups=2")
    values = random_values(stream, seed=1)
    values["offsets"] = values["offsets"] * 0
    found = network_on_numbers(stream, values)[stream.outputs[0]]
    plain = load_network("conv:in=6x7x5,out_channels=6,kernel=3,padding=1,groups=2").operators[0]
    np.testing.assert_allclose(found, conv_values(plain, (values["x"], values["weight"]), found.shape), rtol=1e-12)


def test_free_gathers_cost_bursts_and_bounded_ones_lines() -> None:
    deep = "deformable_conv:in=48x20x20,out_channels=48,kernel=3,padding=1,groups=48,format=int8"
    offsets, weight, x = 18 * 400, 48 * 9, 48 * 400
    free, bounded = (load_network(f"{deep},bound={bound}") for bound in (0, 4))
    assert bounded.read_bytes(bounded.operators[0]) == x + offsets + weight
    # two rows of two pixels: 96 bytes take two bursts
    assert free.read_bytes(free.operators[0]) == 400 * 9 * 2 * 128 + offsets + weight
    nearest = load_network(f"{deep},sampling=nearest")
    assert nearest.read_bytes(nearest.operators[0]) == 400 * 9 * 64 + offsets + weight
    assert bounded.macs == free.macs == 48 * 400 * 9


@pytest.mark.parametrize("change", ["groups=6,shape=square,bound=2", "groups=2"])
def test_it_is_held_to_what_kinds_are_held_to(change: str) -> None:
    check_operator_kind("deformable_conv", load_network(f"{PLAIN},{change}"), load_machine("edge-16x16"))


def test_depthwise_ones_run_on_the_vector_unit_and_others_on_the_array() -> None:
    (alone,) = jobs_of(load_network(f"{PLAIN},groups=6,shape=square"))
    assert isinstance(alone.layer, VectorLayer)
    for change, has_unit in (("bound=2,sampling=nearest", True), ("sampling=nearest", False), ("bound=2", False)):
        (operator,) = load_network(f"{PLAIN},groups=6,shape=square,{change}").operators
        assert (operator.of_kind.unit(operator) is not None) == has_unit
    (joined,) = jobs_of(load_network(f"{PLAIN},groups=2"))
    assert isinstance(joined.layer, GemmLayer)
    assert (joined.layer.groups, joined.layer.m, joined.layer.k, joined.layer.n) == (2, 35, 27, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [("groups=4", "groups"), ("shape=round", "shape"), ("in=6x7", "in"), ("bound=-1", "bound"), ("kernel=9", "kernel")],
)
def test_what_cannot_be_is_refused(change: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_network(f"{PLAIN.replace('in=6x7x5,', '') if change[:2] == 'in' else PLAIN},{change}".replace(
            "kernel=3,padding=1,kernel=9", "kernel=9"))  # fmt: skip


def test_codenet_on_whole_pixels() -> None:
    on, between = (load_network(f"codenet-1x:image=64,whole_pixels={n}") for n in (1, 0))
    assert on.macs == between.macs
    samplings = [
        {one.text("sampling") for one in stream.operators if one.kind == "deformable_conv"} for stream in (on, between)
    ]
    assert samplings == [{"nearest"}, {"bilinear"}]
    with pytest.raises(InputError, match="whole_pixels: given 2; allowed 0"):
        load_network("codenet-1x:whole_pixels=2")
