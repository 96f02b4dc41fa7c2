"""What the work of GPU kernels costs in energy: a handful of figures of a board, as data.

A joule of a kernel is a multiply-add in some format, a byte out of the DRAM or the L2, an operation of a CUDA lane, or
the time that the board is on. What switches with the clock of the multiprocessors costs the square of their voltage,
which falls with the clock; a board that would draw more than its limit lowers the clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen

from tilewright.hw_models.shipped import Shipped
from tilewright.hw_models.spec import MachineSpec

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = ["PowerParameters", "PowerSpec", "measured_board", "power_of_machine"]

_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}
_VOLTAGE_SLOPE = 0.9  # assumed

Picojoules = Annotated[float, Ge(0), Le(10_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerParameters:
    """Energy of work at the highest clock and voltage.

    ``static_w``: of the board with nothing running and its clocks up. ``multiply_pj``: one multiply-add with its
    operands on the way from shared memory, by format, for data as networks have them. ``zeros_share``: part that is
    left of the energy of products and bytes when all data are zeros. ``lane_pj``: one operation of a CUDA lane.
    ``l2_pj_per_byte``: between L2 and multiprocessor; ``dram_pj_per_byte``: between DRAM and L2, on top.
    ``voltage_slope``: the voltage at share f of the highest clock is 1 - slope (1 - f) of the highest, down to where
    the clock alone falls further. ``limit_share``: part of its limit at which a board settles.
    """

    __pydantic_config__ = _STRICT

    static_w: Annotated[float, Ge(0), Le(1000)]
    multiply_pj: Mapping[str, Picojoules] = field(hash=False)
    zeros_share: Annotated[float, Ge(0), Le(1)] = 1.0
    lane_pj: Picojoules
    l2_pj_per_byte: Picojoules
    dram_pj_per_byte: Picojoules
    voltage_slope: Annotated[float, Ge(0.05), Le(1.3)]
    limit_share: Annotated[float, Ge(0.5), Le(1)] = 1.0

    def of_format(self, number_format: str) -> float:
        """Picojoules of a multiply-add; of a format that was not measured, as one of the nearest width.

        In fp32 one operation of a CUDA lane; in tf32 twice as much as in 16 bits, as tensor cores that are as busy do
        half as many.
        """
        if number_format in self.multiply_pj:
            return self.multiply_pj[number_format]
        if number_format == "fp32":
            return self.lane_pj
        if number_format == "tf32":
            return 2 * self.of_format("bf16")
        from tilewright.formats import number_format as described

        bits = described(number_format).bits
        return self.multiply_pj[min(self.multiply_pj, key=lambda name: (abs(described(name).bits - bits), name))]


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerSpec:
    """The figures of one board.

    ``device``: a machine's name. ``kind``: fitted to measurements ("calibrated"), or from the machine's energy figures
    ("assumed"). ``limit_w``: the board's limit under which its kernels were timed. ``measured``: the tables; ``split``,
    ``n_calibration``, ``n_held_out``, ``held_out_error``: as for a family of kernels, of the power.
    """

    __pydantic_config__ = _STRICT

    device: Annotated[str, MinLen(1)]
    kind: Literal["calibrated", "assumed"]
    measured: tuple[str, ...] = ()
    split: str = ""
    n_calibration: Annotated[int, Ge(0)] = 0
    n_held_out: Annotated[int, Ge(0)] = 0
    held_out_error: Annotated[float, Ge(0)] | None = None
    limit_w: Annotated[float, Gt(0)]
    parameters: PowerParameters

    @property
    def told(self) -> str:
        """Where the figures are from, for results."""
        measured = self.kind == "calibrated"
        return f"measured on {self.device}" if measured else f"assumed, from the file of {self.device}"


_BOARDS = Shipped("gpu/boards", PowerSpec, what="board")


def measured_board(name: str) -> PowerSpec | None:
    """The energy figures that come with Tilewright for the machine called ``name``; None where there are none."""
    return _BOARDS.named(name) if name in _BOARDS.names() else None


def power_of_machine(machine: MachineSpec, limit_w: float) -> PowerSpec:
    """What the section ``energy`` of a machine's file says, for a GPU whose board was never measured."""
    energy = machine.energy
    per_byte = energy.buffer_read_pj_per_byte.get("l2", 0.0)
    return PowerSpec(
        device=machine.base_name,
        kind="assumed",
        limit_w=limit_w,
        parameters=PowerParameters(
            static_w=energy.static_mw / 1e3,
            multiply_pj=dict(energy.multiply_accumulate_pj),
            lane_pj=energy.vector_pj.get("add", 0.0),
            l2_pj_per_byte=per_byte,
            dram_pj_per_byte=max(energy.dram_read_pj_per_byte - per_byte, 0.0),
            voltage_slope=_VOLTAGE_SLOPE,
        ),
    )
