"""``tilewright search --over tiling``: the tile sizes of one attention layer or operator with one dataflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilewright.cli.inputs import check_dataflows, machine_of, workloads_of
from tilewright.cli.options import check_seed, method_of, objective_of
from tilewright.cli.progress import ProgressBar, announce_compilation

if TYPE_CHECKING:
    from tilewright.cli.search import SearchCall

__all__ = ["OPTIONS", "run"]

OPTIONS = frozenset({"machine", "objective", "method", "budget", "seed", "dataflow"})


def run(call: SearchCall) -> None:
    """Search, and show the best tiling with its gap; raises InputError."""
    machine = machine_of(call.needed("machine"))
    (layer,) = workloads_of([call.target], machine)
    goal, way = objective_of(call.option("objective", "latency")), method_of(call.option("method", "exhaustive"))
    check_seed(way, given="seed" in call.options)
    dataflow = call.option("dataflow")
    if dataflow is not None:
        check_dataflows([dataflow], [layer])
    announce_compilation()

    import tilewright.search.api as api
    from tilewright.reports.columns import search_proof
    from tilewright.reports.quantity import cycles_text, energy_text, percent_text, tiling_text
    from tilewright.reports.table import figures_table

    with ProgressBar() as progress:
        found = api.search_tiling(
            layer, machine, dataflow, way, goal, seed=call.option("seed", 0), budget=call.option("budget"),
            progress=progress,
        )  # fmt: skip
    proof = search_proof(found.summary, found.dataflow)
    if not found.proven:
        proof += f"; at most {percent_text(found.gap)} above what is proven"
    rows = [
        ("tiling", tiling_text(found.tiling)),
        ("cycles", cycles_text(found.cycles)),
        ("energy", energy_text(found.energy_pj)),
        (goal, proof),
        (
            "tilings",
            f"{found.n_candidates:,} in all, {found.n_fitting:,} fit, {found.n_evaluations:,} exact runs",
        ),
    ]
    call.outputs.show(figures_table(f"{layer.name} on {machine.name} with {found.dataflow}, {way}", rows))
    from tilewright.reports.origin import Origin, layer_facts

    origin = Origin(machines=(machine,), workloads=(layer_facts(layer),))
    call.outputs.write_json(found.to_row(), origin)
    call.outputs.write_csv([found.to_row()], origin)
