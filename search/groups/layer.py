"""A single layer on a machine with unlike groups of cores: on the group where it is best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.spec import EVERYTHING, MachineSpec
from tilewright.search.objective import Objective, score
from tilewright.sim.result import SimulationResult

__all__ = ["on_best_group"]


def on_best_group(
    machine: MachineSpec, run: Callable[[MachineSpec], SimulationResult], objective: Objective
) -> SimulationResult:
    """The best of what ``run`` gives on each group of ``machine``, by time and energy (clocks differ); its first
    assumption says which group it is. Processors of a published rate do operators of networks only.

    Raises what ``run`` raises where no group can: of those that have a mapping that does not fit, else the first.
    """
    found: dict[str, SimulationResult] = {}
    faults: list[InputError] = []
    for name in machine.group_names:
        alone = machine.group(name)
        if EVERYTHING in alone.lacks:
            continue
        try:
            found[name] = run(alone)
        except InputError as error:
            faults.append(error)
    if not found:
        raise next((fault for fault in faults if isinstance(fault, MappingError)), faults[0])
    best = min(found, key=lambda name: score(objective, found[name].seconds, found[name].energy_pj))
    others = [f"{name}: {found[name].seconds * 1e6:,.4g} us" for name in found if name != best]
    said = f"on the group {best} of {machine.name}" + (f", where it is best ({', '.join(others)})" if others else "")
    return replace(found[best], assumptions=(said, *found[best].assumptions))
