"""What an earlier denoising step left for an attention, on its way into the result: a residual, a ratio for each row.

Both come for a sub-block of rows with its last key tile, and the command that finishes these rows takes them in: their
result is multiplied by the row's ratio (how much of the whole softmax denominator the kept keys have, Re-ttention) and
the residual (what the keys that are left out gave at the step that computed all, DiTFastAttn) is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.lowering.core import Pool

__all__ = ["Cached"]

_SLOTS = 2


class Cached:
    """Slots for the cached values of up to ``rows`` rows, if the layer has any."""

    def __init__(self, core: AttentionCore, *, rows: int) -> None:
        self.layer = core.layer
        self.pool: Pool | None = None
        if core.layer.takes_cached:
            self.pool = core.pool("cached", slots=_SLOTS, slot_bytes=core.costs.cached_bytes(rows))

    def load(self, core: AttentionCore, rows: int, *, run: Any) -> None:
        """Bring those of ``rows`` rows."""
        if self.pool is not None:
            core.load(
                core.costs.load_cached(rows),
                waits=[self.pool.free],
                signals=[self.pool.full],
                label="load cached",
                run=run,
            )

    def operations(self, n_values: int) -> tuple[tuple[str, int], ...]:
        """What finishing ``n_values`` of the result takes in addition."""
        mul = (("mul", n_values),) if self.layer.ratios else ()
        return (*mul, ("add", n_values)) if self.layer.residual_format else mul

    def reads_bits(self, core: AttentionCore, rows: int) -> int:
        """Bits of the cached values of ``rows`` rows in the buffer."""
        return 8 * core.costs.cached_bytes(rows) if self.pool is not None else 0

    @property
    def waits(self) -> Sequence[int]:
        """What the command that takes them in waits for."""
        return () if self.pool is None else (self.pool.full,)

    @property
    def signals(self) -> Sequence[int]:
        """What it gives back."""
        return () if self.pool is None else (self.pool.free,)
