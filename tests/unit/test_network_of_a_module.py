"""A PyTorch module goes straight into the questions; a machine's own format stands in; layers are found by place."""

from __future__ import annotations

from typing import Any

import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.bits.choose import search_bits
from tilewright.search.bits.matching import matched
from tilewright.search.bits.sensitivity import LayerSensitivity, OptionSensitivity, Sensitivity
from tilewright.workloads.network import network_stream
from tilewright.workloads.rated_formats import FORMAT_NOTE, with_rated_formats

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[torch]'")

from torch import nn  # noqa: E402

pytestmark = pytest.mark.extras
MACHINE = "edge-16x16"


class Twice(nn.Module):  # type: ignore[misc]
    """Two layers, the second of which is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(16, 32)
        self.second = nn.Linear(32, 32)

    def forward(self, x: Any, y: Any = None) -> Any:
        found = self.second(torch.relu(self.second(self.first(x))))
        return found if y is None else found + y


def table(*names: str) -> Sensitivity:
    options = tuple(
        OptionSensitivity(weights=weights, activations="fp16", sensitivity=cost)
        for weights, cost in (("fp16", 0.0), ("int8", 1.0))
    )
    layers = tuple(
        LayerSensitivity(name=name, n_weights=1024 if name == "second" else 512, macs=512, options=options)
        for name in names
    )
    return Sensitivity(network="twice", measured_by="a test", layers=layers)


def simulated(network: Any, **options: Any) -> Any:
    return tilewright.simulate_network(network, MACHINE, keep_mappings=False, **options)


def test_a_module_is_simulated_with_its_inputs_in_any_form() -> None:
    x = torch.zeros(4, 16)
    one = simulated(Twice(), inputs=x)
    assert one.macs == 4 * (16 * 32 + 2 * 32 * 32)
    assert simulated(Twice(), inputs=[x]).cycles == simulated(Twice(), inputs={"x": x}).cycles == one.cycles
    assert simulated(Twice(), inputs=(x, torch.zeros(4, 32))).macs == one.macs


@pytest.mark.parametrize(
    ("network", "inputs", "says"),
    [
        (Twice(), None, "Twice: inputs: missing; a PyTorch module needs the tensors that it is called with"),
        ("resnet-18", 1, "inputs: are for PyTorch modules; given str"),
        (7, None, "network: given int; allowed a name, a file, an operator stream or a PyTorch module"),
    ],
)
def test_what_is_neither_is_refused(network: Any, inputs: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        simulated(network, inputs=inputs)


def test_the_machines_own_format_is_taken_and_said_unless_another_was_asked_for() -> None:
    found = simulated(Twice(), inputs=torch.zeros(4, 16))
    assert found.assumptions[0].startswith(f"{FORMAT_NOTE}fp16, the machine's own, instead of fp32")
    assert found.stream is not None
    assert {tensor.number_format for tensor in found.stream.tensors} == {"fp16"}
    asked = simulated(Twice(), inputs=torch.zeros(4, 16), weights="int8", activations="int8")
    assert not any(text.startswith(FORMAT_NOTE) for text in asked.assumptions)
    with pytest.raises(InputError, match='no multiply rate for this number format; given "fp32"'):
        simulated(Twice(), inputs=torch.zeros(4, 16), weights="fp32", activations="fp32")


def test_a_machine_of_integers_takes_those() -> None:
    stream = network_stream("resnet-18:image=32")
    assert with_rated_formats(stream, ["fp16"]) == (stream, "")
    whole, note = with_rated_formats(stream, load_machine("eyeriss").matrix.multiplies_per_pe_per_cycle)
    assert note.startswith(f"{FORMAT_NOTE}int16, the machine's own, instead of fp16")
    assert {tensor.number_format for tensor in whole.tensors} <= {"int16", "int32"}
    assert with_rated_formats(stream, ["int16"], keep=["fp16"]) == (stream, "")


def test_layers_are_found_by_the_place_of_their_module() -> None:
    stream = network_stream(nn.ModuleDict({"net": Twice()})["net"], torch.zeros(4, 16))
    assert matched(table("first"), stream).layers[0].operator_names == ("first",)
    assert matched(table("model.first"), stream).layers[0].operator_names == ("first",)
    assert matched(table("second"), stream).layers[0].operator_names == ("second", "second_2")
    wrapped = network_stream(nn.Sequential(nn.Identity(), Twice()), torch.zeros(4, 16))
    assert matched(table("first"), wrapped).layers[0].operator_names == ("1.first",)


def test_layers_that_are_not_found_are_listed_with_those_that_are_there() -> None:
    stream = network_stream(Twice(), torch.zeros(4, 16))
    with pytest.raises(InputError, match=r'\(third, forth\); given "third"; allowed first, second'):
        matched(table("first", "third", "forth"), stream)


def test_a_module_goes_into_the_search_for_bits() -> None:
    module = Twice()
    result = search_bits(module, MACHINE, table("first", "second"), "size=0.75x", inputs=torch.zeros(4, 16))
    assert {row["layer"]: row["weights"] for row in result.rows()} == {"first": "fp16", "second": "int8"}
