"""``tilewright validate`` with tables of whole systems, whose rows say themselves what they were measured on."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.cli.outputs import Outputs, note
from tilewright.errors import InputError

__all__ = ["are_system_tables", "validate_systems"]


def are_system_tables(files: Sequence[str]) -> bool:
    """Whether ``files`` name systems; one kind at a time."""
    from tilewright.kernels.reading.systems import is_system_table

    found = [is_system_table(file) for file in files]
    if any(found) and not all(found):
        other = files[found.index(False)]
        raise InputError(f"{other}: another kind of table beside one of whole systems; allowed one kind at a time")
    return all(found)


def validate_systems(outputs: Outputs, files: Sequence[str], *, command: str) -> None:
    """Compare the rows of ``files``, show it and write what ``outputs`` asks for."""
    from tilewright.kernels.reading.systems import read_system_table
    from tilewright.reports.origin import Origin
    from tilewright.reports.systems_table import systems_tables
    from tilewright.search.systems.compare import compare_systems

    found = compare_systems([read_system_table(file) for file in files])
    for name, reason in found.left_out:
        note(f"not compared: {name}: {reason}")
    outputs.show(*systems_tables(outputs.console(), found))
    origin = Origin()
    outputs.write_json(found.to_dict(), origin)
    outputs.write_csv([row.to_dict() for row in found.rows], origin)
    if outputs.report is not None:
        from tilewright.reports.systems_page import write_systems_report

        note(f"wrote {write_systems_report(outputs.report, found, command=command)}")
