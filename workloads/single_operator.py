"""Single operators as text: ``gemm:m=512,n=768,k=768``, ``conv:in=64x56x56,out_channels=64,kernel=3``, ``softmax:...``.

Each becomes a stream of one operator, so it goes the way of a network's operators and costs the same as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tilewright.errors import InputError, unknown
from tilewright.formats import tensor_format
from tilewright.workloads.attention import LARGEST_EXTENT
from tilewright.workloads.operators import Kind
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import ELEMENTWISE

__all__ = ["OPERATOR_KINDS", "OperatorText", "is_operator", "operator_kinds", "operator_stream"]

_MOST_VALUES = 2**50  # of one tensor; no machine holds or moves more
_MOST_DIMENSIONS = 3
_TWO_INPUTS = ("add", "sub", "mul", "div", "max", "min", "where", "compare")
_YES_OR_NO = ("no", "yes")


class OperatorText(NamedTuple):
    """How an operator is written: a text that runs, what it is, its keys, and which of them must be given."""

    example: str
    summary: str
    keys: tuple[str, ...]
    needed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Given:
    """The keys of one text, read one by one; every error names the text and the key."""

    what: str
    kind: str
    values: Mapping[str, str]

    def count(self, key: str, usual: int | None = None, *, least: int = 1) -> int:
        text = self.values.get(key)
        if text is None:
            if usual is None:
                raise self.missing(key)
            return usual
        return self._number(key, text, least)

    def sizes(self, key: str, n: int, usual: int, *, least: int = 1) -> tuple[int, ...]:
        """One number for every dimension, or one number for all of them: ``3`` or ``3x5``."""
        text = self.values.get(key)
        if text is None:
            return (usual,) * n
        found = tuple(self._number(key, part, least) for part in text.split("x"))
        if len(found) not in (1, n):
            raise InputError(f'{self.what}: {key}: given "{text}"; allowed one number, or {n} as in in=')
        return found * n if len(found) == 1 else found

    def extents(self, key: str) -> tuple[int, ...]:
        """``64x56x56``."""
        if key not in self.values:
            raise self.missing(key)
        return tuple(self._number(key, part, 1) for part in self.values[key].split("x"))

    def word(self, key: str, allowed: tuple[str, ...]) -> str:
        """One of ``allowed``; the first where it is not given."""
        text = self.values.get(key, allowed[0])
        if text not in allowed:
            raise unknown(key, text, allowed, place=self.what)
        return text

    def format(self, key: str) -> str:
        """The number format of ``key`` (``a_format``), that of ``format`` where it is not given, else fp16."""
        place = key if key in self.values else "format"
        name = self.values.get(place, "fp16")
        try:
            tensor_format(name)
        except InputError as fault:
            raise InputError(f"{self.what}: {place}: {fault}") from None
        return name

    def missing(self, key: str) -> InputError:
        return InputError(f"{self.what}: {key}: missing; allowed for example {OPERATOR_KINDS[self.kind].example}")

    def _number(self, key: str, text: str, least: int) -> int:
        try:
            value = float(text) if "e" in text else int(text)
        except ValueError:
            value = math.nan
        if not least <= value <= LARGEST_EXTENT or value != int(value):
            allowed = f"whole numbers from {least} to {LARGEST_EXTENT}"
            raise InputError(f'{self.what}: {key}: must be a whole number; given "{text}"; allowed {allowed}')
        return int(value)


def operator_kinds() -> tuple[str, ...]:
    """The operators that can be written as text."""
    return tuple(OPERATOR_KINDS)


def is_operator(text: str) -> bool:
    """Whether ``text`` is a single operator: ``KIND`` or ``KIND:key=value,...`` (whether or not it is a right one)."""
    return text.partition(":")[0].strip() in OPERATOR_KINDS


def operator_stream(text: str) -> OperatorStream:
    """The stream of one operator that ``text`` describes; its name is the text without blanks.

    gemm: ``m``, ``n``, ``k``, ``batch`` products, ``b=weight`` (default) or ``activation``, ``a_format``, ``b_format``,
    ``out_format``. conv: ``in`` as channels x sizes, ``out_channels``, ``kernel``, ``stride``, ``padding``,
    ``dilation``, ``groups``, ``batch``, ``transposed=yes``. pool: the same sizes, ``function``. softmax, norm and
    reduction: ``rows`` times ``columns``. elementwise: ``n`` values, ``function``. Each takes ``format`` for all its
    tensors.

    Raises InputError that names the text, the key, what was given, what is allowed and the nearest key.
    """
    kind, _, rest = (part.strip() for part in text.partition(":"))
    entry = OPERATOR_KINDS[kind]
    what = f"{kind}:{''.join(rest.split())}".rstrip(":")
    given = _Given(what, kind, _fields(what, rest, entry))
    for key in entry.needed:
        if key not in given.values:
            raise given.missing(key)
    built = StreamBuilder(what)
    return built.finish([_BUILDERS[kind](built, given)])


def _fields(what: str, text: str, entry: OperatorText) -> dict[str, str]:
    fields: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key or not value:
            raise InputError(f'{what}: expected key=value; given "{item}"; allowed keys {", ".join(entry.keys)}')
        if key not in entry.keys:
            raise unknown("key", key, entry.keys, place=what)
        if key in fields:
            raise InputError(f'{what}: {key}: given twice; given "{fields[key]}" and "{value}"; allowed once')
        fields[key] = value
    return fields


def _result(
    built: StreamBuilder,
    given: _Given,
    kind: Kind,
    inputs: list[str],
    shape: tuple[int, ...],
    attributes: dict[str, Any],
) -> str:
    for sizes in (shape, *(built.shape(name) for name in inputs)):
        if math.prod(sizes) > _MOST_VALUES:
            shown = "x".join(map(str, sizes))
            raise InputError(f"{given.what}: a tensor of {shown} values is beyond reason; allowed at most 2^50 values")
    return built.add(kind, given.kind, inputs, shape, attributes, number_format=given.format("out_format"))


def _gemm(built: StreamBuilder, given: _Given) -> str:
    batch, m, n, k = (given.count(key, usual) for key, usual in (("batch", 1), ("m", None), ("n", None), ("k", None)))
    is_weight = given.word("b", ("weight", "activation")) == "weight"
    a = built.input("a", (batch, m, k), number_format=given.format("a_format"))
    b_format = given.format("b_format")
    if is_weight:
        b = built.weight("b", (k, n), number_format=b_format)
    else:
        b = built.input("b", (batch, k, n), number_format=b_format)
    return _result(built, given, "matmul", [a, b], (batch, m, n), {"batch": batch, "m": m, "k": k, "n": n})


def _windowed(given: _Given, *, stride: int | None) -> tuple[int, dict[str, Any]]:
    """(channels, the sizes of a convolution or of pooling); ``stride`` None: as the kernel."""
    channels, *in_size = given.extents("in")
    n = len(in_size)
    if not 1 <= n <= _MOST_DIMENSIONS:
        shown = given.values["in"]
        raise InputError(f'{given.what}: in: given "{shown}"; allowed channels and 1 to 3 sizes, as 64x56x56')
    kernel = given.sizes("kernel", n, 1)
    sizes = {
        "in_size": tuple(in_size),
        "kernel": kernel,
        "stride": kernel if stride is None and "stride" not in given.values else given.sizes("stride", n, 1),
        "padding": given.sizes("padding", n, 0, least=0) * 2,  # before, then behind
    }
    return channels, sizes


def _out_size(
    given: _Given, sizes: Mapping[str, Any], dilation: tuple[int, ...], *, transposed: bool
) -> tuple[int, ...]:
    found = []
    for size, kernel, stride, padding, spread in zip(
        sizes["in_size"], sizes["kernel"], sizes["stride"], sizes["padding"][: len(dilation)], dilation, strict=True
    ):
        reach = spread * (kernel - 1) + 1
        if transposed:
            found.append((size - 1) * stride - 2 * padding + reach)
        else:
            found.append((size + 2 * padding - reach) // stride + 1)
    if min(found) < 1:
        shown, kernels = "x".join(map(str, sizes["in_size"])), "x".join(map(str, sizes["kernel"]))
        raise InputError(
            f"{given.what}: kernel: {kernels} leaves no result of an input of {shown}; "
            "allowed a smaller kernel or more padding"
        )
    return tuple(found)


def _conv(built: StreamBuilder, given: _Given) -> str:
    batch, outs, groups = given.count("batch", 1), given.count("out_channels"), given.count("groups", 1)
    ins, sizes = _windowed(given, stride=1)
    if ins % groups or outs % groups:
        raise InputError(
            f"{given.what}: groups: given {groups}; allowed divisors of {ins} input and {outs} output channels"
        )
    transposed = given.word("transposed", _YES_OR_NO) == "yes"
    dilation = given.sizes("dilation", len(sizes["in_size"]), 1)
    out_size = _out_size(given, sizes, dilation, transposed=transposed)
    rows = (ins, outs // groups) if transposed else (outs, ins // groups)
    x = built.input("x", (batch, ins, *sizes["in_size"]), number_format=given.format("a_format"))
    weight = built.weight("weight", (*rows, *sizes["kernel"]), number_format=given.format("b_format"))
    attributes = {
        "batch": batch, "groups": groups, "in_channels": ins, "out_channels": outs, "out_size": out_size,
        "dilation": dilation, "transposed": transposed, **sizes,
    }  # fmt: skip
    return _result(built, given, "conv", [x, weight], (batch, outs, *out_size), attributes)


def _pool(built: StreamBuilder, given: _Given) -> str:
    batch = given.count("batch", 1)
    channels, sizes = _windowed(given, stride=None)
    out_size = _out_size(given, sizes, (1,) * len(sizes["in_size"]), transposed=False)
    x = built.input("x", (batch, channels, *sizes["in_size"]), number_format=given.format("a_format"))
    function = given.word("function", ("max", "average"))
    attributes = {"function": function, "batch": batch, "channels": channels, "out_size": out_size, **sizes}
    return _result(built, given, "pool", [x], (batch, channels, *out_size), attributes)


def _table(built: StreamBuilder, given: _Given) -> tuple[str, dict[str, int]]:
    rows, columns = given.count("rows"), given.count("columns")
    x = built.input("x", (rows, columns), number_format=given.format("a_format"))
    return x, {"rows": rows, "columns": columns}


def _softmax(built: StreamBuilder, given: _Given) -> str:
    x, sizes = _table(built, given)
    return _result(built, given, "softmax", [x], (sizes["rows"], sizes["columns"]), dict(sizes))


def _norm(built: StreamBuilder, given: _Given) -> str:
    x, sizes = _table(built, given)
    function = given.word("function", ("layer", "rms", "batch", "group", "instance"))
    learned = ("scale",) if function == "rms" else ("scale", "shift")
    weights = [built.weight(name, (sizes["columns"],), number_format=given.format("b_format")) for name in learned]
    return _result(
        built, given, "norm", [x, *weights], (sizes["rows"], sizes["columns"]), {"function": function, **sizes}
    )


def _reduction(built: StreamBuilder, given: _Given) -> str:
    x, sizes = _table(built, given)
    function = given.word("function", ("sum", "mean", "max", "min", "prod"))
    return _result(built, given, "reduction", [x], (sizes["rows"], 1), {"function": function, **sizes})


def _elementwise(built: StreamBuilder, given: _Given) -> str:
    n = given.count("n")  # as many rows: only rows can be dealt out to tiles and cores
    function = given.word("function", tuple(ELEMENTWISE))
    n_inputs = given.count("inputs", 2 if function in _TWO_INPUTS else 1)
    if n_inputs > _MOST_DIMENSIONS:
        raise InputError(f"{given.what}: inputs: given {n_inputs}; allowed 1 to {_MOST_DIMENSIONS}")
    inputs = [built.input(f"x{at}", (n, 1), number_format=given.format("a_format")) for at in range(n_inputs)]
    return _result(built, given, "elementwise", inputs, (n, 1), {"function": function, "n_elements": n})


_BUILDERS: Mapping[str, Callable[[StreamBuilder, _Given], str]] = {
    "gemm": _gemm,
    "conv": _conv,
    "softmax": _softmax,
    "norm": _norm,
    "pool": _pool,
    "elementwise": _elementwise,
    "reduction": _reduction,
}
_FORMATS = ("format", "a_format", "out_format")
_TWO_FORMATS = ("format", "a_format", "b_format", "out_format")
_IMAGE = ("in", "kernel", "stride", "padding", "batch")
#: How each operator is written; its keys are those that :func:`operator_stream` explains.
OPERATOR_KINDS: Mapping[str, OperatorText] = {
    "gemm": OperatorText(
        "gemm:m=512,n=768,k=768", "a matrix product", ("m", "n", "k", "batch", "b", *_TWO_FORMATS), ("m", "n", "k")
    ),
    "conv": OperatorText(
        "conv:in=64x56x56,out_channels=64,kernel=3,padding=1",
        "a convolution over 1 to 3 dimensions",
        (*_IMAGE, "out_channels", "dilation", "groups", "transposed", *_TWO_FORMATS),
        ("in", "out_channels", "kernel"),
    ),
    "softmax": OperatorText(
        "softmax:rows=6144,columns=512", "softmax of rows", ("rows", "columns", *_FORMATS), ("rows", "columns")
    ),
    "norm": OperatorText(
        "norm:rows=512,columns=768",
        "a normalisation of rows",
        ("rows", "columns", "function", *_TWO_FORMATS),
        ("rows", "columns"),
    ),
    "pool": OperatorText(
        "pool:in=64x112x112,kernel=3,stride=2,padding=1",
        "pooling over 1 to 3 dimensions",
        (*_IMAGE, "function", *_FORMATS),
        ("in", "kernel"),
    ),
    "elementwise": OperatorText(
        "elementwise:function=gelu,n=393216", "work on single values", ("n", "function", "inputs", *_FORMATS), ("n",)
    ),
    "reduction": OperatorText(
        "reduction:rows=512,columns=768", "a sum or the like of rows", ("rows", "columns", "function", *_FORMATS),
        ("rows", "columns"),
    ),
}  # fmt: skip
