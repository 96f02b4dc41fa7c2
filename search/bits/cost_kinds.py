"""The costs that budgets of the bit search are about: what each counts, its units, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from tilewright.registry import Registry
from tilewright.sim.network_result import NetworkResult, OperatorResult

__all__ = ["COSTS", "BitCost", "register_cost", "simulated_kinds"]

_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_COUNTS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_ENERGY = {"pJ": 10**3, "nJ": 10**6, "uJ": 10**9, "mJ": 10**12, "J": 10**15}


@dataclass(frozen=True, slots=True, kw_only=True)
class BitCost:
    """A cost in whole numbers of ``counts``, so that a budget is kept exactly; ``column`` names it in files.

    ``units``: what one of a unit of budgets is in them; ``shown``: how many of them people read as one, and its name.
    ``figure(result)``: what the simulator says of an operator, and of a network, where it adds up over operators;
    ``per_figure`` whole numbers are one of it. None for costs that come from the table of sensitivities alone.
    ``word``: what tables call it; ``axis``: how many are one on the axis of a picture, and its title; both follow from
    the name and ``shown`` where they are not given.
    """

    name: str
    counts: str
    column: str
    units: Mapping[str, int]
    shown: tuple[float, str]
    figure: Callable[[OperatorResult | NetworkResult], float] | None = None
    per_figure: int = 1
    word: str = ""
    axis: tuple[float, str] = (0, "")

    def __post_init__(self) -> None:
        word = self.word or self.name
        object.__setattr__(self, "word", word)
        object.__setattr__(self, "axis", self.axis if self.axis[0] else (self.shown[0], f"{word}, {self.shown[1]}"))

    def unit(self, name: str) -> Fraction:
        """One of the unit ``name`` in whole numbers."""
        return Fraction(self.units[name])


#: In the order in which tables show them.
COSTS: Registry[BitCost] = Registry("cost")


def register_cost(cost: BitCost) -> BitCost:
    """Make ``cost`` known by its name (lower-case letters and _); one that is taken is refused."""
    return COSTS.register(cost.name, cost)


def simulated_kinds() -> tuple[str, ...]:
    """The costs that need a network and a machine."""
    return tuple(name for name, cost in COSTS.items() if cost.figure is not None)


register_cost(
    BitCost(
        name="size", counts="bits of weights", column="size_bits", shown=(8e6, "MB"), word="weights",
        units={unit: 8 * n_bytes for unit, n_bytes in _BYTES.items()},
    )
)  # fmt: skip
register_cost(
    BitCost(
        name="bops", counts="bit operations", column="bit_operations", units=_COUNTS, shown=(1e9, "G"),
        word="bit operations",
    )
)  # fmt: skip
register_cost(
    BitCost(
        name="latency", counts="cycles", column="cycles", units={"": 1, "cycles": 1}, shown=(1, "cycles"),
        figure=lambda result: result.cycles, axis=(1e6, "latency, million cycles"),
    )
)  # fmt: skip
register_cost(
    BitCost(
        name="energy", counts="femtojoules", column="energy_fj", units=_ENERGY, shown=(1e12, "mJ"),
        figure=lambda result: result.energy_pj, per_figure=1000,
    )
)  # fmt: skip
register_cost(
    BitCost(
        name="dram", counts="bytes of DRAM traffic", column="dram_bytes", units=_BYTES, shown=(1e6, "MB"),
        figure=lambda result: result.dram_bytes, word="DRAM traffic",
    )
)  # fmt: skip
