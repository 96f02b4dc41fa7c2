"""Quantised numbers in ONNX graphs: which format a tensor has with its scales, and quantise steps that do nothing.

Two spellings mean the same: QuantizeLinear and DequantizeLinear around operators of floating-point numbers, and
operators of whole numbers (QLinearConv, MatMulNBits, QGemm, ...). Both become the product of the stored formats with a
quantise step behind it. Scales and zero points of single numbers are not counted; those of channels and blocks are
part of the weight's format.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tilewright.formats import tensor_format
from tilewright.workloads.extract.draft import INDEX_FORMAT, Draft, Step
from tilewright.workloads.extract.onnx_values import GraphValues

if TYPE_CHECKING:
    from tilewright.workloads.extract.onnx_nodes import NodeReader

__all__ = ["HANDLERS", "Scaling", "block_format", "settle_quantised"]

_MICROSCALED = {"fp4_e2m1": "mxfp4", "fp8_e4m3": "mxfp8_e4m3", "fp8_e5m2": "mxfp8_e5m2", "int8": "mxint8"}
_SCALE_FORMATS = ("fp16", "bf16", "fp32", "fp8_e4m3")
_LOWEST_OF_UNSIGNED = 0
_LONGEST_CHAIN = 12
_SCORE_FUNCTIONS = ("mul", "div", "add", "where", "tanh", "max")
_MOST_SCALES = 1 << 16


class Scaling(NamedTuple):
    """How whole numbers stand for others: number format, whether signed, scale and zero point; equal ones mean the
    same number.
    """

    number_format: str
    signed: bool
    scale: tuple[float, ...] | str
    zero_point: tuple[int, ...] | str

    @property
    def zero_is_lowest(self) -> bool:
        """Whether nothing below zero can be said, so that a ReLU before it changes nothing."""
        bits = tensor_format(self.number_format).element.bits
        lowest = -(1 << (bits - 1)) if self.signed else _LOWEST_OF_UNSIGNED
        return self.zero_point == (lowest,)

    @property
    def largest(self) -> float:
        """The largest number that can be said; infinite where the scale is not known."""
        if not isinstance(self.scale, tuple) or not isinstance(self.zero_point, tuple):
            return math.inf
        if len(self.scale) != 1 or len(self.zero_point) != 1:
            return math.inf
        bits = tensor_format(self.number_format).element.bits
        highest = (1 << (bits - 1)) - 1 if self.signed else (1 << bits) - 1
        return self.scale[0] * (highest - self.zero_point[0])


def block_format(values: GraphValues, element: str, scale: str, zero_point: str, block: int) -> str:
    """The tensor format of ``element`` with the stored scales ``scale`` and ``zero_point`` (empty: none), ONNX names.

    ``block`` values share a scale; with 0, a channel does, or the whole tensor where there is one scale only. A bias
    in int32 has the scale of its product, which is not stored again.
    """
    shape = values.shape_of(scale) or ()
    if math.prod(shape) <= 1 or not values.has(scale) or element == INDEX_FORMAT:
        return element
    if block and values.is_power_of_two_scale(scale) and block == 32 and element in _MICROSCALED:
        return _MICROSCALED[element]
    stored = values.format_of(scale)
    parts = [element, f"g{block}" if block else "channel"]
    if stored != "fp16":
        parts.append(stored if stored in _SCALE_FORMATS else "fp8_e4m3")
    if tensor_format(element).element.kind == "integer" and _stores_zero_points(values, zero_point):
        parts.append("asym")
    return "-".join(parts)


def _stores_zero_points(values: GraphValues, name: str) -> bool:
    """Whether zero points are stored that say something: more than one, and of signed numbers not all zero."""
    if not name or not values.has(name) or math.prod(values.shape_of(name) or ()) <= 1:
        return False
    if not values.is_signed(name):
        return True
    numbers = values.draft.numbers(values.name_of(name))
    return numbers is None or bool((numbers != 0).any())


def note_scales(values: GraphValues, names: Sequence[str]) -> None:
    """Scales and zero points are not trained: they are constants, and part of the format of what they scale."""
    for name in names:
        if name and values.has(name):
            values.measured(name)


def _scaling(values: GraphValues, scale: str, zero_point: str, number_format: str) -> Scaling:
    signed = values.is_signed(zero_point) if zero_point else False
    zero = _few_numbers(values, zero_point) if zero_point else (0,)
    return Scaling(number_format, signed, _few_numbers(values, scale), zero)


def _few_numbers(values: GraphValues, name: str) -> Any:
    """The numbers of a known tensor (one, where all are the same); its name where they are not known."""
    if not values.has(name) or math.prod(values.shape_of(name) or ()) > _MOST_SCALES:
        return name
    numbers = values.draft.numbers(values.name_of(name))
    if numbers is None:
        return name
    found = tuple(numbers.reshape(-1).tolist())
    return found[:1] if len(set(found)) == 1 else found


# --- nodes ----------------------------------------------------------------------------------------------------------


def _dequantize(reader: NodeReader, node: Any, path: str) -> None:
    """DequantizeLinear: the operand's format says it, and nothing is moved."""
    from tilewright.workloads.extract.onnx_nodes import attributes_of

    values, draft = reader.values, reader.draft
    scale, zero = node.input[1], node.input[2] if len(node.input) > 2 else ""
    source = reader.input(node, 0)
    if draft.is_known(source):
        block = int(attributes_of(node).get("block_size", 0))
        base = draft.base(source)
        base.number_format = block_format(values, values.format_of(node.input[0]), scale, zero, block)
    note_scales(values, (scale, zero))
    made = draft.view(node.output[0], source, values.shape_of(node.output[0]) or (), "cast")
    values.set_result(node.output[0], made)
    reader.scalings[made] = _scaling(values, scale, zero, values.format_of(node.input[0]))


def _quantize(reader: NodeReader, node: Any, path: str) -> None:
    """QuantizeLinear and DynamicQuantizeLinear; what is known beforehand is quantised beforehand."""
    values, draft = reader.values, reader.draft
    source, out = reader.input(node, 0), reader.new(node.output[0])
    scale, zero = ("", "") if len(node.output) > 1 else (node.input[1], node.input[2] if len(node.input) > 2 else "")
    note_scales(values, (scale, zero))
    if draft.is_known(source):
        draft.values[out].role = draft.role(source)
        return
    outputs = [out, *(reader.new(name) for name in node.output[1:] if name)]
    attributes: dict[str, Any] = {"n_elements": draft.values[out].n_elements}
    if scale:
        attributes["scaling"] = _scaling(values, scale, zero, draft.values[out].number_format)
    draft.step("quantize", path, [source], outputs, attributes)


def quantised_result(reader: NodeReader, name: str, path: str, scale: str = "", zero_point: str = "") -> str:
    """The result of the step that comes next, in floating point, with the quantise step that makes ``name`` of it.

    The quantise step is given to the draft by :func:`finish_quantised`.
    """
    out = reader.new(name)
    wide = reader.draft.value(f"{out}.sums", reader.draft.shape(out), "fp32")
    note_scales(reader.values, (scale, zero_point))
    attributes: dict[str, Any] = {"n_elements": reader.draft.values[out].n_elements}
    if scale:
        form = reader.draft.values[out].number_format
        attributes["scaling"] = _scaling(reader.values, scale, zero_point, form)
    reader.after.append(
        Step(kind="quantize", path=f"{path}.quantize", inputs=[wide], outputs=[out], attributes=attributes)
    )
    return wide


# --- steps that do nothing ------------------------------------------------------------------------------------------


def settle_quantised(draft: Draft, scalings: Mapping[str, Scaling]) -> None:
    """Take out what quantise steps make unnecessary; ``scalings``: of values that were dequantised.

    A ReLU whose negative results quantise to zero anyhow; one of two quantise steps that do the same to the same
    tensor; one that gives back the numbers it came from, moved or compared at most; and those between the two products
    of an attention, which is one step and keeps its scores to itself.
    """
    _open_attentions(draft)
    steps = [step for step in draft.steps if step.kind == "quantize" and "scaling" in step.attributes]
    makers, readers = draft.makers(), draft.readers()
    for step in steps:
        _skip_clips(draft, step, makers, readers)
    done: dict[tuple[str, Scaling], str] = {}
    for step in steps:
        scaling = step.attributes["scaling"]
        key = (draft.whole(step.inputs[0]), scaling)
        out = draft.values[step.outputs[0]]
        if key in done:
            out.view_of = done[key]
            draft.steps.remove(step)
        elif _gives_back(draft, scalings, step, makers, readers):
            draft.steps.remove(step)
        else:
            done[key] = step.outputs[0]
    for step in steps:
        step.attributes.pop("scaling", None)


def _open_attentions(draft: Draft) -> None:
    makers, readers = draft.makers(), draft.readers()
    taken: list[Step] = []
    for softmax in draft.steps:
        if softmax.kind != "softmax":
            continue
        after = readers.get(softmax.outputs[0], [])
        behind = readers.get(after[0].outputs[0], []) if len(after) == 1 and after[0].kind == "quantize" else after
        if len(behind) != 1 or behind[0].kind != "matmul" or draft.is_known(behind[0].inputs[1]):
            continue
        before = _quantised_scores(draft, makers, readers, softmax.inputs[0], _LONGEST_CHAIN)
        if before is not None:
            taken += [*before, *(step for step in after if step.kind == "quantize")]
    for step in dict.fromkeys(taken):
        draft.values[step.outputs[0]].view_of = step.inputs[0]
        draft.steps.remove(step)


def _quantised_scores(
    draft: Draft, makers: Mapping[str, Step], readers: Mapping[str, list[Step]], name: str, depth: int
) -> list[Step] | None:
    """The quantise steps between a product of two activations and ``name``; None where there is no such product."""
    step = makers.get(draft.whole(name))
    if step is None or not depth or len(readers.get(step.outputs[0], [])) != 1:
        return None
    if step.kind == "matmul":
        return None if draft.is_known(step.inputs[1]) else []
    is_single = step.kind == "quantize" and len(step.outputs) == 1
    if not is_single and (step.kind != "elementwise" or step.function not in _SCORE_FUNCTIONS):
        return None
    paths = [_quantised_scores(draft, makers, readers, one, depth - 1) for one in step.inputs]
    found = [path for path in paths if path is not None]
    return [*found[0], *([step] if is_single else [])] if len(found) == 1 else None


def _skip_clips(draft: Draft, step: Step, makers: dict[str, Step], readers: dict[str, list[Step]]) -> None:
    scaling: Scaling = step.attributes["scaling"]
    before = makers.get(draft.whole(step.inputs[0]))
    if before is None or before.kind != "elementwise" or len(readers.get(before.outputs[0], [])) != 1:
        return
    limit = {"relu": math.inf, "relu6": 6.0}.get(before.function)
    if limit is None or not scaling.zero_is_lowest:
        return
    if limit < math.inf and not scaling.largest <= limit * (1 + 1e-6):
        return
    step.inputs[0] = before.inputs[0]
    draft.steps.remove(before)
    del makers[before.outputs[0]]
    found = readers[draft.base(before.inputs[0]).name]
    found[:] = [step if one is before else one for one in found]


def _gives_back(
    draft: Draft,
    scalings: Mapping[str, Scaling],
    step: Step,
    makers: Mapping[str, Step],
    readers: Mapping[str, list[Step]],
) -> bool:
    """Make the result of a quantise step a view where its input holds such numbers already; whether it does."""
    scaling, out = step.attributes["scaling"], draft.values[step.outputs[0]]
    source = step.inputs[0]
    if _scaling_of(draft, scalings, source) == scaling:
        out.view_of = source
        return True
    maker = makers.get(draft.whole(source))
    if maker is None or len(readers.get(maker.outputs[0], [])) != 1 or not _only_moves(maker):
        return False
    moving = [name for name in maker.inputs if not draft.is_known(name)]
    if not moving or any(_scaling_of(draft, scalings, name) != scaling for name in moving):
        return False
    draft.values[maker.outputs[0]].number_format = scaling.number_format
    out.view_of = source
    return True


def _only_moves(step: Step) -> bool:
    is_nearest = step.function in ("concat", "pad", "scatter", "reverse")
    return (step.kind == "reshape" and is_nearest) or (step.kind == "pool" and step.function == "max")


def _scaling_of(draft: Draft, scalings: Mapping[str, Scaling], name: str) -> Scaling | None:
    """How the whole numbers are scaled that ``name`` shows."""
    here = draft.values[name]
    while here.name not in scalings and here.view_of is not None:
        here = draft.values[here.view_of]
    return scalings.get(here.name)


HANDLERS: Mapping[str, Any] = {
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
    "DynamicQuantizeLinear": _quantize,
}
