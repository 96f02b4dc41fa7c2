"""Steps written into a draft with their sizes: the one place where every extractor gets its attributes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tilewright.errors import InputError
from tilewright.workloads.extract.draft import Draft
from tilewright.workloads.extract.masks import split_mask

_ATTENTION_RANK = 4

__all__ = [
    "emit_attention",
    "emit_conv",
    "emit_einsum",
    "emit_elementwise",
    "emit_gather",
    "emit_matmul",
    "emit_memory",
    "emit_norm",
    "emit_pool",
    "emit_reduction",
    "emit_softmax",
]


def emit_matmul(draft: Draft, path: str, a: str, b: str, out: str, *, bias: str = "", turned: bool = False) -> None:
    """The product of a (..., m, k) and b (..., k, n), with the rules of NumPy for batches and vectors.

    ``turned``: b is (..., n, k). ``bias`` has n values.
    """
    rows, columns = list(draft.shape(a)), list(draft.shape(b))
    rows = [1, *rows] if len(rows) == 1 else rows
    columns = columns if len(columns) > 1 else ([1, *columns] if turned else [*columns, 1])
    k, n = (columns[-1], columns[-2]) if turned else (columns[-2], columns[-1])
    if rows[-1] != k:
        raise InputError(f"{path}: product of {draft.shape(a)} and {draft.shape(b)}: inner sizes differ")
    batch, many = 1, math.prod(rows[:-2])
    if math.prod(columns[:-2]) == 1:
        m = many * rows[-2]
    else:
        batches = _broadcast(rows[:-2], columns[:-2])
        batch, m = math.prod(batches), rows[-2]
        a = _spread(draft, a, [*batches, m, k])
        b = _spread(draft, b, [*batches, *columns[-2:]])
    inputs = [a, b, bias] if bias else [a, b]
    draft.step("matmul", path, inputs, [out], {"batch": batch, "m": m, "k": k, "n": n})


def _broadcast(first: Sequence[int], second: Sequence[int]) -> list[int]:
    n_dims = max(len(first), len(second))
    pairs = zip([1] * (n_dims - len(first)) + list(first), [1] * (n_dims - len(second)) + list(second), strict=True)
    return [max(pair) for pair in pairs]


def _spread(draft: Draft, name: str, shape: Sequence[int]) -> str:
    if draft.values[name].n_elements == math.prod(shape):
        return name
    return draft.view(f"{name}.expanded", name, shape, "expand")


def emit_einsum(draft: Draft, path: str, equation: str, inputs: Sequence[str], out: str) -> bool:
    """A product of two tensors in Einstein's notation, or one tensor in another order; False when it is another
    thing.
    """
    sides, _, result = equation.replace(" ", "").partition("->")
    terms = sides.split(",")
    if len(inputs) == 1 and sorted(sides) == sorted(result) and len(set(sides)) == len(sides):
        draft.values[out].view_of = inputs[0]
        return True
    if len(terms) != 2 or len(inputs) != 2 or "." in equation or not result:
        return False
    first, second = terms
    size: dict[str, int] = {}
    for term, name in zip(terms, inputs, strict=True):
        if len(set(term)) != len(term) or len(term) != len(draft.shape(name)):
            return False
        size |= dict(zip(term, draft.shape(name), strict=True))
    inner = [x for x in first if x in second and x not in result]
    batch = [x for x in first if x in second and x in result]
    rows = [x for x in first if x not in second and x in result]
    columns = [x for x in second if x not in first and x in result]
    if len(inner) + len(batch) + len(rows) != len(first) or len(inner) + len(batch) + len(columns) != len(second):
        return False
    n, m, k, width = (math.prod(size[x] for x in labels) for labels in (batch, rows, inner, columns))
    a = draft.view(f"{inputs[0]}.rows", inputs[0], (n, m, k))
    b = draft.view(f"{inputs[1]}.columns", inputs[1], (n, k, width))
    draft.step("matmul", path, [a, b], [out], {"batch": n, "m": m, "k": k, "n": width})
    return True


def emit_conv(
    draft: Draft,
    path: str,
    x: str,
    weight: str,
    out: str,
    *,
    bias: str = "",
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    transposed: bool = False,
) -> None:
    """A convolution of x (batch, channels, sizes...); ``padding`` gives those before, then those after."""
    n_dims = len(draft.shape(weight)) - 2
    shape, result = draft.shape(x), draft.shape(out)
    if len(shape) == n_dims + 1:  # one image without a batch dimension
        shape, result = (1, *shape), (1, *result)
    attributes = {
        "batch": shape[0],
        "groups": groups,
        "in_channels": shape[1],
        "out_channels": result[1],
        "in_size": shape[2:],
        "out_size": result[2:],
        "kernel": draft.shape(weight)[2:],
        "stride": _per_dimension(stride, n_dims),
        "padding": _per_dimension(padding, 2 * n_dims),
        "dilation": _per_dimension(dilation, n_dims),
        "transposed": transposed,
    }
    draft.step("conv", path, [x, weight, bias] if bias else [x, weight], [out], attributes)


def _per_dimension(values: Sequence[int], n_wanted: int) -> tuple[int, ...]:
    """One number for all, one per dimension used before and after, or all of them."""
    numbers = tuple(int(value) for value in values)
    return numbers if len(numbers) == n_wanted else numbers * (n_wanted // len(numbers))


def emit_pool(
    draft: Draft,
    path: str,
    function: str,
    x: str,
    out: str,
    *,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> None:
    """A pool over windows; one that covers each map whole is a reduction."""
    n_dims = len(kernel)
    shape, result = draft.shape(x), draft.shape(out)
    if len(shape) == n_dims + 1:
        shape, result = (1, *shape), (1, *result)
    if tuple(kernel) == shape[2:] and math.prod(result[2:]) == 1:
        emit_reduction(draft, path, "mean" if function == "average" else function, x, out)
        return
    attributes = {
        "function": function,
        "batch": shape[0],
        "channels": shape[1],
        "in_size": shape[2:],
        "out_size": result[2:],
        "kernel": tuple(kernel),
        "stride": _per_dimension(stride or kernel, n_dims),
        "padding": _per_dimension(padding, 2 * n_dims),
    }
    draft.step("pool", path, [x], [out], attributes)


def emit_attention(
    draft: Draft,
    path: str,
    q: str,
    k: str,
    v: str,
    out: str,
    *,
    mask: str | Sequence[str] = "",
    causal: str = "",
    sinks: str = "",
    soft_cap: float = 0.0,
) -> None:
    """Attention of q (..., heads, queries, width) to k and v (..., key heads, keys, width).

    ``causal`` says where the mask's diagonal ends: "bottom" right or "top" left; ``mask`` names one or more values
    that are added to the scores, or say which of them count. ``sinks`` names one number per query head that joins each
    row's softmax; ``soft_cap`` c > 0 makes scores c tanh(S / c). Keys and values that are repeated over query heads are
    read once. Raises InputError that names the place for a mask that no band can say.
    """
    rows, width = draft.shape(q)[-2:]
    keys = draft.shape(k)[-2]
    if causal == "top" and rows < keys:  # no row sees the keys behind
        keys = rows
        k, v = (_first_rows(draft, name, rows) for name in (k, v))
    *lead, heads = draft.shape(q)[:-2] if len(draft.shape(q)) > 3 else (draft.shape(q)[0], 1)
    batch = math.prod(lead)
    key_source, kv_heads = _before_expansion(draft, k, batch, keys)
    value_source, value_heads = _before_expansion(draft, v, batch, keys)
    if value_heads != kv_heads:
        key_source, value_source = k, v
        kv_heads = draft.values[k].n_elements // (batch * keys * width)
    found, bias = _mask_attributes(draft, path, mask, causal, rows, keys)
    attributes: dict[str, Any] = {
        "batch": batch,
        "query_heads": heads,
        "kv_heads": kv_heads,
        "query_len": rows,
        "key_len": keys,
        "head_dim": width,
        "value_dim": draft.shape(v)[-1],
        **found,
    }
    inputs = [
        _seen_as(draft, q, (batch, heads, rows, width)),
        _seen_as(draft, key_source, (batch, kv_heads, keys, width)),
        _seen_as(draft, value_source, (batch, kv_heads, keys, draft.shape(v)[-1])),
    ]
    if bias:
        inputs.append(_bias_of_heads(draft, bias, lead, heads))
        attributes["bias"] = True
    if sinks:
        inputs.append(_seen_as(draft, sinks, (heads,)))
        attributes["sinks"] = True
    if soft_cap:
        attributes["soft_cap"] = float(soft_cap)
    draft.step("attention", path, inputs, [out], attributes)


def _bias_of_heads(draft: Draft, bias: str, lead: Sequence[int], heads: int) -> str:
    """A bias that broadcasts to (lead..., heads, rows, keys) as one that does to (batch, heads, rows, keys)."""
    shape = draft.shape(bias)
    if len(lead) == 1 and len(shape) == _ATTENTION_RANK - 1 and heads == 1:  # heads are batch entries
        return draft.view(f"{bias}.heads", bias, (shape[0], 1, *shape[1:]))
    full = (1,) * (len(lead) + 3 - len(shape)) + tuple(shape)
    own = full[: len(lead)]
    if math.prod(own) not in (1, math.prod(lead)):
        bias = draft.view(f"{bias}.spread", bias, (*lead, *full[len(lead) :]), "expand")
        own = tuple(lead)
    wanted = (math.prod(own), *full[len(lead) :])
    return _seen_as(draft, bias, wanted)


def _first_rows(draft: Draft, name: str, rows: int) -> str:
    shape = (*draft.shape(name)[:-2], rows, draft.shape(name)[-1])
    return draft.view(f"{name}.first", name, shape, "part")


def _seen_as(draft: Draft, name: str, shape: tuple[int, ...]) -> str:
    return name if draft.shape(name) == shape else draft.view(f"{name}.heads", name, shape)


def _before_expansion(draft: Draft, name: str, batch: int, keys: int) -> tuple[str, int]:
    """The value that keys or values were before they were repeated, and how many heads it has."""
    width = draft.shape(name)[-1]
    here = draft.values[name]
    while here.view_of is not None and here.view_kind != "part":
        here = draft.values[here.view_of]
    n_heads, rest = divmod(here.n_elements, batch * keys * width)
    if not rest and n_heads and here.n_elements < draft.values[name].n_elements:
        return here.name, n_heads
    return name, draft.values[name].n_elements // (batch * keys * width)


def _mask_attributes(
    draft: Draft, path: str, mask: str | Sequence[str], causal: str, rows: int, keys: int
) -> tuple[dict[str, Any], str]:
    """Attributes of a mask, and the value that is added to the scores beside it, empty for none."""
    if mask:
        return split_mask(draft, path, [mask] if isinstance(mask, str) else mask, rows, keys)
    if not causal or rows == 1:
        return {"mask": "none"}, ""
    return ({"mask": "causal"} if rows <= keys else {"mask": "banded", "window_right": rows - keys}), ""


def emit_softmax(draft: Draft, path: str, x: str, out: str, axis: int, function: str = "") -> None:
    """A softmax along one axis."""
    shape = draft.shape(x)
    columns = shape[axis] if shape else 1
    attributes: dict[str, Any] = {"rows": math.prod(shape) // columns, "columns": columns}
    draft.step("softmax", path, [x], [out], attributes | ({"function": function} if function else {}))


def emit_norm(
    draft: Draft, path: str, function: str, x: str, out: str, columns: int, parameters: Sequence[str] = ()
) -> None:
    """A norm over sets of ``columns`` values; ``parameters`` are its weight and bias, as far as it has them."""
    rows = draft.values[x].n_elements // columns
    inputs = [x, *(name for name in parameters if name)]
    draft.step("norm", path, inputs, [out], {"function": function, "rows": rows, "columns": columns})


def emit_elementwise(draft: Draft, path: str, function: str, inputs: Sequence[str], out: str) -> None:
    """A function of each value."""
    attributes = {"function": function, "n_elements": draft.values[out].n_elements}
    draft.step("elementwise", path, inputs, [out], attributes)


def emit_reduction(draft: Draft, path: str, function: str, x: str, out: str) -> None:
    """A sum, mean or greatest value of so many values for each result."""
    rows = draft.values[out].n_elements
    columns = max(1, draft.values[x].n_elements // rows)
    draft.step("reduction", path, [x], [out], {"function": function, "rows": rows, "columns": columns})


def emit_gather(draft: Draft, path: str, table: str, indices: Sequence[str], out: str, columns: int) -> None:
    """Rows of ``columns`` values read out of a table."""
    rows = max(1, draft.values[out].n_elements // columns)
    draft.step("gather", path, [table, *indices], [out], {"rows": rows, "columns": columns})


def emit_memory(draft: Draft, path: str, function: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """An operator that is not understood, counted as what it reads and writes."""
    draft.step("memory", path, inputs, outputs, {"function": function})
