"""The kernels of a network as a compiler (TorchInductor) fuses them: chains of element-wise work are one kernel.

Products, convolutions and attentions stay kernels of their library. What is done value by value on the result of a
kernel that is no such product joins it, and so does a norm, softmax or reduction of its rows (one to a kernel). A batch
norm is a factor and a summand, its statistics are folded beforehand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tilewright.sim.gpu.launches.launch import KernelClass, Launch, Use
from tilewright.sim.gpu.launches.unfused import whole_launches
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["ASSUMPTIONS", "fused_launches"]

ASSUMPTIONS = (
    "kernels as a compiler fuses them: chains of element-wise work, with one norm, softmax or reduction, are one "
    "kernel; products, convolutions and attentions stay library kernels without them",
)
_ROWS: tuple[KernelClass, ...] = ("normalise", "softmax", "reduce")
_JOINING: tuple[KernelClass, ...] = ("elementwise", *_ROWS)


@dataclass(slots=True)
class _Group:
    """Kernels that become one; ``size``: bytes of its first result, which those that join must have."""

    members: list[Launch] = field(default_factory=list)

    @property
    def rows(self) -> list[KernelClass]:
        return [one.kernel for one in self.members if one.kernel in _ROWS]


def fused_launches(stream: OperatorStream) -> tuple[Launch, ...]:
    """The kernels of ``stream`` in the order in which they run."""
    apart = [one for one in whole_launches(stream) if one.kernel != "statistics"]
    groups: list[_Group] = []
    maker: dict[str, int] = {}  # tensor -> the group that writes it
    for launch in apart:
        at = _place(launch, groups, maker)
        if at is None:
            at = len(groups)
            groups.append(_Group())
        groups[at].members.append(launch)
        maker.update((use.tensor, at) for use in launch.writes)
    kept = {stream.base(name).name for name in stream.outputs}
    readers: dict[str, set[int]] = {}
    for at, group in enumerate(groups):
        for member in group.members:
            for use in member.reads:
                readers.setdefault(use.tensor, set()).add(at)
    return tuple(_joined(at, group.members, readers, kept) for at, group in enumerate(groups))


def _place(launch: Launch, groups: Sequence[_Group], maker: dict[str, int]) -> int | None:
    """The group that ``launch`` joins: the last one that makes something it reads, if all else is there by then."""
    if launch.kernel not in _JOINING:
        return None
    made = [(maker[use.tensor], use) for use in launch.reads if use.tensor in maker]
    if not made:
        return None
    at = max(place for place, _ in made)
    group = groups[at]
    if any(member.kernel not in _JOINING for member in group.members):
        return None
    if launch.kernel in _ROWS and group.rows:
        return None
    whole = max((use.n_bytes for use in launch.writes), default=0)
    same = any(place == at and use.n_bytes in (whole, launch.read_bytes) for place, use in made)
    return at if same or launch.kernel in _ROWS else None


def _joined(at: int, members: Sequence[Launch], readers: dict[str, set[int]], kept: set[str]) -> Launch:
    if len(members) == 1:
        return members[0]
    made: set[str] = set()
    reads: dict[str, Use] = {}
    writes: dict[str, Use] = {}
    for member in members:
        reads.update((use.tensor, use) for use in member.reads if use.tensor not in made and use.tensor not in reads)
        made.update(use.tensor for use in member.writes)
        writes.update((use.tensor, use) for use in member.writes)
    read_later = {name for name in made if readers.get(name, set()) - {at} or name in kept}
    last = members[-1].writes[-1].tensor
    operations = sum((Counter(dict(member.operations)) for member in members), Counter[str]())
    rows = [member for member in members if member.kernel in _ROWS]
    return Launch(
        kernel=rows[0].kernel if rows else "elementwise",
        rows=rows[0].rows if rows else None,
        operators=tuple(dict.fromkeys(name for member in members for name in member.operators)),
        reads=tuple(reads.values()),
        writes=tuple(use for name, use in writes.items() if name in read_later or name == last),
        operations=tuple(sorted(operations.items())),
    )
