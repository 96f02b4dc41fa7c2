"""Measured times of networks and layers on a device: a CSV file with a row for each, as a person writes it down."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from tilewright.document_text import check_regular
from tilewright.errors import InputError, did_you_mean, unknown

__all__ = ["COLUMNS", "MeasuredRun", "RunTable", "is_run_table", "read_runs"]

#: What a table may say, by column.
COLUMNS: Mapping[str, str] = {
    "network": "a network, as tilewright simulate takes it",
    "layer": "a single operator or attention layer, as text",
    "workload": "either",
    "ms": "milliseconds of one run, the whole batch",
    "fps": "inputs a second; the time of a run is batch / fps",
    "mj": "millijoules of one run",
    "w": "watts while it runs",
    "batch": "inputs of one run",
    "weights": "number format of the weights",
    "activations": "number format of the activations",
    "dtype": "number format of both, as this house or PyTorch calls it",
    "unit": "words",
    "notes": "words",
}
#: Other words for them.
_ALIASES: Mapping[str, str] = {"median_ms": "ms", "latency_ms": "ms"}
#: PyTorch's names of number formats.
_DTYPES: Mapping[str, str] = {
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "float64": "fp64",
}
_NAMES = ("network", "layer", "workload")
_TIMES = ("ms", "fps")
_MOST_MS = 1e12
_LONGEST_SHOWN = 60
#: Options of networks that are measured in one way only.
_FIXED = {"llama-3-8b-block": ("rotary=0",)}
_NEAR = 0.75  # so alike, a name is a slip; less alike, a column of the table's own


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRun:
    """One row: ``name`` as the table has it, in ``seconds``, for ``batch`` inputs; ``joules`` where measured.

    ``kind``: "network" (one inference), "layer" (one command of it) or "workload" (either). ``place``: file and line.
    """

    name: str
    kind: str
    seconds: float
    joules: float | None
    batch: int | None
    weights: str | None
    activations: str | None
    notes: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTable:
    """A table's ``runs``, the rows without a time with the reason, and the columns that nothing reads."""

    runs: tuple[MeasuredRun, ...]
    left_out: tuple[tuple[str, str], ...]
    ignored: tuple[str, ...]


_LONGEST_HEADER = 65_536  # a file without a line end may be large


def is_run_table(path: str | Path) -> bool:
    """Whether the file at ``path`` names networks or layers (GPU kernel tables name shapes); pipes are not read."""
    if not Path(path).is_file():
        return False
    if Path(path).suffix == ".json":
        return _holds_networks(Path(path))
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as stream:
            line = stream.readline(_LONGEST_HEADER)
        header = [_known(name) for name in next(csv.reader([line]), [])]
    except (OSError, ValueError, csv.Error):
        return False
    return any(name in header for name in _NAMES) and any(name in header for name in _TIMES)


def read_runs(path: str | Path) -> RunTable:
    """The rows of the CSV file at ``path``, see :data:`COLUMNS`; or the networks of a JSON file of tilewright measure.

    A row without a time is told. Raises :class:`InputError` with the line for a column that is nearly one that is
    known, a number that is none, and a file without rows.
    """
    place = Path(path)
    if place.suffix == ".json":
        return _measured_networks(place)
    check_regular(place, allowed="a CSV table of measured times")
    try:
        with place.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except OSError as fault:
        raise InputError(f"{place}: cannot be read ({(fault.strerror or str(fault)).lower()})") from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{place}: not a CSV table in UTF-8; allowed columns {', '.join(COLUMNS)}") from None
    columns, ignored = _columns(place, header)
    runs, left_out = [], []
    for line, cells in rows:
        if len(cells) > len(header):
            raise InputError(f"{place}:{line}: {len(cells)} cells under {len(header)} columns; allowed one for each")
        row = {name: cells[at].strip() for name, at in columns.items() if at < len(cells)}
        run = _run(f"{place}:{line}", row)
        if isinstance(run, MeasuredRun):
            runs.append(run)
        else:
            left_out.append(run)
    if not runs:
        raise InputError(f"{place}: holds no measured times")
    return RunTable(runs=tuple(runs), left_out=tuple(left_out), ignored=ignored)


def _holds_networks(place: Path) -> bool:
    """Whether a file of tilewright measure holds whole networks and nothing else."""
    from tilewright.kernels.measurement import load_measurements

    try:
        measured = load_measurements(place).measurements
    except InputError:  # told by who reads it as a table of kernels
        return False
    return bool(measured) and all(entry.operator == "network" for entry in measured)


def _measured_networks(place: Path) -> RunTable:
    """The networks of a file of tilewright measure."""
    from tilewright.kernels.measurement import load_measurements

    file = load_measurements(place)
    runs = []
    for entry in file.measurements:
        options = [f"{name}={size}" for name, size in entry.shape.items() if name != "batch"]
        options += _FIXED.get(entry.network, ())
        runs.append(
            MeasuredRun(
                name=":".join([entry.network, *([",".join(options)] if options else [])]),
                kind="network",
                seconds=entry.median_s,
                joules=entry.joules,
                batch=entry.shape.get("batch"),
                weights=entry.formats.get("b"),
                activations=entry.formats.get("a"),
                notes=f"{entry.kernel}, {file.device.name}, {file.taken}",
                place=str(place),
            )
        )
    return RunTable(runs=tuple(runs), left_out=(), ignored=())


def _known(name: str) -> str:
    """A column's name as this house writes it."""
    plain = name.strip().lower()
    return _ALIASES.get(plain, plain)


def _columns(place: Path, header: Sequence[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Where the known columns stand, and the names of the others."""
    found: dict[str, int] = {}
    others = []
    for at, name in enumerate(header):
        known = _known(name)
        if known in found:
            raise InputError(f'{place}:1: "{name}": two columns are called so; allowed each once')
        if known in COLUMNS:
            found[known] = at
        else:
            others.append(name)
    missing = [name for name in COLUMNS if name not in found]
    for kinds, what in ((_NAMES, "what was run"), (_TIMES, "the time")):
        if not any(name in found for name in kinds):
            hint = next(filter(None, (did_you_mean(name, kinds) for name in others)), "")
            raise InputError(
                f"{place}:1: lacks a column with {what}; given {', '.join(header)[:200] or 'nothing'}; "
                f"allowed {' or '.join(kinds)}{hint}"
            )
    for name in others:
        if get_close_matches(name.lower(), missing, n=1, cutoff=_NEAR):
            raise unknown("column", name, COLUMNS, place=f"{place}:1")
    return found, tuple(others)


def _run(place: str, row: Mapping[str, str]) -> MeasuredRun | tuple[str, str]:
    """The row, or its name and why it is left out."""
    kind = next((kind for kind in _NAMES if row.get(kind)), "")
    if not kind:
        return place, "names nothing"
    name = row[kind]
    batch = _number(place, row, "batch", whole=True)
    ms, fps = _number(place, row, "ms"), _number(place, row, "fps")
    if ms is None and fps is None:
        return f"{name} ({place})", "has no time"
    seconds = ms / 1e3 if ms is not None else (batch or 1) / (fps or 1)
    millijoules, watts = _number(place, row, "mj"), _number(place, row, "w")
    dtype = row.get("dtype") or None
    dtype = _DTYPES.get(dtype.removeprefix("torch."), dtype) if dtype else None
    joules = millijoules / 1e3 if millijoules is not None else None if watts is None else watts * seconds
    return MeasuredRun(
        name=name,
        kind=kind,
        seconds=seconds,
        joules=joules,
        batch=None if batch is None else int(batch),
        weights=row.get("weights") or dtype,
        activations=row.get("activations") or dtype,
        notes="; ".join(filter(None, (row.get("unit"), row.get("notes")))),
        place=place,
    )


def _number(place: str, row: Mapping[str, str], column: str, *, whole: bool = False) -> float | None:
    text = row.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if 0 < value <= _MOST_MS and (not whole or value == int(value)):
        return value
    allowed = "a whole number from 1" if whole else "a number above 0"
    raise InputError(f"{place}: {column}: given {text[:_LONGEST_SHOWN]}; allowed {allowed}")
