"""The streams of a run: a network at one step, in the formats of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tilewright.errors import InputError
from tilewright.formats import tensor_format
from tilewright.workloads.network import load_network, network_names, network_options, parse_options, split_options
from tilewright.workloads.operators import Operator, TensorSpec
from tilewright.workloads.stream.formats import OperatorFormats, with_operator_formats
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["network_at", "with_cache_formats", "with_head_format"]

#: Kinds of operators whose caches are states, which no number of tokens makes larger.
_WITH_STATES = ("selective_scan", "ssd", "linear_attention", "delta_rule", "causal_conv")
_OF_STEPS = ("prefill", "decode", "context", "batch", "seq", "cache")


def network_at(network: str, sizes: Mapping[str, int | str]) -> OperatorStream:
    """``network`` (a name, a configuration, or one of these with options) at one step: ``sizes`` are options, too.

    Raises InputError for an option that the step decides, and as :func:`load_network` does.
    """
    place, text = split_options(network)
    own = network_options(place) if place in network_names() else ()
    given = parse_options(network, text, own=tuple(own))
    for key in given:
        if key in _OF_STEPS:
            raise InputError(f"{network}: {key}: the run says this itself; allowed options other than {key}")
    if not place.endswith(".json") and place in network_names():
        lacking = [key for key in sizes if key not in network_options(place)]
        if lacking:
            raise InputError(f"{network}: reads no prompt and writes no tokens; allowed a decoder with {lacking[0]}")
    changes = ",".join(f"{key}={value}" for key, value in {**given, **sizes}.items())
    return load_network(f"{place}:{changes}")


def with_cache_formats(
    stream: OperatorStream, *, keys: str | None, values: str | None, residual: int = 0
) -> OperatorStream:
    """``stream`` with the keys and the values of its caches in formats of their own (None: as they are).

    A group that shares a scale lies in one head: a larger one is cut to the head's width. ``residual``: so many of the
    newest tokens stay as they are made; what is appended is then written twice, as it is made and, for the one that
    leaves the window, in the cache's format. Raises InputError for groups that do not divide a head.
    """
    formats: dict[str, str] = {}
    for operator in stream.operators:
        if operator.kind != "attention":
            continue
        for name, wanted, key in ((1, keys, "head_dim"), (2, values, "value_dim")):
            if wanted is None:
                continue
            own = _in_one_head(stream, operator, wanted, operator.count(key))
            for tensor in _cached(stream, operator.inputs[name]):
                if formats.setdefault(tensor, own) != own:
                    raise InputError(
                        f"{stream.name}: {operator.name}: keys and values are parts of one cache, which has one "
                        f"format; given {keys} and {values}"
                    )
    latents = _latents(stream, formats)
    if latents and keys != values:
        raise InputError(
            f"{stream.name}: its cache holds latents, which are keys and values at once; given {keys} and {values}; "
            "allowed one format for both"
        )
    formats |= {name: keys for name in latents if keys is not None}
    tensors = tuple(
        replace(spec, number_format=formats.get(stream.base(spec.name).name, spec.number_format))
        for spec in stream.tensors
    )
    stream = replace(stream, tensors=tensors) if formats else stream
    return _with_newest(stream, residual) if residual else stream


def _latents(stream: OperatorStream, known: Mapping[str, str]) -> list[str]:
    """What is cached and is neither a state of a scan nor read by an attention as its keys or values."""
    attended: set[str] = set(known)
    states: set[str] = set()
    for operator in stream.operators:
        names = [stream.base(name).name for name in (*operator.inputs, *operator.outputs)]
        if operator.kind == "attention":
            for at in (1, 2):
                attended |= _cached(stream, operator.inputs[at])
        elif operator.kind in _WITH_STATES:
            states |= set(names)
    return [
        spec.name
        for spec in stream.tensors
        if spec.role == "cache" and spec.view_of is None and spec.name not in attended | states
    ]


def _with_newest(stream: OperatorStream, residual: int) -> OperatorStream:
    """``stream`` with the newest tokens of what its attentions read from caches as they are made."""
    operators, tensors, outputs = [], list(stream.tensors), list(stream.outputs)
    cached: dict[str, str] = {}  # what is appended to, and the format in which its tokens are made
    for operator in stream.operators:
        if operator.kind == "attention" and stream.base(operator.inputs[1]).role == "cache":
            made = stream.base(operator.inputs[0]).number_format
            cached |= {name: made for at in (1, 2) for name in _cached(stream, operator.inputs[at])}
    for operator in stream.operators:
        if operator.kind == "attention" and stream.base(operator.inputs[1]).name in cached:
            operator = replace(operator, attributes={**operator.attributes, "newest_keys": residual})
        operators.append(operator)
        if operator.text("function") == "append" and stream.base(operator.outputs[0]).name in cached:
            name, new = f"{operator.name}.newest", operator.inputs[-1]
            shape = stream.tensor(new).shape
            made = cached[stream.base(operator.outputs[0]).name]
            tensors.append(TensorSpec(name=name, shape=shape, number_format=made, role="cache"))
            outputs.append(name)
            operators.append(
                Operator(
                    name=f"{operator.name}_newest",
                    kind="reshape",
                    inputs=(new,),
                    outputs=(name,),
                    attributes={"function": "newest"},
                    path=operator.path,
                )
            )
    return replace(stream, operators=tuple(operators), tensors=tuple(tensors), outputs=tuple(outputs))


def _in_one_head(stream: OperatorStream, operator: Operator, name: str, width: int) -> str:
    scale = tensor_format(name).scale
    group = scale.group if scale is not None else None
    if group is None or width % group == 0:
        return name
    if group > width and f"-g{group}" in name:
        return name.replace(f"-g{group}", f"-g{width}")
    raise InputError(
        f"{stream.name}: {operator.name}: groups of {group} do not divide a head of {width}; given {name}; allowed a "
        f"format whose groups divide {width}"
    )


def _cached(stream: OperatorStream, name: str) -> set[str]:
    """The stored tensors of role cache that the keys or values ``name`` of an attention are put together from."""
    found: set[str] = set()
    todo = [name]
    while todo:
        base = stream.base(todo.pop())
        if base.role != "cache" or base.name in found:
            continue
        found.add(base.name)
        maker = stream.producer(base.name)
        todo += maker.inputs if maker is not None else ()
    return found


def with_head_format(stream: OperatorStream, weights: str) -> OperatorStream:
    """``stream`` with the weights of the product that gives its first result in the format ``weights``.

    Raises InputError for a network whose first result is not a product's.
    """
    maker = stream.producer(stream.outputs[0])
    if maker is None or not maker.of_kind.is_product:
        raise InputError(f"{stream.name}: head: its first result is not that of a product; allowed none")
    return with_operator_formats(stream, {maker.name: OperatorFormats(weights=weights)})
