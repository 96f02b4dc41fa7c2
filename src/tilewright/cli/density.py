"""``tilewright compare … --mask-density``: one attention layer at several densities of its mask."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tilewright.cli.outputs import Outputs
from tilewright.errors import InputError

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.search.mask_density import DensityComparison
    from tilewright.sim.result import SimulationResult
    from tilewright.workloads.attention import AttentionLayer

__all__ = ["DensityCall", "best_run", "densities_of", "show_densities"]

_BAR = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class DensityCall:
    """What the command line asks: workloads, machines and the choices for their searches."""

    texts: tuple[str, ...]
    machines: tuple[MachineSpec, ...]
    densities: tuple[float, ...]
    dataflows: list[str] | None
    objective: str
    method: str | None
    seed: int


def densities_of(text: str) -> tuple[float, ...]:
    """Numbers joined by commas, each above 0 and up to 1; raises InputError."""
    found = []
    for item in (part.strip() for part in text.split(",")):
        try:
            number = float(item)
        except ValueError:
            number = 0.0
        if not 0 < number <= 1:
            raise InputError(f'--mask-density: given "{item}"; allowed numbers above 0, up to 1, joined by commas')
        found.append(number)
    return tuple(found)


def show_densities(outputs: Outputs, call: DensityCall) -> None:
    """Run, print the table and the break-even, and write what is asked for; raises InputError."""
    from tilewright.cli.inputs import workloads_of
    from tilewright.search.mask_density import compare_densities
    from tilewright.workloads.attention import AttentionLayer

    if len(call.texts) != 1 or len(call.machines) != 1:
        raise InputError(
            f"--mask-density: is for one attention layer on one machine; given {len(call.texts)} workloads and "
            f"{len(call.machines)} machines; allowed one of each"
        )
    if outputs.report is not None or outputs.markdown is not None:
        raise InputError("--mask-density: makes no page; given --report or --markdown; allowed --csv, --json")
    (machine,) = call.machines
    (layer,) = workloads_of(call.texts, machine)
    if not isinstance(layer, AttentionLayer):
        raise InputError(f"--mask-density: is for attention layers; given {layer.name}; allowed an attention layer")
    found = compare_densities(layer, machine, call.densities, lambda one: best_run(one, machine, call))
    _show(outputs, found, layer, machine)

    from tilewright.reports.origin import Origin, layer_facts

    origin = Origin(machines=(machine,), workloads=(layer_facts(layer),), facts={"objective": call.objective})
    rows = found.rows()
    outputs.write_json(
        {
            "machine": machine.name,
            "workload": layer.name,
            "mask": found.mask,
            "dense": {
                "dataflow": found.dense.dataflow,
                "cycles": found.dense.cycles,
                "energy_pj": found.dense.energy_pj,
            },
            "break_even_density": found.break_even,
            "points": rows,
            "assumptions": list(found.assumptions),
        },
        origin,
    )
    outputs.write_csv(rows, origin)


def best_run(layer: AttentionLayer, machine: MachineSpec, call: DensityCall) -> SimulationResult:
    """The best of the dataflows that can take the layer; named ones, where any of them can."""
    import tilewright.search.api as api
    from tilewright.reports.ranking import best_of
    from tilewright.search.workload import able
    from tilewright.sim.lowering.mapping import dataflow_names, get_dataflow

    names = call.dataflows or list(dataflow_names())
    flows = [flow.name for flow in able([get_dataflow(name) for name in names], layer, machine)]
    found = api.compare(
        [layer], machine, flows, objective=call.objective, method=call.method, seed=call.seed, kernels="engine"
        if machine.gpu is not None else None,
    )  # fmt: skip
    best = best_of(found.results, call.objective)
    if best is None:
        raise InputError(f"no dataflow can run on {machine.name}: {next(iter(found.infeasible.values()))}")
    return replace(best, search=None)


def _show(outputs: Outputs, found: DensityComparison, layer: AttentionLayer, machine: MachineSpec) -> None:
    if not outputs.speaks:
        return
    from rich.table import Table
    from rich.text import Text

    dense = found.dense
    table = Table(title=f"{layer.name} on {machine.name}: {found.mask} by density", box=None, header_style="bold")
    for name in ("density", "dataflow", "attention cycles", "choosing", "of dense", "", "energy", ""):
        table.add_column(name, justify="left" if name in ("dataflow", "") else "right")
    most = max([1.0, *(point.cycles / dense.cycles for point in found.points)])
    most_energy = max([1.0, *(point.energy_pj / dense.energy_pj for point in found.points)])
    for point in found.points:
        time, energy = point.cycles / dense.cycles, point.energy_pj / dense.energy_pj
        table.add_row(
            f"{point.kept:.3g}", point.result.dataflow, f"{point.result.cycles:,}", f"{point.selection_cycles:,}",
            f"{time:.3f}", "█" * round(_BAR * time / most), f"{energy:.3f}", "▒" * round(_BAR * energy / most_energy),
        )  # fmt: skip
    even = "never, at these densities" if found.break_even is None else f"below a density of {found.break_even:.3g}"
    last = Text(
        f"dense: {dense.cycles:,} cycles, {dense.energy_pj / 1e9:.3g} mJ with {dense.dataflow}\n"
        f"break-even: sparse, choosing included, takes less time {even}"
    )
    outputs.show(table, last)
