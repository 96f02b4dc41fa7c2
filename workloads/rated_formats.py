"""A network in a number format that a machine multiplies, where nobody asked for the one that it has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tilewright.formats import element_format, format_bits
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["FORMAT_NOTE", "own_format", "with_rated_formats"]

#: How the assumption begins that says which format was taken.
FORMAT_NOTE = "number format: "

_FLOATS = ("fp64", "fp32", "bf16", "fp16")


def own_format(rated: Collection[str], given: str) -> str:
    """``given``, or the machine's own where it is a floating-point format that the machine does not multiply."""
    return _widest(rated) if given in _FLOATS and given not in rated and rated else given


def _widest(rated: Collection[str]) -> str:
    return next((name for name in ("fp16", "bf16") if name in rated), max(rated, key=format_bits))


def with_rated_formats(
    stream: OperatorStream, rated: Collection[str], keep: Collection[str] = ()
) -> tuple[OperatorStream, str]:
    """``stream`` with tensors in a floating-point format that is not ``rated`` in the machine's own, and a note of it.

    Only formats in which products multiply are looked at, and those in ``keep``, which somebody asked for, stay. The
    machine's own is fp16, then bf16, then its widest. The note is empty where nothing changed.
    """
    operands = {
        element_format(stream.base(name).number_format)
        for operator in stream.operators
        if operator.of_kind.n_operands
        for name in operator.inputs[:2]
    }
    foreign = [name for name in _FLOATS if name in operands and name not in rated and name not in keep]
    if not foreign or not rated:
        return stream, ""
    own = _widest(rated)
    tensors = tuple(
        replace(spec, number_format=own) if spec.number_format in foreign else spec for spec in stream.tensors
    )
    note = (
        f"{FORMAT_NOTE}{own}, the machine's own, instead of {' and '.join(foreign)}, for which it has no multiply rate "
        "(others are given with weights and activations)"
    )
    return replace(stream, tensors=tensors), note
