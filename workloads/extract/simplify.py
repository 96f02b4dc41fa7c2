"""A draft brought to the vocabulary of operator streams, whichever way its model was written.

In this order: what depends on weights and constants alone is folded; written-out norms, activations, rotary
embeddings and attentions become one step each; a batch norm at inference goes into its convolution, and an added
vector into its product as a bias; what nobody reads is dropped.
"""

from __future__ import annotations

from collections.abc import Callable

from tilewright.workloads.extract.draft import Draft, Step
from tilewright.workloads.extract.patterns import fuse_activation, fuse_norm, fuse_rotary, fuse_softmax

__all__ = ["simplify"]

_PATTERNS: tuple[Callable[[Draft], bool], ...] = (fuse_norm, fuse_activation, fuse_rotary, fuse_softmax)


def simplify(draft: Draft, *, fold_batch_norm: bool = True, as_launched: bool = False) -> None:
    """Simplify ``draft`` in place; ``fold_batch_norm=False`` leaves batch norms as operators of their own.

    ``as_launched``: the steps are those that the model's framework launches one by one, so how many of them became one
    is noted with it.
    """
    fold_known(draft)
    drop_unread(draft)
    for fuse in _PATTERNS:
        before = list(draft.steps)
        while fuse(draft):
            drop_unread(draft)
            if as_launched:
                _note_replaced(draft, before)
            before = list(draft.steps)
    if fold_batch_norm:
        _fold_batch_norms(draft)
    _fold_biases(draft)
    _turn_weights(draft)
    _settle_casts(draft)
    _settle_biases(draft)
    drop_unread(draft)


def _note_replaced(draft: Draft, before: list[Step]) -> None:
    """How many steps the new one stands for: ``written_out`` over as many values as its result, ``written_small`` over
    fewer.
    """
    known, left = {id(step) for step in before}, {id(step) for step in draft.steps}
    new = [step for step in draft.steps if id(step) not in known]
    gone = [step for step in before if id(step) not in left]
    if len(new) != 1 or len(gone) < 2:
        return
    size = draft.values[new[0].outputs[0]].n_elements
    full = sum(any(draft.values[name].n_elements >= size for name in step.outputs) for step in gone)
    new[0].attributes |= {"written_out": full, "written_small": len(gone) - full}


def fold_known(draft: Draft) -> None:
    """Take out steps that depend on weights and constants alone: their results are weights and constants themselves."""
    left = []
    for step in draft.steps:
        if not all(map(draft.is_known, step.inputs)):
            left.append(step)
            continue
        is_trained = any(draft.role(name) == "weight" for name in step.inputs)
        for name in step.outputs:
            draft.values[name].role = "weight" if is_trained else "constant"
            draft.folded[name] = step
    draft.steps = left


def drop_unread(draft: Draft) -> None:
    """Take out steps whose results nobody reads, and those before them that only they had read."""
    read = {draft.base(name).name for name in draft.outputs}
    left = []
    for step in reversed(draft.steps):
        if read.intersection(step.outputs):
            left.append(step)
            read |= {draft.base(name).name for name in step.inputs}
    draft.steps = left[::-1]


def _only_reader(draft: Draft, readers: dict[str, list[Step]], step: Step) -> Step | None:
    """The step that alone reads the one result of ``step``; None when there are several, or it is an output."""
    if len(step.outputs) != 1:
        return None
    found = readers.get(step.outputs[0], [])
    return found[0] if len(found) == 1 and found[0].outputs else None


def _fold_batch_norms(draft: Draft) -> None:
    readers = draft.readers()
    for step in list(draft.steps):
        if step.kind != "conv" or step.attributes["transposed"]:
            continue
        norm = _only_reader(draft, readers, step)
        if norm is None or norm.function != "batch" or not all(map(draft.is_known, norm.inputs[1:])):
            continue
        if draft.whole(norm.inputs[0]) != step.outputs[0]:
            continue
        if len(step.inputs) == 2:
            n_out = step.attributes["out_channels"]
            weight = draft.base(step.inputs[1])
            step.inputs.append(draft.value(f"{step.path}.bias", (n_out,), weight.number_format, "weight"))
        step.outputs = norm.outputs
        step.attributes["batch_norm"] = True
        draft.steps.remove(norm)
        readers = draft.readers()


def _fold_biases(draft: Draft) -> None:
    """An add of a vector over the columns of a product, or over the channels of a convolution, becomes its bias."""
    makers, readers = draft.makers(), draft.readers()
    for add in list(draft.steps):
        if add.kind != "elementwise" or add.function != "add" or len(add.inputs) != 2:
            continue
        for data, vector in (add.inputs, add.inputs[::-1]):
            step = makers.get(draft.base(data).name)
            if step is None or step.kind not in ("matmul", "conv") or len(step.inputs) != 2:
                continue
            if draft.whole(data) != step.outputs[0] or _only_reader(draft, readers, step) is not add:
                continue
            if not _is_bias(draft, step, data, vector):
                continue
            step.inputs.append(vector)
            step.outputs = add.outputs
            draft.steps.remove(add)
            makers, readers = draft.makers(), draft.readers()
            break


def _is_bias(draft: Draft, step: Step, data: str, vector: str) -> bool:
    if draft.role(vector) != "weight" or draft.role(step.inputs[1]) != "weight":
        return False
    shape, wanted = draft.shape(vector), step.attributes["n" if step.kind == "matmul" else "out_channels"]
    if draft.values[vector].n_elements != wanted or draft.shape(data) == shape:
        return False
    place = -1 if step.kind == "matmul" else -len(step.attributes["kernel"]) - 1
    at_place = len(shape) >= -place and shape[place] == wanted
    return at_place and draft.shape(data)[place] == wanted


def _settle_casts(draft: Draft) -> None:
    """A result that is only ever read after one change of format is written in that format at once."""
    used = {name for step in draft.steps for name in step.inputs} | set(draft.outputs)
    seen_as: dict[str, set[str]] = {}
    for name in used:
        value = draft.values[name]
        seen = value.number_format if value.view_of is None else ""
        while value.view_of is not None:
            if value.view_kind == "cast" and not seen:
                seen = value.number_format
            value = draft.values[value.view_of]
        seen_as.setdefault(value.name, set()).add(seen or value.number_format)
    for step in draft.steps:
        for name in step.outputs:
            if step.kind != "quantize" and len(seen_as.get(name, ())) == 1:
                draft.values[name].number_format = seen_as[name].pop()


def _settle_biases(draft: Draft) -> None:
    """A bias of attention that was worked out of a trained table is no weight itself: it is larger than the table."""
    for step in draft.steps:
        if step.kind == "attention" and step.attributes.get("bias"):
            base = draft.base(step.inputs[3])
            if base.role == "weight" and base.name in draft.folded:
                base.role = "constant"


def _turn_weights(draft: Draft) -> None:
    """Weights of products take the shape (n, k), in which the values that are summed stand side by side."""
    for step in draft.steps:
        if step.kind != "matmul" or draft.role(step.inputs[1]) != "weight" or step.attributes["batch"] != 1:
            continue
        value, shape = draft.values[draft.whole(step.inputs[1])], (step.attributes["n"], step.attributes["k"])
        if value.view_of is None and value.shape == shape[::-1]:
            value.shape = shape
        if value.shape == shape:
            step.inputs[1] = value.name
