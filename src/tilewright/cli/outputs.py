"""Where results go: the terminal, JSON, CSV and report folders, checked before any work is done."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.reports.files import check_apart, check_file, check_folder, write_file

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Outputs", "note"]

_STANDARD_OUTPUT = "-"
_WIDTH_WITHOUT_TERMINAL = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What the output options ask for; ``-`` is standard output, which then holds nothing else."""

    json: str | None = None
    csv: str | None = None
    report: str | None = None
    markdown: str | None = None

    def check(self, *inputs: str | None) -> None:
        """Raise InputError for a place that cannot be written, or is one of ``inputs``, the names that were given of
        what is read; call it before the work begins.
        """
        files = {"--json": self.json, "--csv": self.csv, "--markdown": self.markdown}
        given = {option: name for option, name in files.items() if name is not None}
        taken: dict[str, str] = {}
        for option, name in given.items():
            key = name if name == _STANDARD_OUTPUT else os.path.realpath(name)
            if key in taken:
                where = "standard output" if name == _STANDARD_OUTPUT else name
                raise InputError(f"{taken[key]} and {option} both write to {where}; give each its own place")
            taken[key] = option
            if name != _STANDARD_OUTPUT:
                check_file(name, what=option)
                check_apart(name, inputs, what=option)
        if self.report == _STANDARD_OUTPUT:
            raise InputError("--report: a report is a folder of files; given -; allowed the name of a folder")
        if self.report is not None:
            check_folder(self.report, what="--report")

    @property
    def speaks(self) -> bool:
        """Whether standard output is free for tables."""
        return _STANDARD_OUTPUT not in (self.json, self.csv, self.markdown)

    def show(self, *parts: RenderableType | None) -> None:
        """Print tables and lines, unless standard output holds data; None is left out."""
        if self.speaks:
            console = self.console()
            for part in parts:
                if part is not None:
                    console.print(part)

    def console(self) -> Console:
        """The console that :meth:`show` prints to."""
        from rich.console import Console

        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_WITHOUT_TERMINAL
        return Console(width=width, highlight=False, markup=False, emoji=False)

    def write_json(self, data: Mapping[str, Any]) -> None:
        """Write ``data`` where ``--json`` says, if it was given."""
        if self.json is not None:
            _write(self.json, json.dumps(data, indent=2, allow_nan=False) + "\n")

    def write_csv(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``rows`` where ``--csv`` says, if it was given; a column that a row lacks stays empty."""
        if self.csv is None:
            return
        columns = list(dict.fromkeys(name for row in rows for name in row))
        stream = io.StringIO()
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        _write(self.csv, stream.getvalue())

    def write_markdown(self, text: str) -> None:
        """Write ``text`` where ``--markdown`` says, if it was given."""
        if self.markdown is not None:
            _write(self.markdown, text)


def note(text: str) -> None:
    """One line of news on standard error."""
    print(f"tilewright: {text}", file=sys.stderr)


def _write(place: str, text: str) -> None:
    if place == _STANDARD_OUTPUT:
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    note(f"wrote {Path(write_file(place, text))}")
