"""Written-out norms, activations, rotary embeddings and attentions found in a draft and made one step each.

Each function replaces the first place that it finds and says whether it found one. What is replaced is left to
nobody, and dropped afterwards; a place where something else reads an intermediate result is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tilewright.workloads.extract.draft import Draft, Step
from tilewright.workloads.extract.emit import emit_attention
from tilewright.workloads.extract.masks import HIDDEN_BELOW, turned_mask

__all__ = ["fuse_activation", "fuse_norm", "fuse_rotary", "fuse_softmax"]

_GATES = {"erf": "gelu", "tanh": "gelu_tanh", "sigmoid": "silu", "hardsigmoid": "hardswish"}
_LONGEST_CHAIN = 12
_PAIR = 2


class _Graph:
    """Who makes and who reads each tensor, looked at through views that keep every value."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.makers = draft.makers()
        self.readers = draft.readers()

    def maker(self, name: str, function: str = "", kind: str = "elementwise") -> Step | None:
        """The step of this kind and function that makes all of ``name``."""
        whole = self.draft.whole(name)
        step = self.makers.get(whole)
        fits = step is not None and step.kind == kind and (not function or step.function in function.split("|"))
        return step if fits else None

    def next(self, step: Step, function: str = "") -> Iterator[Step]:
        """The element-wise steps that read the result of ``step`` whole."""
        for reader in self.readers.get(step.outputs[0], []):
            if reader.kind == "elementwise" and (not function or reader.function in function.split("|")):
                yield reader

    def only_next(self, step: Step) -> Step | None:
        """The one element-wise step that reads the result of ``step``, when there is no other reader."""
        found = self.readers.get(step.outputs[0], [])
        return found[0] if len(found) == 1 and found[0].kind == "elementwise" else None

    def operands(self, step: Step) -> list[str]:
        """Inputs of a step but for single known numbers."""
        return [name for name in step.inputs if not self.draft.is_number(name)]

    def others(self, step: Step, taken: str) -> list[str]:
        """Operands of a step but for the value ``taken``."""
        whole = self.draft.whole(taken)
        return [name for name in self.operands(step) if self.draft.whole(name) != whole]

    def replace(self, last: Step, *steps: Step) -> None:
        """Put ``steps``, which were added at the end, in the place of ``last``."""
        del self.draft.steps[-len(steps) :]
        place = self.draft.steps.index(last)
        self.draft.steps[place : place + 1] = steps


# --- norms ----------------------------------------------------------------------------------------------------------


def fuse_norm(draft: Draft) -> bool:
    """x / sqrt(mean(x^2) + e) is an RMS norm; with the mean of x taken off first, a layer norm; weight and bias go
    in.
    """
    graph = _Graph(draft)
    return any(_fuse_norm_at(graph, mean) for mean in draft.steps if _is_mean_of_squares(graph, mean))


def _is_mean_of_squares(graph: _Graph, step: Step) -> bool:
    return step.kind == "reduction" and step.function == "mean" and _squared(graph, step.inputs[0]) is not None


def _squared(graph: _Graph, name: str) -> str | None:
    """x of x^2, x * x or |x|^2."""
    step = graph.maker(name, "pow|square|mul")
    if step is None:
        return None
    operands = graph.operands(step)
    same = len({graph.draft.whole(one) for one in operands}) == 1
    if step.function == "mul":
        return operands[0] if same and len(step.inputs) == 2 and len(operands) == 2 else None
    return operands[0] if same else None


def _fuse_norm_at(graph: _Graph, mean: Step) -> bool:
    draft = graph.draft
    squared = _squared(graph, mean.inputs[0])
    scaled = _scaled_by_root(graph, mean)
    if squared is None or scaled is None or draft.whole(squared) not in map(draft.whole, graph.operands(scaled)):
        return False
    source, function = _centred(graph, squared)
    last, weight, bias = _affine(graph, scaled)
    columns = mean.attributes["columns"]
    parameters = [name for name in (weight, bias) if name]
    step = draft.step(
        "norm",
        last.path,
        [source, *parameters],
        last.outputs,
        {"function": function, "rows": draft.values[source].n_elements // columns, "columns": columns},
    )
    step.path = _common_path(mean.path, last.path)
    graph.replace(last, step)
    return True


def _common_path(first: str, second: str) -> str:
    """The place that holds both, which is the norm's own when it was a module."""
    shared = []
    for one, other in zip(first.split("."), second.split("."), strict=False):
        if one != other:
            break
        shared.append(one)
    return ".".join(shared) or second


def _scaled_by_root(graph: _Graph, mean: Step) -> Step | None:
    """The step that divides by sqrt(mean + e), or multiplies by its reciprocal."""
    here = mean
    for _ in range(_LONGEST_CHAIN):
        found = [
            step
            for step in graph.next(here)
            if step.function in ("add", "sqrt", "rsqrt", "reciprocal", "pow", "div", "mul")
        ]
        if len(found) != 1:
            return None
        here = found[0]
        if len(graph.operands(here)) == 2:
            return here if here.function in ("div", "mul") else None
    return None


def _centred(graph: _Graph, name: str) -> tuple[str, str]:
    """The x of x - mean(x), for a layer norm; otherwise ``name`` itself, for an RMS norm."""
    step = graph.maker(name, "sub")
    if step is not None and len(graph.operands(step)) == 2:
        x, mean = step.inputs
        maker = graph.maker(mean, "mean", kind="reduction")
        if maker is not None and graph.draft.whole(maker.inputs[0]) == graph.draft.whole(x):
            return x, "layer"
    return name, "rms"


def _affine(graph: _Graph, scaled: Step) -> tuple[Step, str, str]:
    """The last step of a norm with the weight that it multiplies by and the bias that it adds, where there are any."""
    last, found = scaled, ["", ""]
    for place, function in enumerate(("mul", "add")):
        following = graph.only_next(last)
        if following is None or following.function != function:
            continue
        others = graph.others(following, last.outputs[0])
        if len(others) == 1 and graph.draft.role(others[0]) == "weight" and _is_row(graph.draft, others[0]):
            last, found[place] = following, others[0]
    return last, found[0], found[1]


def _is_row(draft: Draft, name: str) -> bool:
    shape = draft.shape(name)
    return bool(shape) and draft.values[name].n_elements == shape[-1]


# --- activations ----------------------------------------------------------------------------------------------------


def fuse_activation(draft: Draft) -> bool:
    """x times a gate of x (erf, tanh, sigmoid): GELU, its tanh form, SiLU."""
    graph = _Graph(draft)
    return any(
        _fuse_gate(graph, step) for step in draft.steps if step.kind == "elementwise" and step.function in _GATES
    )


def _fuse_gate(graph: _Graph, gate: Step) -> bool:
    draft = graph.draft
    last, factor = _times_other(graph, gate)
    if last is None:
        return False
    source = next(
        (x for x in (factor, _without_scale(graph, factor)) if _depends_only_on(graph, gate.inputs[0], x)), ""
    )
    if not source:
        return False
    after = graph.only_next(last)
    is_half = after is not None and after.function in ("mul", "div") and not graph.others(after, last.outputs[0])
    if after is not None and is_half and gate.function in ("erf", "tanh"):
        last = after
    function = _GATES[gate.function]
    if gate.function == "sigmoid" and draft.whole(gate.inputs[0]) != draft.whole(source):
        function = "quick_gelu"
    attributes = {"function": function, "n_elements": draft.values[last.outputs[0]].n_elements}
    graph.replace(last, draft.step("elementwise", last.path, [source], last.outputs, attributes))
    return True


def _times_other(graph: _Graph, gate: Step) -> tuple[Step | None, str]:
    """The product in which a gate ends, after numbers were added or multiplied, and its other factor."""
    last = gate
    for _ in range(_LONGEST_CHAIN):
        following = graph.only_next(last)
        if following is None:
            break
        others = graph.others(following, last.outputs[0])
        if others:
            return (following, others[0]) if following.function == "mul" and len(others) == 1 else (None, "")
        if following.function not in ("add", "mul", "div"):
            break
        last = following
    return None, ""


def _depends_only_on(graph: _Graph, name: str, source: str) -> bool:
    """Whether ``name`` is computed from ``source`` and numbers alone, in a few element-wise steps."""
    source = graph.draft.whole(source)
    ahead = {graph.draft.whole(name)}
    for _ in range(_LONGEST_CHAIN):
        ahead.discard(source)
        if not ahead:
            return True
        steps = [graph.maker(one) for one in ahead]
        if any(step is None or not graph.operands(step) for step in steps):
            return False
        ahead = {graph.draft.whole(one) for step in steps if step is not None for one in graph.operands(step)}
    return False


# --- rotary embedding -----------------------------------------------------------------------------------------------


def fuse_rotary(draft: Draft) -> bool:
    """x cos + rotate(x) sin, with rotate(x) the halves of x swapped and one of them negated."""
    graph = _Graph(draft)
    for add in draft.steps:
        if add.kind != "elementwise" or add.function != "add" or len(add.inputs) != 2:
            continue
        products = [graph.maker(name, "mul") for name in add.inputs]
        for plain, turned in (products, products[::-1]):
            if plain is not None and turned is not None and _fuse_rotary_at(graph, add, plain, turned):
                return True
    return False


def _fuse_rotary_at(graph: _Graph, add: Step, plain: Step, turned: Step) -> bool:
    draft = graph.draft
    for name, sine in (turned.inputs, turned.inputs[::-1]) if len(turned.inputs) == 2 else ():
        joined = graph.maker(name, "concat", kind="reshape")
        if joined is None or len(joined.inputs) != 2:
            continue
        negated = graph.maker(joined.inputs[0], "neg|mul")
        if negated is None:
            continue
        bases = {draft.base(one).name for one in (joined.inputs[1], graph.operands(negated)[0])}
        for x, cosine in (plain.inputs, plain.inputs[::-1]) if len(plain.inputs) == 2 else ():
            if {draft.base(x).name} != bases or draft.base(cosine).name in bases:
                continue
            n_elements = draft.values[add.outputs[0]].n_elements
            attributes = {"function": "rotary", "n_elements": n_elements}
            for table in (cosine, sine):  # a file may have stored them with the weights
                if draft.is_known(table):
                    draft.base(table).role = "constant"
            graph.replace(add, draft.step("elementwise", add.path, [x, cosine, sine], add.outputs, attributes))
            return True
    return False


# --- attention ------------------------------------------------------------------------------------------------------


def fuse_softmax(draft: Draft) -> bool:
    """softmax(cap(Q K^T scale) + mask, with a sink in each row) V."""
    graph = _Graph(draft)
    return any(_fuse_softmax_at(graph, step) for step in draft.steps if step.kind == "softmax")


@dataclass(slots=True, kw_only=True)
class _Scores:
    """The product Q K^T before a softmax, and what is done to it in between."""

    product: Step
    masks: list[str] = field(default_factory=list)
    sinks: str = ""
    soft_cap: float = 0.0


def _fuse_softmax_at(graph: _Graph, softmax: Step) -> bool:
    draft = graph.draft
    source, sinks = _sinks_of(graph, softmax)
    weights = _without_nan(graph, softmax)
    second = _single_product(graph, weights)
    scores = _scores(graph, source, sinks)
    if second is None or scores is None or not _shows_weights(draft, second.inputs[0], weights, n_sinks=bool(sinks)):
        return False
    first = scores.product
    rows, keys = first.attributes["m"], first.attributes["n"]
    if len(first.inputs) != 2 or len(second.inputs) != 2 or keys != second.attributes["k"]:
        return False
    if first.attributes["batch"] != second.attributes["batch"] or softmax.attributes["columns"] != keys + bool(sinks):
        return False
    q, k = (_without_scale(graph, name) for name in first.inputs)
    v = second.inputs[1]
    lead = draft.shape(second.outputs[0])[:-2]
    shapes = [(rows, first.attributes["k"]), (keys, first.attributes["k"]), (keys, second.attributes["n"])]
    heads = [draft.view(f"{name}.heads", name, (*lead, *shape)) for name, shape in zip((q, k, v), shapes, strict=True)]
    n_before = len(draft.steps)
    emit_attention(
        draft,
        softmax.path,
        heads[0],
        heads[1],
        heads[2],
        second.outputs[0],
        mask=scores.masks,
        sinks=scores.sinks,
        soft_cap=scores.soft_cap,
    )
    graph.replace(second, *draft.steps[n_before:])
    return True


def _sinks_of(graph: _Graph, softmax: Step) -> tuple[str, str]:
    """The scores before a softmax, and the column of learned numbers that was put beside them, if any.

    The greatest value of a row may have been taken off before.
    """
    draft = graph.draft
    name = softmax.inputs[0]
    centred = graph.maker(name, "sub")
    if centred is not None and len(centred.inputs) == 2:
        greatest = graph.maker(centred.inputs[1], "max", kind="reduction")
        if greatest is not None and draft.whole(greatest.inputs[0]) == draft.whole(centred.inputs[0]):
            name = centred.inputs[0]
    joined = graph.maker(name, "concat", kind="reshape")
    if joined is None or len(joined.inputs) != 2:
        return name, ""
    scores, column = joined.inputs
    is_column = draft.shape(column)[-1] == 1 and draft.shape(scores)[-1] == softmax.attributes["columns"] - 1
    return (scores, draft.base(column).name) if is_column and draft.is_known(column) else (name, "")


def _shows_weights(draft: Draft, name: str, weights: str, *, n_sinks: bool) -> bool:
    """Whether ``name`` is the result of a softmax, but for the column of its sinks."""
    if not n_sinks:
        return draft.whole(name) == weights
    value = draft.values[name]
    while value.view_of is not None and value.view_kind in ("reshape", "cast"):
        value = draft.values[value.view_of]
    if value.view_of is None or value.view_kind != "part" or draft.whole(value.view_of) != weights:
        return False
    return value.shape[-1] == draft.shape(weights)[-1] - 1


def _without_nan(graph: _Graph, softmax: Step) -> str:
    """The result of a softmax, or of the choice of zero where it is not a number (rows without any key)."""
    name = softmax.outputs[0]
    found = graph.readers.get(name, [])
    choice = next(graph.next(softmax, "where"), None)
    if choice is None or len(found) != 2 or not any(step.function == "compare" for step in found):
        return name
    others = graph.others(choice, name)
    is_own = len(others) == 1 and graph.maker(others[0], "compare") in found
    return choice.outputs[0] if is_own else name


def _single_product(graph: _Graph, name: str) -> Step | None:
    readers = graph.readers.get(name, [])
    return readers[0] if len(readers) == 1 and readers[0].kind == "matmul" else None


def _scores(graph: _Graph, name: str, sinks: str) -> _Scores | None:
    """The product Q K^T that leads to ``name``, with the mask that is added and the cap that is put on in between;
    scales are passed over.
    """
    found = _Scores(product=Step(kind="memory", path="", inputs=[], outputs=[]), sinks=sinks)
    factor = 0.0
    for _ in range(_LONGEST_CHAIN):
        product = graph.maker(name, kind="matmul")
        if product is not None:
            found.product = product
            return found
        step = graph.maker(name, "mul|div|add|where|max|tanh")
        operands = graph.operands(step) if step is not None else []
        if step is None or not operands:
            return None
        if step.function == "tanh":
            if not factor or found.soft_cap:
                return None
            found.soft_cap = factor
        if len(operands) == 1 and len(step.inputs) + len(step.numbers) <= _PAIR:
            factor = _factor(graph.draft, step)
            name = operands[0]
            continue
        name = _unmasked(graph, step, operands, found)
        if not name:
            return None
    return None


def _factor(draft: Draft, step: Step) -> float:
    """The single number that a product multiplies by; 0 where it is not known."""
    if step.function not in ("mul", "div"):
        return 0.0
    numbers = list(step.numbers)
    for name in step.inputs:
        number = draft.numbers(name) if draft.is_number(name) else None
        numbers += [] if number is None else [float(number.reshape(-1)[0])]
    if len(numbers) != 1:
        return 0.0
    return numbers[0] if step.function == "mul" else 1 / (numbers[0] or 1.0)


def _unmasked(graph: _Graph, step: Step, operands: list[str], found: _Scores) -> str:
    """The scores to which ``step`` adds a mask, which is noted in ``found``; empty when it does something else."""
    if step.function == "where" and len(step.inputs) == 3:
        return _unchosen(graph, step, found)
    if step.function != "add" or len(operands) != _PAIR:
        return ""
    is_score = [_leads_to_product(graph, one) for one in operands]
    if sum(is_score) != 1:
        return ""
    found.masks.append(operands[is_score.index(False)])
    return operands[is_score.index(True)]


def _unchosen(graph: _Graph, choice: Step, found: _Scores) -> str:
    """The scores of a choice between them and a number that hides; empty where it is another choice.

    A number that is not there (a module on the meta device has none) is taken as one that hides: what else would be
    chosen over scores before a softmax.
    """
    draft, (condition, *choices) = graph.draft, choice.inputs
    numbers = [draft.is_number(name) for name in choices]
    if sum(numbers) != 1 or not _leads_to_product(graph, choices[numbers.index(False)]):
        return ""
    number = draft.numbers(choices[numbers.index(True)])
    if number is not None and float(number.reshape(-1)[0]) > HIDDEN_BELOW:
        return ""
    found.masks.append(condition if numbers[1] else turned_mask(draft, condition))
    return choices[numbers.index(False)]


def _leads_to_product(graph: _Graph, name: str, depth: int = 2) -> bool:
    for _ in range(_LONGEST_CHAIN):
        if graph.maker(name, kind="matmul") is not None:
            return True
        step = graph.maker(name, "mul|div|max|tanh|add|where")
        operands = graph.operands(step) if step is not None else []
        if step is not None and step.function == "where" and len(step.inputs) == 3:
            operands = [one for one in step.inputs[1:] if not graph.draft.is_number(one)]
        if step is not None and step.function in ("add", "where") and len(operands) == _PAIR:
            return any(_leads_to_product(graph, one, depth - 1) for one in operands) if depth else False
        if len(operands) != 1:
            return False
        name = operands[0]
    return False


def _without_scale(graph: _Graph, name: str) -> str:
    """What is multiplied by a number to give ``name``; ``name`` itself when it is not."""
    step = graph.maker(name, "mul|div")
    if step is None or len(graph.operands(step)) != 1 or len(graph.readers.get(step.outputs[0], [])) != 1:
        return name
    return graph.operands(step)[0]
