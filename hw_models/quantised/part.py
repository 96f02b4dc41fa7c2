"""A quantised engine as a part of a machine: the one that ``matrix.engine`` names, with its options, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from tilewright.errors import InputError, unknown
from tilewright.hw_models.quantised.catalogue import ATTENTION_ENGINES, engine_named
from tilewright.hw_models.quantised.demand import Engine

__all__ = ["OptionValue", "check_attention_engine", "check_engine", "engine_part", "has_effect", "option_names"]

OptionValue: TypeAlias = str | int | float | bool

_NO_OPTIONS = ("name", "source", "assumptions", "spread", "results", "weight_passes")  # a product decides these
_LARGEST = 2**20
_TRIED = (64, 1024, 256)  # a product whose steps tell what an engine asks of a machine


def engine_part(name: str, options: Mapping[str, OptionValue]) -> Engine:
    """The engine ``name`` with ``options`` (fields of its description, fractions as 0.25 or "1/4").

    Raises InputError for an unknown engine or option and for a value that it does not take.
    """
    return _part(name, tuple(sorted(options.items())))


@lru_cache(maxsize=64)
def _part(name: str, options: tuple[tuple[str, OptionValue], ...]) -> Engine:
    engine = engine_named(name)
    if not options:
        return engine
    assert is_dataclass(engine), name
    hints = get_type_hints(type(engine))
    allowed = option_names(engine)
    values: dict[str, Any] = {}
    for option, value in options:
        if option not in allowed:
            raise unknown("option", option, allowed, place=f"engine {name}")
        values[option] = _value(f"engine {name}: {option}", hints[option], value)
    changed: Engine = replace(engine, **values)
    changed.steps(*_TRIED)  # refuses formats that it cannot have
    return changed


def option_names(engine: Engine) -> tuple[str, ...]:
    """What of ``engine`` can be given otherwise than it is published."""
    assert is_dataclass(engine), engine.name
    return tuple(entry.name for entry in fields(engine) if entry.name not in _NO_OPTIONS)


def _value(place: str, hint: Any, given: OptionValue) -> Any:
    if get_origin(hint) is Literal:
        if given not in get_args(hint):
            raise unknown("value", str(given), map(str, get_args(hint)), place=place)
        return given
    if hint is Fraction:
        return _fraction(place, given)
    if hint is int and type(given) is int and 0 <= given <= _LARGEST:
        return given
    if hint in (bool, str) and type(given) is hint:
        return given
    kinds = {int: f"whole numbers from 0 to {_LARGEST}", bool: "true, false", str: "a number format"}
    raise InputError(f'{place}: given "{given}"; allowed {kinds.get(hint, "no value in a file")}')


def _fraction(place: str, given: OptionValue) -> Fraction:
    try:
        found = Fraction(str(given)) if not isinstance(given, bool) else Fraction(-1)
    except (ValueError, ZeroDivisionError):
        found = Fraction(-1)
    if not 0 <= found <= _LARGEST:
        raise InputError(f'{place}: given "{given}"; allowed a number such as 0.25, or a fraction such as "1/4"')
    return found


def check_engine(name: str, options: Mapping[str, OptionValue], rates: Mapping[str, float]) -> None:
    """Raise InputError unless an array with ``rates`` can be such an engine, which must change something."""
    engine = engine_part(name, options)
    steps = engine.steps(*_TRIED)
    for product in (product for step in steps for product in step.products):
        if product.number_format not in rates:
            fault = f"engine {name} multiplies in a format that has no rate"
            raise unknown("number format", product.number_format, rates, fault=fault)
    if not has_effect(engine):
        raise InputError(f'engine: changes nothing; given "{name}"; allowed one with steps of its own, or none')


def has_effect(engine: Engine) -> bool:
    """Whether an array does products otherwise with ``engine`` than without: not the plain product in its formats."""
    steps = engine.steps(*_TRIED)
    if len(steps) > 1 or steps[0].elements or len(steps[0].products) > 1:
        return True
    (product,) = steps[0].products
    return product.times * product.part != 1 or product.number_format not in engine.pair.split(" x ")


def check_attention_engine(name: str, rates: Mapping[str, float]) -> None:
    """Raise InputError unless an array with ``rates`` can multiply the products of that engine."""
    engine = ATTENTION_ENGINES.get(name)
    for number_format in (engine.score_multiply, engine.value_multiply):
        if number_format not in rates:
            fault = f"engine {name} multiplies in a format that has no rate"
            raise unknown("number format", number_format, rates, fault=fault)
