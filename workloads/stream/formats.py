"""Number formats of a stream chosen operator by operator.

A product names the format of its weights and the format in which it multiplies its activations. A tensor that several
operators read is stored once, in the widest format that a reader asks for; an operator that names none asks for the
format that the stream already has. A reader that asks for a narrower one narrows the values as it loads them, at no
cost (a rounded shift in the load path): its traffic is that of the stored format, its products those of the narrow one.

A scan has a state in place of weights, and may name formats of its inputs one by one (``x=int8,B=int8,C=fp16``); parts
of one tensor that it reads are then stored in formats of their own, at most as wide as that of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tilewright.errors import InputError, unknown
from tilewright.formats import bits_per_element, element_format, tensor_format
from tilewright.workloads.kinds import KINDS
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.stream.tensor_formats import by_tensor, check_formats, operand_formats

__all__ = ["FORMAT_ASSUMPTIONS", "OperatorFormats", "activations_of", "with_operator_formats"]

FORMAT_ASSUMPTIONS = (
    "a tensor is stored in the widest format that a reader asks for; a reader that multiplies in a narrower one "
    "narrows the values as it loads them, at no cost",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFormats:
    """Formats of one product: of its weights (second operand where that is a weight) and its activations.

    Of a scan: of its state, and of its inputs, all or one by one. None leaves what the stream has.
    """

    weights: str | None = None
    activations: str | None = None


def with_operator_formats(stream: OperatorStream, formats: Mapping[str, OperatorFormats]) -> OperatorStream:
    """``stream`` with the operators named in ``formats`` in formats of their own.

    Raises InputError for an operator that is none or multiplies nothing, for an unknown format, and for a weight that
    two operators share and want in different formats.
    """
    known = {operator.name: operator for operator in stream.operators}
    for name, wanted in formats.items():
        _check(stream, known, name, wanted)
    weights = _weights(stream, known, formats)
    asked = _asked(stream, formats)
    stored = {name: max(given, key=_width) for name, given in asked.items()}
    stored |= weights
    parts = _parts(stream, known, formats)
    tensors = tuple(
        replace(spec, number_format=parts.get(spec.name) or stored.get(stream.base(spec.name).name, spec.number_format))
        for spec in stream.tensors
    )
    operators = tuple(_narrowed(stream, operator, formats, stored) for operator in stream.operators)
    return replace(stream, tensors=tensors, operators=operators)


def _check(stream: OperatorStream, known: Mapping[str, Operator], name: str, wanted: OperatorFormats) -> None:
    operator = known.get(name)
    if operator is None:
        raise unknown("operator", name, known, place=stream.name, shown="the name of an operator")
    if not operator.of_kind.n_operands:
        multiply = ", ".join(kind.name for kind in KINDS.values() if kind.n_operands)
        raise InputError(f"{stream.name}: {name}: kind {operator.kind} has no format to choose; allowed {multiply}")
    if wanted.weights is not None:
        tensor_format(wanted.weights)
    if wanted.activations is not None:
        check_formats(wanted.activations)
        operand_formats(operator, wanted.activations)


def activations_of(stream: OperatorStream, operator: Operator) -> set[str]:
    """The stored activations that ``operator`` multiplies; nothing for one that multiplies nothing."""
    operands = operator.inputs[: operator.of_kind.n_operands]
    return {stream.base(name).name for name in operands if stream.base(name).role == "activation"}


def _weights(
    stream: OperatorStream, known: Mapping[str, Operator], formats: Mapping[str, OperatorFormats]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, wanted in formats.items():
        is_scan = bool(known[name].of_kind.tensors)
        held = _state(known[name]) if is_scan else known[name].inputs[1]
        if wanted.weights is None or not held:
            continue
        base = stream.base(held)
        if base.role != "weight" and not is_scan:
            continue
        if found.setdefault(base.name, wanted.weights) != wanted.weights:
            raise InputError(
                f"{stream.name}: {name}: its weight {base.name} is shared and wanted in {found[base.name]} and in "
                f"{wanted.weights}; allowed one format (tie the layers)"
            )
    return found


def _asked(stream: OperatorStream, formats: Mapping[str, OperatorFormats]) -> dict[str, list[str]]:
    """For each activation that some operator with a format reads: what its readers ask for."""
    asked: dict[str, list[str]] = {}
    chosen: set[str] = set()
    outside = {stream.base(name).name for name in stream.outputs}
    for operator in stream.operators:
        wanted = formats.get(operator.name)
        own = _wanted_by(stream, operator, wanted.activations) if wanted and wanted.activations else {}
        for name in dict.fromkeys(stream.base(name).name for name in operator.inputs):
            base = stream.base(name)
            if base.role != "activation":
                continue
            if name in own:
                asked.setdefault(name, []).append(own[name])
                chosen.add(name)
            else:
                asked.setdefault(name, []).append(base.number_format)
    return {
        name: given + ([stream.tensor(name).number_format] if name in outside else [])
        for name, given in asked.items()
        if name in chosen
    }


def _wanted_by(stream: OperatorStream, operator: Operator, text: str) -> dict[str, str]:
    """The format in which ``operator`` asks for each stored activation: of several parts of one the widest."""
    own = activations_of(stream, operator)
    found: dict[str, str] = {}
    for name, one in operand_formats(operator, text).items():
        base = stream.base(name).name
        if base in own:
            found[base] = max(found.get(base, one), one, key=_width)
    return found


def _state(operator: Operator) -> str:
    """The tensor that is a scan's state: its last input, or its second result; empty where it is neither."""
    if operator.attributes.get("state"):
        return operator.inputs[-1]
    return operator.outputs[1] if len(operator.outputs) > 1 else ""


def _parts(
    stream: OperatorStream, known: Mapping[str, Operator], formats: Mapping[str, OperatorFormats]
) -> dict[str, str]:
    """Formats of the parts of stored tensors that scans name one by one."""
    found: dict[str, str] = {}
    for name, wanted in formats.items():
        if wanted.activations is not None and by_tensor(wanted.activations):
            own = operand_formats(known[name], wanted.activations)
            found |= {part: one for part, one in own.items() if stream.tensor(part).view_of is not None}
    return found


def _width(name: str) -> tuple[float, str]:
    return float(bits_per_element(name)), name


def _narrowed(
    stream: OperatorStream, operator: Operator, formats: Mapping[str, OperatorFormats], stored: Mapping[str, str]
) -> Operator:
    """``operator`` with the format that it multiplies its activations in, where they are stored in another."""
    wanted = formats.get(operator.name)
    if wanted is not None and wanted.weights is not None and operator.of_kind.tensors:
        return replace(operator, attributes={**operator.attributes, "state_format": wanted.weights})
    if wanted is None or wanted.activations is None or not operator.of_kind.is_product:
        return operator
    element = element_format(wanted.activations)
    names = activations_of(stream, operator)
    if all(element_format(stored.get(name, stream.base(name).number_format)) == element for name in names):
        return operator
    return replace(operator, attributes={**operator.attributes, "activations_as": element})
