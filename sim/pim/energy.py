"""Energy of a channel by command, from the powers that a memory's file gives."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.errors import InputError
from tilewright.hw_models.pim.spec import PimSpec
from tilewright.sim.pim.commands import Command
from tilewright.sim.pim.run import ChannelRun

__all__ = ["ChannelEnergy", "bits_energy_pj", "channel_energy_pj"]

_READS = (Command.READ, Command.COPY_OUT, Command.READ_ACCUMULATORS, Command.READ_FUNCTION)
_WRITES = (Command.WRITE, Command.COPY_IN, Command.WRITE_ACCUMULATORS)
_PINS = (
    Command.READ, Command.WRITE, Command.WRITE_ALL, Command.WRITE_BUFFER, Command.WRITE_ACCUMULATORS,
    Command.READ_ACCUMULATORS, Command.READ_FUNCTION,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelEnergy:
    """Picojoules of one channel over one program: ``by_part``, in the words of the file."""

    by_part: dict[str, float]

    @property
    def total_pj(self) -> float:
        """All parts."""
        return sum(self.by_part.values())


def bits_energy_pj(pim: PimSpec, operands: int) -> float | None:
    """Picojoules of multiplying so many operands in the banks, by bit; None where the file has no such figures."""
    by_bit = pim.bit_energy
    if by_bit is None:
        return None
    of_bit = by_bit.open_pj_per_bit + by_bit.read_pj_per_bit
    return operands * (of_bit * pim.organisation.operand_bits + by_bit.multiply_add_pj)


def channel_energy_pj(pim: PimSpec, run: ChannelRun) -> ChannelEnergy:
    """What ``run`` costs. Raises InputError for a memory without energies.

    A row costs its power over the row cycle in each bank; a read or write its power over the burst; a multiply command
    of all banks ``mac_factor`` reads over the column distance, an element-wise one a quarter of that (a bank of each
    four computes); what crosses the pins a price a bit; standby the whole time (1 mW x 1 ns = 1 pJ).
    """
    energy = pim.energy
    if energy is None:
        raise InputError(f"{pim.name}: energy is not given; allowed a memory with powers, such as gddr6-aim")
    count = {command: run.commands.get(command, 0) for command in Command}
    banks, groups = pim.organisation.banks_per_channel, pim.organisation.bank_groups
    cycle_ns = 1 / pim.timing.clock_ghz
    rows = count[Command.ACTIVATE] + banks * (count[Command.ACTIVATE_ALL])
    reads = sum(count[one] for one in _READS) + banks * count[Command.FUNCTION_ALL]
    writes = sum(count[one] for one in _WRITES) + banks * count[Command.WRITE_ALL]
    multiplies = count[Command.MAC_ALL] + count[Command.MULTIPLY_ALL] * groups / banks
    pin_bits = sum(count[one] for one in _PINS) * pim.organisation.access_bytes * 8
    buffer = energy.buffer_write_mw * (count[Command.WRITE_BUFFER] + count[Command.COPY_OUT])
    return ChannelEnergy(
        by_part={
            "rows": energy.activate_mw * energy.row_cycle_ns * rows,
            "reads": energy.read_mw * energy.burst_ns * reads,
            "writes": energy.write_mw * energy.burst_ns * writes,
            "multiplies": energy.mac_factor * energy.read_mw * energy.column_ns * multiplies,
            "pins": energy.pins_pj_per_bit * pin_bits,
            "buffer": (buffer + energy.buffer_read_mw * count[Command.COPY_IN]) * cycle_ns,
            "standby, row open": energy.active_standby_mw * run.open_cycles * cycle_ns,
            "standby, closed": energy.precharge_standby_mw * (run.cycles - run.open_cycles) * cycle_ns,
        }
    )
