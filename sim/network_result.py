"""What the simulation of a whole network tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tilewright.presented import Pictured, Shown
from tilewright.sim.figures import Figures, Measured
from tilewright.sim.groups_result import OnGroups
from tilewright.sim.residency_plan import ResidencyPlan
from tilewright.sim.result import LowerBound

if TYPE_CHECKING:
    import pandas as pd

    from tilewright.hw_models.spec import MachineSpec
    from tilewright.sim.engine.program import Program
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["HOST_KIND", "OVERHEAD_KINDS", "KernelRun", "NetworkResult", "OperatorResult", "OperatorRun"]

#: What fixed costs are called beside the kinds of operators.
OVERHEAD_KINDS = ("fixed, per layer", "fixed, per inference")
HOST_KIND = "host link"


class KernelRun(NamedTuple):
    """A library kernel of an operator on a GPU: its class and family, its time, and what that goes to.

    ``bound``: ``launch``, ``compute``, ``dram`` or ``l2``; ``dram_bytes`` cross the DRAM's bus.
    """

    kernel: str
    family: str
    seconds: float
    bound: str
    dram_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return dict(self._asdict())


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OperatorResult(Measured, Shown):
    """One operator (with what is fused behind it) as it ran in the network.

    What was loaded of its weights while the operator before ran is booked here, with the user of the weights: the
    bytes and their energy (``early_weight_bytes`` of ``dram_read_bytes``), and the cycles by which they made that
    operator longer (``early_weight_cycles`` of ``cycles``). ``hidden_weight_bytes`` of them crossed the bus in time
    that the operator before needed anyway: no cycles are booked for these, so ``lower_bound`` leaves them out of what
    the DRAM must do in this operator's own time. ``kernels``: those that a library runs for it on a GPU (empty: it ran
    on the engine). On unlike groups of cores: the ``core_group`` that did it, and the ``start_cycle`` at which it
    began, of the network's run; ``cycles`` is then all its time until its end, the waiting for a DRAM that others use
    among it.
    """

    name: str
    path: str
    kind: str
    fused: tuple[str, ...]
    dataflow: str
    tiling: Mapping[str, int]
    figures: Figures
    macs: int
    weight_bytes: int
    lower_bound: LowerBound
    early_weight_bytes: int = 0
    early_weight_cycles: int = 0
    hidden_weight_bytes: int = 0
    kernels: tuple[KernelRun, ...] = ()
    core_group: str = ""
    start_cycle: int | None = None

    @property
    def timed_dram_bytes(self) -> int:
        """Bytes that cross the bus in the cycles that are booked here."""
        return self.dram_bytes - self.hidden_weight_bytes

    @property
    def bound_by(self) -> str:
        """The resource whose compulsory work is largest: ``matrix``, ``vector`` or ``dram``."""
        return self.lower_bound.limited_by

    @property
    def bound_ratio(self) -> float:
        """Cycles over the bound that no schedule can beat with these weights brought early."""
        return self.cycles / max(1, self.lower_bound.cycles)

    @property
    def is_command(self) -> bool:
        """Whether it is a command to the device: what a processor beside the cores does is none."""
        return self.dataflow != "fallback"

    @property
    def intensity(self) -> float:
        """Multiply-adds per DRAM byte (the roofline's x axis)."""
        return self.macs / max(1, self.dram_bytes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "name": self.name,
            "path": self.path,
            "kind": self.kind,
            **({"core_group": self.core_group, "start_cycle": self.start_cycle} if self.core_group else {}),
            "fused": list(self.fused),
            "dataflow": self.dataflow,
            "tiling": dict(self.tiling),
            "cycles": self.cycles,
            "macs": self.macs,
            "energy_pj": self.energy_pj,
            "energy_by_component": dict(self.energy_by_component),
            "dram_read_bytes": self.dram_read_bytes,
            "dram_write_bytes": self.dram_write_bytes,
            **({"weight_memory_bytes": self.weight_memory_bytes} if self.weight_memory_bytes else {}),
            "weight_bytes": self.weight_bytes,
            "early_weight_bytes": self.early_weight_bytes,
            "early_weight_cycles": self.early_weight_cycles,
            "hidden_weight_bytes": self.hidden_weight_bytes,
            "matrix_utilization": self.matrix_utilization,
            "vector_utilization": self.vector_utilization,
            "lower_bound_cycles": self.lower_bound.cycles,
            "bound_by": self.bound_by,
            "bound_ratio": self.bound_ratio,
            **({"kernels": [kernel.to_dict() for kernel in self.kernels]} if self.kernels else {}),
        }


class OperatorRun(NamedTuple):
    """One operator as it ran in the network; ``programs`` builds what it ran, phases one after the other.

    Its cycles may differ from those booked with the operator, which have the loads of its own weights, wherever they
    were made, and not those for the next one.
    """

    cycles: int
    programs: Callable[[], list[Program]]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NetworkResult(Measured, Pictured):
    """A network on a machine: totals of one run of the stream, and every operator in order.

    ``n_steps``: how often the whole stream is run (steps of a diffusion model); totals are for one. ``stream`` and
    ``machine_spec`` are what was run, ``objective`` what its mappings make small; ``runs`` are the operators as they
    ran (see :mod:`tilewright.search.activity`).
    ``inference_overhead_cycles`` (once) and ``layer_overhead_cycles`` (before each command to the device) are the
    machine's fixed costs, ``host_cycles`` the time of inputs and results on the link to a host; ``cycles`` has them,
    the operators have not. ``overhead_energy_pj``: constant power then. ``residency``: which tensors stay on chip
    (None: no plan).
    ``kernels``: on a GPU what was run (``eager`` or ``fused`` library kernels, or the ``engine``'s schedules),
    ``launch`` how library kernels were launched. ``on_groups``: on unlike groups of cores, what each did (None: there
    is one group); operators then overlap, ``bound_cycles`` is the longest way through their bounds, and ``runs`` is
    empty.
    """

    network: str
    machine: str
    operators: tuple[OperatorResult, ...]
    figures: Figures
    macs: int
    weight_bytes: int
    n_steps: int
    n_distinct: int
    prefetch: bool
    cycles_without_prefetch: int
    assumptions: tuple[str, ...]
    objective: str = "latency"
    inference_overhead_cycles: int = 0
    layer_overhead_cycles: int = 0
    host_cycles: int = 0
    overhead_energy_pj: float = 0.0
    residency: ResidencyPlan | None = None
    kernels: str = ""
    launch: str = ""
    on_groups: OnGroups | None = None
    bound_cycles: int | None = None
    stream: OperatorStream | None = field(default=None, compare=False)
    machine_spec: MachineSpec | None = field(default=None, compare=False)
    runs: tuple[OperatorRun, ...] = field(default=(), compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies for other processes leave out ``runs``, which hold functions."""
        return partial(NetworkResult, **{f.name: getattr(self, f.name) for f in fields(self) if f.name != "runs"}), ()

    @property
    def n_commands(self) -> int:
        """Operators that are commands to the device."""
        return sum(operator.is_command for operator in self.operators)

    @property
    def overhead_cycles(self) -> int:
        """All fixed costs: once for the inference, once for each operator that is a command to the device, and the link
        to a host. On unlike groups of cores without those of commands, which overlap.
        """
        once = self.inference_overhead_cycles + self.host_cycles
        return once if self.on_groups is not None else once + self.layer_overhead_cycles * self.n_commands

    @property
    def lower_bound_cycles(self) -> int:
        """Fixed costs and the operators' bounds: what no schedule of operators one after the other can beat that brings
        the same weights early. On unlike groups of cores the longest way through them.
        """
        if self.bound_cycles is not None:
            return self.bound_cycles
        return self.overhead_cycles + sum(operator.lower_bound.cycles for operator in self.operators)

    def by_kind(self) -> dict[str, dict[str, float]]:
        """Cycles, energy and DRAM bytes by kind of operator, fixed costs as kinds of their own; most cycles first."""
        found: dict[str, dict[str, float]] = {}
        for operator in self.operators:
            row = found.setdefault(operator.kind, {"n": 0, "cycles": 0, "energy_pj": 0.0, "dram_bytes": 0})
            row["n"] += 1
            row["cycles"] += operator.cycles
            row["energy_pj"] += operator.energy_pj
            row["dram_bytes"] += operator.dram_bytes
        for kind, n, each in (
            (OVERHEAD_KINDS[0], self.n_commands, 0 if self.on_groups is not None else self.layer_overhead_cycles),
            (OVERHEAD_KINDS[1], 1, self.inference_overhead_cycles),
            (HOST_KIND, 1, self.host_cycles),
        ):
            if each:
                share = n * each / self.overhead_cycles
                energy = self.overhead_energy_pj * share
                found[kind] = {"n": n, "cycles": n * each, "energy_pj": energy, "dram_bytes": 0}
        return dict(sorted(found.items(), key=lambda item: -item[1]["cycles"]))

    def worst(self, n: int = 10) -> tuple[OperatorResult, ...]:
        """The operators that lose most cycles against their bounds."""
        return tuple(sorted(self.operators, key=lambda o: o.lower_bound.cycles - o.cycles)[:n])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "network": self.network,
            "machine": self.machine,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "energy_pj": self.energy_pj,
            "energy_by_component": dict(self.energy_by_component),
            "dram_read_bytes": self.dram_read_bytes,
            "dram_write_bytes": self.dram_write_bytes,
            **({"weight_memory_bytes": self.weight_memory_bytes} if self.weight_memory_bytes else {}),
            "macs": self.macs,
            "weight_bytes": self.weight_bytes,
            "n_steps": self.n_steps,
            "n_operators": len(self.operators),
            "n_distinct": self.n_distinct,
            "prefetch": self.prefetch,
            "cycles_without_prefetch": self.cycles_without_prefetch,
            "inference_overhead_cycles": self.inference_overhead_cycles,
            "layer_overhead_cycles": self.layer_overhead_cycles,
            **({"host_cycles": self.host_cycles} if self.host_cycles else {}),
            "overhead_energy_pj": self.overhead_energy_pj,
            "lower_bound_cycles": self.lower_bound_cycles,
            **({"residency": self.residency.to_dict()} if self.residency is not None else {}),
            **({"on_groups": self.on_groups.to_dict()} if self.on_groups is not None else {}),
            **({"kernels": self.kernels} if self.kernels else {}),
            **({"launch": self.launch} if self.launch else {}),
            "assumptions": list(self.assumptions),
            "operators": [operator.to_dict() for operator in self.operators],
        }

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per operator, in order: what a table or a CSV file holds."""
        rows = []
        for operator in self.operators:
            row = operator.to_dict()
            tiling, energy = row.pop("tiling"), row.pop("energy_by_component")
            kernels = row.pop("kernels", None)
            row["fused"] = " ".join(operator.fused)
            row.update({f"energy_{name}_pj": part for name, part in energy.items()})
            row["tiling"] = " ".join(f"{name}={value}" for name, value in tiling.items())
            if kernels is not None:
                row["n_kernels"] = len(kernels)
                row["kernels"] = " ".join(dict.fromkeys(kernel["kernel"] for kernel in kernels))
                row["seconds"] = operator.seconds
            rows.append(row)
        return rows

    def to_frame(self) -> pd.DataFrame:
        """:meth:`rows` as a data frame."""
        import pandas as pd

        return pd.DataFrame(self.rows())
