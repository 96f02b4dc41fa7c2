"""Memories that compute by name, or from one's own YAML file."""

from __future__ import annotations

from pathlib import Path

from tilewright.hw_models.pim.spec import PimSpec
from tilewright.hw_models.shipped import Shipped

__all__ = ["load_pim", "pim_names"]

_MEMORIES = Shipped("pim/machines", PimSpec, what="memory that computes")


def pim_names() -> tuple[str, ...]:
    """Names of the memories that come with Tilewright."""
    return _MEMORIES.names()


def load_pim(name_or_path: str | Path) -> PimSpec:
    """The memory called so, or described in the YAML file at that path.

    Raises :class:`InputError`: an unknown name with the nearest one, or every fault of the file with its line.
    """
    return _MEMORIES.load(name_or_path)
