"""What a named family of masks is, and how text names one (``sliding_tile:canvas=30x48x80,tile=6x8x8,...``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from tilewright.errors import InputError, unknown
from tilewright.registry import LAST, Registry
from tilewright.workloads.masks.lists import BlockMask, RowLists

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "FAMILIES",
    "MaskFamily",
    "Option",
    "Site",
    "check_mask",
    "items_with_mask",
    "kept_mask",
    "lists_of",
    "make_mask",
    "register_mask",
]


class Site(NamedTuple):
    """The layer that a mask is for: query heads, those that share keys, rows, keys and width of a head."""

    heads: int
    kv_heads: int
    query_len: int
    key_len: int
    head_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One ``key=value`` of a family. ``kind``: ``count`` (1 or more), ``number`` (0 or more), ``share`` (above 0, up to
    1), ``extents`` (30x48x80), ``flag``, ``text``. ``default`` None: it must be given.
    """

    name: str
    meaning: str
    kind: str = "count"
    default: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskFamily:
    """Masks by a rule: ``make(text, site, values)`` gives the lists; ``options`` are what it is told."""

    name: str
    summary: str
    source: str
    options: tuple[Option, ...]
    make: Callable[[str, Site, Mapping[str, Any]], BlockMask]


FAMILIES: Registry[MaskFamily] = Registry("mask", rooms=("tilewright.workloads.masks",))


def register_mask(family: MaskFamily, *, rank: int = LAST) -> MaskFamily:
    """Make ``family`` known under its name."""
    return FAMILIES.register(family.name, family, rank=rank)


def check_mask(text: str, *, what: str) -> tuple[MaskFamily, dict[str, Any]]:
    """The family that ``text`` names and the values of its options; raises InputError for what they cannot be."""
    name, _, rest = text.partition(":")
    names = [known for known, _ in FAMILIES.items()]
    if name.strip() not in names:
        from tilewright.workloads.attention import MASKS

        raise unknown("mask", name.strip(), (*MASKS, *names), place=f"{what}: mask")
    family = FAMILIES.get(name.strip())
    place = f"{what}: mask {family.name}"
    options = {option.name: option for option in family.options}
    values: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, _, given = (part.strip() for part in item.partition("="))
        if key not in options:
            raise unknown("key", key, options, place=place)
        if key in values:
            raise InputError(f'{place}: {key}: given twice; given "{given}"; allowed once')
        values[key] = _value(options[key], given, place)
    for option in family.options:
        if option.name not in values:
            if option.default is None:
                raise InputError(f"{place}: {option.name}: missing; allowed {option.meaning}")
            values[option.name] = option.default
    return family, values


def make_mask(text: str, site: Site, *, what: str) -> BlockMask:
    """The mask that ``text`` names, for the layer ``site``; raises InputError where it does not fit."""
    family, values = check_mask(text, what=what)
    try:
        return family.make(text, site, values)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None


@cache
def _kept(text: str, site: Site) -> BlockMask:
    family, values = check_mask(text, what="mask")
    return family.make(text, site, values)


def kept_mask(text: str, site: Site, *, what: str) -> BlockMask:
    """As :func:`make_mask`, made once for the many layers of a network that share it; files are read each time."""
    _, values = check_mask(text, what=what)
    if "path" in values:
        return make_mask(text, site, what=what)
    try:
        return _kept(text, site)
    except InputError as error:
        raise InputError(f"{what}: {error}") from None


def items_with_mask(text: str, own: Collection[str]) -> list[str]:
    """The ``key=value`` of ``text``, where the options of a family of masks, behind its name, stay with it.

    ``own``: keys that are not the family's, whatever its options are called.
    """
    items: list[str] = []
    options: set[str] = set()
    place = 0
    for item in map(str.strip, text.split(",")):
        key, _, value = (part.strip() for part in item.partition("="))
        if key in options:
            items[place] += item if items[place].endswith(":") else f",{item}"
            continue
        items.append(item)
        family = value.partition(":")[0].strip()
        if key == "mask" and family in dict(FAMILIES.items()):
            options, place = {option.name for option in FAMILIES.get(family).options} - set(own), len(items) - 1
            if ":" not in value:
                items[-1] += ":"
    return items


def lists_of(blocks: npt.NDArray[np.bool_]) -> RowLists:
    """Lists of what is true in ``blocks`` (rows of blocks, key blocks)."""
    import numpy as np

    pointers = np.concatenate([[0], np.cumsum(blocks.sum(axis=1))]).astype(np.int64)
    return RowLists(pointers=pointers, indices=np.nonzero(blocks)[1].astype(np.int64))


def _value(option: Option, given: str, place: str) -> Any:
    allowed = {
        "count": "whole numbers from 1",
        "number": "whole numbers from 0",
        "share": "numbers above 0, up to 1",
        "extents": "whole numbers from 1 joined by x, as 30x48x80",
        "flag": "true, false",
    }
    try:
        return _read(option.kind, given)
    except (ValueError, KeyError):
        shown = f"{allowed[option.kind]} ({option.meaning})"
        raise InputError(f'{place}: {option.name}: given "{given}"; allowed {shown}') from None


def _read(kind: str, given: str) -> Any:
    if kind == "text":
        return given
    if kind == "flag":
        return {"true": True, "yes": True, "false": False, "no": False}[given.lower()] if given else _refuse()
    if kind == "extents":
        extents = tuple(int(part) for part in given.split("x"))
        return extents if all(extent >= 1 for extent in extents) else _refuse()
    if kind == "share":
        share = float(given)
        return share if math.isfinite(share) and 0 < share <= 1 else _refuse()
    count = int(given)
    return count if count >= (kind == "count") else _refuse()


def _refuse() -> Any:
    raise ValueError


def need_square(text: str, site: Site, n_tokens: int, what: str) -> None:
    """Refuse a layer whose queries and keys are not the ``n_tokens`` of ``what``."""
    if (site.query_len, site.key_len) != (n_tokens, n_tokens):
        raise InputError(
            f"mask {text}: {what} has {n_tokens} tokens; given {site.query_len} queries and {site.key_len} keys; "
            f"allowed {n_tokens} of each"
        )


def one_for_all(lists: RowLists, heads: int) -> tuple[tuple[RowLists, ...], tuple[int, ...]]:
    """Patterns and which head has which, where all have the same."""
    return (lists,), (0,) * heads


def extents_text(extents: Sequence[int]) -> str:
    """As a person writes them."""
    return "x".join(map(str, extents))
