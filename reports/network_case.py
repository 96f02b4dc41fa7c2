"""What a network's page and tables are about: the result with all that explains it, and its operators in groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.gpu.launches.launch import TENSOR_KERNELS
from tilewright.sim.network_result import KernelRun, NetworkResult, OperatorResult
from tilewright.sim.network_why import NetworkWhyResult
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.stream.table import size_text

if TYPE_CHECKING:
    from tilewright.search.activity import NetworkActivity

__all__ = ["LIMITS", "RESOURCES", "NetworkCase", "OperatorGroup", "common_name"]

RESOURCES = {
    "matrix": "matrix unit",
    "vector": "vector unit",
    "dram": "DRAM",
    "weights": "weight memory",
    "fallback": "fallback processor",
    "l2": "L2",
    "launch": "kernel launch",
}
#: What a network's time can go to: resources, and the machine's fixed costs.
LIMITS = RESOURCES | {"fixed": "fixed costs"}
_MOST_ALTERNATIVES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorGroup:
    """Operators of a network that are the same but for their names and for what was loaded ahead.

    ``number`` counts groups from 1, most cycles first; ``formats`` are the number formats of the operands.
    """

    number: int
    members: tuple[OperatorResult, ...]
    size: str
    formats: str
    masked: bool
    dram_bytes_per_cycle: float
    weight_bytes_per_cycle: float = 0.0  # of a memory for weights beside the DRAM

    @property
    def first(self) -> OperatorResult:
        return self.members[0]

    @property
    def count(self) -> int:
        return len(self.members)

    @property
    def label(self) -> str:
        """The name that the members share, with ``*`` where they differ."""
        return common_name([member.name for member in self.members])

    @property
    def cycles(self) -> int:
        """Cycles of all members."""
        return sum(member.cycles for member in self.members)

    @property
    def bound_cycles(self) -> int:
        """Cycles that no schedule of the members, one after the other, can beat."""
        return sum(member.lower_bound.cycles for member in self.members)

    @property
    def bound_ratio(self) -> float:
        return self.cycles / max(1, self.bound_cycles)

    @property
    def lost_cycles(self) -> int:
        """Cycles above the bound."""
        return self.cycles - self.bound_cycles

    @property
    def macs(self) -> int:
        return sum(member.macs for member in self.members)

    @property
    def energy_pj(self) -> float:
        return sum(member.energy_pj for member in self.members)

    @property
    def dram_bytes(self) -> int:
        return sum(member.dram_bytes for member in self.members)

    @property
    def bound_by(self) -> str:
        return self.first.bound_by

    @property
    def matrix_utilization(self) -> float:
        return sum(m.matrix_utilization * m.cycles for m in self.members) / max(1, self.cycles)

    @property
    def vector_utilization(self) -> float:
        return sum(m.vector_utilization * m.cycles for m in self.members) / max(1, self.cycles)

    @property
    def dram_utilization(self) -> float:
        moved = sum(member.timed_dram_bytes for member in self.members)
        return moved / (self.dram_bytes_per_cycle * max(1, self.cycles))

    @property
    def busy(self) -> dict[str, float]:
        """How busy each resource is while the members run, from 0 to 1."""
        if self.first.lower_bound.fallback_cycles:  # it works alone, whatever bytes it moves
            return {"fallback": 1.0}
        busy = {"matrix": self.matrix_utilization, "vector": self.vector_utilization, "dram": self.dram_utilization}
        if self.weight_bytes_per_cycle:
            moved = sum(member.weight_memory_bytes for member in self.members)
            busy["weights"] = moved / (self.weight_bytes_per_cycle * max(1, self.cycles))
        return busy

    @property
    def limited_by(self) -> str:
        """The resource that is busiest while the members run; the bound may be set by another one."""
        if self.first.kernels:
            return _busiest(seconds_by_limit(self.members))
        return _busiest(self.busy)

    @property
    def intensity(self) -> float:
        """Multiply-adds per DRAM byte."""
        return self.macs / max(1, self.dram_bytes)

    @property
    def macs_per_cycle(self) -> float:
        return self.macs / max(1, self.cycles)

    @property
    def reason(self) -> str:
        """Why the members take longer than their bound, in a few words."""
        if self.first.kernels:
            return _kernels_text(self.members)
        if self.bound_ratio < 1.02:
            return f"at its bound: {RESOURCES[self.bound_by]}"
        bounds = [member.lower_bound for member in self.members]
        busy, name = self.busy, self.limited_by
        if busy[name] < 0.9:
            parts = ", ".join(f"{RESOURCES[r]} {share * 100:.0f} %" for r, share in busy.items() if share >= 0.005)
            return f"units wait for each other; busy: {parts}"
        head = f"{RESOURCES[name]} busy {busy[name] * 100:.0f} %"
        needed = sum(
            {
                "matrix": b.matrix_cycles,
                "vector": b.vector_cycles,
                "dram": b.dram_cycles,
                "weights": b.weight_memory_cycles,
            }[name]
            for b in bounds
        )
        share = needed / max(1.0, busy[name] * self.cycles)
        if name == "matrix":
            causes = "array edges, fill and drain" + (", masked tiles" if self.masked else "")
            return f"{head}, but {min(share, 1) * 100:.0f} % of the multiply-adds possible: {causes}"
        if name in ("dram", "weights"):
            return f"{head}, {1 / max(share, 1e-9):.2f}x the bytes that it must move"
        return f"{head}, {min(share, 1) * 100:.0f} % of it compulsory: start-up and lanes left idle"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "number": self.number,
            "operators": self.label,
            "count": self.count,
            "kind": self.first.kind,
            "size": self.size,
            "formats": self.formats,
            "cycles": self.cycles,
            "energy_pj": self.energy_pj,
            "dram_bytes": self.dram_bytes,
            "macs": self.macs,
            "limited_by": self.limited_by,
            "bound_by": self.bound_by,
            "bound_ratio": self.bound_ratio,
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class NetworkCase:
    """One network on one machine; ``command`` is the command line that makes the page again, ``why`` its what-ifs."""

    result: NetworkResult
    stream: OperatorStream
    machine: MachineSpec
    objective: str
    command: str = ""
    why: NetworkWhyResult | None = None

    @property
    def title(self) -> str:
        return f"{self.result.network} on {self.result.machine}"

    @cached_property
    def activity(self) -> NetworkActivity | None:
        """What the engines do over time; None for a result that came from another process."""
        from tilewright.search.activity import network_activity

        return network_activity(self.result.runs, self.machine) if self.result.runs else None

    @property
    def is_on_groups(self) -> bool:
        """Whether unlike groups of cores shared the operators, which then overlap."""
        return self.result.on_groups is not None

    @cached_property
    def dram_bytes_per_cycle(self) -> float:
        """What the DRAM can move in a cycle; operators load and store over one path (see the assumptions)."""
        return float(bytes_per_cycle(self.machine))

    @cached_property
    def weight_bytes_per_cycle(self) -> float:
        """What a memory for weights can move in a cycle; 0 where there is none beside the DRAM."""
        memory = self.machine.weights.memory
        return 0.0 if memory is None else memory.bandwidth_gb_per_s / self.machine.clock_ghz

    @cached_property
    def groups(self) -> tuple[OperatorGroup, ...]:
        """The operators in groups of identical ones, most cycles first."""
        found: dict[object, list[OperatorResult]] = {}
        for operator in self.result.operators:
            found.setdefault(self._signature(operator), []).append(operator)
        ordered = sorted(found.values(), key=lambda members: -sum(member.cycles for member in members))
        return tuple(
            OperatorGroup(
                number=number,
                members=tuple(members),
                size=size_text(self.operator(members[0])),
                formats=self.formats(members[0]),
                masked=self.operator(members[0]).text("mask") not in ("", "none"),
                dram_bytes_per_cycle=self.dram_bytes_per_cycle,
                weight_bytes_per_cycle=self.weight_bytes_per_cycle,
            )
            for number, members in enumerate(ordered, start=1)
        )

    def worst(self, n: int = 10) -> tuple[OperatorGroup, ...]:
        """The groups that lose most cycles against their bounds; none that loses nothing."""
        losing = [group for group in self.groups if group.lost_cycles > 0]
        return tuple(sorted(losing, key=lambda group: -group.lost_cycles)[:n])

    def best_help(self, group: OperatorGroup) -> tuple[str, int]:
        """The what-if that shortens ``group`` most, and the cycles that it then takes; no label where none does."""
        if self.why is None:
            return "", group.cycles
        at = {operator.name: row for row, operator in enumerate(self.result.operators)}
        rows = [at[member.name] for member in group.members]
        cycles = {item.label: sum(item.operator_cycles[row] for row in rows) for item in self.why.what_ifs}
        label = min(cycles, key=lambda name: cycles[name], default="")
        return (label, cycles[label]) if label and cycles[label] < group.cycles else ("", group.cycles)

    def operator(self, result: OperatorResult) -> Operator:
        """The operator of the stream that ``result`` is about (the first, where others are fused behind it)."""
        return self._operators[result.name]

    def formats(self, result: OperatorResult) -> str:
        """The number formats of the operands: ``fp16``, or ``int8 x int4`` when two differ."""
        operator = self.operator(result)
        operands = [name for name in operator.inputs if self.stream.tensor(name).role != "constant"]
        operands = operands[:2] if operator.of_kind.n_operands else operands[:1]
        return " x ".join(dict.fromkeys(self.stream.tensor(name).number_format for name in operands))

    def macs_by_formats(self) -> dict[str, int]:
        """Multiply-adds by the number formats of their operands, most first."""
        found: dict[str, int] = {}
        for group in self.groups:
            if group.macs:
                found[group.formats] = found.get(group.formats, 0) + group.macs
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def limited_by(self, operator: OperatorResult) -> str:
        """The resource that is busiest while ``operator`` runs."""
        if operator.kernels:
            return _busiest(seconds_by_limit([operator]))
        if operator.lower_bound.fallback_cycles:
            return "fallback"
        busy = {
            "matrix": operator.matrix_utilization,
            "vector": operator.vector_utilization,
            "dram": self._dram_utilization(operator),
        }
        if self.weight_bytes_per_cycle:
            moved = operator.weight_memory_bytes
            busy["weights"] = moved / (self.weight_bytes_per_cycle * max(1, operator.cycles))
        return _busiest(busy)

    def _dram_utilization(self, operator: OperatorResult) -> float:
        return operator.timed_dram_bytes / (self.dram_bytes_per_cycle * max(1, operator.cycles))

    def cycles_by_limit(self) -> dict[str, int]:
        """Cycles of the operators by the resource that is busiest while they run, and those of ``fixed`` costs."""
        found = dict.fromkeys(("matrix", "vector", "dram"), 0)
        if self.is_library:
            return self._kernel_cycles_by_limit()
        for operator in self.result.operators:
            limit = self.limited_by(operator)
            found[limit] = found.get(limit, 0) + operator.cycles
        fixed = self.result.overhead_cycles
        return found | ({"fixed": fixed} if fixed else {})

    @property
    def is_library(self) -> bool:
        """Whether library kernels of a GPU were timed, not schedules run on the engine."""
        return self.result.kernels in ("eager", "fused")

    def _kernel_cycles_by_limit(self) -> dict[str, int]:
        """Cycles by what binds each kernel; gaps between kernels count as launches."""
        seconds = seconds_by_limit(self.result.operators)
        gaps = self.result.seconds - sum(seconds.values())
        seconds["launch"] = seconds.get("launch", 0.0) + max(gaps, 0.0)
        hertz = self.machine.clock_ghz * 1e9
        return {name: round(n * hertz) for name, n in seconds.items()}

    @property
    def matrix_utilization(self) -> float:
        if self.is_on_groups:
            return self.result.matrix_utilization
        operators = self.result.operators
        return sum(o.matrix_utilization * o.cycles for o in operators) / max(1, self.result.cycles)

    @property
    def vector_utilization(self) -> float:
        if self.is_on_groups:
            return self.result.vector_utilization
        operators = self.result.operators
        return sum(o.vector_utilization * o.cycles for o in operators) / max(1, self.result.cycles)

    @property
    def dram_utilization(self) -> float:
        return self.result.dram_bytes / (self.dram_bytes_per_cycle * max(1, self.result.cycles))

    @property
    def array_use(self) -> float:
        """Multiply-adds over those that the matrix unit (of unlike groups that of the main one) could have done in the
        whole time.
        """
        main = self.machine.main if self.is_on_groups else ""
        own = (o.lower_bound.matrix_cycles for o in self.result.operators if o.core_group == main)
        return sum(own) / max(1, self.result.cycles)

    @property
    def bound_ratio(self) -> float:
        return self.result.cycles / max(1, self.result.lower_bound_cycles)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data with the sums by kind and by bound, and the groups."""
        result = self.result
        n_steps = result.n_steps
        return {
            **{key: value for key, value in result.to_dict().items() if key != "operators"},
            "objective": self.objective,
            "matrix_utilization": self.matrix_utilization,
            "vector_utilization": self.vector_utilization,
            "dram_utilization": self.dram_utilization,
            "all_steps": {
                "cycles": result.cycles * n_steps,
                "seconds": result.seconds * n_steps,
                "energy_pj": result.energy_pj * n_steps,
            },
            "by_kind": result.by_kind(),
            "macs_by_formats": self.macs_by_formats(),
            "cycles_by_limit": self.cycles_by_limit(),
            "groups": [group.to_dict() for group in self.groups],
            "operators": [operator.to_dict() | self._context(operator) for operator in result.operators],
        }

    def rows(self) -> list[dict[str, Any]]:
        """One flat row per operator, in order, with all that the tables show of it."""
        pairs = zip(self.result.rows(), self.result.operators, strict=True)
        return [row | self._context(operator) for row, operator in pairs]

    def _context(self, operator: OperatorResult) -> dict[str, Any]:
        """What the network and the machine add to an operator's own figures."""
        bound = operator.lower_bound
        return {
            "size": size_text(self.operator(operator)),
            "formats": self.formats(operator),
            "group": self._group_numbers[self._signature(operator)],
            "share": operator.cycles / max(1, self.result.cycles),
            "limited_by": self.limited_by(operator),
            "dram_bytes": operator.dram_bytes,
            "dram_utilization": self._dram_utilization(operator),
            "lower_bound_matrix_cycles": bound.matrix_cycles,
            "lower_bound_vector_cycles": bound.vector_cycles,
            "lower_bound_dram_cycles": bound.dram_cycles,
        }

    @cached_property
    def _group_numbers(self) -> dict[object, int]:
        return {self._signature(group.first): group.number for group in self.groups}

    @cached_property
    def _operators(self) -> dict[str, Operator]:
        """By name, with the copies of tensors that a plan writes out and brings back."""
        plan = self.result.residency
        copies = [] if plan is None else plan.copies
        names = [self.result.operators[copy.at].name for copy in copies]
        moved = {
            name: Operator(
                name=name, kind="reshape", inputs=(copy.name,), outputs=(name,), attributes={"function": copy.way}
            )
            for name, copy in zip(names, copies, strict=True)
        }
        return {operator.name: operator for operator in self.stream.operators} | moved

    def _signature(self, operator: OperatorResult) -> object:
        # The parts fused behind may differ in name, not in work: that is in the bound, but for what was brought early.
        bound = operator.lower_bound
        return (
            operator.kind,
            operator.core_group,
            operator.dataflow,
            tuple(operator.tiling.items()),
            operator.macs,
            operator.weight_bytes,
            (bound.matrix_cycles, bound.vector_cycles, operator.dram_bytes),
            self.formats(operator),
            tuple(kernel.kernel for kernel in operator.kernels),
        )


def seconds_by_limit(operators: Iterable[OperatorResult]) -> dict[str, float]:
    """Seconds of the library kernels of ``operators`` by what each is bound by, a resource of :data:`RESOURCES`."""
    found: dict[str, float] = {}
    for kernel in (kernel for operator in operators for kernel in operator.kernels):
        name = limit_of_kernel(kernel)
        found[name] = found.get(name, 0.0) + kernel.seconds
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def limit_of_kernel(kernel: KernelRun) -> str:
    """The resource that binds a library kernel."""
    if kernel.bound == "compute":
        return "matrix" if kernel.kernel in TENSOR_KERNELS else "vector"
    return kernel.bound


def _kernels_text(operators: Iterable[OperatorResult]) -> str:
    members = tuple(operators)
    parts = seconds_by_limit(members)
    total = sum(parts.values()) or 1.0
    shares = ", ".join(f"{RESOURCES[name]} {n / total * 100:.0f} %" for name, n in parts.items() if n / total >= 0.005)
    n_kernels = len(members[0].kernels)
    return f"{n_kernels} kernel{'s' if n_kernels > 1 else ''}: {shares}"


def _busiest(busy: Mapping[str, float]) -> str:
    return max(busy, key=lambda resource: busy[resource])


def common_name(names: Iterable[str]) -> str:
    """The name that ``names`` share: ``a.0.b`` to ``a.3.b`` are ``a.0-3.b``, ``a.x`` and ``a.y`` are ``a.{x,y}``.

    Where more than a few differ it says ``*``. Of names with different numbers of parts, those of the commonest number
    are shown, and dots for the others.
    """
    split = [name.split(".") for name in names]
    (n_parts, _), *others = Counter(map(len, split)).most_common()
    alike = [parts for parts in split if len(parts) == n_parts]
    shared = ".".join(_common_part([parts[at] for parts in alike]) for at in range(n_parts))
    return f"{shared}, ..." if others else shared


def _common_part(parts: list[str]) -> str:
    different = list(dict.fromkeys(parts))
    if len(different) == 1:
        return different[0]
    if all(part.isdecimal() for part in different):
        numbers = sorted(map(int, different))
        if numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"{numbers[0]}-{numbers[-1]}"
    return "*" if len(different) > _MOST_ALTERNATIVES else "{" + ",".join(different) + "}"
