"""How long the ports of memories hold up an array: stalls while it runs, and filling before it starts.

After the uniform latency model (Mei, Liu, Wu, Sumbul, Verhelst, Beigne, DATE 2022): a transfer recurs with a period and
may use a window of it. A transfer that is longer than its window stalls by the difference, every time but the first.
Transfers that share a port also stall by what they need together beyond the union of their windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tilewright.hw_models.hierarchy import MemorySpec, Operand
from tilewright.sim.hierarchy.nest import Floats

__all__ = ["Activity", "Fill", "Link", "filling_cycles", "stall_cycles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What one operand moves between two neighbouring memories (``inner`` None: the array), for many orders at once.

    ``inner_bits``, ``outer_bits``: bits that one copy of the inner memory, and the outer one, move at a time.
    ``returns``: whether partial sums also come back.
    """

    operand: Operand
    inner: MemorySpec | None
    outer: MemorySpec
    inner_bits: Floats
    outer_bits: Floats
    period: Floats
    window: Floats
    times: Floats
    returns: npt.NDArray[np.bool_]

    @property
    def inner_cycles(self) -> Floats:
        """Cycles at the inner end of one transfer."""
        if self.inner is None:
            return np.zeros_like(self.period)
        return np.asarray(np.ceil(self.inner_bits / self.inner.port_bits_per_cycle - 1e-9))

    @property
    def outer_cycles(self) -> Floats:
        """Cycles at the outer end of one transfer."""
        return np.asarray(np.ceil(self.outer_bits / self.outer.port_bits_per_cycle - 1e-9))

    @property
    def fill_cycles(self) -> Floats:
        """Cycles of one transfer at its slower end."""
        return np.maximum(self.inner_cycles, self.outer_cycles)

    def port_uses(self) -> Iterator[tuple[MemorySpec, str, Floats]]:
        """(memory, "read" or "write", cycles of one transfer) for each end, and again for sums on their way back."""
        up = self.operand == "output"
        yield self.outer, "write" if up else "read", self.outer_cycles
        if self.inner is not None:
            yield self.inner, "read" if up else "write", self.inner_cycles
        if up:
            yield self.outer, "read", np.where(self.returns, self.outer_cycles, 0)
            if self.inner is not None:
                yield self.inner, "write", np.where(self.returns, self.inner_cycles, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """One use of a port: ``busy`` cycles within a ``window`` of each ``period``, so many ``times``."""

    busy: Floats
    window: Floats
    period: Floats
    times: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """The first transfer of an input operand over one link; ``shared``: ends (0 to 2) on a port of both operands."""

    operand: Operand
    cycles: Floats
    shared: int


def stall_cycles(uses: Sequence[Activity], steps: float) -> Floats:
    """Cycles by which one port delays ``steps`` steps of the array; uses that are never busy do not count."""
    late = np.zeros_like(uses[0].busy)
    asked = np.zeros_like(late)
    for use in uses:
        again = use.times - 1
        late = late + np.maximum(0, use.busy - use.window) * again
        asked = asked + np.minimum(use.busy, use.window) * again
    return np.asarray(late + np.maximum(0, asked - _union(uses, steps)))


def _union(uses: Sequence[Activity], steps: float) -> Floats:
    """Cycles of all ``steps`` that lie in the window of at least one use (windows at the start of their periods)."""
    periods = np.array([np.where(use.busy > 0, use.period, 1) for use in uses])
    windows = np.array([np.where(use.busy > 0, use.window, 0) for use in uses])
    rank = np.argsort(periods, axis=0, kind="stable")
    periods, windows = np.take_along_axis(periods, rank, 0), np.take_along_axis(windows, rank, 0)
    covered_per_period: list[Floats] = []

    def covered(until: Floats, n_uses: int) -> Floats:
        """Cycles before ``until`` covered by the first ``n_uses``; each period divides the next."""
        if n_uses == 0:
            return np.zeros_like(until)
        last = n_uses - 1
        whole, rest = np.divmod(until, periods[last])
        beyond = windows[last] + covered(rest, last) - covered(np.minimum(windows[last], rest), last)
        return np.asarray(whole * covered_per_period[last] + np.where(rest <= windows[last], rest, beyond))

    for place in range(len(uses)):
        within = covered(periods[place], place) - covered(windows[place], place)
        covered_per_period.append(windows[place] + within)
    return covered(np.full(periods.shape[1], steps), len(uses))


def filling_cycles(fills: Sequence[Fill], n: int) -> Floats:
    """Cycles before the first step: each operand is brought down level by level, both at once.

    On a port of both operands one waits for the other: the better of the two ways round.
    """
    rest: dict[Operand, Floats] = {}
    shared: dict[Operand, Floats] = {}
    for operand in ("weight", "input"):
        rest[operand], shared[operand] = np.zeros(n), np.zeros(n)
    for fill in fills:
        if fill.shared == 2:
            shared[fill.operand] = shared[fill.operand] + fill.cycles
        else:
            rest[fill.operand] = rest[fill.operand] + fill.cycles
    ways = []
    pair: tuple[tuple[Operand, Operand], ...] = (("weight", "input"), ("input", "weight"))
    for first, second in pair:
        ways.append(shared[first] + np.maximum(shared[second] + rest[second], rest[first]))
    return np.asarray(np.minimum(*ways))
