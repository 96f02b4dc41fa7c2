"""Formats chosen operator by operator: what is stored, what is multiplied, what is refused; formats an array lacks."""

from __future__ import annotations

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.matrix_unit import holding_format
from tilewright.search.mapping_cache import ForgetfulCache
from tilewright.search.network import simulate_stream
from tilewright.sim.jobs import jobs_of
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.stream.formats import OperatorFormats, with_operator_formats
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers


def residual() -> OperatorStream:
    """x -> first -> relu -> second -> added to x -> third."""
    b = Layers("residual", activations="int8", weights="int8")
    x = b.input("x", (64, 64))
    y = b.linear(b.elementwise("relu", b.linear(x, 64, "first")), 64, "second")
    return b.finish([b.linear(b.elementwise("add", y, x), 64, "third")])


NARROW = OperatorFormats(weights="int4", activations="int4")


def products(stream: OperatorStream) -> list[GemmLayer]:
    return [job.layer for job in jobs_of(stream) if isinstance(job.layer, GemmLayer)]


def test_a_tensor_with_one_reader_is_stored_as_it_is_multiplied() -> None:
    first, second, third = products(with_operator_formats(residual(), {"second": NARROW}))
    assert (first.out_bits, second.a_bits, second.b_bits, second.compute_format) == (4, 4, 4, "int4")
    assert (first.compute_format, third.compute_format) == ("int8", "int8")


def test_a_tensor_that_others_read_stays_wide_and_is_narrowed_as_it_is_loaded() -> None:
    stream = with_operator_formats(residual(), {"first": NARROW})
    first = products(stream)[0]
    assert stream.tensor("x").number_format == "int8"
    assert (first.a_bits, first.b_bits, first.compute_format) == (8, 4, "int4")


def test_the_widest_wish_decides_and_every_wish_may_be_wider_than_the_stream() -> None:
    b = Layers("two", activations="int4", weights="int4")
    x = b.input("x", (8, 32))
    two = b.finish([b.linear(x, 8, "a"), b.linear(x, 8, "b")])
    wide = OperatorFormats(activations="int8")
    stream = with_operator_formats(two, {"a": wide, "b": NARROW})
    assert stream.tensor("x").number_format == "int8"
    assert [layer.compute_format for layer in products(stream)] == ["int8", "int4"]


def test_formats_that_say_nothing_leave_the_stream_as_it_is() -> None:
    assert with_operator_formats(residual(), {}) == residual()
    assert with_operator_formats(residual(), {"first": OperatorFormats()}) == residual()


@pytest.mark.parametrize(
    ("formats", "said"),
    [
        ({"frist": NARROW}, 'unknown operator; given "frist"; .*\\(did you mean "first"'),
        ({"add": NARROW}, "add: kind elementwise has no format to choose"),
        ({"first": OperatorFormats(weights="int99")}, "unknown number format"),
    ],
)
def test_wrong_formats_are_refused(formats: dict[str, OperatorFormats], said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_operator_formats(residual(), formats)


def test_the_format_that_holds_every_value() -> None:
    unit = load_machine("edge-16x16").matrix  # fp16, bf16, int8
    held = {name: holding_format(unit, name) for name in ("int8", "int4", "int6", "int9", "int11", "int12", "fp32")}
    assert held == {
        "int8": "int8", "int4": "int8", "int6": "int8", "int9": "bf16", "int11": "fp16", "int12": "fp16", "fp32": None,
    }  # fmt: skip
    assert holding_format(unit, "fp4_e2m1") == "bf16"  # fp16 holds it at the same rate: the first by name


def test_a_format_that_the_array_lacks_runs_wider_where_that_is_asked_for() -> None:
    machine, narrow = load_machine("edge-16x16"), residual().with_formats(weights="int4", activations="int4")
    with pytest.raises(InputError, match='no multiply rate for this number format; given "int4"'):
        simulate_stream(narrow, machine, cache=ForgetfulCache())
    wide = simulate_stream(residual(), machine, cache=ForgetfulCache())
    held = simulate_stream(narrow, machine, widen=True, cache=ForgetfulCache())
    assert held.dram_bytes == wide.dram_bytes // 2
    assert (
        "a product in a format that the array lacks is done in the narrowest that holds its values" in held.assumptions
    )
