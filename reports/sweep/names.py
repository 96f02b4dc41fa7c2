"""Short names for parameters: ``buffers.l1.capacity_kib`` is "l1 capacity" in KiB."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.hw_models.describe import describe
from tilewright.hw_models.spec import MachineSpec

__all__ = ["parameter_names"]


def parameter_names(machine: MachineSpec, paths: Sequence[str]) -> dict[str, tuple[str, str]]:
    """(name, unit) of each path; the unit comes from the end of the path. Paths that would share a name stay whole."""
    units = {row.path: row.unit for row in describe(machine)}
    names = {path: _named(path, units.get(path, "")) for path in paths}
    shown = [name for name, _ in names.values()]
    return {path: named if shown.count(named[0]) == 1 else (path, "") for path, named in names.items()}


def _named(path: str, unit: str) -> tuple[str, str]:
    ending = "_" + unit.lower().replace("/", "_per_").replace(" ", "_")
    if not unit or not path.endswith(ending):
        ending, unit = "", ""
    words = path.removesuffix(ending).removeprefix("buffers.").replace(".", " ").replace("_", " ")
    return words, unit
