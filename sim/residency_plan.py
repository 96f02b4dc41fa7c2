"""A plan of what stays on chip over a network, as results tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["CopiedTensor", "PlacedTensor", "ResidencyPlan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedTensor:
    """A tensor in a memory on chip, at ``address`` (bytes), from operator ``first`` to operator ``last`` of the run.

    One that leaves and comes back is told as often, each time with an address of its own. Weights (``is_weight``) stay
    from one inference to the next.
    """

    name: str
    n_bytes: int
    address: int
    first: int
    last: int
    is_weight: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedTensor:
    """A tensor that is written out of the memory ("spill") or brought back ("fill"), by operator ``at`` of the run."""

    name: str
    way: str
    n_bytes: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyPlan:
    """Which tensors live in ``memory``; no two at one address at the same time, nor where an operator has its tiles.

    ``cost``: cycles (or picojoules) of the operators by this plan, each run alone; ``bound``: what no plan of this
    memory is below; ``without``: with everything in the DRAM. ``peak_bytes``: most that is in use at a time, tiles
    included; ``top_address``: the end of the highest block (what is between is fragmentation). ``tile_bytes``: room of
    each operator's tiles there. ``first_cycles``: cycles that the first inference takes besides, for the weights.
    ``heuristic``: the cost of keeping tensors greedily. ``n_searches``: mappings that were searched. ``copies``: of
    tensors that leave the chip for a part of their lives; they are operators of the run. ``whole_lives``: what the best
    plan without any costs (None: not asked for).
    """

    memory: str
    capacity_bytes: int
    tensors: tuple[PlacedTensor, ...]
    tile_bytes: tuple[int, ...]
    objective: str
    cost: int
    bound: int
    without: int
    heuristic: int | None
    peak_bytes: int
    top_address: int
    first_cycles: int
    first_energy_pj: float
    n_searches: int
    n_rounds: int
    copies: tuple[CopiedTensor, ...] = ()
    whole_lives: int | None = None

    @property
    def spill_bytes(self) -> int:
        """Bytes that are written out of the memory for a time."""
        return sum(one.n_bytes for one in self.copies if one.way == "spill")

    @property
    def fill_bytes(self) -> int:
        """Bytes that are brought back."""
        return sum(one.n_bytes for one in self.copies if one.way == "fill")

    @property
    def proven(self) -> bool:
        """Whether no plan of this memory is better."""
        return self.bound >= self.cost

    @property
    def gap(self) -> float:
        """By how much of its cost the plan may miss the best one."""
        return (self.cost - self.bound) / max(1, self.cost)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that stay on chip between inferences."""
        return sum(tensor.n_bytes for tensor in self.tensors if tensor.is_weight)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "memory": self.memory,
            "capacity_bytes": self.capacity_bytes,
            "peak_bytes": self.peak_bytes,
            "top_address": self.top_address,
            "weight_bytes": self.weight_bytes,
            "cost": self.cost,
            "bound": self.bound,
            "proven": self.proven,
            "without": self.without,
            "heuristic": self.heuristic,
            "first_cycles": self.first_cycles,
            "first_energy_pj": self.first_energy_pj,
            "tensors": [
                {
                    "name": tensor.name,
                    "bytes": tensor.n_bytes,
                    "address": tensor.address,
                    "first": tensor.first,
                    "last": tensor.last,
                    "is_weight": tensor.is_weight,
                }
                for tensor in self.tensors
            ],
            **({} if self.whole_lives is None else self._lives()),
        }

    def _lives(self) -> dict[str, Any]:
        copies = [{"name": one.name, "way": one.way, "bytes": one.n_bytes, "at": one.at} for one in self.copies]
        return {"whole_lives": self.whole_lives, "spill_bytes": self.spill_bytes, "copies": copies}
