"""Formats and groups on a machine: the energy that a choice costs, and designs really run.

Energy as the joint search sums it: bytes that the groups move at the DRAM's price, and for each option of a layer
everything else that its operators take alone on the machine (multiplications, buffers, the DRAM's standing power while
they run). Fusion changes the first part only; by how much the sum is off, the real run of the design shows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilewright.errors import InputError
from tilewright.hw_models.buffer import refuse_parts
from tilewright.hw_models.matrix_unit import holding_format
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.bits.costs import BitCosts
from tilewright.search.bits.joint import JointDesign, JointOutcome
from tilewright.search.bits.joint_tables import Prices
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import simulate_stream
from tilewright.search.objective import Objective
from tilewright.sim.fusion.line_buffers.program import simulate_group
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["DesignRun", "energy_prices", "part_of_stream", "run_design", "run_designs", "with_room"]

_TENTHS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignRun:
    """A design run group by group, one after the other, on one core: exact cycles, energy and traffic.

    ``dram_bytes`` are in whole bursts and with the tiles of nodes alone that the simulator finds best, so they are
    above those of the design.
    """

    name: str
    cycles: int
    energy_pj: float
    dram_bytes: int


def energy_prices(costs: BitCosts) -> Prices:
    """The prices of energy on the machine of ``costs``, in tenths of a picojoule."""
    energy = costs.machine.energy
    rows = []
    for decision in costs.problem.decisions:
        row = []
        for option in decision.options:
            apart = sum(costs.energy_apart_from_traffic_pj(layer, option) for layer in decision.layers)
            row.append(round(_TENTHS * apart))
        rows.append(tuple(row))
    return Prices(
        name="energy",
        unit="0.1 pJ",
        read=round(_TENTHS * energy.dram_read_pj_per_byte),
        write=round(_TENTHS * energy.dram_write_pj_per_byte),
        options=tuple(rows),
    )


def run_designs(
    outcome: JointOutcome,
    machine: MachineSpec,
    *,
    objective: Objective = "energy",
    cache: MappingCache | None = None,
    progress: Progress | None = None,
) -> tuple[DesignRun, ...]:
    """Every design of ``outcome`` on ``machine``; see :func:`run_design`."""
    runs = []
    for at, design in enumerate(outcome.designs):
        if progress is not None:
            progress(at, len(outcome.designs), f"running: {design.name}")
        runs.append(run_design(outcome, design, machine, objective=objective, cache=cache))
    return tuple(runs)


def run_design(
    outcome: JointOutcome,
    design: JointDesign,
    machine: MachineSpec,
    *,
    objective: Objective = "energy",
    cache: MappingCache | None = None,
) -> DesignRun:
    """``design`` on ``machine`` with the working buffer that it was made for; nodes alone at the tiles of least
    ``objective``.

    A product in a format that the array lacks runs in the narrowest that holds its values. Raises InputError for a
    machine of several cores (groups run on one) and for a format that nothing holds.
    """
    if machine.n_cores > 1:
        raise InputError(f"{machine.name}: n_cores: given {machine.n_cores}; fusion groups run on 1")
    refuse_parts(machine, "fused groups")
    spec = _with_formats(with_room(machine, outcome.tables.capacity_bytes), outcome)
    stream = outcome.tables.formatted(design.assignment)
    kept = MappingCache() if cache is None else cache
    cycles, energy, moved = 0, 0.0, 0
    for mask in design.plan:
        if mask & (mask - 1):
            group = simulate_group(stream, design.graph, mask, spec)
            cycles, energy = cycles + group.cycles, energy + group.energy_pj
            moved += group.dram_read_bytes + group.dram_write_bytes
        else:
            node = design.graph.nodes[mask.bit_length() - 1]
            part = part_of_stream(stream, node.operators)
            alone = simulate_stream(part, spec, objective=objective, prefetch=False, cache=kept)
            cycles, energy, moved = cycles + alone.cycles, energy + alone.energy_pj, moved + alone.dram_bytes
    return DesignRun(name=design.name, cycles=cycles, energy_pj=energy, dram_bytes=moved)


def part_of_stream(stream: OperatorStream, names: tuple[str, ...]) -> OperatorStream:
    """The operators called ``names`` as a stream of their own; what they read from others is its input."""
    operators = tuple(operator for operator in stream.operators if operator.name in names)
    used = {name for operator in operators for name in (*operator.inputs, *operator.outputs)}
    for name in list(used):
        tensor = stream.tensor(name)
        while tensor.view_of is not None:
            used.add(tensor.view_of)
            tensor = stream.tensor(tensor.view_of)
    made = {name for operator in operators for name in operator.outputs}
    tensors = tuple(tensor for tensor in stream.tensors if tensor.name in used)
    given = tuple(
        t.name for t in tensors if t.view_of is None and t.name not in made and t.role in ("activation", "cache")
    )
    read = {stream.base(name).name for operator in operators for name in operator.inputs}
    return replace(
        stream,
        name=f"{stream.name}: {operators[0].name}",
        tensors=tensors,
        operators=operators,
        inputs=given,
        outputs=tuple(sorted(made - read)) or (operators[-1].outputs[0],),
        n_parameters=None,
    )


def with_room(machine: MachineSpec, capacity_bytes: int) -> MachineSpec:
    """``machine`` with a working buffer of that size."""
    buffer = machine.buffers[0]
    if buffer.capacity_bytes == capacity_bytes:
        return machine
    return machine.with_(**{f"buffers.{buffer.name}.capacity_kib": capacity_bytes / 1024})


def _with_formats(machine: MachineSpec, outcome: JointOutcome) -> MachineSpec:
    """The machine with the element formats of the table that it lacks, at the rate and energy of what holds them."""
    from tilewright.formats import element_format

    keys = outcome.tables.problem.option_keys()
    changes: dict[str, float] = {}
    for name in dict.fromkeys(element_format(part) for key in keys for part in key[:2]):
        held = holding_format(machine.matrix, name)
        if held is None:
            known = ", ".join(machine.matrix.multiplies_per_pe_per_cycle)
            raise InputError(f"{machine.name}: no format holds the values of {name}; allowed {known}")
        if held != name:
            changes[f"matrix.multiplies_per_pe_per_cycle.{name}"] = machine.matrix.multiplies_per_pe_per_cycle[held]
            changes[f"energy.multiply_accumulate_pj.{name}"] = machine.energy.multiply_accumulate_pj[held]
    return machine.with_(**changes) if changes else machine
