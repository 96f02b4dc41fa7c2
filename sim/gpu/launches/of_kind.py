"""Who says which kernels an operator of a kind is, and the kernels that most of them are: read, do little, write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from tilewright.registry import Registry
from tilewright.sim.gpu.launches.launch import KernelClass, Launch, Use
from tilewright.workloads.kinds import KINDS
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import vector_work

__all__ = [
    "LAUNCHES",
    "LaunchMaker",
    "batch_norm_launches",
    "moving",
    "moving_launch",
    "operator_launches",
    "register_launches",
    "tensor_use",
    "tensor_uses",
]

#: From a stream and an operator, the kernels that a framework launches for it.
LaunchMaker: TypeAlias = Callable[[OperatorStream, Operator], tuple[Launch, ...]]

LAUNCHES: Registry[LaunchMaker] = Registry("kernels of an operator kind", rooms=("tilewright.sim.kinds",))

_CHANNEL_BYTES = 4  # fp32 statistics


def register_launches(kind: str, maker: LaunchMaker) -> LaunchMaker:
    """Operators of ``kind`` are the kernels that ``maker`` says; of a kind without, one element-wise kernel each.

    Raises InputError for a kind that is not known, or has one.
    """
    KINDS.get(kind)
    return LAUNCHES.register(kind, maker)


def operator_launches(stream: OperatorStream, operator: Operator) -> tuple[Launch, ...]:
    """The kernels of one operator."""
    maker = LAUNCHES.find(operator.kind)
    return (moving_launch(stream, operator, "elementwise"),) if maker is None else maker(stream, operator)


def moving(kernel: KernelClass) -> LaunchMaker:
    """One kernel of the class ``kernel`` for each operator."""
    return lambda stream, operator: (moving_launch(stream, operator, kernel),)


def moving_launch(
    stream: OperatorStream, operator: Operator, kernel: KernelClass, *, rows: tuple[int, int] | None = None
) -> Launch:
    """A kernel that reads its inputs and writes its results once; the operator's own count of bytes holds."""
    return Launch(
        kernel=kernel,
        operators=(operator.name,),
        reads=_shared_out(tensor_uses(stream, operator.inputs), stream.read_bytes(operator)),
        writes=_shared_out(tensor_uses(stream, operator.outputs), stream.write_bytes(operator)),
        rows=rows,
        operations=vector_work(operator),
    )


def tensor_use(stream: OperatorStream, name: str) -> Use:
    """All of a tensor, or of what it is a view of."""
    return Use(stream.base(name).name, stream.moved_bytes(name))


def tensor_uses(stream: OperatorStream, names: Sequence[str]) -> tuple[Use, ...]:
    """Each tensor once."""
    return tuple(tensor_use(stream, name) for name in dict.fromkeys(names))


def _shared_out(uses: tuple[Use, ...], n_bytes: int) -> tuple[Use, ...]:
    """``uses`` with ``n_bytes`` in all: a gather reads some rows of its table, an append nothing of its cache."""
    total = sum(use.n_bytes for use in uses)
    if total == n_bytes or not total:
        return uses
    return tuple(Use(use.tensor, use.n_bytes * n_bytes // total) for use in uses)


def batch_norm_launches(operator: Operator, x: Use, y: Use, n_channels: int, n_values: int) -> tuple[Launch, ...]:
    """A batch norm from ``x`` to ``y``: two kernels for its channels, then a factor and a summand for each value."""
    names = (operator.name,)
    channels = tuple(Use(f"{y.tensor} {what}", n_channels * _CHANNEL_BYTES) for what in ("mean", "deviation"))
    prepared = tuple(Launch(kernel="statistics", operators=names, writes=(use,)) for use in channels)
    applied = Launch(
        kernel="elementwise",
        operators=names,
        reads=(x, *channels),
        writes=(y,),
        operations=(("add", n_values), ("mul", n_values)),
    )
    return (*prepared, applied)
