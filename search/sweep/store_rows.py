"""What a row of a results store must be: checked as strictly as a file when it is read back.

SQLite takes any value in any column, and a file may have been changed since: a row that does not fit the models here is
named, left out by those who can do without it, and set aside by ``tilewright sweep --repair``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Json, TypeAdapter, ValidationError, model_validator

from tilewright.document_yaml import dotted, one_line, quoted, short

__all__ = [
    "POINT_COLUMNS",
    "STATUSES",
    "SWEEP_COLUMNS",
    "DamagedRow",
    "Status",
    "StoredPoint",
    "StoredSweep",
    "read_point",
    "read_sweep",
    "row_text",
]

Status = Literal["done", "infeasible", "failed", "quarantined"]
STATUSES: tuple[Status, ...] = ("done", "infeasible", "failed", "quarantined")

POINT_COLUMNS = (
    "key", "machine", "workload", "dataflow", "objective", "parameters", "status", "cycles", "seconds", "energy_pj",
    "power_w", "result", "error", "version", "evaluation_s", "finished_at",
)  # fmt: skip
SWEEP_COLUMNS = ("text", "name", "machine", "version", "begun_at")

_LARGEST = 1e30  # products of two such figures are still finite
_NUMBERED = re.compile(r"^(tile_|n_|energy_)|(_cycles|_utilization|_ratio)$|_bytes")
_DONE = ("cycles", "seconds", "energy_pj", "power_w")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPoint:
    """One row. ``parameters`` are the design, ``result`` further figures by name, ``error`` why there are none.

    ``evaluation_s`` is the time that the point took, in seconds.
    """

    key: str
    machine: str
    workload: str
    dataflow: str
    objective: str
    parameters: Mapping[str, Any]
    status: Status
    cycles: int | None = None
    seconds: float | None = None
    energy_pj: float | None = None
    power_w: float | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    evaluation_s: float = 0.0
    version: str = ""
    finished_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSweep:
    """What a sweep asked for: its file as ``text``, its base machine as plain data, and who began it when."""

    text: str
    name: str
    machine: Mapping[str, Any]
    version: str
    begun_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedRow:
    """A row that is not as it was written: its ``table``, its number, its key where that is text, what is wrong."""

    table: Literal["points", "sweeps"]
    row: int
    key: str
    fault: str

    @property
    def text(self) -> str:
        """The row and its fault in a few words."""
        return f"row {self.row} of its {self.table} is damaged: {self.fault}"


def _plain_value(value: Any) -> Any:
    """A number of reasonable size, text, or true or false."""
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float) and abs(value) <= _LARGEST:
        return value
    raise ValueError(f"not a number up to {_LARGEST:g}, text, true or false; given {_shown(value)}")


def _figures(values: dict[str, Any]) -> dict[str, Any]:
    """Figures by name; what is a count, a share or an amount is a number that is not negative."""
    for name, value in values.items():
        if _NUMBERED.search(name) and (isinstance(value, str) or value < 0):
            raise ValueError(f"{name}: not a number of at least 0; given {_shown(value)}")
        if name.startswith("tile_") and type(value) is not int:
            raise ValueError(f"{name}: not a whole number; given {_shown(value)}")
    return values


_Text = Annotated[str, Field(min_length=1)]
_Amount = Annotated[float, Field(ge=0, le=_LARGEST)]
_Value = Annotated[Any, AfterValidator(_plain_value)]
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _PointRow(BaseModel):
    model_config = _STRICT

    key: _Text
    machine: str
    workload: str
    dataflow: str
    objective: str
    parameters: Json[dict[str, _Value]]
    status: Status
    cycles: Annotated[int, Field(ge=0, lt=2**63)] | None
    seconds: Annotated[float, Field(gt=0, le=_LARGEST)] | None
    energy_pj: _Amount | None
    power_w: _Amount | None
    result: Json[Annotated[dict[str, _Value], AfterValidator(_figures)]]
    error: str | None
    version: str
    evaluation_s: _Amount
    finished_at: str

    @model_validator(mode="after")
    def _has_figures(self) -> _PointRow:
        if self.status == "done":
            for name in _DONE:
                if getattr(self, name) is None:
                    raise ValueError(f"{name}: missing in a point that is done")
        return self


class _SweepRow(BaseModel):
    model_config = _STRICT

    text: str
    name: _Text
    machine: Json[dict[str, Any]]
    version: str
    begun_at: str


@lru_cache(maxsize=2)
def _checker(model: type[BaseModel]) -> Callable[[Any], BaseModel]:
    return TypeAdapter(model).validator.validate_python


def read_point(values: Sequence[Any]) -> StoredPoint:
    """The point in the columns :data:`POINT_COLUMNS`; raises ValueError that says what is wrong with the row."""
    try:
        return StoredPoint(**_checker(_PointRow)(dict(zip(POINT_COLUMNS, values, strict=True))).__dict__)
    except ValidationError as fault:
        raise ValueError(_first(fault)) from None


def read_sweep(values: Sequence[Any]) -> StoredSweep:
    """The sweep in the columns :data:`SWEEP_COLUMNS`; raises ValueError that says what is wrong with the row."""
    try:
        return StoredSweep(**_checker(_SweepRow)(dict(zip(SWEEP_COLUMNS, values, strict=True))).__dict__)
    except ValidationError as fault:
        raise ValueError(_first(fault)) from None


def row_text(raw: bytes) -> str | bytes:
    """Text of a column; bytes that are no text stay bytes, and are refused with the row that they are in."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw


def _first(fault: ValidationError) -> str:
    one = fault.errors(include_url=False)[0]
    said = one_line(one["msg"]).removeprefix("Value error, ")
    place = dotted(one["loc"])
    if one["type"] == "value_error":
        return f"{place}: {said}" if place else said
    return f"{place}: {said.replace('Input should', 'should', 1)}; given {_shown(one['input'])}"


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return "bytes that are no text"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    return quoted(value) if isinstance(value, str) else short(repr(value))
