"""``tilewright search --over joint``: number formats, fusion groups and tiles of a network together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilewright.cli.inputs import machine_of
from tilewright.cli.progress import ProgressBar, announce_compilation
from tilewright.cli.search_bits import sensitivity_of
from tilewright.cli.search_fusion import bytes_of
from tilewright.cli.search_space import SPACES, NetworkOptions, SearchCall, SearchSpace, network_of
from tilewright.errors import InputError, unknown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tilewright.hw_models.spec import MachineSpec
    from tilewright.search.bits.joint import JointOutcome
    from tilewright.search.bits.joint_run import DesignRun
    from tilewright.search.bits.joint_tables import JointTables
    from tilewright.search.bits.sensitivity import Sensitivity
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["JointOptions", "run"]

_OBJECTIVES = ("dram", "energy")
_MOST = 1e30
_FORM = re.compile(r"\s*sensitivity\s*=\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(x?)\s*")


_FIGURES = (
    "vs together", "DRAM bytes", "sensitivity", "fused groups", "run: cycles", "run: energy", "run: DRAM",
    "optimum",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class JointOptions(NetworkOptions):
    """Options of ``--over joint``; ``budget``: the most sensitivity."""

    buffer: str | None = None
    budget: tuple[str, ...] = ()
    sensitivity: str | None = None
    objective: str = "dram"


def run(call: SearchCall[JointOptions]) -> None:
    """Search, show the optimum beside both sequences, and write what is asked for; raises InputError."""
    options = call.options
    table = sensitivity_of(options.sensitivity)
    machine = machine_of(options.machine, options.set)
    buffer, objective = options.buffer, options.objective
    if objective not in _OBJECTIVES:
        raise unknown("objective", objective, _OBJECTIVES, place="--objective")
    amount, unit = _bound(options.budget)

    from tilewright.search.bits.joint import search_joint
    from tilewright.search.bits.joint_run import run_designs, with_room

    stream = network_of(call)
    capacity = machine.buffers[0].capacity_bytes if buffer is None else bytes_of(buffer)
    announce_compilation()
    with ProgressBar() as bar:
        tables = _tables(stream, with_room(machine, capacity), table, objective, bar)
        most = amount * tables.problem.sensitivity(tables.problem.reference) if unit else amount
        outcome = search_joint(tables, most, progress=bar)
        runs = run_designs(outcome, machine, progress=bar)
    call.outputs.show(_layers(outcome), _groups(outcome), _designs(call.outputs.console(), outcome, runs))

    from tilewright.reports.origin import Origin, network_facts

    facts = {"capacity_bytes": capacity, "most_sensitivity": most, "objective": objective}
    origin = Origin(machines=(machine,), workloads=(network_facts(stream),), facts=facts)
    call.outputs.write_json(_data(outcome, runs), origin)
    call.outputs.write_csv(outcome.layer_rows(), origin)


def _tables(
    stream: OperatorStream, machine: MachineSpec, table: Sensitivity, objective: str, progress: ProgressBar
) -> JointTables:
    from tilewright.search.bits.costs import SimulationSettings, simulated_costs
    from tilewright.search.bits.joint_run import energy_prices
    from tilewright.search.bits.joint_tables import TRAFFIC, JointTables

    prices = TRAFFIC
    if objective == "energy":
        costs = simulated_costs(stream, machine, table, SimulationSettings(objective="energy"), progress=progress)
        prices = energy_prices(costs)
    capacity = machine.buffers[0].capacity_bytes
    return JointTables(source=stream, sensitivity=table, capacity_bytes=capacity, prices=prices)


def _bound(texts: Sequence[str]) -> tuple[float, str]:
    text = ",".join(texts)
    if not text:
        raise InputError("--budget: missing; allowed for example sensitivity=0.5")
    found = _FORM.fullmatch(text)
    if found and not float(found[1]) <= _MOST:
        raise InputError(f"--budget: sensitivity: out of range; given {found[1][:40]}; allowed at most {_MOST:g}")
    if not found:
        raise InputError(
            f'--budget: not of the form sensitivity=AMOUNT; given "{text}"; allowed for example sensitivity=0.5, or '
            "sensitivity=20x of the widest formats'"
        )
    return float(found[1]), found[2]


def _layers(outcome: JointOutcome) -> Table:
    from tilewright.reports.table import catalogue_table

    rows = [[row["layer"], row["formats"], row["formats_before_fusion"], row["group"]] for row in outcome.layer_rows()]
    headers = ["layer", "formats", "formats if chosen first", "group"]
    return catalogue_table(f"{outcome.tables.graph.name}: formats by layer", headers, rows)


def _groups(outcome: JointOutcome) -> Table:
    from tilewright.reports.quantity import bytes_text
    from tilewright.reports.table import catalogue_table

    rows = [
        [str(row["group"]), str(row["n_nodes"]), bytes_text(row["buffer_bytes"]), bytes_text(row["dram_bytes"]),
         f"{row['first']} to {row['last']}"]
        for row in outcome.group_rows()
        if row["n_nodes"] > 1
    ]  # fmt: skip
    room = bytes_text(outcome.tables.capacity_bytes)
    return catalogue_table(f"groups in {room}", ["group", "nodes", "buffer", "DRAM traffic", "operators"], rows)


def _designs(console: Console, outcome: JointOutcome, runs: Sequence[DesignRun]) -> Table:
    """Figures downwards, a column for each design: so it fits a terminal of 80 columns."""
    from tilewright.reports.quantity import change_text, energy_text
    from tilewright.reports.table import Column, fitted_table

    joint, what = outcome.joint.value, outcome.tables.prices.name
    columns = [Column(header="", cells=_FIGURES, right=False)]
    for design, run in zip(outcome.designs, runs, strict=True):
        cells = [
            change_text(design.value / joint) if design is not outcome.joint else "",
            f"{design.dram_bytes:,}",
            f"{design.sensitivity:.4g}",
            str(design.n_fused),
            f"{run.cycles:,}",
            energy_text(run.energy_pj),
            f"{run.dram_bytes:,}",
            "proven" if design.proven else f"gap {design.value / max(1, design.lower_bound) - 1:.1%}",
        ]
        columns.append(Column(header=design.name, cells=cells))
    goal = "DRAM traffic" if what == "dram" else what
    title = (
        f"least {goal}, sensitivity at most {outcome.most_sensitivity:.4g}; optimum: of {outcome.tables.scheme.name}"
    )
    return fitted_table(console, f"{title} groups with the table's formats", columns)


def _data(outcome: JointOutcome, runs: Sequence[DesignRun]) -> dict[str, Any]:
    return {
        "network": outcome.tables.graph.name,
        "objective": outcome.tables.prices.name,
        "capacity_bytes": outcome.tables.capacity_bytes,
        "most_sensitivity": outcome.most_sensitivity,
        "saved": outcome.saved,
        "designs": outcome.rows(),
        "runs": [
            {"design": run.name, "cycles": run.cycles, "energy_pj": run.energy_pj, "dram_bytes": run.dram_bytes}
            for run in runs
        ],
        "groups": outcome.group_rows(),
        "layers": outcome.layer_rows(),
        "assumptions": list(outcome.assumptions),
    }


SPACES.register("joint", SearchSpace(name="joint", options=JointOptions, run=run), rank=4)
