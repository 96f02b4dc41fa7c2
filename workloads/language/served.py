"""Precisions that servers of language models offer, by name: those of ``served.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated

from annotated_types import Ge, Le, MinLen

from tilewright.document import STRICT_FIELDS, parse_document
from tilewright.errors import unknown

__all__ = ["ServedPrecision", "served_named", "served_names"]

_Text = Annotated[str, MinLen(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPrecision:
    """``products``: family of kernels that multiply; ``storage`` of weights, ``cache`` format of keys and values;
    ``cache_slots``: of a lane for a number of the cache and a query head; ``workspace_bits`` of an activation in
    buffers for all prompts at once; ``host_us`` of a step for each sequence.
    """

    __pydantic_config__ = STRICT_FIELDS

    name: _Text
    names: tuple[str, ...] = ()
    products: _Text
    storage: _Text
    cache: _Text
    cache_slots: Annotated[float, Ge(0), Le(1000)]
    workspace_bits: Annotated[int, Ge(0), Le(64)]
    host_us: Annotated[float, Ge(0), Le(1e6)] = 0.0
    source: _Text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    __pydantic_config__ = STRICT_FIELDS

    served: tuple[ServedPrecision, ...]


@cache
def _known() -> dict[str, ServedPrecision]:
    text = files(__package__).joinpath("served.yaml").read_text(encoding="utf-8")
    found = parse_document(text, _Served, what="served precisions", name="served.yaml").served
    return {name: one for one in found for name in (one.name, *one.names)}


def served_names() -> tuple[str, ...]:
    """Names of all precisions."""
    return tuple(dict.fromkeys(one.name for one in _known().values()))


def served_named(name: str) -> ServedPrecision:
    """The precision called ``name``, or as a table calls it; raises InputError for one that is not known."""
    found = _known().get(name.strip().lower())
    if found is None:
        raise unknown("served precision", name, served_names())
    return found
