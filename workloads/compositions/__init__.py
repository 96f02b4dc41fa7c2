"""What is written as one operator and becomes several of other kinds: one file each, with its text."""

from __future__ import annotations

from tilewright.workloads.compositions.composition import COMPOSITIONS, Composition, register_composition

__all__ = ["COMPOSITIONS", "Composition", "register_composition"]
