"""What a group becomes: its program, how it was made, its run on numbers, and what an exact run of it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tilewright.sim.engine.program import Program
from tilewright.sim.figures import Figures, Measured

__all__ = ["FusedProgram", "FusedResult", "StoredValues"]

#: Stored tensors by name, in the shapes of the stream.
StoredValues = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedProgram:
    """A group of operators (``group``: their names) as a program of one core.

    ``tiling``: the choices behind it, by name. ``assumptions``: what its commands take for granted. ``on_numbers``
    executes the program without its loops on the tensors that the group reads and its weights, and gives those that it
    stores; it raises DeadlockError and HazardError for a program that is wrong.
    """

    group: tuple[str, ...]
    program: Program
    tiling: dict[str, int] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    on_numbers: Callable[[StoredValues], dict[str, npt.NDArray[np.float64]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedResult(Measured):
    """One group, run exactly on one core of ``machine``."""

    group: tuple[str, ...]
    machine: str
    tiling: dict[str, int]
    figures: Figures
    buffer_bytes: dict[str, int]
    n_commands: int
    n_jumps: int
    assumptions: tuple[str, ...]

    @property
    def peak_buffer_bytes(self) -> int:
        """Room of all weights and maps of the group."""
        return sum(self.buffer_bytes.values())
