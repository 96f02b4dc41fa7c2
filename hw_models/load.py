"""Machines by name (those that come with Tilewright) or from one's own YAML file."""

from __future__ import annotations

from pathlib import Path

from tilewright.hw_models.shipped import Shipped
from tilewright.hw_models.spec import MachineSpec

__all__ = ["load_machine", "machine_names", "machine_text"]

_MACHINES = Shipped("machines", MachineSpec, what="machine")


def machine_names() -> tuple[str, ...]:
    """Names of the machines that come with Tilewright."""
    return _MACHINES.names()


def load_machine(name_or_path: str | Path) -> MachineSpec:
    """The machine called so, or described in the YAML file at that path.

    Text that ends in ``.yaml`` or ``.yml`` or holds a path separator is a path. Raises :class:`InputError`: an unknown
    name with the nearest one, or every fault of the file with its line.
    """
    return _MACHINES.load(name_or_path)


def machine_text(name: str) -> str:
    """The YAML text of a machine that comes with Tilewright, as a start for one's own."""
    load_machine(name)
    return _MACHINES.text(name)
