"""One step of a diffusion run and a schedule of them: what is computed, what is taken from the step before, and how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

__all__ = ["HOWS", "Cell", "How", "Schedule", "Step", "cells"]

#: A block and one of its parts; an empty part is the whole block.
Cell: TypeAlias = tuple[str, str]
#: What is kept of something that a step does not compute: its result (``value``), how much it changes what goes into it
#: (``residual``: that change is added to what goes in now), or its result and differences of earlier ones
#: (``taylor``: extrapolated to the step).
How: TypeAlias = Literal["value", "residual", "taylor"]
HOWS: tuple[str, ...] = get_args(How)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. ``cached``: blocks and parts that are not computed; their results are those of an earlier step, as
    ``how`` says (``order``: of the Taylor series). ``skipped``: the network does not run at all, the step takes the
    last result. ``forwards``: how often the network runs (2 with classifier-free guidance).
    """

    cached: frozenset[Cell] = frozenset()
    how: How = "value"
    order: int = 0
    skipped: bool = False
    forwards: int = 1

    @property
    def kind(self) -> str:
        """``full``, ``cached`` or ``skipped``."""
        return "skipped" if self.skipped else "cached" if self.cached else "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Steps in order, by the name of their ``method``; ``assumptions``: what results should say of it."""

    method: str
    steps: tuple[Step, ...]
    assumptions: tuple[str, ...] = ()

    @property
    def n_full(self) -> int:
        """How many steps compute everything."""
        return sum(step.kind == "full" for step in self.steps)

    def with_forwards(self, n: int) -> Schedule:
        """The same schedule with ``n`` runs of the network where a step does not say so itself."""
        return replace(self, steps=tuple(replace(step, forwards=step.forwards * n) for step in self.steps))


def cells(blocks: Iterable[str], parts: Iterable[str] = ("",)) -> frozenset[Cell]:
    """Every one of ``parts`` of every one of ``blocks``."""
    parts = tuple(parts)
    return frozenset((block, part) for block in blocks for part in parts)
