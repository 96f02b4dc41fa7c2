"""Formats of an operator's tensors one by one, as text: ``x=int8,B=int8,C=fp16`` of a scan (dt as it is)."""

from __future__ import annotations

from fractions import Fraction

from tilewright.errors import InputError, unknown
from tilewright.formats import bits_per_element, element_format, format_bits, tensor_format
from tilewright.workloads.operators import Operator

__all__ = ["by_tensor", "check_formats", "element_bits", "mean_bits", "operand_formats"]


def by_tensor(text: str) -> dict[str, str]:
    """Formats by the names of tensors; empty for a text that is one format for all."""
    if "=" not in text:
        return {}
    found: dict[str, str] = {}
    for item in text.split(","):
        name, equals, given = (part.strip() for part in item.partition("="))
        if not equals or not name or name in found:
            raise InputError(f'formats: given "{text}"; allowed one format, or NAME=FORMAT for each tensor once')
        found[name] = given
    return found


def check_formats(text: str) -> None:
    """Refuse a text that is neither a format nor formats by tensor."""
    for one in by_tensor(text).values() or (text,):
        tensor_format(one)


def mean_bits(text: str) -> Fraction:
    """Bits of an element, of several tensors their mean."""
    formats = list(by_tensor(text).values()) or [text]
    return sum((Fraction(bits_per_element(one)) for one in formats), Fraction(0)) / len(formats)


def element_bits(text: str) -> int:
    """Bits of the widest element that is multiplied."""
    return max(format_bits(element_format(one)) for one in by_tensor(text).values() or (text,))


def operand_formats(operator: Operator, text: str) -> dict[str, str]:
    """The format of each operand that ``text`` says one of, by the operand's name in the stream.

    Raises InputError for names of tensors that the operator does not have.
    """
    operands = operator.inputs[: operator.of_kind.n_operands]
    named = by_tensor(text)
    if not named:
        return dict.fromkeys(operands, text)
    places = dict(zip(operator.of_kind.tensors, operands, strict=False))
    for name in named:
        if name not in places:
            raise unknown("tensor", name, places, place=f"{operator.name}: formats", shown="one format for all")
    return {places[name]: one for name, one in named.items()}
