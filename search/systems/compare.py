"""Predicted rates beside measured ones, row by row: decoding on computers, and serving on GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilewright.errors import InputError
from tilewright.kernels.reading.systems import SystemRow, SystemTable
from tilewright.search.gpu.validate import ErrorFigures, error_figures
from tilewright.search.systems.decode import USUAL_CONTEXT, case_of_row, decode_step

__all__ = ["SystemsComparison", "SystemsRow", "compare_systems"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemsRow:
    """A row with its prediction: ``tokens_per_s``, ``watts``, ``limited_by``, ``batch``, how weights are ``stored``.

    ``machine``: what was taken for the system. ``seconds_by_part``: of a step, where one was predicted.
    """

    table: str
    row: SystemRow
    machine: str
    stored: str
    tokens_per_s: float
    batch: int
    watts: float | None
    limited_by: str
    seconds_by_part: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def error(self) -> float:
        """Predicted over measured rate, less one."""
        assert self.row.tokens_per_s is not None
        return self.tokens_per_s / self.row.tokens_per_s - 1

    @property
    def joules_per_token(self) -> float | None:
        """Predicted energy of a token."""
        return None if self.watts is None else self.watts / self.tokens_per_s

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        row = self.row
        measured_joules = None if row.watts is None or row.tokens_per_s is None else row.watts / row.tokens_per_s
        return {
            "table": self.table,
            "system": row.system,
            "part": row.part,
            "runtime": row.runtime,
            "model": row.model,
            "precision": row.precision,
            "machine": self.machine,
            "stored": self.stored,
            "batch": self.batch,
            "measured_tokens_per_s": row.tokens_per_s,
            "predicted_tokens_per_s": self.tokens_per_s,
            "error": self.error,
            "measured_watts": row.watts,
            "predicted_watts": self.watts,
            "measured_joules_per_token": measured_joules,
            "predicted_joules_per_token": self.joules_per_token,
            "limited_by": self.limited_by,
            **{f"{name}_ms": seconds * 1e3 for name, seconds in self.seconds_by_part.items()},
            "place": row.place,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemsComparison:
    """All rows that can be described. ``overall``: errors; ``by_table`` the same of each file; ``left_out`` the rest.

    ``remarks``: what beside rates was compared (which do not fit, in which order), a name and a sentence each.
    """

    rows: tuple[SystemsRow, ...]
    left_out: tuple[tuple[str, str], ...]
    overall: ErrorFigures
    by_table: Mapping[str, ErrorFigures] = field(hash=False)
    assumptions: tuple[str, ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "overall": self.overall.to_dict(),
            "tables": {name: figures.to_dict() for name, figures in self.by_table.items()},
            "rows": [row.to_dict() for row in self.rows],
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out],
            "remarks": dict(self.remarks),
            "assumptions": list(self.assumptions),
        }


_DECODE_ASSUMPTIONS = (
    "every matrix is read once a step, of a mixture's experts those that a token goes to (all choices alike)",
    "one share of the data sheet's bandwidth for a class of devices: GPUs as bf16 products on an A100, the rest as the "
    "machine's file says; nothing is fitted to the rows",
    f"a token behind {USUAL_CONTEXT} others where the table does not say",
    "power is that of the part that does the work and of an idle host, not of supplies; tables of the wall hold peaks",
)


def compare_systems(tables: Sequence[SystemTable]) -> SystemsComparison:
    """Predict each row of ``tables``; a row that cannot be described is left out with the reason.

    Raises InputError where no row is left.
    """
    rows: list[SystemsRow] = []
    left_out: list[tuple[str, str]] = []
    for table in tables:
        for row in table.rows:
            try:
                rows.append(_decoded(table.name, row))
            except InputError as fault:
                left_out.append((f"{row.system}, {row.model} ({row.place})", _short(str(fault))))
    if not rows:
        raise InputError(f"no row can be compared ({'; '.join(reason for _, reason in left_out[:2])})")
    return SystemsComparison(
        rows=tuple(rows),
        left_out=tuple(left_out),
        overall=_errors(rows),
        by_table={name: _errors([row for row in rows if row.table == name]) for name in {row.table: 0 for row in rows}},
        assumptions=_DECODE_ASSUMPTIONS,
    )


def _decoded(table: str, row: SystemRow) -> SystemsRow:
    case = case_of_row(row)
    step = decode_step(case)
    return SystemsRow(
        table=table,
        row=row,
        machine=case.system.machine.name,
        stored=case.storage.told,
        tokens_per_s=step.tokens_per_s,
        batch=case.batch,
        watts=step.watts,
        limited_by=step.limited_by,
        seconds_by_part=step.seconds_by_part,
    )


def _short(reason: str) -> str:
    return reason.split("; allowed")[0]


def _errors(rows: Sequence[SystemsRow]) -> ErrorFigures:
    import numpy as np

    measured = np.array([row.row.tokens_per_s for row in rows], dtype=np.float64)
    return error_figures(np.array([row.tokens_per_s for row in rows]), measured)
