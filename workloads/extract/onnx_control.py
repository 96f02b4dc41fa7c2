"""If, Loop and Scan nodes: the branch that is taken, and the trips that are made, where both are known beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.workloads.extract.onnx_nodes import NodeReader
    from tilewright.workloads.extract.onnx_values import Binding

__all__ = ["HANDLERS"]

_MOST_NODES = 8_000  # of all trips together


def _attributes(node: Any) -> dict[str, Any]:
    from tilewright.workloads.extract.onnx_nodes import attributes_of

    return attributes_of(node)


def _refuse(reader: NodeReader, node: Any, path: str, what: str) -> InputError:
    return InputError(
        f"{reader.draft.name}: {node.op_type} at {path}: {what} only a run tells; allowed what is known beforehand"
    )


def _read_graph(reader: NodeReader, graph: Any) -> list[Binding]:
    """Write down the nodes of an inner graph; returns what its outputs are."""
    reader.values.enter_constants(graph)
    for node in graph.node:
        reader.read(node)
    return [reader.values.binding(one.name) for one in graph.output]


def _count(reader: NodeReader, node: Any, path: str, trips: int, body: Any) -> None:
    reader.n_unrolled += trips * len(body.node)
    if reader.n_unrolled > _MOST_NODES:
        raise InputError(
            f"{reader.draft.name}: {node.op_type} at {path}: too many trips to be written out; given "
            f"{reader.n_unrolled:,} nodes or more in all trips together; allowed {_MOST_NODES:,}"
        )


def _never_stops(body: Any) -> bool:
    """Whether a loop's body hands its condition on as it is, so that all trips are made."""
    name = body.output[0].name
    makers = {one: node for node in body.node for one in node.output}
    while name in makers and makers[name].op_type == "Identity":
        name = makers[name].input[0]
    return bool(name == body.input[1].name)


def _if(reader: NodeReader, node: Any, path: str) -> None:
    """The branch that a known condition takes."""
    condition = reader.values.whole_numbers(node.input[0])
    if not condition:
        raise _refuse(reader, node, path, "which branch is taken")
    attributes = _attributes(node)
    results = _read_graph(reader, attributes["then_branch" if condition[0] else "else_branch"])
    for name, found in zip(node.output, results, strict=False):
        reader.values.bind(name, found)


def _loop(reader: NodeReader, node: Any, path: str) -> None:
    """The body as often as the trip count, or a condition of known numbers, says."""
    values, body = reader.values, _attributes(node)["body"]
    limit = values.whole_numbers(node.input[0]) if node.input[0] else None
    running = values.whole_numbers(node.input[1]) if len(node.input) > 1 and node.input[1] else [1]
    n_carried = len(node.input) - 2
    carried = [values.binding(name) for name in node.input[2:]]
    if (node.input[0] and not limit) or not running:
        raise _refuse(reader, node, path, "how many trips are made")
    if limit and running[0] and _never_stops(body):
        _count(reader, node, path, limit[0], body)
        reader.n_unrolled -= limit[0] * len(body.node)  # counted trip by trip
    scanned: list[list[str]] = [[] for _ in body.output[1 + n_carried :]]
    trip = 0
    while running[0] and (limit is None or trip < limit[0]):
        _count(reader, node, path, 1, body)
        values.enter_number(body.input[0].name, trip, "int64")
        values.enter_number(body.input[1].name, 1, "bool")
        for given, found in zip(body.input[2:], carried, strict=True):
            values.bind(given.name, found)
        _, *results = _read_graph(reader, body)
        carried = results[:n_carried]
        running = values.whole_numbers(body.output[0].name)
        for parts, one in zip(scanned, results[n_carried:], strict=True):
            parts.append(one.draft_name)
        if not running:
            raise _refuse(reader, node, path, "how many trips are made")
        trip += 1
    for name, found in zip(node.output, carried, strict=False):
        if name:
            values.bind(name, found)
    _join(reader, path, node.output[n_carried:], scanned, [0] * len(scanned))


def _scan(reader: NodeReader, node: Any, path: str) -> None:
    """The body once for each part of its inputs along their axes."""
    attributes, values, draft = _attributes(node), reader.values, reader.draft
    body, n_scanned = attributes["body"], int(attributes["num_scan_inputs"])
    n_states = len(node.input) - n_scanned
    if not 0 < n_scanned <= len(node.input):
        raise ValueError(f"num_scan_inputs is {n_scanned:,} of {len(node.input)} inputs")
    states = [values.binding(name) for name in node.input[:n_states]]
    axes = list(attributes.get("scan_input_axes", [0] * n_scanned))
    sources = [values.name_of(name) for name in node.input[n_states:]]
    trips = draft.shape(sources[0])[axes[0]]
    _count(reader, node, path, trips, body)
    results: list[list[str]] = [[] for _ in body.output[n_states:]]
    for trip in range(trips):
        for given, found in zip(body.input[:n_states], states, strict=True):
            values.bind(given.name, found)
        for given, source, axis, outer in zip(body.input[n_states:], sources, axes, node.input[n_states:], strict=True):
            shape = [n for at, n in enumerate(draft.shape(source)) if at != axis % len(draft.shape(source))]
            part = draft.view(f"{source}.{trip}", source, shape, "part")
            values.declare(given.name, tuple(shape), outer)
            values.set_result(given.name, part)
        found_states = _read_graph(reader, body)
        states = found_states[:n_states]
        for parts, one in zip(results, found_states[n_states:], strict=True):
            parts.append(one.draft_name)
    for name, found in zip(node.output, states, strict=False):
        if name:
            values.bind(name, found)
    usual = [0] * len(results)
    _join(reader, path, node.output[n_states:], results, list(attributes.get("scan_output_axes", usual)))


def _join(
    reader: NodeReader, path: str, names: Sequence[str], parts: Sequence[Sequence[str]], axes: Sequence[int]
) -> None:
    """The results of all trips beside each other, along a dimension of their own."""
    draft = reader.draft
    for name, found, axis in zip(names, parts, axes, strict=False):
        if not name or name not in reader.read_names:
            continue
        if not found:
            raise InputError(f'{draft.name}: {path}: no trip makes "{name}"; allowed loops that run')
        shape = list(draft.shape(found[0]))
        shape.insert(axis % (len(shape) + 1), len(found))
        made = draft.value(name, shape, draft.values[found[0]].number_format)
        reader.values.declare_as(name, tuple(shape), draft.values[found[0]].number_format)
        reader.values.set_result(name, made)
        draft.step("reshape", f"{path}.join", list(dict.fromkeys(found)), [made], {"function": "concat"})


HANDLERS: Mapping[str, Any] = {"If": _if, "Loop": _loop, "Scan": _scan}
