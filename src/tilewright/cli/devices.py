"""``tilewright validate`` and ``tilewright calibrate`` with tables of networks and layers, on any machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.kernels.reading.runs import MeasuredRun

__all__ = ["are_run_tables", "calibrate_from_runs", "validate_runs"]


def are_run_tables(files: Sequence[str], machine: MachineSpec) -> bool:
    """Whether ``files`` name networks and layers; for a machine that is no GPU nothing else is read."""
    from tilewright.kernels.reading.runs import is_run_table

    found = [is_run_table(file) for file in files]
    if machine.gpu is None:
        return True
    if any(found) and not all(found):
        other = files[found.index(False)]
        raise InputError(f"{other}: a table of GPU kernels beside one of networks; allowed one kind at a time")
    return all(found)


def validate_runs(outputs: Outputs, files: Sequence[str], machine: MachineSpec, *, command: str) -> None:
    """Compare the rows of ``files`` on ``machine``, show it and write what ``outputs`` asks for."""
    from tilewright.reports.device_table import device_tables
    from tilewright.reports.origin import Origin
    from tilewright.search.devices.validate import validate_device

    runs, left_out = _runs(files)
    announce_compilation()
    with ProgressBar() as bar:
        found = validate_device(machine, runs, left_out=left_out, progress=bar)
    for name, reason in found.left_out:
        note(f"not compared: {name}: {reason}")
    outputs.show(*device_tables(outputs.console(), found))
    origin = Origin(machines=(machine,))
    outputs.write_json(found.to_dict(), origin)
    outputs.write_csv([row.to_dict() for row in found.rows], origin)
    if outputs.report is not None:
        from tilewright.reports.device_page import write_device_report

        note(f"wrote {write_device_report(outputs.report, found, command=command)}")


def calibrate_from_runs(files: Sequence[str], machine: MachineSpec, output: str, figures: Sequence[str]) -> None:
    """Fit ``figures`` (none: the usual ones) of ``machine`` to one part of the rows; write a machine file."""
    from dataclasses import replace

    from tilewright.hw_models.machine_text import machine_yaml
    from tilewright.reports.device_table import calibration_tables
    from tilewright.reports.files import write_file
    from tilewright.search.devices.calibrate import USUAL, calibrate_device

    runs, left_out = _runs(files)
    table = ", ".join(Path(file).name for file in files)
    announce_compilation()
    with ProgressBar() as bar:
        found = calibrate_device(machine, runs, names=tuple(figures) or USUAL, table=table, progress=bar)
    for name, reason in (*left_out, *found.left_out):
        note(f"not compared: {name}: {reason}")
    Outputs().show(*calibration_tables(found))
    if not found.carries_over:
        note("the fit does not carry over: the rows held out are further off than before, so something else is missing")
    name = re.sub(r"[^A-Za-z0-9_+-]+", "-", Path(output).stem).strip("-") or f"{machine.name}-fitted"
    write_file(output, machine_yaml(replace(found.fitted, name=name)))
    note(f"wrote {output}")


def _runs(files: Sequence[str]) -> tuple[list[MeasuredRun], list[tuple[str, str]]]:
    from tilewright.kernels.reading.runs import read_runs

    runs: list[MeasuredRun] = []
    left_out: list[tuple[str, str]] = []
    for file in files:
        table = read_runs(file)
        if table.ignored:
            note(f"{file}: not read: column{'s' if len(table.ignored) > 1 else ''} {', '.join(table.ignored)}")
        runs += table.runs
        left_out += table.left_out
    return runs, left_out
