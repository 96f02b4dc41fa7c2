"""Machines by name (those that come with Tilewright) or from one's own YAML file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from tilewright.document import load_document, parse_document
from tilewright.errors import InputError, did_you_mean
from tilewright.hw_models.spec import MachineSpec

__all__ = ["load_machine", "machine_names", "machine_text"]


@cache
def machine_names() -> tuple[str, ...]:
    """Names of the machines that come with Tilewright."""
    entries = (files("tilewright.hw_models") / "machines").iterdir()
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml")))


def load_machine(name_or_path: str | Path) -> MachineSpec:
    """The machine called so, or described in the YAML file at that path.

    Text that ends in ``.yaml`` or ``.yml`` or holds a path separator is a path. Raises :class:`InputError`: an unknown
    name with the nearest one, or every fault of the file with its line.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text or "\\" in text:
        return load_document(name_or_path, MachineSpec, what="machine")
    if text not in machine_names():
        raise InputError(
            f'unknown machine; given "{text}"; allowed {", ".join(machine_names())}, or the path of a YAML file'
            f"{did_you_mean(text, machine_names())}"
        )
    return _load_shipped(text)


def machine_text(name: str) -> str:
    """The YAML text of a machine that comes with Tilewright, as a start for one's own."""
    load_machine(name)
    return _text(name)


@cache
def _load_shipped(name: str) -> MachineSpec:
    return parse_document(_text(name), MachineSpec, what="machine", name=f"{name}.yaml")


def _text(name: str) -> str:
    return (files("tilewright.hw_models") / "machines" / f"{name}.yaml").read_text(encoding="utf-8")
