"""What more of each resource would change for a whole network, every operator mapped anew; nothing is guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress, part
from tilewright.search.gpu.kernel_options import KernelOptions, kernel_options
from tilewright.search.gpu.what_if import why_library_network
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, Chosen, simulate_stream
from tilewright.search.objective import Objective
from tilewright.search.what_if import doubled_resources
from tilewright.sim.network_result import NetworkResult
from tilewright.sim.network_why import NetworkWhatIf, NetworkWhyResult
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["why_stream"]


def why_stream(
    stream: OperatorStream,
    machine: MachineSpec,
    *,
    objective: Objective = "latency",
    prefetch: bool = True,
    fuse: bool = True,
    attention_dataflows: Sequence[str] = ATTENTION_DATAFLOWS,
    cache: MappingCache | None = None,
    progress: Progress | None = None,
    kernels: KernelOptions | None = None,
) -> NetworkWhyResult:
    """Run ``stream`` on ``machine``, and again with twice as much of each resource.

    Each operator is mapped anew then; the mapping of the unchanged machine is among the candidates. Raises InputError
    as :func:`tilewright.search.network.simulate_stream` does. ``kernels``: on a GPU which kernels. On unlike groups
    of cores all are placed and mapped anew, and no mappings stay the same.
    """
    how = kernel_options(machine) if kernels is None else kernels
    if not how.is_engine:
        return why_library_network(stream, machine, how, objective=objective)
    changes = doubled_resources(machine)
    options: dict[str, Any] = {"objective": objective, "prefetch": prefetch, "fuse": fuse, "cache": cache}
    options |= {"attention_dataflows": attention_dataflows, "kernels": how}
    n_runs = 1 + len(changes)
    chosen = Chosen()
    base = simulate_stream(stream, machine, **options, chosen=chosen, progress=part(progress, 0, n_runs))
    found = []
    for at, (label, change) in enumerate(changes.items(), start=1):
        changed = machine.with_(**change)
        told = part(progress, at, n_runs, before=f"{label}: ")
        best = simulate_stream(stream, changed, **options, also=chosen, progress=told)
        same = best if machine.groups else simulate_stream(stream, changed, **options, only=chosen)
        if objective == "latency" and same.cycles < best.cycles:  # weights ahead can reward what is slower alone
            best = same
        found.append(
            NetworkWhatIf(
                label=label,
                cycles=best.cycles,
                energy_pj=best.energy_pj,
                cycles_same_mappings=same.cycles,
                operator_cycles=_in_order_of(base, best),
            )
        )
    return NetworkWhyResult(result=base, what_ifs=tuple(found))


def _in_order_of(base: NetworkResult, other: NetworkResult) -> tuple[int, ...]:
    """Cycles of ``other`` by the operators of ``base``; copies of a plan that the other does not make take none."""
    cycles = {operator.name: operator.cycles for operator in other.operators}
    return tuple(cycles.get(operator.name, 0) for operator in base.operators)
