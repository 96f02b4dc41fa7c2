"""``tilewright why``: where the cycles went and what would change them."""

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
from tilewright.cli.progress import announce_compilation, patience

__all__ = ["why"]


def why(
    context: typer.Context,
    workload: WorkloadArgument,
    machine: MachineOption,
    dataflow: DataflowOption = None,
    tile: TileOption = None,
    objective: ObjectiveOption = "latency",
    json: JsonOption = None,
    csv: CsvOption = None,
    report: ReportOption = None,
) -> None:
    """Explain a result: its bound, its critical path, exact what-ifs, the assumptions in force."""
    outputs = Outputs(json=json, csv=csv, report=report)
    outputs.check(workload, machine)
    goal, tiling = objective_of(objective), tiling_of(tile)
    spec, (layer,) = machine_of(machine), workloads_of([workload])
    if dataflow is not None:
        check_dataflows([dataflow], [layer])
    announce_compilation()

    import tilewright.search.api as api
    from tilewright.reports.table import assumptions_text, attribution_table, result_table, what_if_table

    with patience(f"what-ifs of {layer.name}"):
        reasons = api.why(layer, spec, dataflow, tiling=tiling, objective=goal)
    outputs.show(
        result_table(reasons.result),
        attribution_table(reasons),
        what_if_table(reasons),
        assumptions_text(reasons.result),
    )
    from tilewright.reports.origin import Origin, layer_facts

    facts = {"objective": goal, "dataflow": dataflow, "tiling": dict(reasons.result.tiling)}
    origin = Origin(machines=(spec,), workloads=(layer_facts(layer),), facts=facts)
    outputs.write_json(reasons.to_dict(), origin)
    outputs.write_csv(reasons.to_dict()["what_ifs"], origin)
    if report is not None:
        from tilewright.cli.evidence import explained
        from tilewright.reports.folder import write_result_report

        case = explained(reasons.result, layer, spec, objective=goal, why=reasons, command=command_line(context))
        note(f"wrote {write_result_report(report, case)}")
