"""What every extractor shares: patterns found, constants folded, masks read, unknown operators named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.workloads.extract import emit
from tilewright.workloads.extract.draft import Draft
from tilewright.workloads.extract.masks import _band_of, _visible
from tilewright.workloads.extract.simplify import simplify
from tilewright.workloads.extract.unknown import Unknown
from tilewright.workloads.kinds import KINDS, OperatorKind, register_kind
from tilewright.workloads.stream.graph import OperatorStream


class Sketch(Draft):
    """A draft that is quick to write: every method returns the name of its result."""

    def given(self, name: str, *shape: int) -> str:
        self.inputs.append(self.value(name, shape, "fp32"))
        return self.inputs[-1]

    def weight(self, name: str, *shape: int) -> str:
        return self.value(name, shape, "fp32", "weight")

    def number(self) -> str:
        return self.value("number", (), "fp32", "constant")

    def each(self, function: str, *inputs: str) -> str:
        shape = max((self.shape(name) for name in inputs), key=lambda one: (len(one), one))
        out = self.value(function, shape, "fp32")
        emit.emit_elementwise(self, function, function, inputs, out)
        return out

    def mean(self, x: str) -> str:
        out = self.value("mean", (*self.shape(x)[:-1], 1), "fp32")
        emit.emit_reduction(self, "mean", "mean", x, out)
        return out

    def product(self, a: str, b: str) -> str:
        out = self.value("product", (*self.shape(a)[:-1], self.shape(b)[-1]), "fp32")
        emit.emit_matmul(self, "product", a, b, out)
        return out

    def softmax(self, x: str) -> str:
        out = self.value("softmax", self.shape(x), "fp32")
        emit.emit_softmax(self, "softmax", x, out, -1)
        return out

    def simple(self, *outputs: str) -> OperatorStream:
        self.outputs = list(outputs)
        simplify(self)
        return self.finish(source="a test")


def functions(stream: OperatorStream) -> list[str]:
    return [f"{op.kind} {op.text('function')}".strip() for op in stream.operators]


# --- patterns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("squared", ["pow", "mul"])
@pytest.mark.parametrize("root", ["sqrt", "rsqrt", "reciprocal"])
def test_a_written_out_layer_norm_is_one(squared: str, root: str) -> None:
    d = Sketch("norm")
    x = d.given("x", 2, 8)
    y = d.each("sub", x, d.mean(x))
    square = d.each("pow", y, d.number()) if squared == "pow" else d.each("mul", y, y)
    spread = d.each("add", d.mean(square), d.number())
    if root == "sqrt":
        z = d.each("div", y, d.each("sqrt", spread))
    else:
        z = d.each(
            "mul", y, d.each("rsqrt", spread) if root == "rsqrt" else d.each("reciprocal", d.each("sqrt", spread))
        )
    z = d.each("add", d.each("mul", z, d.weight("gain", 8)), d.weight("shift", 8))
    stream = d.simple(z)
    assert functions(stream) == ["norm layer"]
    assert stream.operators[0].inputs == ("x", "gain", "shift")
    assert [stream.operators[0].count(key) for key in ("rows", "columns")] == [2, 8]


def test_a_written_out_rms_norm_keeps_its_weight_and_leaves_the_residual() -> None:
    d = Sketch("norm")
    x = d.given("x", 2, 8)
    y = d.each("mul", x, d.each("rsqrt", d.each("add", d.mean(d.each("pow", x, d.number())), d.number())))
    z = d.each("add", d.each("mul", d.weight("gain", 8), y), x)
    stream = d.simple(z)
    assert functions(stream) == ["norm rms", "elementwise add"]
    assert stream.operators[0].inputs == ("x", "gain")


@pytest.mark.parametrize("order", ["half first", "half last", "half of x"])
def test_a_written_out_gelu_is_one(order: str) -> None:
    d = Sketch("gelu")
    x = d.given("x", 4, 8)
    gate = d.each("add", d.each("erf", d.each("div", x, d.number())), d.number())
    if order == "half first":
        y = d.each("mul", x, d.each("mul", gate, d.number()))
    elif order == "half last":
        y = d.each("mul", d.each("mul", x, gate), d.number())
    else:
        y = d.each("mul", d.each("mul", x, d.number()), gate)
    assert functions(d.simple(y)) == ["elementwise gelu"]


def test_a_written_out_tanh_gelu_and_silu_are_one_each() -> None:
    d = Sketch("gates")
    x = d.given("x", 4, 8)
    cubed = d.each("mul", d.each("pow", x, d.number()), d.number())
    inner = d.each("mul", d.each("add", x, cubed), d.number())
    y = d.each("mul", d.each("mul", x, d.number()), d.each("add", d.each("tanh", inner), d.number()))
    z = d.each("mul", y, d.each("sigmoid", y))
    assert functions(d.simple(z)) == ["elementwise gelu_tanh", "elementwise silu"]


def test_a_gate_on_something_else_is_left_alone() -> None:
    d = Sketch("gated")
    y = d.each("mul", d.given("x", 4, 8), d.each("sigmoid", d.given("gate", 4, 8)))
    assert functions(d.simple(y)) == ["elementwise sigmoid", "elementwise mul"]


def test_rotary_embedding_is_one() -> None:
    d = Sketch("rotary")
    x = d.given("x", 2, 8)
    cosine, sine = (d.value(name, (2, 8), "fp32", "constant") for name in ("cos", "sin"))
    halves = [d.view("half", x, (2, 4), "part") for _ in range(2)]
    turned = d.value("turned", (2, 8), "fp32")
    d.step("reshape", "turn", [d.each("neg", halves[1]), halves[0]], [turned], {"function": "concat"})
    stream = d.simple(d.each("add", d.each("mul", x, cosine), d.each("mul", turned, sine)))
    assert functions(stream) == ["elementwise rotary"]
    assert stream.operators[0].inputs == ("x", "cos", "sin")


def test_a_written_out_attention_is_one_with_shared_heads_and_causal_mask() -> None:
    d = Sketch("attention")
    q, k, v = d.given("q", 1, 4, 6, 8), d.given("k", 1, 2, 6, 8), d.given("v", 1, 2, 6, 8)
    wide = [d.view("wide", d.view("pair", one, (1, 2, 2, 6, 8), "expand"), (1, 4, 6, 8)) for one in (k, v)]
    turned = d.view("turned", wide[0], (1, 4, 8, 6))
    hidden = np.triu(np.full((6, 6), -np.inf, dtype=np.float32), k=1)
    mask = d.value("mask", (6, 6), "fp32", "constant", data=lambda: hidden)
    scores = d.each("add", d.each("div", d.product(q, turned), d.number()), mask)
    stream = d.simple(d.product(d.softmax(scores), wide[1]))
    assert functions(stream) == ["attention"]
    operator = stream.operators[0]
    assert [operator.count(key) for key in ("query_heads", "kv_heads", "query_len", "head_dim")] == [4, 2, 6, 8]
    assert operator.text("mask") == "causal"
    assert stream.read_bytes(operator) == 4 * (4 + 2 + 2) * 48
    assert stream.macs == 4 * 21 * 16


def test_a_mask_that_is_computed_stays_an_input() -> None:
    d = Sketch("attention")
    q, k, v = (d.given(name, 1, 2, 6, 8) for name in "qkv")
    scores = d.each("add", d.product(q, d.view("turned", k, (1, 2, 8, 6))), d.given("mask", 1, 1, 6, 6))
    stream = d.simple(d.product(d.softmax(scores), v))
    assert functions(stream) == ["attention"]
    assert len(stream.operators[0].inputs) == 4


def test_a_softmax_that_is_read_twice_is_left_alone() -> None:
    d = Sketch("attention")
    q, k, v = (d.given(name, 1, 2, 6, 8) for name in "qkv")
    weights = d.softmax(d.product(q, d.view("turned", k, (1, 2, 8, 6))))
    assert functions(d.simple(d.product(weights, v), weights)) == ["matmul", "softmax", "matmul"]


# --- folding --------------------------------------------------------------------------------------------------------


def test_an_added_row_is_a_bias_and_another_sum_is_not() -> None:
    d = Sketch("bias")
    x = d.given("x", 2, 8)
    y = d.each("add", d.product(x, d.weight("w1", 8, 8)), d.weight("row", 8))
    z = d.each("add", d.product(y, d.weight("w2", 8, 8)), x)
    stream = d.simple(z)
    assert functions(stream) == ["matmul", "matmul", "elementwise add"]
    assert stream.operators[0].inputs == ("x", "w1", "row")


def test_what_is_known_beforehand_is_folded_and_what_nobody_reads_is_dropped() -> None:
    d = Sketch("known")
    x = d.given("x", 4, 8)
    table = d.each("mul", d.weight("w", 8, 8), d.number())
    d.each("exp", x)
    stream = d.simple(d.product(x, table))
    assert functions(stream) == ["matmul"]
    assert stream.n_weights == 64


def test_a_result_that_is_only_read_after_a_cast_is_written_so() -> None:
    d = Sketch("cast")
    y = d.product(d.given("x", 4, 8), d.weight("w", 8, 8))
    stream = d.simple(d.view("half", y, (4, 8), "cast", "fp16"))
    assert stream.tensor(stream.operators[0].outputs[0]).number_format == "fp16"


# --- masks ----------------------------------------------------------------------------------------------------------


def read_mask(data: np.ndarray, rows: int, keys: int) -> dict[str, object] | None:
    """The band that a mask in numbers is, None when it is none."""
    plane = _visible(data, keys)
    return None if plane is None else _band_of([plane], rows, keys)


def test_masks_are_read_from_their_numbers() -> None:
    ones = np.ones((4, 6), dtype=bool)
    position = np.arange(4)[:, None] + 2
    keys = np.arange(6)[None, :]
    assert read_mask(ones, 4, 6) == {"mask": "none"}
    assert read_mask(keys <= position, 4, 6) == {"mask": "causal"}
    assert read_mask((keys <= position) & (keys >= position - 1), 4, 6) == {
        "mask": "banded",
        "window_left": 1,
        "window_right": 0,
    }
    assert read_mask(np.where(keys <= position, 0.0, -1e9)[None, None], 4, 6) == {"mask": "causal"}


def test_masks_that_are_no_band_are_not_read() -> None:
    holes = np.ones((4, 6), dtype=bool)
    holes[2, 3] = False
    assert read_mask(holes, 4, 6) is None
    assert read_mask(np.full((4, 6), 0.5), 4, 6) is None
    different = np.stack([np.ones((4, 6), dtype=bool), holes])
    assert read_mask(different, 4, 6) is None


# --- unknown operators ----------------------------------------------------------------------------------------------


def test_unknown_operators_are_named_with_their_place() -> None:
    d = Sketch("net")
    x, out = d.given("x", 4, 8), d.value("y", (4, 8), "fp32")
    choice = Unknown("net", "error")
    choice.handle(d, "Fancy", "layers.3.odd", [x], [out])
    choice.handle(d, "Fancy", "layers.4.odd", [x], [d.value("z", (4, 8), "fp32")])
    with pytest.raises(InputError, match=r"net: operators not understood: Fancy at layers\.3\.odd and 1 more; allowed"):
        choice.complain()


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("memory", ["memory Fancy"]), ({"Fancy": "elementwise:tanh"}, ["elementwise tanh"]), ({"Fancy": "view"}, [])],
)
def test_unknown_operators_are_counted_or_mapped(choice: str | dict[str, str], expected: list[str]) -> None:
    d = Sketch("net")
    x, out = d.given("x", 4, 8), d.value("y", (4, 8), "fp32")
    unknown = Unknown("net", choice)
    unknown.handle(d, "Fancy", "odd", [x], [out])
    unknown.complain()
    stream = d.simple(out)
    assert functions(stream) == expected
    if choice == "memory":
        assert stream.read_bytes(stream.operators[0]) == stream.write_bytes(stream.operators[0]) == 128


def test_unknown_operators_are_mapped_to_kinds_that_find_their_attributes_in_shapes() -> None:
    def of_shapes(inputs: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> dict[str, int]:
        return {"steps": shape[-1], "n_inputs": len(inputs)}

    with KINDS.only_for_now():
        register_kind(
            OperatorKind(name="scan", attributes={"steps": "count", "n_inputs": "count"}, of_shapes=of_shapes)
        )
        d = Sketch("net")
        x, out = d.given("x", 4, 8), d.value("y", (4, 8), "fp32")
        unknown = Unknown("net", {"Fancy": "kind:scan"})
        unknown.handle(d, "Fancy", "odd", [x], [out])
        unknown.complain()
        (operator,) = d.simple(out).operators
        assert (operator.kind, dict(operator.attributes)) == ("scan", {"steps": 8, "n_inputs": 1})
    with pytest.raises(InputError, match=r'Fancy: is no operator kind that finds .* in shapes; given "scan"'):
        Unknown("net", {"Fancy": "kind:scan"})


def test_a_choice_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="allowed error, memory, or a mapping"):
        Unknown("net", "drop")
    with pytest.raises(InputError, match="Fancy: given"):
        Unknown("net", {"Fancy": "nothing"})


def test_all_others_may_be_counted_beside_a_choice_by_name_but_attention_is_named() -> None:
    d = Sketch("net")
    x = d.given("x", 4, 8)
    names = ("Fancy", "Other", "FlashAttention")
    outs = [d.value(name, (4, 8), "fp32") for name in names]
    unknown = Unknown("net", {"Fancy": "elementwise:tanh", "*": "memory"})
    for name, out in zip(names, outs, strict=True):
        unknown.handle(d, name, f"at.{name}", [x], [out])
    with pytest.raises(
        InputError, match=r"net: operators not understood: FlashAttention at at\.FlashAttention; allowed"
    ):
        unknown.complain()
    assert [step.function for step in d.steps[:2]] == ["tanh", "Other"]


def test_a_choice_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(InputError, match=r'Fancy: unknown function; given "gellu"; allowed add.*did you mean "gelu"'):
        Unknown("net", {"Fancy": "elementwise:gellu"})
    unknown = Unknown("net", {"Fancy": "view"})
    unknown.wanted("Fance")
    with pytest.raises(
        InputError,
        match=r'no operator of this name in the model; given "Fancy"; allowed Fance \(did you mean "Fance"\?\)',
    ):
        unknown.complain()


# --- products -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "sizes"),
    [
        ((5, 3), (3, 4), (1, 5, 3, 4)),
        ((2, 5, 3), (3, 4), (1, 10, 3, 4)),
        ((2, 5, 3), (2, 3, 4), (2, 5, 3, 4)),
        ((2, 1, 5, 3), (7, 3, 4), (14, 5, 3, 4)),
        ((3,), (3, 4), (1, 1, 3, 4)),
        ((5, 3), (3,), (1, 5, 3, 1)),
    ],
)
def test_products_follow_the_rules_of_numpy(a: tuple[int, ...], b: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    d = Sketch("product")
    result = np.matmul(np.zeros(a), np.zeros(b)).shape
    out = d.value("out", result, "fp32")
    emit.emit_matmul(d, "product", d.given("a", *a), d.given("b", *b), out)
    d.outputs = [out]
    operator = d.finish(source="").operators[0]
    assert tuple(operator.count(key) for key in ("batch", "m", "k", "n")) == sizes


def test_einsum_of_two_tensors_is_a_product() -> None:
    d = Sketch("einsum")
    out = d.value("out", (2, 4, 5, 7), "fp32")
    assert emit.emit_einsum(d, "e", "bhqd,bhkd->bhqk", [d.given("q", 2, 4, 5, 6), d.given("k", 2, 4, 7, 6)], out)
    d.outputs = [out]
    operator = d.finish(source="").operators[0]
    assert [operator.count(key) for key in ("batch", "m", "k", "n")] == [8, 5, 6, 7]
    assert not emit.emit_einsum(d, "e", "ij,jk,kl->il", [], out)
