"""``tilewright predict``: latency of many networks on a device that nobody described, from a few measurements."""

from __future__ import annotations

import csv as csv_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.cli import complete
from tilewright.cli.options import CsvOption, JsonOption
from tilewright.cli.outputs import Outputs
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.search.predictor.predict import PredictionResult

__all__ = ["predict"]

_SHOWN = 10


def predict(
    networks: Annotated[
        Path | None,
        typer.Argument(
            metavar="NETWORKS",
            help="The networks to predict, a line each: what tilewright simulate takes, or nasbench-201/421211, "
            "fbnet/78.. by the digits of the search space. Or a CSV file with a column network.",
            show_default="those of --known",
        ),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE.csv",
            help="What was measured on the device: columns network and ms (or fps).",
            show_default=False,
        ),
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(
            "--known",
            metavar="FILE.csv",
            help="Other devices: a column network, and one of milliseconds for each device; cells may be empty.",
            show_default=False,
        ),
    ] = None,
    machine: Annotated[
        list[str] | None,
        typer.Option(
            "--machine",
            "-a",
            metavar="MACHINE",
            help="A machine of the simulated family; repeatable.",
            show_default="18 that come with Tilewright",
            autocompletion=complete.machines,
        ),
    ] = None,
    choose: Annotated[
        int | None,
        typer.Option(
            "--choose",
            metavar="N",
            help="Predict nothing: say which N networks to measure, so that the rest is known best.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = None,
    csv: CsvOption = None,
) -> None:
    """Rank and predict networks on a device from a few measurements; the simulator says what devices are like.

    The first call simulates every layer on the family of machines (a minute or two); later ones remember it.
    """
    outputs = Outputs(json=json, csv=csv, report=None)
    outputs.check(*(None if path is None else str(path) for path in (networks, from_, known)))
    others = {} if known is None else _devices(known)
    names = _names(networks, others)
    if choose is None and from_ is None:
        raise InputError("--from: missing; allowed a CSV file of measurements, or --choose N")
    if choose is not None and from_ is not None:
        raise InputError("--choose: chooses before anything is measured; given --from too; allowed one of the two")
    announce_compilation()

    from tilewright.search.predictor.predict import choose_networks, predict_latencies
    from tilewright.search.predictor.units import FAMILY

    family: Sequence[str] = machine or FAMILY
    with ProgressBar() as progress:
        if choose is not None:
            picked = choose_networks(names, choose, known=others, family=family, progress=progress)
        else:
            assert from_ is not None
            result = predict_latencies(names, _measured(from_), known=others, family=family, progress=progress)
    from tilewright.reports.origin import Origin

    if choose is not None:
        if outputs.speaks:
            for name in picked:
                typer.echo(name)
        outputs.write_json({"choose": picked}, Origin())
        outputs.write_csv([{"network": name} for name in picked], Origin())
        return
    if outputs.speaks:
        _show(outputs, result)
    outputs.write_json(result.to_dict(), Origin())
    outputs.write_csv(result.rows(), Origin())


def _names(path: Path | None, others: dict[str, dict[str, float]]) -> list[str]:
    """The networks to predict; those of the known devices where none are given."""
    if path is None:
        found = list(dict.fromkeys(name for own in others.values() for name in own))
        if not found:
            raise InputError("networks: missing; allowed a file with a network a line, or --known FILE.csv")
        return found
    from tilewright.document_text import read_text

    text = read_text(path, what="list of networks", allowed="a network a line, or a CSV file with a column network")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if path.suffix == ".csv":
        rows = list(csv_module.DictReader(lines))
        if not rows or "network" not in rows[0]:
            raise InputError(f"{path}: no column network; allowed a CSV file with one")
        return [row["network"].strip() for row in rows]
    if not lines:
        raise InputError(f"{path}: empty; allowed a network a line")
    return lines


def _devices(path: Path) -> dict[str, dict[str, float]]:
    """Seconds by network on each device of a CSV file."""
    from tilewright.document_text import read_text

    text = read_text(path, what="table of known devices", allowed="a CSV file with a column network")
    reader = csv_module.DictReader(text.splitlines())
    devices = [name for name in reader.fieldnames or [] if name not in (None, "", "network")]
    if "network" not in (reader.fieldnames or []) or not devices:
        raise InputError(
            f"{path}: columns; given {', '.join(reader.fieldnames or []) or 'none'}; allowed network and "
            "one for each device"
        )
    found: dict[str, dict[str, float]] = {device: {} for device in devices}
    for line, row in enumerate(reader, start=2):
        for device in devices:
            cell = (row[device] or "").strip()
            if cell:
                found[device][row["network"].strip()] = _milliseconds(cell, f"{path}:{line}: {device}") * 1e-3
    return found


def _milliseconds(cell: str, place: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:
        raise InputError(f'{place}: given "{cell}"; allowed milliseconds above 0')
    return value


def _measured(path: Path) -> dict[str, float]:
    from tilewright.kernels.reading.runs import read_runs
    from tilewright.workloads.zoo.search_spaces import SPACES

    found = {}
    for run in read_runs(path).runs:
        space, _, digits = run.name.partition("/")
        if space in SPACES and digits:
            try:
                SPACES[space].network(digits)
            except InputError as fault:
                raise InputError(f"{run.place}: {fault}") from None
        found[run.name] = run.seconds
    return found


def _show(outputs: Outputs, result: PredictionResult) -> None:
    from tilewright.reports.columns import Column
    from tilewright.reports.quantity import percent_text, seconds_text
    from tilewright.reports.table import figures_table, fitted_table

    first = result.predictions[:_SHOWN]
    columns = [
        Column(header="#", cells=[str(at) for at in range(1, len(first) + 1)]),
        Column(header="network", cells=[one.network for one in first], right=False),
        Column(header="time", cells=[seconds_text(one.seconds) for one in first]),
        Column(header="from", cells=[seconds_text(one.low) for one in first]),
        Column(header="to", cells=[seconds_text(one.high) for one in first]),
        Column(header="measured", cells=["" if one.measured is None else seconds_text(one.measured) for one in first]),
    ]
    title = f"the fastest of {len(result.predictions):,} networks"
    caption = "from, to: hold the time with 90 %"
    summary = [
        ("measured", f"{result.n_measured} networks"),
        ("simulated machines", f"{len(result.machines)}"),
        ("known devices", ", ".join(result.devices) or "none"),
        ("intervals", f"{percent_text(result.mean_spread)} to each side, in the mean"),
    ]
    outputs.show(fitted_table(outputs.console(), title, columns, caption=caption), figures_table("prediction", summary))
