"""What a memory that computes is: its organisation, the times of its commands, its energy and its host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from tilewright.hw_models.spec import SourceSpec

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = [
    "PimBitEnergySpec",
    "PimControllerSpec",
    "PimEnergySpec",
    "PimHostSpec",
    "PimLinkSpec",
    "PimOrganisationSpec",
    "PimRegistersSpec",
    "PimSpec",
    "PimTimingSpec",
]

_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}
Cycles = Annotated[int, Ge(0), Le(10_000_000)]
Count = Annotated[int, Ge(1), Le(1 << 30)]
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PimOrganisationSpec:
    """Channels of banks; every bank has rows, and a multiply unit beside it.

    ``n_channels``: channels of all devices together. ``bank_groups``: of a channel. ``banks_per_group``: banks of
    one. ``rows_per_bank``: rows of a bank. ``row_bytes``: bytes of an open row. ``access_bytes``: what one column
    command moves, and what one multiply command takes from each bank. ``operand_bits``: of a weight.
    ``accumulators_per_bank``: sums that a bank keeps at once. ``buffer_bytes``: the buffer of a channel that feeds one
    operand to all of its banks (0: none).
    """

    __pydantic_config__ = _STRICT

    n_channels: Count
    bank_groups: Count
    banks_per_group: Count
    rows_per_bank: Count
    row_bytes: Count
    access_bytes: Count
    operand_bits: Annotated[int, Ge(1), Le(64)]
    accumulators_per_bank: Count = 1
    buffer_bytes: Annotated[int, Ge(0), Le(1 << 30)] = 0

    def __post_init__(self) -> None:
        if self.row_bytes % self.access_bytes:
            raise ValueError(
                f"access_bytes: a row of {self.row_bytes} bytes is no whole number of accesses; given "
                f"{self.access_bytes}; allowed a divisor of row_bytes"
            )
        if self.access_bytes * 8 % self.operand_bits:
            raise ValueError(
                f"operand_bits: an access of {self.access_bytes} bytes holds no whole number of operands; given "
                f"{self.operand_bits}; allowed a divisor of {self.access_bytes * 8}"
            )

    @property
    def banks_per_channel(self) -> int:
        """Banks of a channel."""
        return self.bank_groups * self.banks_per_group

    @property
    def n_banks(self) -> int:
        """Banks of all channels."""
        return self.n_channels * self.banks_per_channel

    @property
    def accesses_per_row(self) -> int:
        """Column commands that read a whole row."""
        return self.row_bytes // self.access_bytes

    @property
    def multiplies_per_bank(self) -> int:
        """Operands of one access: multiply-adds of one command in each bank."""
        return self.access_bytes * 8 // self.operand_bits

    @property
    def operands_per_row(self) -> int:
        """Operands of a row."""
        return self.row_bytes * 8 // self.operand_bits

    @property
    def capacity_bytes(self) -> int:
        """Bytes of all banks."""
        return self.n_banks * self.rows_per_bank * self.row_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PimTimingSpec:
    """Least distances between commands, in cycles of ``clock_ghz``; 0 where a memory has no such command.

    ``clock_ghz``: the clock of these cycles. ``burst_cycles``: a transfer on the pins. ``read_latency_cycles`` and
    ``write_latency_cycles``: command to data. ``activate_to_mac_cycles``, ``activate_to_read_cycles``,
    ``activate_to_write_cycles``, ``activate_to_multiply_cycles``, ``activate_to_function_cycles``,
    ``activate_to_copy_out_cycles`` (row to buffer), ``activate_to_copy_in_cycles`` (buffer to row): from an open row to
    its first use. ``precharge_cycles``: a row closes. ``row_open_cycles``: it stays open at least (tRAS).
    ``row_cycle_cycles``: from opening to opening (tRC). ``write_recovery_cycles``: last write to precharge.
    ``read_to_precharge_cycles``: last read or multiply to precharge. ``column_short_cycles`` and
    ``column_long_cycles``: column to column in other bank groups and in the same one; multiplies follow at the long
    one. ``activate_short_cycles`` and ``activate_long_cycles``: row to row, likewise. ``write_to_read_short_cycles``
    and ``write_to_read_long_cycles``: end of a write to a read, likewise. ``read_to_write_extra_cycles``: what is left
    between the data of a read and those of a write. ``write_preamble_cycles``: turning the pins.
    ``register_read_latency_cycles``, ``register_write_latency_cycles``, ``buffer_write_latency_cycles``: accumulators
    and buffer. ``mode_change_cycles``: from commands on rows to those on registers, and back.
    ``refresh_cycles``: all banks refresh (tRFC). ``refresh_interval_cycles``: how often (tREFI).
    """

    __pydantic_config__ = _STRICT

    clock_ghz: Positive
    burst_cycles: Cycles = 0
    read_latency_cycles: Cycles = 0
    write_latency_cycles: Cycles = 0
    activate_to_mac_cycles: Cycles
    activate_to_read_cycles: Cycles = 0
    activate_to_write_cycles: Cycles = 0
    activate_to_multiply_cycles: Cycles = 0
    activate_to_function_cycles: Cycles = 0
    activate_to_copy_out_cycles: Cycles = 0
    activate_to_copy_in_cycles: Cycles = 0
    precharge_cycles: Cycles
    row_open_cycles: Cycles
    row_cycle_cycles: Cycles = 0
    write_recovery_cycles: Cycles = 0
    read_to_precharge_cycles: Cycles = 0
    column_short_cycles: Cycles = 0
    column_long_cycles: Annotated[int, Ge(1), Le(10_000_000)]
    activate_short_cycles: Cycles = 0
    activate_long_cycles: Cycles = 0
    write_to_read_short_cycles: Cycles = 0
    write_to_read_long_cycles: Cycles = 0
    read_to_write_extra_cycles: Cycles = 0
    write_preamble_cycles: Cycles = 0
    register_read_latency_cycles: Cycles = 0
    register_write_latency_cycles: Cycles = 0
    buffer_write_latency_cycles: Cycles = 0
    mode_change_cycles: Cycles = 0
    refresh_cycles: Cycles = 0
    refresh_interval_cycles: Cycles = 0

    def __post_init__(self) -> None:
        if bool(self.refresh_cycles) != bool(self.refresh_interval_cycles):
            raise ValueError("refresh_cycles: given without its interval, or the interval without it; allowed both")
        first_use = max(getattr(self, name) for name in self.__slots__ if name.startswith("activate_to_"))
        least = self.refresh_cycles + self.precharge_cycles + self.row_open_cycles + first_use
        if self.refresh_cycles and self.refresh_interval_cycles <= least:
            raise ValueError(
                "refresh_interval_cycles: no row could be used between two refreshes; given "
                f"{self.refresh_interval_cycles}; allowed more than {least} (refresh, precharge, open row, first use)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PimRegistersSpec:
    """Banks that are fed from registers of their own instead of a buffer of the channel (LPDDR5X designs).

    ``input_registers`` of ``input_bits`` hold a piece of the vector, ``output_bits`` a register of sums of
    ``sum_bits``. ``tile_rows``: rows of the matrix that a bank takes at once. ``tiles_in_order``: so many blocks of
    rows share one piece of the vector; their sums are swapped, ``swap_commands`` a block.
    ``read_to_write_cycles``, ``write_to_read_cycles``: turning between reading rows and writing registers.
    """

    __pydantic_config__ = _STRICT

    input_registers: Count
    input_bits: Count
    output_bits: Count
    sum_bits: Count
    tile_rows: Count
    tiles_in_order: Count
    swap_commands: Annotated[int, Ge(0), Le(1024)] = 1
    read_to_write_cycles: Cycles
    write_to_read_cycles: Cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class PimHostSpec:
    """Who commands the memory and does what it cannot.

    ``kind``: the chip of a Tilewright machine ("machine"), a digital chip beside the memory ("asic"), a controller on a
    link ("cxl"), a GPU ("gpu"), or a command generator alone ("commands"). ``bandwidth_gb_per_s``: what it reads and
    writes of this memory when the banks do not compute. ``peak_tops``: its multiply rate, where it is described by
    nothing else. ``switch_ns``: handing the memory over between host and banks. ``meanwhile``: whether the host may
    work while the banks compute: it waits ("wait"), or it has memory of its own and works on ("own_memory").
    """

    __pydantic_config__ = _STRICT

    kind: Literal["machine", "asic", "cxl", "gpu", "commands"]
    bandwidth_gb_per_s: Positive
    peak_tops: NonNegative = 0
    switch_ns: NonNegative = 0
    meanwhile: Literal["wait", "own_memory"] = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class PimEnergySpec:
    """Power of a channel while a command runs, and what runs all the time.

    ``active_standby_mw``, ``precharge_standby_mw``: a channel with and without an open row. ``activate_mw`` over the
    row cycle, for each bank. ``read_mw``, ``write_mw`` over ``burst_ns``. ``mac_factor``: a multiply command of all
    banks costs so many times the read power over the column distance. ``row_cycle_ns``, ``burst_ns``, ``column_ns``:
    these times. ``pins_pj_per_bit``: what crosses the pins. ``buffer_read_mw``, ``buffer_write_mw``: the channel's
    buffer, a cycle of the clock each.
    """

    __pydantic_config__ = _STRICT

    active_standby_mw: NonNegative
    precharge_standby_mw: NonNegative
    activate_mw: NonNegative
    read_mw: NonNegative
    write_mw: NonNegative
    mac_factor: NonNegative
    row_cycle_ns: Positive
    burst_ns: Positive
    column_ns: Positive
    pins_pj_per_bit: NonNegative
    buffer_read_mw: NonNegative = 0
    buffer_write_mw: NonNegative = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PimBitEnergySpec:
    """Energy of what banks multiply, by bit, where no powers are published.

    ``open_pj_per_bit``: the share of opening its row, ``read_pj_per_bit``: reading it out of the cells, of each bit
    that is multiplied. ``multiply_add_pj``: of an operand.
    """

    __pydantic_config__ = _STRICT

    open_pj_per_bit: NonNegative
    read_pj_per_bit: NonNegative
    multiply_add_pj: NonNegative


@dataclass(frozen=True, slots=True, kw_only=True)
class PimControllerSpec:
    """The digital part of a device that does what its banks cannot: adders and exponentials fed from a shared buffer.

    ``clock_ghz``: of its cycles. ``units``: sets of adders and exponentials, one after another on the buffer's port.
    ``lanes``: values of a set. ``buffer_read_cycles``, ``buffer_write_cycles``: a word of the shared buffer.
    ``exponential_cycles``, ``add_cycles``: through a set. ``cores``: small processors. ``norm_cycles``: a reciprocal
    square root. ``softmax_cycles``: a reciprocal. ``rotary_cycles``: re-ordering an element for the rotary embedding.
    """

    __pydantic_config__ = _STRICT

    clock_ghz: Positive
    units: Count
    lanes: Count
    buffer_read_cycles: Cycles
    buffer_write_cycles: Cycles
    exponential_cycles: Cycles
    add_cycles: Cycles
    cores: Count
    norm_cycles: Cycles
    softmax_cycles: Cycles
    rotary_cycles: Cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class PimLinkSpec:
    """The link that joins devices through a switch.

    ``port_ns``, ``layers_ns``, ``switch_ns``: latencies of a port, of the link's layers and of the switch; a hop there
    and back passes four ports, the layers twice and the switch once. ``lanes``: of all devices. ``lane_gib_per_s``: of
    a lane. ``multicast_share``: what is left of a lane that multicasts. ``flit_bytes``, ``messages_per_flit``,
    ``message_bytes``: how vectors are packed.
    """

    __pydantic_config__ = _STRICT

    port_ns: NonNegative
    layers_ns: NonNegative
    switch_ns: NonNegative
    lanes: Count
    lane_gib_per_s: Positive
    multicast_share: Annotated[float, Gt(0), Le(1)] = 1
    flit_bytes: Count
    messages_per_flit: Count
    message_bytes: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class PimSpec:
    """A memory that computes, with its host.

    ``name``, ``description``: for lists. ``organisation``, ``timing``: see there. ``host``: a memory without one
    computes nothing. ``registers``: banks fed from registers; none: from the channel's buffer. ``controller``: what
    does the rest beside the banks. ``link``: what joins devices. ``refreshes``: whether runs refresh all banks every
    interval of the timing. ``energy``, ``bit_energy``: by command or by bit; neither where nothing is
    known. ``assumptions``: what the description idealises. ``sources``: where figures come from.
    """

    __pydantic_config__ = _STRICT

    name: Annotated[str, MinLen(1)]
    description: str = ""
    organisation: PimOrganisationSpec
    timing: PimTimingSpec
    host: PimHostSpec | None = None
    registers: PimRegistersSpec | None = None
    controller: PimControllerSpec | None = None
    link: PimLinkSpec | None = None
    refreshes: bool = False
    energy: PimEnergySpec | None = None
    bit_energy: PimBitEnergySpec | None = None
    assumptions: tuple[str, ...] = ()
    sources: tuple[SourceSpec, ...] = ()

    def __post_init__(self) -> None:
        if self.host is None:
            raise ValueError(
                "host: missing; banks compute only what a host commands; allowed a host with its kind and "
                "bandwidth_gb_per_s"
            )
        if self.registers is None and not self.organisation.buffer_bytes:
            raise ValueError(
                "organisation.buffer_bytes: nothing feeds the banks; given 0; allowed the size of a channel's buffer, "
                "or registers"
            )
        if self.energy is not None and self.bit_energy is not None:
            raise ValueError("bit_energy: given together with energy; allowed one of the two")
        timing, n_banks = self.timing, self.organisation.banks_per_channel
        one_by_one = n_banks * (
            max(timing.activate_short_cycles, timing.activate_long_cycles) + timing.precharge_cycles
        )
        if timing.refresh_cycles and timing.refresh_interval_cycles <= timing.refresh_cycles + one_by_one:
            raise ValueError(
                f"timing.refresh_interval_cycles: the {n_banks} banks of a channel could not be opened one by one "
                f"between two refreshes; given {timing.refresh_interval_cycles}; allowed more than "
                f"{timing.refresh_cycles + one_by_one}"
            )
        if self.refreshes and not self.timing.refresh_cycles:
            raise ValueError(
                "refreshes: timing says not how long and how often; allowed with timing.refresh_cycles and "
                "timing.refresh_interval_cycles"
            )
        if self.registers is not None and self.registers.input_bits % self.organisation.operand_bits:
            raise ValueError(
                "registers.input_bits: holds no whole number of operands; given "
                f"{self.registers.input_bits}; allowed a multiple of {self.organisation.operand_bits}"
            )

    @property
    def commander(self) -> PimHostSpec:
        """The host, which is always there."""
        assert self.host is not None
        return self.host

    def seconds(self, cycles: int) -> float:
        """Seconds of ``cycles`` of the timing's clock."""
        return cycles / (self.timing.clock_ghz * 1e9)
