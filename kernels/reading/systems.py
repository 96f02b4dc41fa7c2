"""Measured rates of language models on whole computers: tables whose rows name system and model themselves."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tilewright.document_text import check_regular
from tilewright.errors import InputError

__all__ = ["SystemKind", "SystemRow", "SystemTable", "is_system_table", "read_system_table"]

#: decode: tokens a second of a stream of tokens; serve: most tokens a second of requests of one shape.
SystemKind = Literal["decode", "serve"]

_DECODE = ({"model", "system", "decode_tokens_per_s"}, {"device", "runtime", "model", "decode_tokens_per_s"})
_SERVE = ({"device", "system", "model", "tokens_per_s", "status"},)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemRow:
    """A row: ``system`` and ``part`` of it ("GPU", "CPU"), ``runtime`` and ``precision`` as the table says them.

    ``tokens_per_s``: None where it did not fit into memory. ``batch``, ``prompt``: 0 where not said. ``watts``: of the
    whole system, or of the board.
    """

    system: str
    part: str
    runtime: str
    model: str
    precision: str
    tokens_per_s: float | None
    batch: int
    prompt: int
    watts: float | None
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemTable:
    """A file's rows."""

    name: str
    kind: SystemKind
    rows: tuple[SystemRow, ...]


def is_system_table(path: str | Path) -> bool:
    """Whether the CSV file at ``path`` names systems and models with their rates."""
    return _kind(Path(path)) is not None


def read_system_table(path: str | Path) -> SystemTable:
    """The rows of the file at ``path``; raises :class:`InputError` with the line for a figure that is none."""
    place = Path(path)
    check_regular(place, allowed="a CSV table of measured rates")
    kind = _kind(place)
    if kind is None:
        raise InputError(f"{place}: no table of systems; allowed columns {', '.join(sorted(_DECODE[0]))} or such")
    with place.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        rows = tuple(_row(f"{place}:{reader.line_num}", row, kind) for row in reader)
    if not rows:
        raise InputError(f"{place}: holds no measured rates")
    return SystemTable(name=place.stem, kind=kind, rows=rows)


def _kind(place: Path) -> SystemKind | None:
    if place.suffix != ".csv" or not place.is_file():
        return None
    try:
        with place.open(encoding="utf-8-sig", newline="") as stream:
            header = set(next(csv.reader([stream.readline(65_536)]), []))
    except (OSError, ValueError, csv.Error):
        return None
    if any(columns <= header for columns in _DECODE):
        return "decode"
    return "serve" if any(columns <= header for columns in _SERVE) else None


def _row(place: str, row: Mapping[str, str | None], kind: SystemKind) -> SystemRow:
    def text(*columns: str) -> str:
        return next((found.strip() for column in columns if (found := row.get(column))), "")

    oom = kind == "serve" and text("status").upper() == "OOM"
    rate = None if oom else _number(place, "tokens_per_s", text("decode_tokens_per_s", "tokens_per_s"))
    batch, prompt = text("batch"), text("prompt_tokens")
    watts = text("peak_wall_power_W", "power_W")
    return SystemRow(
        system=text("device") if kind == "serve" else text("system", "device"),
        part=text("processor"),
        runtime=text("system") if kind == "serve" else text("runtime"),
        model=text("model"),
        precision=text("precision"),
        tokens_per_s=rate,
        batch=round(_number(place, "batch", batch)) if batch else 0,
        prompt=round(_number(place, "prompt_tokens", prompt)) if prompt else 0,
        watts=_number(place, "power", watts) if watts else None,
        place=place,
    )


def _number(place: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1e12:
        raise InputError(f"{place}: {column}: given {text[:40] or 'nothing'}; allowed a number above 0")
    return value
