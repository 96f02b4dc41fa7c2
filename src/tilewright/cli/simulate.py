"""``tilewright simulate``: one workload, one machine, one dataflow."""

from __future__ import annotations

import typer

from tilewright.cli.inputs import check_dataflows, command_line, machine_of, workloads_of
from tilewright.cli.options import (
    CsvOption,
    DataflowOption,
    JsonOption,
    MachineOption,
    ObjectiveOption,
    ReportOption,
    TileOption,
    WorkloadArgument,
    objective_of,
    tiling_of,
)
from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar, announce_compilation, patience

__all__ = ["simulate"]


def simulate(
    context: typer.Context,
    workload: WorkloadArgument,
    machine: MachineOption,
    dataflow: DataflowOption = "mas",
    tile: TileOption = None,
    objective: ObjectiveOption = "latency",
    json: JsonOption = None,
    csv: CsvOption = None,
    report: ReportOption = None,
) -> None:
    """Run one attention layer with one dataflow: cycles, energy, traffic, distance from the bound.

    The sizes that --tile does not give are searched for. See: tilewright list dataflows
    """
    outputs = Outputs(json=json, csv=csv, report=report)
    outputs.check()
    goal, tiling = objective_of(objective), tiling_of(tile)
    spec, (layer,) = machine_of(machine), workloads_of([workload])
    check_dataflows([dataflow])
    announce_compilation()

    import tilewright.search.api as api
    from tilewright.reports.table import result_table

    with ProgressBar() as progress:
        result = api.simulate(layer, spec, dataflow, tiling=tiling, objective=goal, progress=progress)
    outputs.show(result_table(result))
    outputs.write_json(result.to_dict())
    outputs.write_csv([result.to_row()])
    if report is not None:
        from tilewright.cli.evidence import explained
        from tilewright.reports.folder import write_result_report

        with patience(f"what-ifs of {dataflow} on {layer.name}"):
            case = explained(result, layer, spec, objective=goal, command=command_line(context))
        note(f"wrote {write_result_report(report, case)}")
