"""The nodes of an exported PyTorch program, one by one, as steps of a draft."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from tilewright.errors import InputError
from tilewright.workloads.extract.draft import Draft
from tilewright.workloads.extract.torch_operators import HANDLERS, Call, Literal, flat
from tilewright.workloads.extract.torch_tables import IGNORED, VIEWS
from tilewright.workloads.extract.torch_values import NodeNumbers, format_of, node_path, result_shape
from tilewright.workloads.extract.unknown import Unknown

__all__ = ["GraphReader", "writes_into_views"]

_OWN_LIBRARIES = ("aten", "prims", "quantized_decomposed")


class GraphReader:
    """Reads an exported program into a draft; ``caches`` names inputs that are key/value caches."""

    def __init__(self, draft: Draft, unknown: Unknown, program: Any, caches: Sequence[str]) -> None:
        self._draft = draft
        self._unknown = unknown
        self._program = program
        self._caches = tuple(caches)
        self._known = NodeNumbers()
        #: what each node stands for: a name in the draft, a list of them, or a plain value
        self._made: dict[Any, Any] = {}

    def read(self) -> None:
        """Write down the whole program."""
        graph = self._program.graph_module
        self._enter_inputs(graph.graph)
        outputs = self._walk(graph, {})
        self._draft.outputs = [name for name in flat(outputs) if isinstance(name, str)]

    def _enter_inputs(self, graph: Any) -> None:
        signature = self._program.graph_signature
        parameters = dict(signature.inputs_to_parameters)
        held = parameters | dict(signature.inputs_to_buffers) | dict(signature.inputs_to_lifted_tensor_constants)
        shared: dict[int, str] = {}
        for node in graph.find_nodes(op="placeholder"):
            value = node.meta.get("val")
            if not hasattr(value, "shape"):
                self._made[node] = value
                continue
            shape = result_shape(self._draft.name, node.name, value)
            if 0 in shape:
                self._made[node] = None
                continue
            source = held.get(node.name)
            tensor = self._tensor(source) if source else None
            if tensor is not None and id(tensor) in shared:
                self._made[node] = shared[id(tensor)]
                continue
            role = "weight" if node.name in parameters else "constant" if source else "activation"
            if role == "activation" and any(_belongs(node.name, cache) for cache in self._caches):
                role = "cache"
            name = self._draft.value(source or node.name, shape, format_of(self._draft.name, value), role)  # type: ignore[arg-type]
            if not source:
                self._draft.inputs.append(name)
            elif tensor is not None:
                shared[id(tensor)] = name
                self._known.enter_constant(self._draft, name, node, tensor, is_trained=node.name in parameters)
            self._made[node] = name

    def _tensor(self, name: str) -> Any:
        found = self._program.state_dict.get(name)
        return found if found is not None else self._program.constants.get(name)

    def _walk(self, module: Any, given: Mapping[Any, Any]) -> Any:
        """Read the nodes of a graph; returns what its outputs stand for."""
        self._made |= given
        for node in module.graph.nodes:
            if node.op == "output":
                return self._resolve(node.args[0])
            if node.op == "get_attr":
                self._made[node] = getattr(module, node.target, None)
            elif node.op == "call_function":
                self._call(node)
        return None

    def _resolve(self, argument: Any) -> Any:
        """An argument with nodes replaced by what they stand for."""
        if isinstance(argument, list | tuple):
            return [self._resolve(one) for one in argument]
        if isinstance(argument, dict):
            return [self._resolve(one) for one in argument.values()]
        if isinstance(argument, str):
            return Literal(argument)  # a word such as "tanh", which a tensor may be called, too
        return self._made.get(argument, argument) if hasattr(argument, "meta") else argument

    # --- one node -----------------------------------------------------------------------------------------------------

    def _call(self, node: Any) -> None:
        if node.target is operator.getitem:
            items = self._resolve(node.args[0])
            self._made[node] = items[node.args[1]] if isinstance(items, list) else items
            return
        if _is_higher_order(node.target):
            self._call_region(node)
            return
        name = _operator_name(node.target)
        value = node.meta.get("val")
        if name in IGNORED or value is None or not _tensors(value):
            self._made[node] = value
            return
        if all(0 in one.shape for one in _tensors(value)):
            self._made[node] = None  # nothing in it, such as a cache before its first use
            return
        if self._known.evaluate(self._draft, node, name, self._made):
            return
        call = Call(self._draft, node, self._resolve)
        try:
            self._made[node] = self._handle(node, name, call)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as fault:
            place = f"{self._draft.name}: {call.path}: {node.target}"
            raise InputError(f"{place}: cannot be read in this form ({fault})") from None
        if _works_in_place(node.target) and node.args and hasattr(node.args[0], "meta"):
            self._made[node.args[0]] = self._made[node]  # done in place: the old name means the new values

    def _handle(self, node: Any, name: str, call: Call) -> Any:
        full_name = name if "." in name else f"aten.{name}"
        wanted = self._unknown.wanted(full_name)
        if not wanted and name in VIEWS:
            return call.views(name)
        handler = None if wanted else HANDLERS.get(name)
        outputs = call.outputs()
        names = flat(outputs)
        if handler is None or not handler(call, name, names):
            self._unknown.handle(self._draft, full_name, call.path, call.tensors(), names)
        return outputs

    def _call_region(self, node: Any) -> None:
        """A part of the graph under another setting (no gradients, no autocast): it is read in place."""
        region = next((self._made.get(one) for one in node.args if hasattr(self._made.get(one), "graph")), None)
        if region is None:
            raise InputError(
                f"{self._draft.name}: {node_path(node)}: control flow ({node.target}) is not supported; allowed a scan "
                "as one operator of your own (torch.library), mapped by name (--map LIBRARY.NAME=kind:KIND)"
            )
        index = next(i for i, one in enumerate(node.args) if self._made.get(one) is region)
        inner = region.graph.find_nodes(op="placeholder")
        given = {place: self._resolve(one) for place, one in zip(inner, node.args[index + 1 :], strict=False)}
        for place, one in zip(inner, node.args[index + 1 :], strict=False):
            self._known.share(one, place)
        result = self._walk(region, given)
        self._made[node] = result


def writes_into_views(program: Any) -> bool:
    """Whether an operator writes in place into a view of a tensor that is read elsewhere, too."""
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", _NO_GRAPH).nodes:
            if node.op != "call_function" or not node.args or not _works_in_place(node.target):
                continue
            here, steps = node.args[0], 0
            while hasattr(here, "meta") and here.op == "call_function" and _is_view(here):
                here, steps = here.args[0], steps + 1
                if sum(user.target is not operator.getitem and not _is_ignored(user) for user in here.users) > 1:
                    return True
            if steps and hasattr(here, "op") and here.op == "placeholder":
                return True
    return False


def _is_view(node: Any) -> bool:
    return node.target is operator.getitem or _operator_name(node.target) in VIEWS


def _is_ignored(node: Any) -> bool:
    return node.op == "call_function" and _operator_name(node.target) in IGNORED


class _NoGraph:
    nodes: tuple[Any, ...] = ()


_NO_GRAPH = _NoGraph()


# --- names ----------------------------------------------------------------------------------------------------------


def _parts(target: Any) -> tuple[str, str]:
    """``aten`` and ``add_`` of ``aten.add_.Tensor``."""
    library, _, name = str(target).partition(".")
    return library, name.partition(".")[0] or library


def _works_in_place(target: Any) -> bool:
    name = _parts(target)[1]
    return name.endswith("_") and not name.endswith("__")


def _operator_name(target: Any) -> str:
    """``add`` of ``aten.add_.Tensor``; those of other libraries with the library's name, ``mine.add``."""
    library, name = _parts(target)
    name = name[:-1] if _works_in_place(target) else name
    return name if library in _OWN_LIBRARIES else f"{library}.{name}"


def _is_higher_order(target: Any) -> bool:
    return (
        type(target).__module__.startswith("torch._higher_order_ops")
        or "higher_order" in str(type(target)).lower()
        or "HigherOrder" in str(type(target).__mro__)
    )


def _belongs(placeholder: str, argument: str) -> bool:
    return placeholder == argument or placeholder.startswith(f"{argument}_")


def _tensors(value: Any) -> list[Any]:
    return [one for one in flat(value) if hasattr(one, "shape")]
