"""Requests of a server as its description says: from a file, or drawn."""

from __future__ import annotations

import csv
import math
import random
from dataclasses import dataclass
from pathlib import Path

from tilewright.document_text import read_text
from tilewright.errors import InputError
from tilewright.workloads.runs.kinds.serve import ArrivalsSpec, LengthSpec

__all__ = ["Arrived", "arrivals_of"]

_P90 = 1.2815515655446004  # of the standard normal law
_COLUMNS = ("arrival_s", "input_tokens", "output_tokens")
_MOST_TOKENS = 10_000_000
_LATEST_S = 1e9


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request: when, tokens in and out, and how many of those in lie in the cache already."""

    seconds: float
    prompt: int
    answer: int
    hit: int = 0


def arrivals_of(spec: ArrivalsSpec) -> tuple[Arrived, ...]:
    """All requests in the order of their arrival. Raises InputError for what is wrong in a file."""
    return _from_file(spec) if spec.file else _drawn(spec)


def _drawn(spec: ArrivalsSpec) -> tuple[Arrived, ...]:
    chance, now, found = random.Random(spec.seed), 0.0, []
    assert spec.prompt is not None and spec.answer is not None
    for number in range(spec.count):
        if spec.poisson:
            now += chance.expovariate(spec.poisson)
        elif spec.rate:
            now = number / spec.rate
        prompt, answer = _length(spec.prompt, chance), _length(spec.answer, chance)
        found.append(Arrived(now, prompt, answer, min(spec.hit_tokens, prompt - 1)))
    return tuple(found)


def _length(spec: LengthSpec, chance: random.Random) -> int:
    if spec.tokens:
        return spec.tokens
    width = math.log(spec.p90 / spec.median) / _P90
    return max(1, min(spec.most, round(chance.lognormvariate(math.log(spec.median), width))))


def _from_file(spec: ArrivalsSpec) -> tuple[Arrived, ...]:
    name = spec.file
    text = read_text(name, what="arrivals", allowed="the path of a CSV file of requests")
    if not Path(name).suffix == ".csv":
        raise InputError(f"{name}: arrivals: allowed a CSV file with {', '.join(_COLUMNS)}")
    reader = csv.DictReader(text.removeprefix("\ufeff").splitlines())
    columns = reader.fieldnames or ()
    missing = [column for column in (*_COLUMNS, *spec.only) if column not in columns]
    if missing:
        raise InputError(f"{name}: column {missing[0]}: missing; given {', '.join(columns) or 'nothing'}")
    found: list[Arrived] = []
    for row in reader:
        if any(row[column] != value for column, value in spec.only.items()):
            continue
        place = f"{name}:{reader.line_num}"
        seconds = _number(place, "arrival_s", row["arrival_s"])
        if found and seconds < found[-1].seconds:
            raise InputError(
                f"{place}: arrival_s: given {seconds:g} behind {found[-1].seconds:g}; allowed in the order of arrival"
            )
        prompt, answer = (_whole(place, column, row[column], least=1) for column in _COLUMNS[1:])
        hit = _whole(place, "hit_tokens", row.get("hit_tokens") or "0", least=0)
        if hit >= prompt:
            raise InputError(f"{place}: hit_tokens: given {hit} of {prompt} tokens; allowed from 0 to {prompt - 1}")
        found.append(Arrived(seconds, prompt, answer, hit))
    if not found:
        chosen = ", ".join(f"{column} {value}" for column, value in spec.only.items())
        raise InputError(f"{name}: no request{f' with {chosen}' if chosen else ''}; allowed at least one")
    return tuple(found)


def _number(place: str, column: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 <= value <= _LATEST_S:
        raise InputError(
            f"{place}: {column}: given {(text or 'nothing')[:40]}; allowed seconds from 0 to {_LATEST_S:g}"
        )
    return value


def _whole(place: str, column: str, text: str | None, *, least: int) -> int:
    value = _number(place, column, text)
    if value != int(value) or not least <= value <= _MOST_TOKENS:
        allowed = f"whole numbers from {least} to {_MOST_TOKENS}"
        raise InputError(f"{place}: {column}: given {(text or 'nothing')[:40]}; allowed {allowed}")
    return int(value)
