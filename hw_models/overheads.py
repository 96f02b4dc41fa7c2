"""Fixed costs of a network on a machine: cycles once an inference and once a command, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from tilewright.hw_models.spec import MachineSpec
from tilewright.units import exact

__all__ = ["host_assumptions", "host_cycles", "overhead_assumptions", "overhead_cycles"]


def overhead_cycles(machine: MachineSpec) -> tuple[int, int]:
    """Whole cycles that cover ``per_inference_us`` and ``per_layer_us``, in this order."""
    fixed = machine.overheads
    cycles_per_us = machine.clock_hz / 1_000_000
    return ceil(exact(fixed.per_inference_us) * cycles_per_us), ceil(exact(fixed.per_layer_us) * cycles_per_us)


def host_cycles(machine: MachineSpec, transfers: Sequence[int]) -> int:
    """Whole cycles of ``transfers`` (bytes of each) over the link to the host, one after the other; 0 without one."""
    link = machine.host
    if link is None:
        return 0
    start_ns, bytes_per_ns = exact(link.per_transfer_us) * 1000, exact(link.bandwidth_gb_per_s)
    cycles_per_ns = exact(machine.clock_ghz)
    return sum(ceil((start_ns + n_bytes / bytes_per_ns) * cycles_per_ns) for n_bytes in transfers)


def host_assumptions(machine: MachineSpec) -> tuple[str, ...]:
    """What results with a host's link say; nothing where there is none."""
    link = machine.host
    if link is None:
        return ()
    return (
        f"inputs and results of an inference cross {link.name} ({link.bandwidth_gb_per_s:g} GB/s, "
        f"{link.per_transfer_us:g} us for each transfer) before and behind all work",
    )


def overhead_assumptions(machine: MachineSpec) -> tuple[str, ...]:
    """What results with these costs say; nothing where there are none."""
    fixed = machine.overheads
    parts = [
        f"{cost:g} us for each {what}"
        for cost, what in (
            (fixed.per_inference_us, "run of the network"),
            (fixed.per_layer_us, "command to the device"),
        )
        if cost
    ]
    said = [f"fixed costs: {' and '.join(parts)}; nothing else runs meanwhile, constant power flows"] if parts else []
    if machine.dram.sustained_share != 1:
        said.append(f"the DRAM sustains {machine.dram.sustained_share:g} of its bandwidth")
    return tuple(said)
