"""Formats of a scan's tensors one by one: in text, in a stream, and in the search for bits."""

from __future__ import annotations

from fractions import Fraction

import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.search.bits.choose import search_bits
from tilewright.search.bits.sensitivity import sensitivity_from_data
from tilewright.sim.kinds.layer import layer_of
from tilewright.workloads.network import load_network
from tilewright.workloads.scan import ScanLayer
from tilewright.workloads.stream.formats import OperatorFormats, with_operator_formats
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.stream.tensor_formats import by_tensor, element_bits, mean_bits
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.state_space import MambaConfig, mamba

APART = "x=int8,dt=fp16,B=int8,C=fp16"


def _layer(stream: OperatorStream, name: str = "") -> ScanLayer:
    (operator,) = [one for one in stream.operators if one.of_kind.tensors and name in one.name]
    layer = layer_of(stream, [operator])
    assert isinstance(layer, ScanLayer)
    return layer


def _network(head_dim: int = 16, *, with_state: bool = False) -> OperatorStream:
    config = MambaConfig(hidden=64, layers=1, states=16, vocabulary=50, head_dim=head_dim)
    n_new = 1 if with_state else 24
    return mamba(Layers("small"), config, batch=1, n_new=n_new, with_state=with_state, context=0, logits="last")


def test_formats_of_a_text() -> None:
    text = "ssd:tokens=64,heads=2,key_heads=1,key_dim=16,value_dim=8"
    layer = _layer(
        load_network(f"{text},x_format=int8,B_format=int8,C_format=fp16,dt_format=fp32,state=yes,state_format=fp16")
    )
    assert (layer.value_bits, layer.key_bits, layer.query_bits, layer.gate_bits) == (8, 8, 16, 32)
    assert (layer.state_bits, layer.pair_bits, layer.compute_format) == (16, 24, "fp16")
    plain = _layer(load_network(text))
    assert plain.compulsory_bytes == 2 * 64 * (2 * 16 + 2 * (1 + 2 * 8)) + 2 * 3 * 4
    narrow = _layer(load_network(f"{text},B_format=int8"))
    assert plain.compulsory_bytes - narrow.compulsory_bytes == 64 * 16
    rule = _layer(load_network("delta_rule:tokens=64,heads=2,key_dim=16,value_dim=8,v_format=int8,gates_format=fp32"))
    assert (rule.value_bits, rule.key_bits, rule.gate_bits) == (8, 16, Fraction(24))
    with pytest.raises(InputError, match="x_format: unknown number format"):
        load_network(f"{text},x_format=int99")


def test_formats_by_tensor_as_text() -> None:
    assert by_tensor("int8") == {} and by_tensor(APART) == {"x": "int8", "dt": "fp16", "B": "int8", "C": "fp16"}
    assert mean_bits(APART) == 12 and element_bits(APART) == 16
    with pytest.raises(InputError, match="NAME=FORMAT for each tensor once"):
        by_tensor("x=int8,x=fp16")


def test_a_stream_with_formats_by_tensor() -> None:
    stream = _network()
    chosen = with_operator_formats(stream, {"layers.0.scan": OperatorFormats(weights="fp16", activations=APART)})
    layer = _layer(chosen)
    assert (layer.value_bits, layer.key_bits, layer.query_bits, layer.state_bits) == (8, 8, 16, 16)
    assert chosen.tensor("layers.0.conv.out").number_format == "fp16"  # whole: its widest part
    all_narrow = with_operator_formats(stream, {"layers.0.scan": OperatorFormats(activations="int8")})
    assert _layer(all_narrow).compute_format == "int8" and _layer(all_narrow).state_bits == 32
    step = with_operator_formats(_network(with_state=True), {"layers.0.scan": OperatorFormats(weights="fp16")})
    assert _layer(step).state_bits == 16 and step.tensor("layers.0.scan.state").number_format == "fp16"
    with pytest.raises(InputError, match='unknown tensor; given "y"'):
        with_operator_formats(stream, {"layers.0.scan": OperatorFormats(activations="y=int8")})
    with pytest.raises(InputError, match='unknown tensor; given "x"'):
        with_operator_formats(stream, {"layers.0.in_proj": OperatorFormats(activations="x=int8")})


@pytest.mark.parametrize("head_dim", [0, 16])
def test_bits_of_scans_are_searched(head_dim: int) -> None:
    """The narrowest that the budget asks for, of the state and of the inputs one by one."""
    stream = _network(head_dim, with_state=True)
    (scan,) = [one for one in stream.operators if one.of_kind.tensors]
    options = [
        ("fp32", "fp16", 0.0),
        ("fp16", "fp16", 0.1),
        ("fp16", APART, 0.3),
        ("fp16", "int8", 0.9),
        ("int8", "int8", 9.0),
    ]
    keys = ("weights", "activations", "sensitivity")
    table = sensitivity_from_data(
        {
            "schema": "tilewright.sensitivity", "version": 1, "network": "small", "measured_by": "made up",
            "layers": [{"name": scan.name, "n_weights": 0, "macs": scan.macs,
                        "options": [dict(zip(keys, one, strict=True)) for one in options]}],
        },
        name="table",
    )  # fmt: skip
    machine = tilewright.load_machine("edge-16x16")
    n_states = scan.count("heads") * scan.count("key_dim") * scan.count("value_dim")
    costs = {}
    for share in (1.0, 0.999, 0.9):
        found = search_bits(stream, machine, table, f"dram={share}x")
        costs[found.problem.by_layer(found.chosen.assignment)[scan.name].label] = found.chosen.costs["dram"]
    assert list(costs)[:2] == ["fp32/fp16", "fp16/fp16"]
    assert costs["fp32/fp16"] - costs["fp16/fp16"] == 2 * 2 * n_states  # read and written
