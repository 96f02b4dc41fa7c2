"""Systems on a chip by name (those that come with Tilewright) or from one's own YAML file."""

from __future__ import annotations

from pathlib import Path

from tilewright.hw_models.shipped import Shipped
from tilewright.hw_models.soc.spec import SocSpec

__all__ = ["load_soc", "soc_names"]

_SOCS = Shipped("soc", SocSpec, what="system on a chip")


def soc_names() -> tuple[str, ...]:
    """Names of the systems that come with Tilewright."""
    return _SOCS.names()


def load_soc(name_or_path: str | Path) -> SocSpec:
    """The system called so, or described in the YAML file at that path.

    Raises InputError: an unknown name with the nearest one, or every fault of the file with its line.
    """
    return _SOCS.load(name_or_path)
