"""Attention nodes of ONNX: that of the standard set (from 23 on), and those of onnxruntime's optimiser.

Each is brought to the same form: Q, K and V by heads, keys and values with those of earlier runs before them, what is
added to the scores, and the band of keys that a query sees. The position of a query is counted from the first key:
``offset`` keys lie before the first query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.workloads.extract.draft import INDEX_FORMAT
from tilewright.workloads.extract.emit import emit_attention, emit_elementwise, emit_matmul

if TYPE_CHECKING:
    from tilewright.workloads.extract.draft import Draft
    from tilewright.workloads.extract.onnx_nodes import NodeReader

__all__ = ["MICROSOFT", "STANDARD", "append"]

_BY_HEADS = 4


@dataclass(kw_only=True, slots=True)
class _Call:
    """One attention: names of values by heads (batch, heads, rows, width), and what is done to the scores."""

    q: str
    k: str
    v: str
    out: str
    offset: int
    causal: bool = False
    left: int = -1
    right: int = -1
    masks: tuple[str, ...] = ()
    sinks: str = ""
    soft_cap: float = 0.0


def _emit(reader: NodeReader, path: str, call: _Call) -> None:
    """Write down an attention; keys that no query sees are not read."""
    draft = reader.draft
    rows, keys = draft.shape(call.q)[-2], draft.shape(call.k)[-2]
    right = 0 if call.causal else call.right
    if call.causal and call.right > 0:
        right = 0
    last = call.offset + rows + right if right >= 0 else keys
    if last < keys:
        keys = max(1, last)
        call.k, call.v = (_first_keys(draft, name, keys) for name in (call.k, call.v))
    shift = keys - rows - call.offset  # how far the diagonal that ends at the last key lies from the one that is meant
    masks = [_cut(draft, name, rows, keys) for name in call.masks if name]
    emit_attention(draft, path, call.q, call.k, call.v, call.out, mask=masks, sinks=call.sinks, soft_cap=call.soft_cap)
    before, after = (call.left + shift if call.left >= 0 else None), (right - shift if right >= 0 else None)
    _narrow(draft.steps[-1].attributes, before, after)


def _narrow(attributes: dict[str, Any], left: int | None, right: int | None) -> None:
    """Let a band be no wider than this many keys before and after the diagonal that ends at the last key."""
    rows, keys = attributes["query_len"], attributes["key_len"]
    known = {"causal": (None, 0), "none": (None, None)}.get(
        attributes["mask"], (attributes.get("window_left"), attributes.get("window_right"))
    )
    both = [[one for one in pair if one is not None] for pair in zip(known, (left, right), strict=True)]
    before, after = (min(pair) if pair else None for pair in both)
    before = None if before is not None and before >= keys - 1 else before
    after = None if after is not None and after >= rows - 1 else after
    for key in ("window_left", "window_right"):
        attributes.pop(key, None)
    if before is None and after is None:
        attributes["mask"] = "none"
    elif before is None and after == 0:
        attributes["mask"] = "causal"
    else:
        windows = {"window_left": before, "window_right": after}
        attributes |= {"mask": "banded", **{key: value for key, value in windows.items() if value is not None}}


def _first_keys(draft: Draft, name: str, keys: int) -> str:
    shape = draft.shape(name)
    return draft.view(f"{name}.first", name, (*shape[:-2], keys, shape[-1]), "part")


def _cut(draft: Draft, mask: str, rows: int, keys: int) -> str:
    """A mask without what lies beyond the queries and the keys that are read, such as one for the longest prompt."""
    shape = draft.shape(mask)
    most = (rows, keys)[-len(shape) :] if shape else ()
    wanted = [min(extent, limit) for extent, limit in zip(shape[-2:], most, strict=True)]
    if list(shape[-2:]) == wanted:
        return mask
    cut = draft.view(f"{mask}.first", mask, (*shape[:-2], *wanted), "part")
    if draft.is_known(mask):
        draft.values[cut].data = lambda: _first_places(draft.numbers(mask), wanted)
    return cut


def _first_places(numbers: Any, wanted: list[int]) -> Any:
    """The first so many entries along the last dimensions."""
    return None if numbers is None else numbers[(..., *(slice(extent) for extent in wanted))]


def _heads(draft: Draft, name: str, n_heads: int) -> str:
    """(batch, rows, heads x width) or (batch, heads, rows, width) as the latter."""
    if not name or len(draft.shape(name)) == _BY_HEADS:
        return name
    batch, rows, width = draft.shape(name)
    return draft.view(f"{name}.heads", name, (batch, n_heads, rows, width // n_heads))


def _part(draft: Draft, name: str, shape: tuple[int, ...], what: str) -> str:
    return draft.view(f"{name}.{what}", name, shape, "part")


# --- keys and values of earlier runs --------------------------------------------------------------------------------


def append(reader: NodeReader, path: str, past: str, new: str, shape: tuple[int, ...], name: str) -> str:
    """The cache ``past`` with ``new`` written behind it: only the new values move."""
    draft = reader.draft
    base = draft.base(past)
    if base.name in draft.inputs:
        base.role = "cache"
    out = draft.value(name, shape, draft.values[past].number_format, "cache")
    draft.step("reshape", path, [past, new], [out], {"function": "append"})
    return out


def _with_past(reader: NodeReader, node: Any, path: str, pairs: Mapping[int, tuple[int, str]]) -> list[str]:
    """Keys and values behind those of earlier runs; ``pairs``: for each result index the past's input and the new
    value. A cache that is as long as its result has room for the new ones already.
    """
    draft, found = reader.draft, []
    for index, (place, new) in pairs.items():
        past = reader.input(node, place)
        if not past:
            found.append(new)
            reader.alias(node, index, new)
            continue
        *lead, rows, width = draft.shape(past)
        declared = reader.declared(node, index)
        total = rows if declared and declared[-2] == rows else rows + draft.shape(new)[-2]
        name = node.output[index] if index < len(node.output) and node.output[index] else f"{new}.with_past"
        made = append(reader, path, past, new, (*lead, total, width), name)
        reader.alias(node, index, made)
        found.append(made)
    return found


# --- masks that are numbers of the run -------------------------------------------------------------------------------


def _padding(reader: NodeReader, name: str, batch: int) -> str:
    """A mask of onnxruntime's operators that is 1 where a key counts: (batch), (batch, keys), (batch, rows, keys).

    Lengths, (batch) numbers and their like, are a few bytes and hide what only the run knows: all keys are counted.
    """
    if not name:
        return ""
    draft = reader.draft
    shape = draft.shape(name)
    if len(shape) < 2:
        return ""
    wide = {2: (shape[0], 1, 1, shape[-1]), 3: (shape[0], 1, *shape[1:])}.get(len(shape), shape)
    seen = draft.view(f"{name}.seen", name, wide)
    if draft.is_known(name) and draft.values[name].number_format == INDEX_FORMAT:
        draft.values[seen].data = lambda: _truths(draft.numbers(name), wide)
    return seen


def _truths(numbers: Any, shape: tuple[int, ...]) -> Any:
    return None if numbers is None else (numbers != 0).reshape(shape)


# --- the standard operator -------------------------------------------------------------------------------------------


def _standard(reader: NodeReader, node: Any, path: str) -> None:
    """Attention: heads as a dimension, or side by side in each row; mask, caches, soft cap and windows."""
    from tilewright.workloads.extract.onnx_nodes import attributes_of

    attributes, draft = attributes_of(node), reader.draft
    if "num_heads" in attributes or reader.values.versions.get(node.domain, 23) < 23:
        raise InputError(
            f'{draft.name}: Attention at {path}: the standard operator set has it from 23 on; with "num_heads" and '
            'one packed weight it is onnxruntime\'s, whose domain must be "com.microsoft"'
        )
    q_heads, kv_heads = (int(attributes.get(f"{which}_num_heads", 1)) for which in ("q", "kv"))
    q, k, v = (
        _heads(draft, reader.input(node, place), heads) for place, heads in enumerate((q_heads, kv_heads, kv_heads))
    )
    out = reader.new(node.output[0])
    past = draft.shape(reader.input(node, 4))[-2] if reader.input(node, 4) else 0
    keys, values = _with_past(reader, node, path, {1: (4, k), 2: (5, v)})
    rows, offset = draft.shape(q)[-2], past
    if len(node.input) > 6 and node.input[6]:  # keys in a longer buffer: as many as it says, or all
        lengths = reader.values.whole_numbers(node.input[6])
        offset = (max(lengths) if lengths else draft.shape(keys)[-2]) - rows
        if lengths and max(lengths) < draft.shape(keys)[-2]:
            keys, values = (_first_keys(draft, name, max(lengths)) for name in (keys, values))
    call = _Call(
        q=q, k=keys, v=values, out=out, offset=offset, causal=bool(attributes.get("is_causal")),
        left=int(attributes.get("left_window_size", -1)), right=int(attributes.get("right_window_size", -1)),
        masks=(reader.input(node, 3),), soft_cap=float(attributes.get("softcap", 0.0)),
    )  # fmt: skip
    _emit(reader, path, call)
    if len(node.output) > 3 and node.output[3]:  # the scores themselves are wanted, too
        draft.steps[-1].outputs.append(reader.new(node.output[3]))


# --- onnxruntime's ---------------------------------------------------------------------------------------------------


def _packed(reader: NodeReader, node: Any, path: str) -> None:
    """Attention of com.microsoft: rows by one packed weight are Q, K and V."""
    from tilewright.workloads.extract.onnx_nodes import attributes_of

    attributes, draft = attributes_of(node), reader.draft
    x, weight, bias = (reader.input(node, place) for place in range(3))
    batch, rows, _ = draft.shape(x)
    width = draft.shape(weight)[-1]
    sizes = list(attributes.get("qkv_hidden_sizes", [])) or [width // 3] * 3
    packed = draft.value(f"{node.output[0]}.qkv", (batch, rows, width), draft.values[x].number_format)
    emit_matmul(draft, f"{path}.qkv", x, weight, packed, bias=bias)
    _attend_packed(reader, node, path, packed, sizes, (4, 3, 5))


def _quantised_packed(reader: NodeReader, node: Any, path: str) -> None:
    """QAttention: the same with whole numbers."""
    draft = reader.draft
    x, bias = reader.input(node, 0), reader.input(node, 2)
    reader.scaled_weight(node, 1, 4, 7)
    weight = reader.input(node, 1)
    batch, rows, _ = draft.shape(x)
    width = draft.shape(weight)[-1]
    number_format = reader.values.format_of(node.input[3])
    packed = draft.value(f"{node.output[0]}.qkv", (batch, rows, width), number_format)
    emit_matmul(draft, f"{path}.qkv", x, weight, packed, bias=bias)
    _attend_packed(reader, node, path, packed, [width // 3] * 3, (8, 5, 99))


def _attend_packed(
    reader: NodeReader, node: Any, path: str, packed: str, sizes: list[int], places: tuple[int, int, int]
) -> None:
    """Attention over rows that hold Q, K and V side by side; ``places`` of the past, the mask and the bias."""
    from tilewright.workloads.extract.onnx_nodes import attributes_of

    attributes, draft = attributes_of(node), reader.draft
    batch, rows, _ = draft.shape(packed)
    heads = int(attributes["num_heads"])
    q, k, v = (
        _heads(draft, _part(draft, packed, (batch, rows, size), what), heads)
        for size, what in zip(sizes, "qkv", strict=True)
    )
    past, n_past = reader.input(node, places[0]), 0
    if past:
        _, _, _, n_past, width = draft.shape(past)
        if draft.base(past).name in draft.inputs:
            draft.base(past).role = "cache"
        new = draft.view(f"{packed}.kv", packed, (2, batch, heads, rows, width), "part")
        name = node.output[1] if len(node.output) > 1 and node.output[1] else f"{packed}.with_past"
        both = append(reader, path, past, new, (2, batch, heads, n_past + rows, width), name)
        reader.alias(node, 1, both)
        k, v = (_part(draft, both, (batch, heads, n_past + rows, width), what) for what in "kv")
    elif len(node.output) > 1 and node.output[1]:
        width = sizes[1] // heads
        view = draft.view(f"{packed}.kv", packed, (2, batch, heads, rows, width), "part")
        reader.alias(node, 1, view)
    out = reader.result(node, 0, (batch, rows, sizes[2]), node.input[0], draft.values[packed].number_format)
    masks = (_padding(reader, reader.input(node, places[1]), batch), reader.input(node, places[2]))
    causal = bool(attributes.get("unidirectional"))
    _emit(reader, path, _Call(q=q, k=k, v=v, out=out, offset=n_past, causal=causal, masks=masks))


def _multi_head(reader: NodeReader, node: Any, path: str) -> None:
    """MultiHeadAttention: Q, K and V apart, or packed by heads."""
    from tilewright.workloads.extract.onnx_nodes import attributes_of

    masked = node.op_type == "DecoderMaskedMultiHeadAttention"
    places = dict(zip(("bias", "mask", "scores"), (10, 3, 4) if masked else (3, 4, 5), strict=True))
    attributes, draft = attributes_of(node), reader.draft
    heads, q, k, v = int(attributes["num_heads"]), *(reader.input(node, place) for place in range(3))
    if len(draft.shape(q)) == 5:  # (batch, rows, heads, 3, width)
        batch, rows, heads, _, width = draft.shape(q)
        q, k, v = (_part(draft, q, (batch, heads, rows, width), what) for what in "qkv")
    elif k and len(draft.shape(k)) == 5:
        batch, keys, heads, _, width = draft.shape(k)
        k, v = (_part(draft, k, (batch, heads, keys, width), what) for what in "kv")
    bias = reader.input(node, places["bias"])
    q, k, v = (_biased(reader, path, name, bias) for name in (q, k, v))
    q, k, v = (_heads(draft, name, heads) for name in (q, k, v))
    past = draft.shape(reader.input(node, 6 if not masked else 5))[-2] if reader.input(node, 6 - masked) else 0
    if past and len(draft.shape(reader.input(node, 1))) == _BY_HEADS:  # keys of the other side, worked out before
        past = 0
    else:
        k, v = _with_past(reader, node, path, {1: (6 - masked, k), 2: (7 - masked, v)})
    batch, rows = draft.shape(q)[0], draft.shape(q)[-2]
    out = reader.result(node, 0, (batch, rows, heads * draft.shape(v)[-1]), node.input[0])
    masks = (_padding(reader, reader.input(node, places["mask"]), batch), reader.input(node, places["scores"]))
    causal = bool(attributes.get("unidirectional"))
    offset = draft.shape(k)[-2] - rows if past else 0
    _emit(reader, path, _Call(q=q, k=k, v=v, out=out, offset=offset, causal=causal, masks=masks))


def _biased(reader: NodeReader, path: str, name: str, bias: str) -> str:
    """Q, K or V with its part of the bias added."""
    draft = reader.draft
    if not bias or len(draft.shape(name)) != 3:
        return name
    part = draft.view(f"{bias}.part", bias, (draft.shape(name)[-1],), "part")
    out = draft.value(f"{name}.biased", draft.shape(name), draft.values[name].number_format)
    emit_elementwise(draft, path, "add", [name, part], out)
    return out


def _grouped(reader: NodeReader, node: Any, path: str) -> None:
    """GroupQueryAttention: causal, with caches, rotary tables, a window, a soft cap, sinks."""
    from tilewright.workloads.extract.onnx_nodes import attributes_of

    attributes, draft = attributes_of(node), reader.draft
    heads, kv_heads = int(attributes["num_heads"]), int(attributes["kv_num_heads"])
    q, k, v = (reader.input(node, place) for place in range(3))
    batch, rows, width = draft.shape(q)
    if not k:
        size = width // (heads + 2 * kv_heads)
        packed = q
        q, k, v = (
            _part(draft, packed, (batch, rows, n * size), what)
            for n, what in ((heads, "q"), (kv_heads, "k"), (kv_heads, "v"))
        )
    q, k, v = _heads(draft, q, heads), _heads(draft, k, kv_heads), _heads(draft, v, kv_heads)
    if attributes.get("do_rotary"):
        tables = [_rows_of_table(draft, reader.input(node, place), rows) for place in (7, 8)]
        q, k = (_rotated(reader, path, name, tables) for name in (q, k))
    keys, values = _with_past(reader, node, path, {1: (3, k), 2: (4, v)})
    total = draft.shape(keys)[-2]
    known = reader.values.whole_numbers(node.input[6]) if len(node.input) > 6 else None
    if known and rows <= known[0] < total:
        total = known[0]
        keys, values = (_first_keys(draft, name, total) for name in (keys, values))
    out = reader.result(node, 0, (batch, rows, heads * draft.shape(values)[-1]), node.input[0])
    window = int(attributes.get("local_window_size", -1))
    call = _Call(
        q=q, k=keys, v=values, out=out, offset=total - rows, causal=True, left=window - 1 if window > 0 else -1,
        masks=(reader.input(node, 10),), sinks=reader.input(node, 11), soft_cap=float(attributes.get("softcap", 0.0)),
    )  # fmt: skip
    _emit(reader, path, call)


def _rows_of_table(draft: Draft, table: str, rows: int) -> str:
    """The rows of a rotary table that so many tokens need."""
    if not table or math.prod(draft.shape(table)[:-1]) <= rows:
        return table
    return draft.view(f"{table}.rows", table, (rows, draft.shape(table)[-1]), "part")


def _rotated(reader: NodeReader, path: str, name: str, tables: list[str]) -> str:
    draft = reader.draft
    out = draft.value(f"{name}.rotated", draft.shape(name), draft.values[name].number_format)
    emit_elementwise(draft, f"{path}.rotary", "rotary", [name, *filter(None, tables)], out)
    for table in filter(None, tables):
        reader.values.untrained(draft.base(table))
    return out


def _rotary(reader: NodeReader, node: Any, path: str) -> None:
    """RotaryEmbedding of both sets; only the rows of the tables that the tokens need are read."""
    draft = reader.draft
    first = 2 if node.domain == "com.microsoft" else 1
    x = reader.input(node, 0)
    shape = draft.shape(x)
    out = reader.result(node, 0, shape, node.input[0])
    rows = shape[-2] if len(shape) != 3 or node.domain != "com.microsoft" else shape[1]
    tables = [_rows_of_table(draft, reader.input(node, place), rows) for place in (first, first + 1)]
    for table in filter(None, tables):
        reader.values.untrained(draft.base(table))
    emit_elementwise(draft, path, "rotary", [x, *filter(None, tables)], out)


STANDARD: Mapping[str, Any] = {"Attention": _standard, "RotaryEmbedding": _rotary}
MICROSOFT: Mapping[str, Any] = {
    "Attention": _packed,
    "QAttention": _quantised_packed,
    "MultiHeadAttention": _multi_head,
    "DecoderMaskedMultiHeadAttention": _multi_head,
    "GroupQueryAttention": _grouped,
    "RotaryEmbedding": _rotary,
}
