"""The choice of formats as a problem of whole numbers: decisions, their options, what each adds to every cost.

Costs are integers, so that a budget is kept exactly: bits of weights (``size``), bit operations (``bops``:
multiply-adds x bits of the weight x bits of the activation), cycles (``latency``), femtojoules (``energy``), bytes
(``dram``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import chain
from typing import NamedTuple, TypeAlias

from tilewright.errors import InputError, unknown
from tilewright.formats import bits_per_element
from tilewright.search.bits.cost_kinds import COSTS
from tilewright.search.bits.sensitivity import LayerSensitivity, OptionSensitivity, Sensitivity
from tilewright.workloads.stream.tensor_formats import element_bits, mean_bits

__all__ = ["Assignment", "BitProblem", "CostKind", "Decision", "Option", "problem_of"]

CostKind: TypeAlias = str
Assignment: TypeAlias = tuple[int, ...]  # the option of each decision, by place


class _Key(NamedTuple):
    weights: str
    activations: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to store and multiply the layers of a decision; ``sensitivity`` and ``costs`` are sums over them."""

    weights: str
    activations: str
    method: str = ""
    sensitivity: float
    costs: Mapping[CostKind, int]

    @property
    def label(self) -> str:
        """``int4/int8``, with the method behind it where there is one."""
        return "/".join(part for part in (self.weights, self.activations, self.method) if part)

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.weights, self.activations, self.method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Layers that take the same option, and the options, the widest first."""

    layers: tuple[str, ...]
    options: tuple[Option, ...]

    @property
    def name(self) -> str:
        return " + ".join(self.layers)


@dataclass(frozen=True, kw_only=True)
class BitProblem:
    """Decisions, and what the rest of the network costs whatever is chosen (``constants``)."""

    decisions: tuple[Decision, ...]
    constants: Mapping[CostKind, int] = field(default_factory=dict)

    @cached_property
    def kinds(self) -> tuple[CostKind, ...]:
        """The costs that every option has, in the order of :data:`~tilewright.search.bits.cost_kinds.COSTS`."""
        options = list(chain.from_iterable(decision.options for decision in self.decisions))
        return tuple(kind for kind in COSTS.names() if all(kind in option.costs for option in options))

    @property
    def reference(self) -> Assignment:
        """Every decision at its widest option."""
        return (0,) * len(self.decisions)

    @property
    def n_assignments(self) -> int:
        """How many there are."""
        count = 1
        for decision in self.decisions:
            count *= len(decision.options)
        return count

    def chosen(self, assignment: Assignment) -> tuple[Option, ...]:
        """The option of each decision."""
        return tuple(d.options[at] for d, at in zip(self.decisions, assignment, strict=True))

    def sensitivity(self, assignment: Assignment) -> float:
        """Sum of the sensitivities."""
        return sum(option.sensitivity for option in self.chosen(assignment))

    def cost(self, kind: CostKind, assignment: Assignment) -> int:
        """The cost of the network; raises InputError for a cost that this problem does not know."""
        self.check_kind(kind)
        return self.constants.get(kind, 0) + sum(option.costs[kind] for option in self.chosen(assignment))

    def costs(self, assignment: Assignment) -> dict[CostKind, int]:
        """Every cost of the network."""
        return {kind: self.cost(kind, assignment) for kind in self.kinds}

    def least(self, kind: CostKind) -> int:
        """The least that any assignment costs."""
        self.check_kind(kind)
        return self.constants.get(kind, 0) + sum(min(o.costs[kind] for o in d.options) for d in self.decisions)

    def check_kind(self, kind: CostKind) -> None:
        """Raise InputError for a cost that this problem does not know, with what would make it known."""
        if kind in self.kinds:
            return
        if kind in COSTS.names():
            raise InputError(
                f"budget: {kind}: comes from the simulator; allowed without a network and a machine: "
                f"{', '.join(self.kinds)}"
            )
        raise unknown("cost", kind, COSTS.names(), place="budget")

    def by_layer(self, assignment: Assignment) -> dict[str, Option]:
        """The option of each layer (sensitivity and costs are those of its decision)."""
        pairs = zip(self.decisions, self.chosen(assignment), strict=True)
        return {layer: option for decision, option in pairs for layer in decision.layers}

    def uniform(self, weights: str, activations: str, method: str = "") -> Assignment:
        """Every decision at that option, or at its widest where it does not have it."""
        wanted = (weights, activations, method)
        return tuple(
            next((at for at, option in enumerate(d.options) if option.key == wanted), 0) for d in self.decisions
        )

    def option_keys(self) -> tuple[tuple[str, str, str], ...]:
        """The distinct options of all decisions, the widest first as they stand there."""
        return tuple(dict.fromkeys(option.key for decision in self.decisions for option in decision.options))


CostsOf: TypeAlias = Callable[[LayerSensitivity, OptionSensitivity], Mapping[CostKind, int]]


def problem_of(
    sensitivity: Sensitivity,
    costs_of: CostsOf | None = None,
    constants: Mapping[CostKind, int] | None = None,
) -> BitProblem:
    """The problem that a table of sensitivities describes; tied layers are one decision, pinned ones have one option.

    ``costs_of`` gives further costs of a layer's option (see ``costs.py``). Raises InputError where tied layers have
    no option in common or are pinned to different ones.
    """
    together = {name: group for group in sensitivity.tied for name in group}
    decisions, done = [], set[str]()
    for layer in sensitivity.layers:
        if layer.name in done:
            continue
        names = together.get(layer.name, (layer.name,))
        done.update(names)
        decisions.append(_decision(sensitivity, [sensitivity.layer(name) for name in names], costs_of))
    return BitProblem(decisions=tuple(decisions), constants=dict(constants or {}))


def _decision(sensitivity: Sensitivity, layers: Sequence[LayerSensitivity], costs_of: CostsOf | None) -> Decision:
    tables = [{option.key: option for option in layer.options} for layer in layers]
    keys = [key for key in tables[0] if all(key in table for table in tables)]
    names = tuple(layer.name for layer in layers)
    if not keys:
        raise InputError(f"{sensitivity.network}: tied: {', '.join(names)} have no option in common")
    pins = {sensitivity.pinned[name].key for name in names if name in sensitivity.pinned}
    keys = [key for key in keys if not pins or pins == {key}]
    if not keys:
        raise InputError(f"{sensitivity.network}: pinned: {', '.join(names)} are tied and pinned to different options")
    options = []
    for key in keys:
        members = [(layer, table[key]) for layer, table in zip(layers, tables, strict=True)]
        total: dict[CostKind, int] = {}
        for layer, option in members:
            own = {**_counted(layer, option), **(costs_of(layer, option) if costs_of else {})}
            for kind, cost in own.items():
                total[kind] = total.get(kind, 0) + cost
        loss = sum(option.sensitivity for _, option in members)
        weights, activations, method = _Key(*key)
        options.append(Option(weights=weights, activations=activations, method=method, sensitivity=loss, costs=total))
    return Decision(layers=names, options=tuple(sorted(options, key=_wide_first)))


def _wide_first(option: Option) -> tuple[Fraction, float]:
    return -mean_bits(option.weights) - mean_bits(option.activations), option.sensitivity


def _counted(layer: LayerSensitivity, option: OptionSensitivity) -> dict[CostKind, int]:
    """Costs that need no machine: bits of the weights with the scales of groups, and bit operations."""
    widths = (element_bits(name) for name in (option.weights, option.activations))
    operations = layer.macs
    for bits in widths:
        operations *= bits
    size = layer.n_weights * bits_per_element(option.weights)
    return {"size": -(-size.numerator // size.denominator), "bops": operations}
