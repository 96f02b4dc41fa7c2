"""Compiled schedules as data: what a compiler made of a kernel with its tiles, and the cycles that follow from it.

One file a target in ``schedules/`` (``sm_90``: Hopper), as ``tilewright schedules`` wrote it: a prediction needs no
compiler.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, MinLen

from tilewright.document import STRICT_FIELDS, validate_data
from tilewright.document_text import read_json

__all__ = [
    "CompiledSchedule",
    "ScheduleTable",
    "load_schedules",
    "schedule_name",
    "schedules_of",
    "schedules_text",
]

Cycles = Annotated[float, Ge(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledSchedule:
    """A kernel with its tiles, compiled. ``name`` by :func:`schedule_name`.

    ``registers`` of a thread, ``spill_bytes`` of it, ``shared_bytes`` of a block, ``warps`` of a block.
    ``instructions``: how many of each kind a warp issues in a trip of the loop. ``step_cycles``: a row for 1, 2, ...
    blocks side by side on a multiprocessor, in each the cycles of a trip of all of them, by the latency of a load (the
    table's ``latency_cycles``); ``fixed_cycles``: of a lone block, for all but the loop.
    """

    __pydantic_config__ = STRICT_FIELDS

    name: Annotated[str, MinLen(1)]
    registers: Annotated[int, Ge(1), Le(255)]
    spill_bytes: Annotated[int, Ge(0)]
    shared_bytes: Annotated[int, Ge(0)]
    warps: Annotated[int, Ge(1), Le(32)]
    instructions: Mapping[str, Annotated[int, Ge(1)]] = field(hash=False)
    step_cycles: Annotated[tuple[tuple[Cycles, ...], ...], MinLen(1)]
    fixed_cycles: tuple[Cycles, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTable:
    """Schedules compiled by ``compiler`` for ``target``; ``latency_cycles`` that their cycles are given for."""

    __pydantic_config__ = STRICT_FIELDS

    compiler: Annotated[str, MinLen(1)]
    target: Annotated[str, MinLen(1)]
    latency_cycles: Annotated[tuple[Annotated[float, Gt(0)], ...], MinLen(2)]
    schedules: tuple[CompiledSchedule, ...]

    def __post_init__(self) -> None:
        n = len(self.latency_cycles)
        for entry in self.schedules:
            if any(len(row) != n for row in (*entry.step_cycles, entry.fixed_cycles)):
                raise ValueError(f"{entry.name}: cycles for other latencies; allowed {n} in each row")

    def named(self) -> dict[str, CompiledSchedule]:
        """The schedules by name."""
        return {entry.name: entry for entry in self.schedules}


def schedule_name(kernel: str, numbers: Mapping[str, int]) -> str:
    """The name of a kernel compiled with ``numbers`` (tiles and what else it is compiled for)."""
    return " ".join([kernel, *(f"{name}={size}" for name, size in sorted(numbers.items()))])


def load_schedules(path: str | Path) -> ScheduleTable:
    """The schedules in the JSON file at ``path``; raises :class:`InputError` with each fault."""
    data = read_json(path, what="schedules", allowed="a file of tilewright schedules")
    return validate_data(data, ScheduleTable, what="schedules", name=str(path))


@cache
def schedules_of(target: str) -> ScheduleTable | None:
    """The schedules that come with the package for ``target``, None where there are none."""
    place = files("tilewright.hw_models").joinpath("gpu/schedules", f"{target}.json")
    if not place.is_file():
        return None
    return validate_data(json.loads(place.read_text(encoding="utf-8")), ScheduleTable, what="schedules", name=target)


def schedules_text(table: ScheduleTable) -> str:
    """``table`` as JSON, a schedule a line."""
    head = {"compiler": table.compiler, "target": table.target, "latency_cycles": list(table.latency_cycles)}
    lines = ",\n".join(
        f"  {json.dumps(_plain(entry))}" for entry in sorted(table.schedules, key=lambda each: each.name)
    )
    return json.dumps(head, indent=1).removesuffix("\n}") + f',\n "schedules": [\n{lines}\n ]\n}}\n'


def _plain(entry: CompiledSchedule) -> dict[str, Any]:
    plain = {each.name: getattr(entry, each.name) for each in fields(entry)}
    return plain | {
        "step_cycles": [_rounded(row) for row in entry.step_cycles],
        "fixed_cycles": _rounded(entry.fixed_cycles),
    }


def _rounded(cycles: Iterable[float]) -> list[int]:
    return [round(value) for value in cycles]
