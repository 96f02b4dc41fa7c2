"""``tilewright search --over tiling``: the tile sizes of one attention layer or operator with one dataflow."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.cli.inputs import check_dataflows, machine_of, workloads_of
from tilewright.cli.options import method_of, objective_of
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.cli.search_space import SPACES, SearchCall, SearchOptions, SearchSpace, count

__all__ = ["TilingOptions", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TilingOptions(SearchOptions):
    """Options of ``--over tiling``; ``budget``: most exact runs."""

    objective: str = "latency"
    method: str | None = None
    budget: int | None = None
    seed: int | None = None
    dataflow: str | None = None


def run(call: SearchCall[TilingOptions]) -> None:
    """Search, and show the best tiling with its gap; raises InputError."""
    options = call.options
    machine = machine_of(options.machine, options.set)
    (layer,) = workloads_of([call.target], machine)
    goal, way = objective_of(options.objective), method_of(options.method, seed_is_given=options.seed is not None)
    dataflow = options.dataflow
    if dataflow is not None:
        check_dataflows([dataflow], [layer])
    announce_compilation()

    import tilewright.search.api as api
    from tilewright.reports.columns import search_proof
    from tilewright.reports.quantity import cycles_text, energy_text, percent_text, tiling_text
    from tilewright.reports.table import figures_table

    with ProgressBar() as progress:
        found = api.search_tiling(
            layer, machine, dataflow, way, goal, seed=options.seed or 0, budget=options.budget,
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


SPACES.register("tiling", SearchSpace(name="tiling", options=TilingOptions, run=run, budget=count), rank=1)
