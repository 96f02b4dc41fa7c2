"""A system on a chip as frozen values: the one definition of every field of its file.

Times are counted in whole ticks of ``tick_us`` microseconds. What a task takes on an element is a figure of a table,
or what one of our machines takes for it (``machine``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, MinLen

from tilewright.errors import unknown

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = ["ClusterSpec", "LeakageSpec", "PathSpec", "PowerSpec", "SocSpec"]

#: As ``tilewright.document.STRICT_FIELDS``, which this module need not load.
_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSpec:
    """What a cluster draws.

    ``active_w``: watts of the whole cluster with 1, 2, ... elements at work, as measured at ``measured_mhz``.
    ``points_mv``: its operating points, clock in MHz to supply in mV. ``mhz``: the clock that it has; 0: the highest.
    ``leakage_share``: this part of the SoC's leakage figure counts for one element. ``leaking_while_busy``: how many
    elements leak beside what ``active_w`` holds while a job is in the system; none given: all of them.
    """

    __pydantic_config__ = _STRICT

    active_w: Annotated[tuple[Annotated[float, Ge(0)], ...], MinLen(1)]
    measured_mhz: Annotated[int, Gt(0)]
    points_mv: Annotated[dict[int, Annotated[int, Gt(0)]], MinLen(1)]
    mhz: Annotated[int, Ge(0)] = 0
    leakage_share: Annotated[float, Ge(0)] = 1.0
    leaking_while_busy: Annotated[int, Ge(0)] | None = None

    def __post_init__(self) -> None:
        for name in ("measured_mhz", "mhz"):
            given = getattr(self, name)
            if given and given not in self.points_mv:
                raise ValueError(
                    f"{name}: not one of its operating points; given {given}; allowed "
                    f"{', '.join(map(str, sorted(self.points_mv)))}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """``count`` equal processing elements.

    ``latency``: ticks of each task that they can run, at the highest operating point. ``machine``: the name or path of
    one of our machines, which says what parts of networks take. ``power``: what they draw.
    """

    __pydantic_config__ = _STRICT

    count: Annotated[int, Ge(1)] = 1
    latency: dict[str, Annotated[int, Ge(0)]] = field(default_factory=dict)
    machine: str = ""
    power: PowerSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSpec:
    """``volume_per_tick`` from an element of one cluster to one of the other, and back (``clusters``: both names)."""

    __pydantic_config__ = _STRICT

    clusters: tuple[str, str]
    volume_per_tick: Annotated[float, Gt(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakageSpec:
    """Leakage of one element: V (c1 T^2 exp(-c2 / T) + gate), V in volts, T in kelvin.

    The usual split into subthreshold and gate leakage; the constants are a chip's. ``ambient_c``: its temperature.
    """

    __pydantic_config__ = _STRICT

    c1: Annotated[float, Ge(0)]
    c2: Annotated[float, Ge(0)]
    gate: Annotated[float, Ge(0)]
    ambient_c: float


@dataclass(frozen=True, kw_only=True)
class SocSpec:
    """A system on a chip.

    ``clusters`` by name, in the order in which elements are numbered from 0. ``volume_per_tick`` between elements that
    no path of ``paths`` names; ``same_element`` from an element to itself. ``source``: where the figures come from.
    """

    __pydantic_config__ = _STRICT

    name: str
    source: str
    clusters: Annotated[dict[str, ClusterSpec], MinLen(1)]
    paths: tuple[PathSpec, ...] = ()
    volume_per_tick: Annotated[float, Gt(0)] = 1.0
    same_element: Annotated[float, Gt(0)] = 10_000.0
    tick_us: Annotated[float, Gt(0)] = 1.0
    leakage: LeakageSpec | None = None

    def __post_init__(self) -> None:
        for at, path in enumerate(self.paths):
            for name in path.clusters:
                if name not in self.clusters:
                    raise ValueError(f"paths.{at}.clusters: {unknown('cluster', name, self.clusters)}")
        if self.leakage is None and any(cluster.power for cluster in self.clusters.values()):
            raise ValueError("leakage: missing; needed for the energy of clusters that give their power")

    @cached_property
    def cluster_of(self) -> tuple[str, ...]:
        """The cluster of each element, by the element's number."""
        return tuple(name for name, cluster in self.clusters.items() for _ in range(cluster.count))

    @cached_property
    def n_elements(self) -> int:
        """How many processing elements there are."""
        return len(self.cluster_of)

    def latency(self, cluster: str, task: str) -> int | None:
        """Ticks of ``task`` on an element of ``cluster`` at its clock; None where it cannot run.

        Tables are of the highest clock; at a lower one a task takes the more ticks, rounded up.
        """
        spec = self.clusters[cluster]
        ticks = spec.latency.get(task)
        if ticks is None or spec.power is None or not spec.power.mhz:
            return ticks
        return -(-ticks * max(spec.power.points_mv) // spec.power.mhz)

    def candidates(self, task: str) -> tuple[tuple[int, int], ...]:
        """(element, ticks) of every element that can run ``task``. Raises InputError where none can."""
        by_cluster = {name: self.latency(name, task) for name in self.clusters}
        found = tuple(
            (element, ticks) for element, name in enumerate(self.cluster_of) if (ticks := by_cluster[name]) is not None
        )
        if not found:
            known = {each for spec in self.clusters.values() for each in spec.latency}
            raise unknown("task", task, sorted(known), place=self.name)
        return found

    @cached_property
    def _rates(self) -> dict[tuple[str, str], float]:
        rates = {}
        for path in self.paths:
            one, other = path.clusters
            rates[one, other] = rates[other, one] = path.volume_per_tick
        return rates

    def moving_ticks(self, volume: float, source: int, target: int) -> int:
        """Whole ticks, rounded down, that ``volume`` takes from element ``source`` to ``target``."""
        if source == target:
            return int(volume / self.same_element)
        ends = (self.cluster_of[source], self.cluster_of[target])
        return int(volume / self._rates.get(ends, self.volume_per_tick))
