"""Whether a run fits the machine's memory, and what of it would."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.runs.simulator import RunSimulator
from tilewright.sim.live import most_live_bytes
from tilewright.units import KIB
from tilewright.workloads.runs.cache import CachedTensor, cached_bytes
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["check_capacity", "check_room", "live_bytes", "tokens_that_fit"]

_MIB = KIB**2


def live_bytes(stream: OperatorStream, simulator: RunSimulator) -> int:
    """The most bytes of activations that are alive at a time in a step."""
    return most_live_bytes(stream, simulator.jobs(stream))


def tokens_that_fit(layers: Sequence[CachedTensor], room: int, n_sequences: int) -> int:
    """Tokens of each of ``n_sequences`` whose cache takes at most ``room`` bytes."""
    least, beyond = 0, 1
    while cached_bytes(layers, beyond, n_sequences) <= room and beyond < 2**40:
        least, beyond = beyond, 2 * beyond
    while beyond - least > 1:
        middle = (least + beyond) // 2
        if cached_bytes(layers, middle, n_sequences) <= room:
            least = middle
        else:
            beyond = middle
    return least


def check_room(title: str, machine: MachineSpec, n_bytes: int) -> None:
    """Raise InputError where ``n_bytes`` are more than the memory holds."""
    capacity = machine.dram.capacity_bytes
    if capacity is not None and n_bytes > capacity:
        raise InputError(
            f"{title}: weights, caches and activations take {n_bytes / _MIB:,.0f} MiB, and {machine.name} holds "
            f"{capacity / _MIB:,.0f} MiB (dram.capacity_gib)"
        )


def check_capacity(
    title: str,
    machine: MachineSpec,
    *,
    weights: int,
    cache: int,
    working: int,
    layers: Sequence[CachedTensor],
    n_sequences: int,
) -> None:
    """Raise InputError, with what would fit, where weights, cache and activations are more than the memory holds."""
    capacity = machine.dram.capacity_bytes
    if capacity is None or weights + cache + working <= capacity:
        return
    room = capacity - weights - working
    fits = tokens_that_fit(layers, room, n_sequences) if room > 0 else 0
    each = f"each of {n_sequences} requests" if n_sequences > 1 else "the request"
    what = (
        f"{fits:,} tokens of {each} fit"
        if fits
        else "not even the weights and activations fit"
        if room <= 0
        else f"not one token of {each} fits"
    )
    raise InputError(
        f"{title}: weights, cache and activations take {weights / _MIB:,.0f} + {cache / _MIB:,.0f} + "
        f"{working / _MIB:,.0f} MiB, and {machine.name} holds {capacity / _MIB:,.0f} MiB (dram.capacity_gib); {what}"
    )
