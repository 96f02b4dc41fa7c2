"""Machines by name (those that come with Tilewright) or from one's own YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tilewright.document_yaml import Document
from tilewright.errors import InputError
from tilewright.hw_models.groups import lifted
from tilewright.hw_models.pim.load import pim_names
from tilewright.hw_models.settings import changed_by_text, parted_name
from tilewright.hw_models.shipped import Shipped
from tilewright.hw_models.spec import MachineSpec

__all__ = ["load_machine", "machine_names", "machine_text"]


def _arranged(document: Document, file: str, base: Document | None) -> Document:
    main = base.data.get("main") if base is not None and isinstance(base.data, Mapping) else None
    return lifted(document, file, main)


_MACHINES = Shipped("machines", MachineSpec, what="machine", arranged=_arranged)


def machine_names() -> tuple[str, ...]:
    """Names of the machines that come with Tilewright."""
    return _MACHINES.names()


def load_machine(name_or_path: str | Path, settings: Sequence[str] = ()) -> MachineSpec:
    """The machine called so, or described in the YAML file at that path.

    ``settings`` (``matrix.rows=32``) change figures, as :meth:`MachineSpec.with_` does; so does a name that says them:
    ``edge-16x16 with matrix.rows=32, n_cores=2``. ``group=NAME`` is that group of its cores alone.

    Text that ends in ``.yaml`` or ``.yml`` or holds a path separator is a path. Raises :class:`InputError`: an unknown
    name with the nearest one, or every fault of the file with its line.
    """
    name, own = (name_or_path, []) if isinstance(name_or_path, Path) else parted_name(name_or_path)
    if name in pim_names() and name not in machine_names():
        raise InputError(
            f'machine: "{name}" is a memory that computes, and nobody commands it; allowed a machine with it '
            "(pim: NAME), such as npu-with-lpddr5x-pim"
        )
    machine, wanted = _MACHINES.load(name), [*own, *settings]
    return changed_by_text(machine, wanted) if wanted else machine


def machine_text(name: str) -> str:
    """The YAML text of a machine that comes with Tilewright, as a start for one's own."""
    load_machine(name)
    return _MACHINES.text(name)
