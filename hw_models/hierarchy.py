"""Memory hierarchies with several levels per operand, for dataflows that place every tensor in a level of its own.

A :class:`~tilewright.hw_models.spec.MachineSpec` has one chain of buffers for all data. The machines of fusion studies
keep weights and feature maps in separate memories of two or three levels and multiply on an array with more than two
axes; :class:`HierarchySpec` says so much and no more. The two meet in :func:`hierarchy_of`.

Loops are named as usual for convolutions: ``K`` output channels, ``C`` input channels, ``OX`` and ``OY`` output columns
and rows, ``FX`` and ``FY`` kernel columns and rows, ``G`` groups (channels of a depthwise convolution or a pooling).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, MinLen

from tilewright.errors import unknown
from tilewright.hw_models.shipped import Shipped
from tilewright.hw_models.spec import MachineSpec, SourceSpec

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = [
    "OPERANDS",
    "AxisSpec",
    "HierarchySpec",
    "LoopName",
    "MemorySpec",
    "Operand",
    "hierarchy_names",
    "hierarchy_of",
    "load_hierarchy",
]

Operand: TypeAlias = Literal["weight", "input", "output"]
OPERANDS: tuple[Operand, ...] = ("weight", "input", "output")
LoopName: TypeAlias = Literal["K", "C", "OX", "OY", "FX", "FY", "G"]

_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}
Bits: TypeAlias = Annotated[int, Ge(1), Le(1_048_576)]
Text: TypeAlias = Annotated[str, MinLen(1)]
#: Stands for a bandwidth that is never the bottleneck.
_UNLIMITED_BITS_PER_CYCLE = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisSpec:
    """One axis of the array: ``size`` lanes, over which the first of ``loops`` that a layer has is spread."""

    __pydantic_config__ = _STRICT

    size: Annotated[int, Ge(1), Le(1_048_576)]
    loops: Annotated[tuple[LoopName, ...], MinLen(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySpec:
    """One memory: what it ``holds``, how much, and what an access costs.

    ``read_pj``, ``write_pj``: an access of the full ``width_bits``; a part of it costs in proportion, in steps of
    ``granule_bits`` (None: only the full width). ``bits_per_cycle`` of each port; None: one access a cycle.
    ``ports``: a read and a write port ("separate"), one for both ("shared"), or a read and a write port towards the
    array and as many towards the next memory ("both_sides").
    ``feeds``: for registers, the axes along which all lanes share one copy; there is a copy for every position on the
    other axes. None: one memory for the whole array.
    """

    __pydantic_config__ = _STRICT

    name: Text
    holds: Annotated[tuple[Operand, ...], MinLen(1)]
    capacity_bytes: Annotated[int, Ge(1)]
    width_bits: Bits
    granule_bits: Bits | None = None
    bits_per_cycle: Annotated[float, Gt(0)] | None = None
    read_pj: Annotated[float, Ge(0)]
    write_pj: Annotated[float, Ge(0)]
    ports: Literal["separate", "shared", "both_sides"] = "separate"
    feeds: tuple[Text, ...] | None = None

    @property
    def capacity_bits(self) -> int:
        return self.capacity_bytes * 8

    @property
    def granule(self) -> int:
        """Bits of the smallest access."""
        return self.granule_bits or self.width_bits

    @property
    def port_bits_per_cycle(self) -> float:
        """Bits that one port moves in a cycle."""
        return self.bits_per_cycle or float(self.width_bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class HierarchySpec:
    """An array of multiply-adders under memories that each hold some operands; ``memories`` stand nearest first.

    The last memory is the one off chip and holds everything. ``weight_bits``, ``activation_bits`` are the stored words,
    ``partial_sum_bits`` those of a sum that is not complete.
    """

    __pydantic_config__ = _STRICT

    name: Text
    description: str = ""
    axes: Annotated[Mapping[str, AxisSpec], MinLen(1)] = field(hash=False)
    multiply_accumulate_pj: Annotated[float, Ge(0)]
    weight_bits: Bits = 8
    activation_bits: Bits = 8
    partial_sum_bits: Bits = 16
    memories: Annotated[tuple[MemorySpec, ...], MinLen(2)]
    assumptions: tuple[str, ...] = ()
    sources: tuple[SourceSpec, ...] = ()

    def __post_init__(self) -> None:
        names = [memory.name for memory in self.memories]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f'memories: two are called "{twice[0]}"; allowed different names')
        if set(self.memories[-1].holds) != set(OPERANDS):
            raise ValueError(
                "memories: the last one is the memory off chip; allowed holds: weight, input, output there"
            )
        if not self.activation_levels[:-1]:
            raise ValueError("memories: none on chip holds both input and output; allowed at least one that does")
        for memory in self.memories:
            for axis in memory.feeds or ():
                if axis not in self.axes:
                    fault = f"{memory.name} feeds an unknown axis"
                    raise ValueError(str(unknown("axis", axis, self.axes, place="memories", fault=fault)))

    @property
    def n_multipliers(self) -> int:
        """Multiply-adders of the array."""
        product = 1
        for axis in self.axes.values():
            product *= axis.size
        return product

    def levels(self, operand: Operand) -> tuple[MemorySpec, ...]:
        """The memories that hold ``operand``, nearest to the array first."""
        return tuple(memory for memory in self.memories if operand in memory.holds)

    @property
    def activation_levels(self) -> tuple[MemorySpec, ...]:
        """The memories that hold both inputs and outputs, so that one layer can find there what another left."""
        return tuple(one for one in self.memories if {"input", "output"} <= set(one.holds) and one.feeds is None)


_HIERARCHIES = Shipped("hierarchies", HierarchySpec, what="memory hierarchy")


def hierarchy_names() -> tuple[str, ...]:
    """Names of the hierarchies that come with Tilewright."""
    return _HIERARCHIES.names()


def load_hierarchy(name_or_path: str | Path) -> HierarchySpec:
    """The hierarchy called so, or described in the YAML file at that path, as :func:`load_machine` takes machines."""
    return _HIERARCHIES.load(name_or_path)


def hierarchy_of(machine: MachineSpec, number_format: str) -> HierarchySpec:
    """One core of ``machine`` as a hierarchy, with operands in ``number_format``.

    Rows of the array take output columns, columns take output channels (the products of an unfolded convolution), the
    depth of a unit that multiplies blocks takes input channels; the array keeps one partial sum per PE in 32 bits, and
    each buffer holds all operands. Raises InputError for a format that the machine does not multiply.
    """
    from tilewright.formats import format_bits
    from tilewright.hw_models.dram import bytes_per_cycle
    from tilewright.hw_models.matrix_unit import no_rate

    unit, energy = machine.matrix, machine.energy
    if number_format not in unit.multiplies_per_pe_per_cycle:
        raise no_rate(number_format, unit.multiplies_per_pe_per_cycle, place=machine.name)
    bits = format_bits(number_format)
    registers = MemorySpec(
        name="accumulators",
        holds=("output",),
        capacity_bytes=4,
        width_bits=32,
        read_pj=0,
        write_pj=0,
        feeds=(),
        ports="both_sides",
    )
    buffers = [
        MemorySpec(
            name=buffer.name,
            holds=OPERANDS,
            capacity_bytes=buffer.capacity_bytes,
            width_bits=8,
            bits_per_cycle=_slower(buffer.read_bytes_per_cycle, buffer.write_bytes_per_cycle),
            read_pj=energy.buffer_read_pj_per_byte[buffer.name],
            write_pj=energy.buffer_write_pj_per_byte[buffer.name],
        )
        for buffer in machine.buffers
    ]
    dram = MemorySpec(
        name="dram",
        holds=OPERANDS,
        capacity_bytes=2**40,
        width_bits=8,
        bits_per_cycle=float(bytes_per_cycle(machine) * 8),
        read_pj=energy.dram_read_pj_per_byte,
        write_pj=energy.dram_write_pj_per_byte,
        ports="shared",
    )
    axes = {
        "rows": AxisSpec(size=unit.rows, loops=("OX",)),
        "columns": AxisSpec(size=unit.columns, loops=("K", "G")),
    }
    notes = ["rows take output columns, columns take output channels; fill and drain of the array are not counted"]
    if unit.block is not None:
        axes["depth"] = AxisSpec(size=max(1, unit.block.depth // unit.block.step_cycles), loops=("C",))
        notes.append("the depth of a block takes input channels, as many as it sums in a cycle, rounded down")
    return HierarchySpec(
        name=machine.name,
        description=machine.description,
        axes=axes,
        multiply_accumulate_pj=energy.multiply_accumulate_pj[number_format]
        + energy.register_pj_per_multiply_accumulate,
        weight_bits=bits,
        activation_bits=bits,
        partial_sum_bits=32,
        memories=(registers, *buffers, dram),
        assumptions=(*notes, "DRAM latency and rows are not counted"),
    )


def _slower(*rates: float | None) -> float:
    given: Iterable[float] = [rate for rate in rates if rate is not None]
    return min((rate * 8 for rate in given), default=_UNLIMITED_BITS_PER_CYCLE)
