"""A network on a machine whose memory computes: what runs where, and how much that gains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

from tilewright.errors import InputError
from tilewright.hw_models.energy import Counters, energy_by_component
from tilewright.hw_models.pim import PimSpec, load_pim
from tilewright.hw_models.spec import MachineSpec
from tilewright.presented import Shown
from tilewright.progress import Progress
from tilewright.search.api import simulate_network
from tilewright.search.network import BANKS_IDLE
from tilewright.search.pim.place import Placement, best_overlapping, best_sequence
from tilewright.sim.jobs import jobs_on
from tilewright.sim.network_result import NetworkResult
from tilewright.sim.pim.operators import BANK_ASSUMPTIONS, BankWork, bank_work
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["PimOperator", "PimPlan", "memory_of", "plan_network"]

_PICO = 1e12
_CYCLES = 10**6  # of what runs all the time


@dataclass(frozen=True, slots=True, kw_only=True)
class PimOperator:
    """An operator (with what is fused behind it): ``host_seconds`` on the chip, ``banks`` what it takes in the banks
    (None, with the ``reason``: they cannot do it), and whether it runs ``in_banks``. ``host_energy_pj`` is without what
    runs all the time.
    """

    name: str
    kind: str
    host_seconds: float
    host_energy_pj: float
    banks: BankWork | None
    reason: str
    in_banks: bool

    @property
    def seconds(self) -> float:
        """Where it runs."""
        return self.banks.seconds if self.in_banks and self.banks is not None else self.host_seconds

    @property
    def energy_pj(self) -> float | None:
        """Where it runs, without what runs all the time; None: not known."""
        return self.banks.energy_pj if self.in_banks and self.banks is not None else self.host_energy_pj

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        banks = self.banks
        return {
            "name": self.name,
            "kind": self.kind,
            "place": "banks" if self.in_banks else "host",
            "seconds": self.seconds,
            "host_seconds": self.host_seconds,
            "bank_seconds": None if banks is None else banks.seconds,
            "of_which_host_seconds": None if banks is None else banks.host_seconds,
            "energy_pj": self.energy_pj,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PimPlan(Shown):
    """The best assignment of a network's operators to a chip and the banks of its memory, by ``objective``.

    ``host``: everything on the chip. ``seconds``: with the banks; where the plan is the chip alone, the same.
    ``least_seconds``: what no assignment beats, with these times of operators. ``fixed_seconds``: costs beside
    operators, which are in both. ``energy_pj``: of the plan (None: the memory's file says nothing of energy).
    """

    network: str
    machine: str
    memory: str
    meanwhile: Literal["wait", "own_memory"]
    objective: Literal["latency", "energy"]
    operators: tuple[PimOperator, ...]
    seconds: float
    least_seconds: float
    fixed_seconds: float
    energy_pj: float | None
    host: NetworkResult
    assumptions: tuple[str, ...]

    @property
    def host_seconds(self) -> float:
        """Everything on the chip, with weights brought ahead."""
        return self.host.seconds

    @property
    def speedup(self) -> float:
        """The chip alone over the plan."""
        return self.host_seconds / self.seconds

    @property
    def is_proven(self) -> bool:
        """Whether no assignment is better."""
        return self.seconds <= self.least_seconds * (1 + 1e-9)

    def n_in_banks(self, kind: str) -> tuple[int, int]:
        """Operators of ``kind`` in the banks, and all of that kind."""
        own = [one for one in self.operators if one.kind == kind]
        return sum(one.in_banks for one in own), len(own)

    @property
    def products_pay(self) -> bool:
        """Whether a product with weights runs in the banks."""
        return any(one.in_banks and one.kind == "gemm" for one in self.operators)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "network": self.network,
            "machine": self.machine,
            "memory": self.memory,
            "meanwhile": self.meanwhile,
            "objective": self.objective,
            "seconds": self.seconds,
            "host_seconds": self.host_seconds,
            "speedup": self.speedup,
            "energy_pj": self.energy_pj,
            "host_energy_pj": self.host.energy_pj,
            "least_seconds": self.least_seconds,
            "proven": self.is_proven,
            "fixed_seconds": self.fixed_seconds,
            "operators": [one.to_dict() for one in self.operators],
            "assumptions": list(self.assumptions),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One flat row an operator, in order."""
        return [one.to_dict() for one in self.operators]


def memory_of(machine: MachineSpec) -> PimSpec:
    """The memory that computes behind ``machine``; raises InputError where it has none."""
    if machine.pim is None:
        raise InputError(
            f"{machine.name}: its memory does not compute (no pim); allowed a machine with one, such as "
            "npu-with-lpddr5x-pim"
        )
    pim = load_pim(machine.pim)
    if pim.commander.kind != "machine":
        raise InputError(
            f"{machine.name}: pim: the host of {pim.name} is of kind {pim.commander.kind}, not the chip of a machine; "
            'allowed a memory whose host is of kind "machine"'
        )
    return pim


def plan_network(
    network: OperatorStream | str,
    machine: MachineSpec,
    *,
    weights: str | None = None,
    activations: str | None = None,
    kv_cache: str | None = None,
    objective: Literal["latency", "energy"] = "latency",
    fuse: bool = True,
    keep_mappings: bool = True,
    progress: Progress | None = None,
    simulate: Callable[..., NetworkResult] = simulate_network,
) -> PimPlan:
    """The best plan of ``network`` on ``machine`` and the banks of its memory; raises InputError.

    The chip's operators are simulated one by one, each at its best mapping, without weights brought ahead; the chip
    alone with them. The plan is the chip alone where nothing else is better.
    ``objective``: the time is made small, or the energy.
    """
    pim = memory_of(machine)
    if objective == "energy" and pim.commander.meanwhile != "wait":
        raise InputError(
            f"objective: given energy; {pim.name}'s host works on while the banks compute, and what runs all the time "
            "is then shared; allowed latency"
        )
    formats = {"weights": weights, "activations": activations, "kv_cache": kv_cache}
    settings = {"objective": objective, "fuse": fuse, "keep_mappings": keep_mappings, **formats}
    host = simulate(network, machine, progress=progress, **settings)
    alone = simulate(network, machine, prefetch=False, residency=False, progress=progress, **settings)
    stream = alone.stream
    assert stream is not None
    jobs = jobs_on(stream, machine, fuse=fuse)
    works = [bank_work(job.layer, pim, machine) for job in jobs]
    always = sum(energy_by_component(machine, Counters(), _CYCLES).values()) / _CYCLES * machine.clock_ghz * 1e9
    operators = [
        PimOperator(
            name=one.name,
            kind=job.kind,
            host_seconds=one.seconds,
            host_energy_pj=one.energy_pj - always * one.seconds,
            banks=None if isinstance(work, str) else work,
            reason=work if isinstance(work, str) else "",
            in_banks=False,
        )
        for one, job, work in zip(alone.operators, jobs, works, strict=True)
    ]
    names = [[one.name for one in job.operators] for job in jobs]
    placed = _placed(operators, pim, objective, always, lambda: _before(stream, names))
    operators = [replace(one, in_banks=there) for one, there in zip(operators, placed.in_banks, strict=True)]
    fixed = machine.seconds(alone.overhead_cycles)
    switches = sum(a != b for a, b in pairwise([False, *placed.in_banks, False]))
    seconds = fixed + sum(one.seconds for one in operators) + switches * pim.commander.switch_ns * 1e-9
    least = seconds
    if pim.commander.meanwhile != "wait":
        seconds, least = fixed + placed.picoseconds / _PICO, fixed + placed.least / _PICO
    energies = [one.energy_pj for one in operators]
    energy = None if None in energies else sum(one or 0.0 for one in energies) + always * seconds
    is_alone = host.seconds <= seconds if objective == "latency" else energy is None or host.energy_pj <= energy
    if is_alone:  # weights brought ahead are worth more than the banks
        operators = [replace(one, in_banks=False) for one in operators]
        seconds, energy = host.seconds, host.energy_pj
        least = seconds if placed.is_proven else min(seconds, least)
    return PimPlan(
        network=host.network,
        machine=machine.name,
        memory=pim.name,
        meanwhile=pim.commander.meanwhile,
        objective=objective,
        operators=tuple(operators),
        seconds=seconds,
        least_seconds=least,
        fixed_seconds=fixed,
        energy_pj=energy,
        host=host,
        assumptions=(*BANK_ASSUMPTIONS, *pim.assumptions, *(one for one in host.assumptions if one != BANKS_IDLE)),
    )


def _placed(
    operators: Sequence[PimOperator],
    pim: PimSpec,
    objective: str,
    always: float,
    before: Callable[[], list[list[int]]],
) -> Placement:
    """The best assignment; ``always``: picojoules a second that run all the time."""
    if objective == "energy":
        costs = [
            (round(one.host_energy_pj + always * one.host_seconds), _energy_in_banks(one, always)) for one in operators
        ]
        return best_sequence(costs, round(pim.commander.switch_ns * 1e-9 * always))
    times = [
        (round(one.host_seconds * _PICO), None if one.banks is None else round(one.banks.seconds * _PICO))
        for one in operators
    ]
    if pim.commander.meanwhile == "wait":
        return best_sequence(times, round(pim.commander.switch_ns * 1000))
    return best_overlapping(times, before())


def _energy_in_banks(one: PimOperator, always: float) -> int | None:
    if one.banks is None or one.banks.energy_pj is None:
        return None
    return round(one.banks.energy_pj + always * one.banks.seconds)


def _before(stream: OperatorStream, names: Sequence[Sequence[str]]) -> list[list[int]]:
    """Of each job, the jobs that make what it reads."""
    job_of = {name: at for at, members in enumerate(names) for name in members}
    of_name = {operator.name: operator for operator in stream.operators}
    return [
        sorted(
            {
                job_of[maker.name]
                for name in members
                for maker in stream.predecessors(of_name[name])
                if maker.name in job_of
            }
            - {at}
        )
        for at, members in enumerate(names)
    ]
