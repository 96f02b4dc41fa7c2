"""Predicted rates beside measured ones, row by row: decoding on computers, and serving on GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.systems.cards import card_named
from tilewright.kernels.reading.systems import SystemRow, SystemTable
from tilewright.search.gpu.validate import ErrorFigures, error_figures
from tilewright.search.systems.decode import USUAL_CONTEXT, case_of_row, decode_step
from tilewright.search.systems.throughput import largest_batch, throughput
from tilewright.workloads.language.catalogue import language_model
from tilewright.workloads.language.served import served_named
from tilewright.workloads.language.stored import storage_of

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


#: Tokens of the requests of tables of throughput, which do not say them.
PROMPT, GENERATE = 1024, 512
_DIFFERENT = 0.1  # rates that differ by more have an order
_DECODE_ASSUMPTIONS = (
    "every matrix is read once a step, of a mixture's experts those that a token goes to (all choices alike)",
    "one share of the data sheet's bandwidth for a class of devices: GPUs as bf16 products on an A100, the rest as the "
    "machine's file says; nothing is fitted to the rows",
    f"a token behind {USUAL_CONTEXT} others where the table does not say",
    "power is that of the part that does the work and of an idle host, not of supplies; tables of the wall hold peaks",
)


_SERVE_ASSUMPTIONS = (
    f"requests of {PROMPT:,} tokens in and {GENERATE} out, all of a batch in step: prompts first, then a token each",
    "the table's batch, else the largest power of two that fits into 0.9 of the memory beside weights, buffers for the "
    "activations of all prompts at once, and 1.5 GB of the runtime's own",
    "caches in attention are converted and multiplied on the lanes, for each query head; the weights of W4A8 come in "
    "4 bits and multiply in int8",
    "nothing is fitted to such tables: products and what overlaps are the calibration of library kernels",
)


def compare_systems(tables: Sequence[SystemTable]) -> SystemsComparison:
    """Predict each row of ``tables``; a row that cannot be described is left out with the reason.

    Raises InputError where no row is left.
    """
    rows: list[SystemsRow] = []
    left_out: list[tuple[str, str]] = []
    remarks: list[tuple[str, str]] = []
    for table in tables:
        fitting: list[bool] = []
        for row in table.rows:
            try:
                if table.kind == "serve":
                    served, agrees = _served(table.name, row)
                    fitting += [agrees]
                    rows += [served] if served is not None else []
                else:
                    rows.append(_decoded(table.name, row))
            except InputError as fault:
                left_out.append((f"{row.system}, {row.model} ({row.place})", _short(str(fault))))
        if table.kind == "serve":
            remarks += _remarks(fitting, [row for row in rows if row.table == table.name])
    if not rows:
        raise InputError(f"no row can be compared ({'; '.join(reason for _, reason in left_out[:2])})")
    return SystemsComparison(
        rows=tuple(rows),
        left_out=tuple(left_out),
        overall=_errors(rows),
        by_table={name: _errors([row for row in rows if row.table == name]) for name in {row.table: 0 for row in rows}},
        assumptions=tuple(
            text
            for kind, texts in (("decode", _DECODE_ASSUMPTIONS), ("serve", _SERVE_ASSUMPTIONS))
            if any(table.kind == kind for table in tables)
            for text in texts
        ),
        remarks=tuple(remarks),
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


def _served(table: str, row: SystemRow) -> tuple[SystemsRow | None, bool]:
    """The row, nothing where it does not fit; and whether that is as measured."""
    card, precision = card_named(row.system), served_named(row.runtime)
    model = language_model(row.model)
    fits = largest_batch(model, precision, card, prompt=PROMPT, generate=GENERATE)
    if row.tokens_per_s is None or fits < 1:
        return None, (row.tokens_per_s is None) == (fits < 1)
    found = throughput(model, precision, card, prompt=PROMPT, generate=GENERATE, batch=row.batch)
    return SystemsRow(
        table=table,
        row=row,
        machine=card.machine,
        stored=storage_of(precision.storage).told,
        tokens_per_s=found.tokens_per_s,
        batch=found.batch,
        watts=None,
        limited_by=found.limited_by,
        seconds_by_part={
            "prompt": found.prompt_s,
            "step": found.step_s,
            "products": found.products_s,
            "cache": found.cache_s,
            "lanes": found.lanes_s,
            "host": found.host_s,
        },
    ), True


def _remarks(fitting: Sequence[bool], rows: Sequence[SystemsRow]) -> list[tuple[str, str]]:
    """What fits, and the order of formats where a card runs a model in several that differ by a tenth."""
    from itertools import combinations

    pairs = [
        (first, second)
        for first, second in combinations(rows, 2)
        if (first.row.system, first.row.model) == (second.row.system, second.row.model)
        and max(_measured(first), _measured(second)) > (1 + _DIFFERENT) * min(_measured(first), _measured(second))
    ]
    wrong = [(a, b) for a, b in pairs if (_measured(a) > _measured(b)) != (a.tokens_per_s > b.tokens_per_s)]
    told = "; wrong: " + ", ".join(
        f"{a.row.runtime} and {b.row.runtime} ({a.row.system}, {a.row.model})" for a, b in wrong
    )
    systems = {row.row.system: 0 for row in rows}
    errors = {name: _errors([row for row in rows if row.row.system == name]) for name in systems}
    return [
        *(
            (name, f"median {_percent(part.median)}, mean {_percent(part.mape)} of {part.n}")
            for name, part in errors.items()
        ),
        ("what fits into memory", f"{sum(fitting):,} of {len(fitting):,} rows as measured"),
        ("order of formats", f"{len(pairs) - len(wrong):,} of {len(pairs):,} pairs{told if wrong else ''}"),
    ]


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _measured(row: SystemsRow) -> float:
    return row.row.tokens_per_s or 0.0


def _short(reason: str) -> str:
    return reason.split("; allowed")[0]


def _errors(rows: Sequence[SystemsRow]) -> ErrorFigures:
    import numpy as np

    measured = np.array([row.row.tokens_per_s for row in rows], dtype=np.float64)
    return error_figures(np.array([row.tokens_per_s for row in rows]), measured)
