"""The words in which a person describes an attention layer, and the layer that they mean.

The same keys serve the built-in networks, text such as ``attention:heads=12,seq=512,head_dim=64`` and YAML files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from tilewright.errors import InputError, unknown
from tilewright.formats import format_bits, tensor_format
from tilewright.workloads.attention import LARGEST_EXTENT, MASKS, REORDERS, AttentionLayer
from tilewright.workloads.masks.family import Site, check_mask, items_with_mask, make_mask

__all__ = ["BIASES", "KEYS", "Fields", "check_field", "layer_from_fields", "override_fields", "parse_fields"]

Value: TypeAlias = int | str | bool
Fields: TypeAlias = Mapping[str, Value]

_COUNTS = ("batch", "heads", "kv_heads", "seq", "query_len", "key_len", "head_dim", "value_dim", "hidden")
_WINDOWS = ("window_left", "window_right")
_ELEMENT_FORMATS = ("score_format", "probability_format", "accumulator_format")
_STORED_FORMATS = (
    *("qkv_format", "key_format", "value_format", "output_format", "bias_format", "sink_format", "residual_format"),
)
_FORMATS = (*_STORED_FORMATS, *_ELEMENT_FORMATS)
_BIAS = ("bias_batch", "bias_heads", "bias_rows")
_SWITCHES = ("sinks", "soft_cap", "choosing", "ratios")
_YES_NO = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
#: Which of batch, heads and rows a bias has values of its own for.
BIASES: Mapping[str, tuple[bool, bool, bool]] = {
    "none": (False, False, False),
    "keys": (True, False, False),
    "shared": (False, False, True),
    "entry": (True, False, True),
    "head": (False, True, True),
    "full": (True, True, True),
}
KEYS = (*_COUNTS, "mask", *_WINDOWS, "reorder", "bias", *_BIAS, *_SWITCHES, *_FORMATS)

# A key given anew takes the place of these older ones: "seq" of both lengths, "hidden" of the head width and so on.
_REPLACES = {
    "seq": ("query_len", "key_len"),
    "hidden": ("head_dim",),
    "head_dim": ("hidden",),
    "bias": _BIAS,
    **dict.fromkeys(_BIAS, ("bias",)),
}


def parse_fields(text: str, *, what: str) -> dict[str, Value]:
    """Read ``key=value,key=value``; ``what`` names the workload in errors.

    Raises InputError for an unknown or repeated key, a missing value, a number that is none or is out of range, and an
    unknown mask, bias or number format.
    """
    fields: dict[str, Value] = {}
    for item in items_with_mask(text, KEYS):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key or not value:
            raise InputError(f'{what}: expected key=value; given "{item.strip()}"; allowed keys {", ".join(KEYS)}')
        if key not in KEYS:
            raise unknown("key", key, KEYS, place=what)
        if key in fields:
            raise InputError(f'{what}: {key}: given twice; given "{fields[key]}" and "{value}"; allowed once')
        fields[key] = check_field(key, _as_number(value) if key in (*_COUNTS, *_WINDOWS, *_BIAS) else value, what=what)
    return fields


def _as_number(text: str) -> int | str:
    """A whole number, also written 4_096 or 1e6; any other text stays as it is, for the error that shows it."""
    for read in (int, float):
        try:
            number = read(text)
        except ValueError:
            continue
        if number == number // 1:
            return int(number)
    return text


def check_field(key: str, value: Any, *, what: str) -> Value:
    """Return ``value`` when it is one that ``key`` can have by itself; otherwise raise InputError."""
    if key in _FORMATS:
        try:
            (format_bits if key in _ELEMENT_FORMATS else tensor_format)(value)
        except InputError as error:
            raise InputError(f"{what}: {key}: {error}") from None
        return str(value)
    if key == "mask":
        if value not in MASKS:
            check_mask(str(value), what=what)
        return str(value)
    if key == "reorder":
        if value not in ("none", *REORDERS):
            raise unknown("reorder", value, ("none", *REORDERS), place=f"{what}: reorder")
        return str(value)
    if key in _SWITCHES:
        return _switch(key, value, what=what)
    if key == "bias":
        if value not in BIASES:
            raise unknown("bias", value, BIASES, place=f"{what}: bias")
        return str(value)
    least = 0 if key in _WINDOWS else 1
    if type(value) is int and least <= value <= LARGEST_EXTENT:
        return value
    problem = "out of range" if type(value) is int else "must be a whole number"
    shown = f'"{value}"' if isinstance(value, str) else value
    raise InputError(f"{what}: {key}: {problem}; given {shown}; allowed whole numbers from {least} to {LARGEST_EXTENT}")


def _switch(key: str, value: Any, *, what: str) -> bool:
    """Yes or no; for the soft cap also the number that caps the scores, which makes no difference to any cost."""
    if type(value) is bool:
        return value
    if isinstance(value, str) and value.lower() in _YES_NO:
        return _YES_NO[value.lower()]
    if key == "soft_cap":
        try:
            if 0 < float(value) < math.inf:
                return True
        except (TypeError, ValueError):
            pass
    allowed = "true, false" + (", or the number above 0 that caps the scores" if key == "soft_cap" else "")
    raise InputError(f'{what}: {key}: must be true or false; given "{value}"; allowed {allowed}')


def override_fields(base: Fields, changes: Fields) -> dict[str, Value]:
    """``base`` with ``changes`` in it; a change of ``seq`` also drops older lengths, ``hidden`` an older head width."""
    dropped = {old for key in changes for old in _REPLACES.get(key, ())}
    return {**{key: value for key, value in base.items() if key not in dropped}, **changes}


def layer_from_fields(name: str, fields: Fields) -> AttentionLayer:
    """The attention layer that checked ``fields`` describe.

    ``seq`` stands for whichever of ``query_len`` and ``key_len`` is not given, ``hidden`` for ``head_dim`` times
    ``heads``. ``bias`` says in a word which extents a bias has: ``keys`` (a value for each entry's key, as a padding
    mask has), ``shared`` (rows x keys for all), ``entry``, ``head`` or ``full``; ``bias_batch``, ``bias_heads`` and
    ``bias_rows`` give them one by one. Left out: batch 1, as many key/value heads as heads, value width as head width,
    no mask, no bias, no sinks, no soft cap, fp16 for Q and the scores, fp32 for sums, and for K, V, output, bias and
    sinks the format of Q. Raises InputError for what is missing or does not fit together.
    """
    given: dict[str, Any] = dict(fields)
    heads = _need(name, given, "heads")
    seq = given.get("seq")
    head_dim = _head_dim(name, given, heads)
    given |= _lists(name, given, heads, head_dim)
    if given.get("reorder") == "none":
        del given["reorder"]
    return AttentionLayer(
        name=name,
        batch=given.get("batch", 1),
        query_heads=heads,
        kv_heads=given.get("kv_heads", heads),
        query_len=_need(name, given, "query_len", seq, "seq or query_len"),
        key_len=_need(name, given, "key_len", seq, "seq or key_len"),
        head_dim=head_dim,
        value_dim=given.get("value_dim", head_dim),
        **_bias_extents(name, given, heads),  # type: ignore[arg-type]
        **{key: given[key] for key in ("mask", "blocks", "reorder", *_WINDOWS, *_SWITCHES, *_FORMATS) if key in given},
    )


def _lists(name: str, given: Mapping[str, Any], heads: int, head_dim: int) -> dict[str, Any]:
    """The lists of a mask that is one of a family, in place of its text."""
    text = given.get("mask", "none")
    if text in MASKS:
        return {}
    kv_heads = given.get("kv_heads", heads)
    site = Site(
        heads=heads,
        kv_heads=kv_heads if heads % kv_heads == 0 else heads,
        query_len=_need(name, given, "query_len", given.get("seq"), "seq or query_len"),
        key_len=_need(name, given, "key_len", given.get("seq"), "seq or key_len"),
        head_dim=head_dim,
    )
    return {"mask": "blocks", "blocks": make_mask(text, site, what=name)}


def _bias_extents(name: str, given: Mapping[str, Any], heads: int) -> dict[str, int]:
    own = {key: given[key] for key in _BIAS if key in given}
    word = given.get("bias")
    if word is None:
        if own and len(own) < len(_BIAS):
            missing = next(key for key in _BIAS if key not in own)
            raise InputError(f"{name}: {missing}: missing; given {', '.join(own)}; allowed all of {', '.join(_BIAS)}")
        return own
    if own:
        raise InputError(f"{name}: bias: says what {next(iter(own))} says; given both; allowed one of them")
    if word == "none":
        return {}
    rows = given.get("query_len", given.get("seq", 1))
    whole = (given.get("batch", 1), heads, rows)
    return {key: n if has else 1 for key, n, has in zip(_BIAS, whole, BIASES[word], strict=True)}


def _head_dim(name: str, given: Mapping[str, Any], heads: int) -> int:
    hidden = given.get("hidden")
    if hidden is None:
        return _need(name, given, "head_dim", None, "head_dim or hidden")
    if "head_dim" in given:
        raise InputError(f"{name}: hidden: stands for head_dim; given both; allowed one of hidden, head_dim")
    if hidden % heads:
        raise InputError(f"{name}: hidden: must be a multiple of heads; given {hidden}; allowed multiples of {heads}")
    return int(hidden // heads)


def _need(name: str, given: Mapping[str, Any], key: str, otherwise: int | None = None, wanted: str = "") -> int:
    value = given.get(key, otherwise)
    if value is None:
        shown = ", ".join(f"{k}={v}" for k, v in given.items()) or "nothing"
        raise InputError(f"{name}: {wanted or key}: missing; given {shown}; allowed 1 or more")
    return int(value)
