"""Schedules from files: rows of step, block (and part) with whether it is computed; and numbers by step."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tilewright.document_text import read_json, read_text
from tilewright.errors import InputError, unknown
from tilewright.workloads.diffusion.blocks import PARTS, NetworkBlocks
from tilewright.workloads.diffusion.step import HOWS, Cell, Schedule, Step

__all__ = ["read_numbers", "read_rows", "read_schedule"]

_WHAT = "schedule"
_COLUMNS = ("step", "block", "part", "computed")
_STEP_KEYS = ("cached", "how", "order", "skipped", "forwards")


def read_rows(path: Path, *, what: str, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file that has the columns ``needed``; raises InputError that names what is missing."""
    text = read_text(path, what=what, allowed=f"the path of a CSV file with the columns {', '.join(needed)}")
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    columns = tuple(reader.fieldnames or ())
    for name in needed:
        if name not in columns:
            raise unknown("column", name, columns, place=str(path), fault=f"has no column {name}")
    return list(reader)


def read_numbers(path: Path, n_steps: int, *, column: str) -> list[float]:
    """A number for each step: the column of a CSV file with a column ``step``, in any order."""
    found: dict[int, float] = {}
    for at, row in enumerate(read_rows(path, what="file of distances", needed=("step", column)), start=2):
        step = _step(f"{path}:{at}", row["step"], n_steps)
        try:
            found[step] = float(row[column])
        except (TypeError, ValueError):
            raise InputError(f'{path}:{at}: {column}: given "{row[column]}"; allowed a number') from None
    for step in range(n_steps):
        if step not in found:
            raise InputError(f"{path}: step {step} is missing; allowed a row for each of the {n_steps} steps")
    return [found[step] for step in range(n_steps)]


def read_schedule(path: Path, network: NetworkBlocks, n_steps: int) -> Schedule:
    """A schedule of ``network``: CSV (step, block[, part], computed: a row for each that is not computed, others may
    be there), or JSON (a list of steps: ``{"cached": ["blocks.3", "blocks.4.mlp"], "how": "value"}``, ``{"skipped":
    true}``, or ``{}`` for a full one).
    """
    if path.suffix == ".json":
        return _from_json(path, network, n_steps)
    cached: dict[int, set[Cell]] = {}
    for at, row in enumerate(read_rows(path, what=_WHAT, needed=("step", "block", "computed")), start=2):
        place = f"{path}:{at}"
        step = _step(place, row["step"], n_steps)
        cell = (network.block(row["block"], place=f"{place}: block").name, _part(place, row.get("part") or ""))
        if row["computed"] not in ("0", "1"):
            raise InputError(f'{place}: computed: given "{row["computed"]}"; allowed 0, 1')
        if row["computed"] == "0":
            cached.setdefault(step, set()).add(cell)
    steps = tuple(Step(cached=frozenset(cached.get(at, ()))) for at in range(n_steps))
    return Schedule(method=path.name, steps=steps)


def _step(place: str, text: str, n_steps: int) -> int:
    value = int(text) if text and text.strip().isdecimal() else -1
    if not 0 <= value < n_steps:
        raise InputError(f'{place}: step: given "{text}"; allowed 0 to {n_steps - 1}')
    return value


def _part(place: str, text: str) -> str:
    if text and text not in PARTS:
        raise unknown("part", text, PARTS, place=f"{place}: part")
    return text


def _from_json(path: Path, network: NetworkBlocks, n_steps: int) -> Schedule:
    data = read_json(path, what=_WHAT, allowed="the path of a schedule in CSV or JSON")
    entries = data.get("steps") if isinstance(data, dict) else data
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f'{path}: is no list of steps; allowed [{{"cached": ["blocks.3"]}}, {{}}, ...]')
    if len(entries) != n_steps:
        raise InputError(f"{path}: has {len(entries)} steps; allowed {n_steps}, as the run has")
    steps = tuple(_json_step(f"{path}: steps.{at}", entry, network) for at, entry in enumerate(entries))
    return Schedule(method=path.name, steps=steps)


def _json_step(place: str, entry: Mapping[str, Any], network: NetworkBlocks) -> Step:
    for key in entry:
        if key not in _STEP_KEYS:
            raise unknown("field", key, _STEP_KEYS, place=place)
    how = entry.get("how", "value")
    if how not in HOWS:
        raise unknown("way", how, HOWS, place=f"{place}.how")
    counts = {"order": (entry.get("order", 1 if how == "taylor" else 0), 0), "forwards": (entry.get("forwards", 1), 1)}
    for key, (value, least) in counts.items():
        if type(value) is not int or value < least:
            raise InputError(f"{place}.{key}: given {value}; allowed a whole number of at least {least}")
    names = entry.get("cached", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{place}.cached: must be a list of blocks; given {names}")
    cached = frozenset(_cell(f"{place}.cached", name, network) for name in names)
    return Step(
        cached=cached,
        how=how,
        order=counts["order"][0],
        skipped=bool(entry.get("skipped", False)),
        forwards=counts["forwards"][0],
    )


def _cell(place: str, name: str, network: NetworkBlocks) -> Cell:
    """``blocks.3`` or ``blocks.3.mlp``."""
    block, _, part = name.rpartition(".")
    if block in network.names and part in PARTS:
        return block, part
    return network.block(name, place=place).name, ""
