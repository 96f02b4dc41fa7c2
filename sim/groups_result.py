"""What a network's run on unlike groups of cores tells beside its totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["GroupUse", "OnGroups"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupUse:
    """What a group did: operators (with what is fused behind them), multiply-adds, and the cycles in which it was at
    work, of the main group's clock.
    """

    name: str
    n_cores: int
    clock_ghz: float
    n_operators: int
    macs: int
    cycles: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, kw_only=True)
class OnGroups:
    """Operators on unlike groups of cores at once.

    ``groups``: in the machine's order, the main one first. ``schedule_cycles``: the sum without contention, when every
    operator of this schedule takes what it takes alone; ``exact_cycles``: all of them in one simulation. Both without
    what an inference costs once. ``bound_cycles``: no placement of these operators (each mapped as it is best alone) is
    shorter than that without contention and without weights ahead; ``best_cycles``: the shortest that was found; both
    are 0 where another objective than latency was asked for. ``main_alone_cycles``: the main group doing all (None: it
    lacks some). ``n_handed`` tensors of ``handed_bytes`` in all live in the memory ``handed_in`` that groups share.
    """

    groups: tuple[GroupUse, ...]
    schedule_cycles: int
    exact_cycles: int
    best_cycles: int
    bound_cycles: int
    main_alone_cycles: int | None
    handed_in: str = ""
    n_handed: int = 0
    handed_bytes: int = 0

    @property
    def is_proven(self) -> bool:
        """Whether no placement is shorter than the shortest that was found, without contention."""
        return 0 < self.best_cycles <= self.bound_cycles

    @property
    def gap(self) -> float:
        """How much shorter one could be at most, as a share."""
        return (self.best_cycles - self.bound_cycles) / self.best_cycles if self.best_cycles else 0.0

    @property
    def contention_cycles(self) -> int:
        """What sharing the DRAM adds, less what loading weights ahead saves."""
        return self.exact_cycles - self.schedule_cycles

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "schedule_cycles": self.schedule_cycles,
            "exact_cycles": self.exact_cycles,
            "best_cycles": self.best_cycles,
            "bound_cycles": self.bound_cycles,
            "is_proven": self.is_proven,
            "main_alone_cycles": self.main_alone_cycles,
            **(
                {"handed_in": self.handed_in, "n_handed": self.n_handed, "handed_bytes": self.handed_bytes}
                if self.n_handed
                else {}
            ),
            "groups": [group.to_dict() for group in self.groups],
        }
