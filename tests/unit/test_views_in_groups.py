"""Fused groups whose operators read a map pixel by pixel, pixels as a map, or some channels: on numbers, scheme by
scheme.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.reference import network_on_numbers, random_values
from tilewright.sim.fusion.scheme import get_scheme
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.convnext import convnext
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.pyramid import PyramidConfig, pvt_v2
from tilewright.workloads.zoo.single_head import ShvitConfig, shvit

EDGE = load_machine("edge-16x16")


def network(name: str) -> OperatorStream:
    b = Layers(name)
    match name:
        case "convnext":
            return convnext(b, depths=(1, 1), widths=(6, 10), batch=1, image=24, classes=3)
        case "pvt":
            config = PyramidConfig(widths=(8, 12), depths=(1, 1), heads=(2, 3), wider=(2, 2), smaller=(2, 1))
            return pvt_v2(b, config, None, batch=1, image=24, classes=3)
        case _:
            config_of_heads = ShvitConfig(widths=(16, 24), depths=(1, 1), seen=(8, 8), key_dim=4)
            return shvit(b, config_of_heads, batch=1, image=48, classes=3)


@pytest.mark.parametrize("scheme", ["lbdf", "brr", "depth_first"])
@pytest.mark.parametrize("name", ["convnext", "pvt", "shvit"])
def test_groups_give_what_the_network_gives(name: str, scheme: str) -> None:
    """Every second run of four operators that is a group; what a scheme cannot run on numbers it says."""
    stream = network(name)
    values = {
        key: value / math.sqrt(value[0].size) if value.ndim > 1 else value
        for key, value in random_values(stream, 3).items()
    }
    wanted = network_on_numbers(stream, values)
    graph, rules, done = fusion_graph(stream), get_scheme(scheme, 10**6), 0
    for first in range(0, len(graph.nodes) - 3, 2):
        group = 0b1111 << first
        if group & ~rules.fusable_mask(graph) or not graph.is_group(group):
            continue
        try:
            found = next(iter(rules.programs(stream, graph, group, EDGE))).on_numbers(values | wanted)
        except InputError:
            continue
        for key, value in found.items():
            np.testing.assert_allclose(value.reshape(wanted[key].shape), wanted[key], rtol=1e-8, atol=1e-10)
        done += 1
    assert done >= 3
