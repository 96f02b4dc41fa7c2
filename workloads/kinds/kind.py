"""What a kind of operator is, and the door through which kinds come in, built-in ones as those of plug-ins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from tilewright.errors import InputError
from tilewright.registry import LAST, Registry

if TYPE_CHECKING:
    from tilewright.workloads.kinds.text import OperatorText
    from tilewright.workloads.operators import Operator, TensorSpec
    from tilewright.workloads.stream.graph import OperatorStream
    from tilewright.workloads.vector_work import UnitValues

__all__ = ["KINDS", "AttributeType", "OfShapes", "OperatorKind", "Work", "always", "need_elements", "register_kind"]

#: ``count``: a whole number of at least 1; ``whole``: of at least 0; ``sizes``: counts, one per spatial dimension, and
#: ``padding``: whole numbers, two per spatial dimension; ``flag``: true or false; ``text``; ``number``: any.
AttributeType: TypeAlias = Literal["count", "whole", "sizes", "padding", "flag", "text", "number"]
#: Basic operations of a vector unit (add, sub, mul, max, exp, div), and how many of each.
Work: TypeAlias = Mapping[str, int]
#: From the shapes of an operator's inputs and of its result, its attributes.
OfShapes: TypeAlias = Callable[[Sequence[tuple[int, ...]], tuple[int, ...]], Mapping[str, Any]]


def _no_check(operator: Operator) -> None:
    pass


def _no_sizes(operator: Operator, stream: OperatorStream) -> None:
    pass


def _no_macs(operator: Operator) -> int:
    return 0


def _no_work(operator: Operator) -> Work:
    return {}


def _one_pass(operator: Operator) -> None:
    return None


def _no_unit(operator: Operator) -> UnitValues | None:
    return None


def _function(operator: Operator, kernels: Sequence[tuple[int, int]]) -> Collection[str]:
    return [operator.text("function")] if "function" in operator.attributes else ()


def _never(operator: Operator) -> bool:
    return False


def always(operator: Operator) -> bool:
    """Yes, whatever the operator."""
    return True


def _name(operator: Operator) -> str:
    return operator.kind


def _size(operator: Operator) -> str:
    if {"rows", "columns"} <= operator.attributes.keys():
        return f"{operator.count('rows')}x{operator.count('columns')}"
    if "n_elements" in operator.attributes:
        return str(operator.attributes["n_elements"])
    return " ".join(
        f"{key} {operator.count(key)}" for key, kind in operator.of_kind.attributes.items() if kind == "count"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorKind:
    """A kind of operator, called ``name`` in streams; ``word`` says what it is.

    Only the name must be given: such a kind is the traffic of its inputs and results.

    **What an operator must say.** ``attributes``: what it must have, ``optional``: what it may have, each with its type
    (others are allowed and not looked at). It has ``least_inputs`` inputs and ``least_outputs`` results or more.
    ``check(operator)`` raises InputError when attributes do not agree with each other, ``sizes(operator, stream)`` when
    they do not with the tensors (see :func:`need_elements`).

    **How much it is.** ``macs(operator)``: multiply-accumulates; where they are not ``on_array(operator)``, of a matrix
    unit, each is a multiplication and an addition of the vector unit. ``work(operator)``: its other basic operations on
    the vector unit. ``passes(operator)``: the work of the first and of the last pass over rows that do not stay on
    chip, for what must see all of a row before the row's first result; ``rows`` is then among its attributes.
    ``reduces``: whether lanes must be combined; ``sums``: whether its results are sums over pieces of what it reads.
    ``read_bytes(operator, stream)`` and ``write_bytes``: where they are not its inputs and results, each once.
    ``unit(operator)``: what a unit of a machine for such operators alone counts of one; None where it does it in
    several passes, or not at all.

    **How it goes with others.** ``n_operands``: how many of its inputs, from the first on, are multiplied with each
    other (their formats can be chosen); ``tensors``: names of these, where their formats are chosen one by one;
    ``is_product``: whether it is the product of the first two, the second often a
    weight, on whose tiles element-wise work can be done before they are stored. ``follows``: behind which others it
    can be done while their results are still on chip; it then has ``n_elements`` (of its one result). ``leads``:
    whether anything can be done so behind it. ``by_rows``: whether a row of its result (along the last dimension) needs
    only that row of its inputs, so that fused groups can hold it; a kind without is alone there, but for built-in ones.
    ``parts(operator, stream)``: simpler operators that it can be taken
    apart into, and the tensors between them.

    **How it is shown and written.** ``size``: how large an operator is, in a few characters; ``layer_word``: what a
    layer of it is called; ``colour`` in drawings; ``text``: how one is written on the command line; ``of_shapes``: its
    attributes, where they follow from the shapes of inputs and result (operators of a file can then be mapped to it by
    name, ``--map NAME=kind:KIND``); ``assumptions`` that a result lists when a network has one; ``is_understood``:
    whether more than its traffic is known. ``functions``: what a machine file may name behind the kind
    ("elementwise:silu"), anything where it is empty, and ``functions_of(operator, kernels)`` which of them the operator
    has, on an array that does ``kernels`` (height, width) alone, or any kernel where there are none.
    """

    name: str
    word: str = ""
    attributes: Mapping[str, AttributeType] = field(default_factory=dict)
    optional: Mapping[str, AttributeType] = field(default_factory=dict)
    least_inputs: int = 1
    least_outputs: int = 1
    check: Callable[[Operator], None] = _no_check
    sizes: Callable[[Operator, OperatorStream], None] = _no_sizes
    macs: Callable[[Operator], int] = _no_macs
    on_array: Callable[[Operator], bool] = _never
    work: Callable[[Operator], Work] = _no_work
    passes: Callable[[Operator], tuple[Work, Work] | None] = _one_pass
    reduces: Callable[[Operator], bool] = _never
    sums: bool = False
    unit: Callable[[Operator], UnitValues | None] = _no_unit
    read_bytes: Callable[[Operator, OperatorStream], int] | None = None
    write_bytes: Callable[[Operator, OperatorStream], int] | None = None
    n_operands: int = 0
    tensors: tuple[str, ...] = ()
    is_product: bool = False
    follows: Literal["nothing", "products", "anything"] = "nothing"
    leads: bool = True
    by_rows: bool = False
    parts: Callable[[Operator, OperatorStream], tuple[Sequence[Operator], Sequence[TensorSpec]]] | None = None
    size: Callable[[Operator], str] = _size
    layer_word: Callable[[Operator], str] = _name
    colour: str = "#8a94a6"
    text: OperatorText | None = None
    of_shapes: OfShapes | None = None
    assumptions: tuple[str, ...] = ()
    is_understood: bool = True
    functions: Sequence[str] = ()
    functions_of: Callable[[Operator, Sequence[tuple[int, int]]], Collection[str]] = _function


KINDS: Registry[OperatorKind] = Registry("operator kind", rooms=("tilewright.workloads.kinds",))


def register_kind(kind: OperatorKind, *, rank: int = LAST) -> OperatorKind:
    """Make ``kind`` known by its name, and as text; ``rank``: its place in lists.

    Raises InputError for a name that is taken.
    """
    return KINDS.register(kind.name, kind, rank=rank)


def need_elements(operator: Operator, stream: OperatorStream, name: str, *allowed: int) -> None:
    """Raise InputError where the tensor ``name`` has none of the ``allowed`` numbers of values."""
    tensor = stream.tensor(name)
    if tensor.n_elements not in allowed:
        shape = "x".join(map(str, tensor.shape)) or "1"
        raise InputError(
            f"{stream.name}: {operator.name}: its attributes ask for {allowed[0]:,} values in {name}; given {shape}"
        )
