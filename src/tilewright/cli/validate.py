"""``tilewright validate`` and ``tilewright calibrate``: predicted beside measured times, of networks or GPU kernels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.cli import complete
from tilewright.cli.devices import are_run_tables, calibrate_from_runs, validate_runs
from tilewright.cli.inputs import command_line, machine_of
from tilewright.cli.options import CsvOption, JsonOption, MachineOption, ReportOption, SetOption
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar
from tilewright.cli.systems import are_system_tables, validate_systems
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.hw_models.gpu.calibration import FamilySpec
    from tilewright.hw_models.gpu.power import PowerSpec
    from tilewright.kernels.measured import MeasuredTable

__all__ = ["calibrate", "validate"]

FilesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE",
        help="Measured times. Any machine: CSV with the columns network (or layer) and ms (or fps). GPU kernels: JSON "
        "of tilewright measure, CSV of aiconfigurator or LLMCompass. Language models on whole systems: CSV with model, "
        "system and decode_tokens_per_s.",
        show_default=False,
    ),
]


def validate(
    context: typer.Context,
    files: FilesArgument,
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            "-a",
            metavar="MACHINE",
            help="A built-in machine or a YAML file; tables of whole systems name theirs.",
            show_default=False,
            autocompletion=complete.machines,
        ),
    ] = None,
    set_: SetOption = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="NAME|FILE",
            help="The parameters of the kernels: those that come with a machine (a100: what is known of another GPU is "
            "carried over by both data sheets), or a file of tilewright calibrate.",
            show_default="those that come with MACHINE",
        ),
    ] = None,
    json: JsonOption = None,
    csv: CsvOption = None,
    report: ReportOption = None,
) -> None:
    """Predict what measured tables hold on any machine, and show the error by row and in all.

    Columns of your own table: network (or layer, as text) and ms (or fps); mj or w, batch, weights, activations, unit
    and notes may follow. Tables of GPU kernels: error by table, size and bound, without the rows that calibrated a
    parameter; files of tile sweeps show how well tilings are ranked. Tables of language models on whole systems
    (model, system, decode_tokens_per_s) need no machine.
    """
    outputs = Outputs(json=json, csv=csv, report=report)
    outputs.check(*files, machine, calibration)
    if are_system_tables(files):
        given = {"--machine": machine, "--set": set_, "--calibration": calibration}
        if option := next((name for name, value in given.items() if value), None):
            raise InputError(f"{option}: tables of whole systems name theirs; allowed without")
        validate_systems(outputs, files, command=command_line(context))
        return
    if machine is None:
        raise InputError("--machine (-a): needed for tables of networks, layers and kernels; given none")
    spec = machine_of(machine, set_, for_engine=False, keep_groups=True)
    if are_run_tables(files, spec):
        if calibration is not None:
            raise InputError("--calibration: is for tables of GPU kernels; a fitted machine is a file of its own")
        validate_runs(outputs, files, spec, command=command_line(context))
        return

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
        str, typer.Option("--output", "-o", metavar="FILE.yaml", help="Where the result goes.", show_default=False)
    ],
    fit: Annotated[
        list[str] | None,
        typer.Option(
            "--fit",
            metavar="FIGURE",
            help="A figure of the machine to fit: sustained_share, per_layer_us, per_inference_us, clock_ghz; may come "
            "several times. For tables of networks and layers.",
            show_default="the first three",
        ),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Fit a handful of physical figures to one part of measured tables; show the error on the other part.

    Tables of networks and layers (see tilewright validate): FILE.yaml is the machine with the fitted figures. Tables of
    GPU kernels: the parameters of each family of kernels. The split is by name or shape and fixed, so that nothing of
    the other part has been seen.
    """
    from tilewright.hw_models.gpu.calibration import CalibrationSpec, calibration_text, known_calibration
    from tilewright.reports.files import check_apart, check_file, write_file
    from tilewright.search.gpu.calibrate import calibrate as fit_family
    from tilewright.search.gpu.calibrate import related_start, shared_parameters
    from tilewright.search.gpu.calibrate_scheduled import calibrate_scheduled, is_scheduled
    from tilewright.search.gpu.validate import same_device
    from tilewright.sim.gpu.device import gpu_device

    check_file(output, what="--output")
    check_apart(output, [*files, machine], what="--output")
    spec = machine_of(machine, set_, for_engine=False, keep_groups=True)
    if are_run_tables(files, spec):
        calibrate_from_runs(files, spec, output, fit or ())
        return
    if fit:
        raise InputError("--fit: is for tables of networks and layers; families of kernels have their own parameters")
    device = gpu_device(spec)
    families: dict[tuple[str, str], FamilySpec] = {}
    known = known_calibration(spec)
    given = _tables(files)
    tables = [table for table in given if not table.tile_columns and not is_scheduled(table)]
    with ProgressBar() as bar:
        for position, table in enumerate(tables):
            bar(position, len(tables), table.name)
            key = (table.operator, table.family)
            if not same_device(table.device, spec.base_name):
                note(f"left out: {table.name}: measured on {table.device}")
            elif key in families:
                note(f"left out: {table.name}: {table.family} is calibrated on {families[key].measured}")
            else:
                try:
                    start, fixed = related_start(device, known, table), shared_parameters(known, table)
                    families[key] = fit_family(device, table, start=start, fixed=fixed)
                    own = CalibrationSpec(device=spec.base_name, families=tuple(families.values()))
                    known = own if known is None else own.with_families(known)
                except InputError as fault:
                    note(f"left out: {table.name}: {str(fault).removeprefix(f'{table.name}: ')}")
    scheduled = [table for table in given if same_device(table.device, spec.base_name)]
    families |= {(entry.operator, entry.family): entry for entry in calibrate_scheduled(device, scheduled)}
    if not families:
        raise InputError(f"nothing to calibrate {spec.name} with; allowed tables that were measured on it")
    whole = CalibrationSpec(device=spec.base_name, families=tuple(families.values()))
    powered = [table for table in tables if table.watts is not None and same_device(table.device, spec.base_name)]
    if powered:
        from tilewright.search.gpu.calibrate_power import calibrate_power

        whole = replace(whole, power=(calibrate_power(device, known or whole, powered),))
    write_file(output, calibration_text(whole))
    _show(list(families.values()))
    _show_power(whole.power)
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


def _show_power(boards: tuple[PowerSpec, ...]) -> None:
    from tilewright.reports.quantity import percent_text
    from tilewright.reports.table import catalogue_table

    rows = []
    for board in boards:
        law = board.parameters
        figures = {"static W": law.static_w, "L2 pJ/B": law.l2_pj_per_byte, "DRAM pJ/B": law.dram_pj_per_byte}
        figures |= {f"{name} pJ": picojoules for name, picojoules in law.multiply_pj.items()}
        told = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        error = "" if board.held_out_error is None else percent_text(board.held_out_error)
        rows.append([board.device, f"{board.n_calibration:,}", f"{board.n_held_out:,}", error, told])
    if rows:
        headers = ["board", "rows that calibrate", "held out", "error there", "energy at the highest clock"]
        Outputs().show(catalogue_table("power", headers, rows))


def _tables(files: list[str]) -> list[MeasuredTable]:
    from tilewright.kernels.reading import read_tables
    from tilewright.kernels.reading.own import n_networks

    tables = [table for name in files for table in read_tables(name)]
    for name in files:
        if name.endswith(".json") and n_networks(Path(name)):
            note(f"{name}: its networks are not compared beside kernels; allowed in a file of their own")
    names = [table.name for table in tables]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{twice[0]}: given twice; allowed each table once")
    return tables
