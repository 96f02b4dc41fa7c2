"""``tilewright validate`` and ``tilewright calibrate``: predicted GPU kernel times beside measured ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.cli.inputs import command_line, machine_of
from tilewright.cli.options import CsvOption, JsonOption, MachineOption, ReportOption
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.hw_models.gpu.calibration import FamilySpec
    from tilewright.kernels.measured import MeasuredTable

__all__ = ["calibrate", "validate"]

FilesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE",
        help="Measured times: JSON of tilewright measure, CSV of aiconfigurator or LLMCompass.",
        show_default=False,
    ),
]


def validate(
    context: typer.Context,
    files: FilesArgument,
    machine: MachineOption,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="FILE",
            help="The parameters of the kernels, as tilewright calibrate writes them.",
            show_default="those that come with MACHINE",
        ),
    ] = None,
    json: JsonOption = None,
    csv: CsvOption = None,
    report: ReportOption = None,
) -> None:
    """Predict the kernels of measured tables on a GPU, and show the error by table, size and bound.

    Rows that calibrated a parameter are left out. Files of tile sweeps show how well tilings are ranked.
    """
    outputs = Outputs(json=json, csv=csv, report=report)
    outputs.check(*files, machine, calibration)
    spec = machine_of(machine, for_engine=False)

    from tilewright.hw_models.gpu.calibration import calibration_of, load_calibration
    from tilewright.reports.validation_table import validation_tables
    from tilewright.search.gpu.validate import validate as run

    parameters = calibration_of(spec) if calibration is None else load_calibration(calibration)
    with ProgressBar() as bar:
        found = run(spec, parameters, _tables(files), progress=bar)
    for name, reason in found.left_out:
        note(f"not compared: {name}: {reason}")
    outputs.show(*validation_tables(outputs.console(), found))

    from tilewright.reports.origin import Origin

    origin = Origin(machines=(spec,), facts={"calibrated_on": found.calibrated_on})
    outputs.write_json(found.to_dict(), origin)
    outputs.write_csv(found.rows(), origin)
    if report is not None:
        from tilewright.reports.validation_page import write_validation_report

        note(f"wrote {write_validation_report(report, found, command=command_line(context))}")


def calibrate(
    files: FilesArgument,
    machine: MachineOption,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE.yaml", help="Where the parameters go.", show_default=False)
    ],
) -> None:
    """Fit the few physical parameters of each family of kernels to one part of measured tables; show the other part.

    The split is by shape and fixed, so that no shape of the other part has been seen.
    """
    from tilewright.hw_models.gpu.calibration import CalibrationSpec, calibration_text
    from tilewright.reports.files import check_apart, check_file, write_file
    from tilewright.search.gpu.calibrate import calibrate as fit
    from tilewright.search.gpu.validate import same_device
    from tilewright.sim.gpu.device import gpu_device

    check_file(output, what="--output")
    check_apart(output, [*files, machine], what="--output")
    spec = machine_of(machine, for_engine=False)
    device = gpu_device(spec)
    families: dict[tuple[str, str], FamilySpec] = {}
    tables = [table for table in _tables(files) if not table.tile_columns]
    with ProgressBar() as bar:
        for position, table in enumerate(tables):
            bar(position, len(tables), table.name)
            key = (table.operator, table.family)
            if not same_device(table.device, spec.name):
                note(f"left out: {table.name}: measured on {table.device}")
            elif key in families:
                note(f"left out: {table.name}: {table.family} is calibrated on {families[key].measured}")
            else:
                try:
                    families[key] = fit(device, table)
                except InputError as fault:
                    note(f"left out: {table.name}: {fault}")
    if not families:
        raise InputError(f"nothing to calibrate {spec.name} with; allowed tables that were measured on it")
    write_file(output, calibration_text(CalibrationSpec(device=spec.name, families=tuple(families.values()))))
    _show(list(families.values()))
    note(f"wrote {output}")


def _show(families: list[FamilySpec]) -> None:
    from tilewright.reports.quantity import percent_text
    from tilewright.reports.table import catalogue_table

    rows = [
        [
            entry.family,
            f"{entry.n_calibration:,}",
            f"{entry.n_held_out:,}",
            percent_text(entry.held_out_error or 0.0),
            entry.measured,
        ]
        for entry in families
    ]
    Outputs().show(
        catalogue_table("calibrated", ["kernels", "rows that calibrate", "held out", "error there", "table"], rows)
    )


def _tables(files: list[str]) -> list[MeasuredTable]:
    from tilewright.kernels.reading import read_tables

    tables = [table for name in files for table in read_tables(name)]
    names = [table.name for table in tables]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{twice[0]}: given twice; allowed each table once")
    return tables
