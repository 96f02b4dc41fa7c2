"""Work counted once for machines that differ only in what counting does not see.

The work of a mapping (cycles of its units, bytes, energy of what is done) is the same at any clock, buffer capacity,
idle power or first-access latency, and at any bandwidth with the same number of DRAM channels. A sweep that varies
those need not count again.
"""

from __future__ import annotations

from dataclasses import replace

from tilewright.hw_models.row_buffer import channel_count
from tilewright.hw_models.spec import EnergySpec, MachineSpec, OverheadsSpec

__all__ = ["effort_of_change", "unit_signature", "work_signature"]


_ONLY_RUN_ANEW = ("clock_ghz", "dram.bandwidth_gb_per_s", "dram.sustained_share", "dram.first_access_latency_ns")


def work_signature(machine: MachineSpec) -> MachineSpec:
    """``machine`` with everything that counting does not see at a value of no meaning: equal for equal work."""
    dram = machine.dram
    if dram.detail == "bandwidth":
        timing = dram.row_timing
        n_channels = 1 if timing is None else channel_count(timing, dram.bandwidth_gb_per_s)
        dram = replace(dram, bandwidth_gb_per_s=n_channels, first_access_latency_ns=0, sustained_share=1)
    return replace(
        machine,
        clock_ghz=1 if machine.dram.detail == "bandwidth" else machine.clock_ghz,
        buffers=tuple(replace(buffer, capacity_kib=1, parts=()) for buffer in machine.buffers),
        dram=dram,
        energy=replace(machine.energy, static_mw=0, dram_background_mw=0),
        area=None,
        overheads=OverheadsSpec(),
        assumptions=(),
        sources=(),
    )


def unit_signature(machine: MachineSpec) -> MachineSpec:
    """:func:`work_signature` without energies and what only they depend on: equal for programs that run alike but for
    the speed of the DRAM.
    """
    machine, energy = work_signature(machine), machine.energy
    if machine.dram.detail == "bandwidth":
        machine = replace(machine, dram=replace(machine.dram, bandwidth_gb_per_s=1, grade=None, timing=None))
    return replace(
        machine,
        energy=EnergySpec(
            multiply_accumulate_pj=dict.fromkeys(energy.multiply_accumulate_pj, 0),
            shift_pj=dict.fromkeys(energy.shift_pj, 0),
            add_pj=dict.fromkeys(energy.add_pj, 0),
            matrix_elementwise_pj=dict.fromkeys(energy.matrix_elementwise_pj, 0),
            vector_pj=dict.fromkeys(energy.vector_pj, 0),
            buffer_read_pj_per_byte=dict.fromkeys(energy.buffer_read_pj_per_byte, 0),
            buffer_write_pj_per_byte=dict.fromkeys(energy.buffer_write_pj_per_byte, 0),
            dram_read_pj_per_byte=0,
            dram_write_pj_per_byte=0,
        ),
    )


def effort_of_change(path: str) -> int:
    """What a change of the machine's field ``path`` mostly means: 2 to count anew, 1 to run anew, 0 to choose anew."""
    if path in ("energy.static_mw", "energy.dram_background_mw") or path.startswith("overheads."):
        return 0
    if path.startswith("buffers.") and path.endswith(".capacity_kib"):
        return 0
    return 1 if path in _ONLY_RUN_ANEW else 2
