"""Where results go: the terminal, JSON, CSV and report folders, checked before any work is done."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tilewright.errors import InputError, visible
from tilewright.reports.files import check_apart, check_file, check_folder, write_file

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tilewright.reports.origin import Origin

__all__ = ["COMMAND", "Outputs", "note"]

# The command line that is running, ready to be typed again; files say it.
COMMAND: ContextVar[str] = ContextVar("COMMAND", default="tilewright")

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
            if name != _STANDARD_OUTPUT:
                check_file(name, what=option)
            key = name if name == _STANDARD_OUTPUT else os.path.realpath(name)
            if key in taken:
                where = "standard output" if name == _STANDARD_OUTPUT else name
                raise InputError(f"{taken[key]} and {option} both write to {where}; give each its own place")
            taken[key] = option
            if name != _STANDARD_OUTPUT:
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
        from rich.text import Text

        class VisibleConsole(Console):
            """Names come out of files; what does not print in them is shown as an escape."""

            def render_str(self, text: str, **options: Any) -> Text:
                return super().render_str("\n".join(map(visible, text.split("\n"))), **options)

            def on_broken_pipe(self) -> NoReturn:
                raise BrokenPipeError  # answered for all ways of writing in one place

        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_WITHOUT_TERMINAL
        return VisibleConsole(width=width, highlight=False, markup=False, emoji=False)

    def write_json(self, data: Mapping[str, Any], origin: Origin | None = None) -> None:
        """Write ``data`` where ``--json`` says, if it was given, behind a ``header`` that says where it comes from."""
        if self.json is not None:
            text = json.dumps({"header": _with_command(origin).header(), **data}, indent=2, allow_nan=False)
            _write(self.json, text + "\n")

    def write_csv(self, rows: Sequence[Mapping[str, Any]], origin: Origin | None = None) -> None:
        """Write ``rows`` where ``--csv`` says, if it was given; the last columns say where they come from.

        A column that a row lacks stays empty.
        """
        if self.csv is None:
            return
        from tilewright.reports.csv_text import csv_text

        source = _with_command(origin)
        own = {name for row in rows for name in row}
        completed = [source.completed(row) for row in rows]
        last = dict.fromkeys(name for row in completed for name in row if name not in own)
        _write(self.csv, csv_text(completed, last=list(last)))

    def write_markdown(self, text: str) -> None:
        """Write ``text`` where ``--markdown`` says, if it was given."""
        if self.markdown is not None:
            _write(self.markdown, text)


def note(text: str) -> None:
    """One line of news on standard error."""
    print(f"tilewright: {visible(text)}", file=sys.stderr)


def _with_command(origin: Origin | None) -> Origin:
    """``origin`` (or an empty one) with the command line that is running."""
    from tilewright.reports.origin import Origin

    return replace(origin or Origin(), command=COMMAND.get())


def _write(place: str, text: str) -> None:
    if place == _STANDARD_OUTPUT:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            raise BrokenPipeError from None  # without its number, which the command-line library answers in its own way
        return
    note(f"wrote {Path(write_file(place, text))}")
