"""Energy of a run on a system on a chip: what clusters draw by the number of elements at work, and leakage.

Active power is a table by the number of active elements, scaled from the operating point at which it was measured by
V^2 f. Leakage of an element is V (c1 T^2 exp(-c2 / T) + gate). While a job is in the system, only the elements that the
cluster's ``leaking_while_busy`` counts leak beside the table (what a table was measured with is in it already); while
none is, all do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tilewright.hw_models.soc.spec import ClusterSpec, LeakageSpec, PowerSpec, SocSpec
from tilewright.sim.soc.run import SocRun, TaskRun

__all__ = ["SocEnergy", "energy_of_run", "leakage_w"]

_KELVIN = 273.15
#: Ticks between the power samples of DS3, at which what runs is split (``like_ds3``).
_SAMPLE_TICKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SocEnergy:
    """Joules by cluster while elements work, and of leakage."""

    active_j: dict[str, float]
    leakage_j: float

    @property
    def total_j(self) -> float:
        """All of it."""
        return sum(self.active_j.values()) + self.leakage_j


def leakage_w(leakage: LeakageSpec, volts: float) -> float:
    """Watts that one element leaks at ``volts`` (source: :class:`LeakageSpec`)."""
    kelvin = leakage.ambient_c + _KELVIN
    return volts * (leakage.c1 * kelvin**2 * math.exp(-leakage.c2 / kelvin) + leakage.gate)


def energy_of_run(run: SocRun, *, like_ds3: bool = False) -> SocEnergy | None:
    """The energy of ``run``; None where no cluster gives its power.

    ``like_ds3``: each element draws its share of what the cluster draws by the elements at work when its task started,
    or at the last sample (every ten ticks), as the program does that published this model; else the exact integral.
    """
    soc = run.soc
    if soc.leakage is None:
        return None
    seconds = soc.tick_us * 1e-6
    active = {name: 0.0 for name, cluster in soc.clusters.items() if cluster.power}
    for name in active:
        power = soc.clusters[name].power
        assert power is not None
        spans = [each for each in run.tasks if soc.cluster_of[each.element] == name and each.finish > each.start]
        parts = _sampled(spans) if like_ds3 else _exact(spans)
        active[name] = seconds * sum(_active_w(power, n) / n * ticks for n, ticks in parts)
    idle = run.ticks - _busy_ticks(run)
    leaking = seconds * (_leaking_w(soc, busy=True) * (run.ticks - idle) + _leaking_w(soc, busy=False) * idle)
    return SocEnergy(active_j=active, leakage_j=leaking)


def _leaking_w(soc: SocSpec, *, busy: bool) -> float:
    assert soc.leakage is not None
    return sum(_cluster_leakage_w(soc.leakage, cluster, busy) for cluster in soc.clusters.values())


def _cluster_leakage_w(leakage: LeakageSpec, cluster: ClusterSpec, busy: bool) -> float:
    power = cluster.power
    if power is None:
        return 0.0
    n = cluster.count if not busy or power.leaking_while_busy is None else power.leaking_while_busy
    return n * power.leakage_share * leakage_w(leakage, power.points_mv[_clock(power)] / 1000)


def _clock(power: PowerSpec) -> int:
    return power.mhz or max(power.points_mv)


def _active_w(power: PowerSpec, n: int) -> float:
    """Watts of the cluster with ``n`` elements at work, at its clock."""
    table = power.active_w
    watts = table[min(n, len(table)) - 1] * max(1, n / len(table))
    at, measured = _clock(power), power.measured_mhz
    return watts * (power.points_mv[at] / power.points_mv[measured]) ** 2 * at / measured


def _exact(spans: Iterable[TaskRun]) -> Iterator[tuple[int, int]]:
    """(elements at work, ticks x elements) of each stretch in which their number stays."""
    turns: dict[int, int] = {}
    for each in spans:
        turns[each.start] = turns.get(each.start, 0) + 1
        turns[each.finish] = turns.get(each.finish, 0) - 1
    n, last = 0, 0
    for tick in sorted(turns):
        if n:
            yield n, n * (tick - last)
        n, last = n + turns[tick], tick


def _sampled(spans: Iterable[TaskRun]) -> Iterator[tuple[int, int]]:
    """(elements at work at its start, ticks) of each piece of a task between two samples."""
    turns: list[tuple[int, int, int, int]] = []  # tick, 1 if something begins, number, ticks (0: an end)
    for number, each in enumerate(spans):
        begin = each.start
        while begin < each.finish:
            end = min(each.finish, (begin // _SAMPLE_TICKS + 1) * _SAMPLE_TICKS)
            turns.append((begin, 1, number, end - begin if begin > each.start else begin - end))
            begin = end
        turns.append((each.finish, 0, number, 0))
    n = 0
    for _, begins, _, ticks in sorted(turns):
        if not begins:
            n -= 1
            continue
        n += ticks < 0  # a task's first piece is negative
        yield n, abs(ticks)


def _busy_ticks(run: SocRun) -> int:
    """Ticks with at least one job between its arrival and its end."""
    busy, until = 0, 0
    for job, finish in zip(run.jobs, run.finishes, strict=True):
        busy += max(0, finish - max(until, job.arrival))
        until = max(until, finish)
    return busy
