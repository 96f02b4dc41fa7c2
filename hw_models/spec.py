"""A machine as frozen values: the one definition of every field of a machine file.

The fields carry their bounds (``annotated_types``), so the same classes check a file
(:mod:`tilewright.hw_models.load`) and describe the machine to everything above. Units stand in the names;
KiB is 1024 bytes, GB is 10^9 bytes. Times in cycles are cycles of the one clock of the cores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, MinLen

from tilewright.errors import InputError, unknown
from tilewright.formats import FormatName, format_bits
from tilewright.hw_models.dram_grades import RowTimingSpec, grade_names, row_timing
from tilewright.hw_models.energy_table import (
    DRAM_KINDS,
    OF_DRAM,
    DramKind,
    TableFigure,
    dram_figures,
    elementwise_pj,
    multiply_accumulate_pj,
    register_pj,
    sram_pj,
    table_assumption,
    with_table,
)
from tilewright.hw_models.gpu.spec import GpuSpec
from tilewright.presented import Shown
from tilewright.units import KIB, exact

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = [
    "EVERYTHING",
    "OPERATION_KINDS",
    "WITH",
    "AreaSpec",
    "BlockSpec",
    "BufferPartSpec",
    "BufferSpec",
    "DmaSpec",
    "DramSpec",
    "EnergySpec",
    "FallbackSpec",
    "GroupEnergySpec",
    "GroupSpec",
    "HostLinkSpec",
    "KernelSpec",
    "LineSpec",
    "LinkSpec",
    "MachineSpec",
    "MatrixUnitSpec",
    "OperationKind",
    "OverheadsSpec",
    "ScratchpadSpec",
    "SourceSpec",
    "SparsitySpec",
    "StripeSpec",
    "VectorUnitSpec",
    "WeightMemorySpec",
    "WeightsSpec",
]

#: Between the name of a machine and what was changed of it: ``edge-16x16 with matrix.rows=32``.
WITH = " with "

#: Stands in ``lacks`` for every operator.
EVERYTHING = "*"

#: Element-wise operations that a unit can be asked for.
OperationKind: TypeAlias = Literal["add", "sub", "mul", "max", "exp", "div"]
OPERATION_KINDS: tuple[OperationKind, ...] = ("add", "sub", "mul", "max", "exp", "div")

#: What the tiles in a working buffer are to the units: A of C = A B and what element-wise work reads, B (weights; keys
#: and values of attention), and C (scores and outputs of attention).
Operand: TypeAlias = Literal["inputs", "weights", "sums"]
OPERANDS: tuple[Operand, ...] = ("inputs", "weights", "sums")

#: Kinds of operators that may have a unit of their own beside the lanes.
UnitKind: TypeAlias = Literal["depthwise", "pool", "pool_inputs", "reduction", "elementwise", "relayout"]

# Keys are text for a type checker, and one of the listed names for a file.
if TYPE_CHECKING:
    FormatKey: TypeAlias = str
    OperationKey: TypeAlias = str
    UnitKindKey: TypeAlias = str
else:
    FormatKey = FormatName
    OperationKey = OperationKind
    UnitKindKey = UnitKind

Count: TypeAlias = Annotated[int, Ge(1), Le(1_048_576)]
Cycles: TypeAlias = Annotated[int, Ge(0), Le(1_000_000)]
# Upper ends far beyond any machine: sums and products of such figures stay finite.
Positive: TypeAlias = Annotated[float, Gt(0), Le(1e15)]
NotNegative: TypeAlias = Annotated[float, Ge(0), Le(1e15)]
Picojoules: TypeAlias = Annotated[float, Ge(0), Le(1e15)]
Text: TypeAlias = Annotated[str, MinLen(1)]

_REGISTERS = "register_pj_per_multiply_accumulate"
_BY_NODE = "or energy.node_nm, with which tables give it"
_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScratchpadSpec:
    """Private stores of each PE of a row-stationary array, in words, and the networks that feed them.

    ``filter_words``, ``ifmap_words``, ``psum_words``: what one PE holds of filters, input maps and partial sums.
    ``filter_words_per_cycle``: filter words that enter the array in a cycle. ``psum_words_per_cycle``: partial sums
    that enter it, and as many that leave it, in a cycle. ``rectifier``: finished results pass one on their way out, so
    that max(x, 0) behind a convolution costs nothing. See :mod:`tilewright.sim.dataflows.row_stationary.lower`.
    """

    __pydantic_config__ = _STRICT

    filter_words: Count
    ifmap_words: Count
    psum_words: Count
    filter_words_per_cycle: Count
    psum_words_per_cycle: Count
    rectifier: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeSpec:
    """For how long a block of weights stays in a unit: a stripe of output pixels, whose sums its accumulators hold.

    ``least_steps``: the next weights take as long to come, so that a shorter stripe lasts as long. ``most_steps``: sums
    that the accumulators hold; a longer run of pixels is cut into equal stripes, each of which brings its weights anew.
    """

    __pydantic_config__ = _STRICT

    least_steps: Count
    most_steps: Count

    def __post_init__(self) -> None:
        if self.least_steps > self.most_steps:
            raise ValueError(f"least_steps: given {self.least_steps}; allowed at most most_steps, {self.most_steps}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSpec:
    """A kernel for which an engine has a way of its own, all its taps at once.

    See :mod:`tilewright.hw_models.block_kernels`. ``height``, ``width``: of the kernel. ``load_cycles``: bringing the
    inputs of a patch of pixels, for every ``depth`` channels and every ``columns`` output channels; ``column_cycles``:
    each output channel. ``engines``: up to how many engines in a chain share the input channels, each at this speed.
    ``channels_each``: input channels for which one of them is used.
    """

    __pydantic_config__ = _STRICT

    height: Count
    width: Count
    load_cycles: Cycles
    column_cycles: Cycles
    engines: Count = 1
    channels_each: Count = 1

    def __post_init__(self) -> None:
        if not self.load_cycles + self.column_cycles:
            raise ValueError("column_cycles: 0 as load_cycles is; allowed 0 for one of them")
        if self.engines == 1 and self.channels_each != 1:
            raise ValueError("channels_each: given, but engines is 1; allowed with a chain of engines")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSpec:
    """A matrix unit that multiplies a whole block at once: A[rows, depth] by B[depth, columns] into C[rows, columns].

    ``style``: "cube" (all products of the block in one step), "tensor_core" (an instruction on a block that takes
    several cycles) or "dot_product_tree" (rows of A against columns of B, summed by a tree); a word for reports,
    the three differ in their figures. ``depth``: extent of the sum in one block at one multiply-add per PE and cycle;
    a format with twice the rate sums twice the depth. ``step_cycles``: cycles between two blocks.
    ``pipeline_cycles``: from the operands of a block to its results.

    The rest says what a convolution's sum and rows are to the unit (:mod:`tilewright.hw_models.block_steps`).
    ``sums``: whether a block's depth runs over taps and channels together ("joined", as in an unrolled product) or over
    the channels of one tap ("by_tap"), rounded up for each. ``joined_values``, ``joined_rows``: for first layers, a
    kernel's row with at most so many values in all channels is one run, and up to so many rows (1, 2, 4, ...) are as
    long as they fit the depth. ``pixels``: whether the rows of a block are any output pixels or lie in one row of the
    map. ``stripe``: for how many blocks a weight stays.

    ``kernels``: of an engine that does all taps of a kernel at once and its output channels one by one, instead of
    ``sums`` and ``step_cycles``. ``patch_columns``: its rows are a patch of the map, so wide. ``strided_rows``: height
    and width of a patch's results with a stride (0: as without). ``finish_cycles``: scaling and writing the results of
    a patch, for every ``columns`` channels. ``finish_column_cycles``: the same for each channel.
    ``inputs_first``: whether all inputs of a row of blocks come, a depth a step, before its first block is multiplied
    (units that keep them and go over them again for each block of columns).
    """

    __pydantic_config__ = _STRICT

    style: Literal["cube", "tensor_core", "dot_product_tree"]
    depth: Count
    step_cycles: Annotated[int, Ge(1), Le(1_000_000)]
    pipeline_cycles: Cycles
    sums: Literal["joined", "by_tap"] = "joined"
    joined_values: Annotated[int, Ge(0), Le(1_048_576)] = 0
    joined_rows: Annotated[int, Ge(1), Le(64)] = 1
    pixels: Literal["any", "of_a_row"] = "any"
    stripe: StripeSpec | None = None
    kernels: tuple[KernelSpec, ...] = ()
    patch_columns: Count = 1
    strided_rows: Annotated[int, Ge(0), Le(1024)] = 0
    finish_cycles: Cycles = 0
    finish_column_cycles: NotNegative = 0.0
    inputs_first: bool = False

    def __post_init__(self) -> None:
        if self.inputs_first and self.kernels:
            raise ValueError("inputs_first: given beside kernels; allowed without")
        if not self.kernels and (self.finish_cycles or self.finish_column_cycles or self.strided_rows):
            raise ValueError("kernels: none, but finish_cycles, finish_column_cycles or strided_rows; allowed together")
        if self.joined_values and self.sums != "by_tap":
            raise ValueError('joined_values: for sums: by_tap; allowed 0 where sums are "joined"')
        if self.joined_rows > 1 and not self.joined_values:
            raise ValueError(f"joined_rows: given {self.joined_rows} without joined_values; allowed 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SparsitySpec:
    """Which multiply-adds with a weight of 0 a matrix unit leaves out (:mod:`tilewright.hw_models.sparsity`).

    ``index_bits``: bits stored beside each weight that is kept, to say where it belongs. ``of``: for a structure,
    neighbours along a sum in a group (4 of 2:4); 1 where any zero may be left out. ``kept``: weights of such a group
    that may differ from 0 (2 of 2:4). ``most_speedup``: without a structure, how many times as fast the unit goes at
    most.
    """

    __pydantic_config__ = _STRICT

    index_bits: Annotated[float, Ge(0), Le(64)]
    of: Annotated[int, Ge(1), Le(1024)] = 1
    kept: Annotated[int, Ge(1), Le(1024)] = 1
    most_speedup: Annotated[float, Ge(1), Le(1024)] = 1.0

    def __post_init__(self) -> None:
        if self.kept >= self.of and (self.kept, self.of) != (1, 1):
            raise ValueError(f"kept: given {self.kept} of {self.of}; allowed less than of")
        if self.of > 1 and self.most_speedup != 1:
            raise ValueError(
                f"most_speedup: given {self.most_speedup:g} beside {self.kept} of {self.of}; allowed without"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixUnitSpec:
    """The matrix unit of one core: ``rows`` x ``columns`` processing elements (PEs) around multiply-adders.

    ``rows``, ``columns``: its processing elements.
    ``stationarity``: which operand of C = A B stays in the PEs: C ("output"), B ("weight"), A ("input"), or
    whichever is fastest for each command ("flexible").
    ``fill_drain``: what entering and leaving the array costs; see :func:`tilewright.hw_models.matrix_unit.product`.
    ``multiplies_per_pe_per_cycle``: multiply-adds that one PE starts in one cycle, by number format; a format that
    is not listed cannot be multiplied.
    ``shift_adds_per_pe_per_cycle``: products with powers of two, or with signs, that one PE starts in one cycle, by
    number format; a format that is not listed is multiplied. Left out: each PE has a shifter as fast as its multiplier.
    ``elementwise_cycles``: cycles for one operation of a kind on rows x columns elements, where the PEs can also do
    element-wise work; empty where they cannot.
    ``scratchpads``: where each PE keeps rows of its own, as row-stationary convolutions need it.
    ``partial_use``: whether a command may use a part of a systolic array (its rows and columns halved any number of
    times) and then fills and drains that part only; else it always fills and drains all of it.
    ``block``: None for a systolic array, else the block that is multiplied at once; what stays is then one operand's
    block, and ``fill_drain`` is about the unit's pipeline.
    ``engine``: the quantised engine that does products of weights and activations in its pair of formats, by name
    (:mod:`tilewright.hw_models.quantised`); ``engine_options``: what of it is not as published.
    ``accumulators``: the formats in which sums of products are kept on chip, by the format that is multiplied; where
    left out int32 behind whole numbers, fp32 behind floating point, or as wide as the products' own format.
    ``attention_engine``: the quantised engine that does attentions whose Q, K and V are stored in its wide format.
    ``sparsity``: which multiply-adds with a weight of 0 are left out; None for none.
    """

    __pydantic_config__ = _STRICT

    rows: Count
    columns: Count
    stationarity: Literal["output", "weight", "input", "flexible"]
    fill_drain: Literal["per_pass", "per_command", "hidden", "scale_sim"]
    multiplies_per_pe_per_cycle: Annotated[Mapping[FormatKey, Positive], MinLen(1)] = field(hash=False)
    shift_adds_per_pe_per_cycle: Mapping[FormatKey, Positive] | None = field(default=None, hash=False)
    elementwise_cycles: Mapping[OperationKey, Cycles] = field(default_factory=dict, hash=False)
    scratchpads: ScratchpadSpec | None = None
    partial_use: bool = False
    block: BlockSpec | None = None
    engine: Text | None = None
    engine_options: Mapping[str, str | int | float | bool] = field(default_factory=dict, hash=False)
    attention_engine: Text | None = None
    accumulators: Mapping[FormatKey, FormatKey] = field(default_factory=dict, hash=False)
    sparsity: SparsitySpec | None = None

    def __post_init__(self) -> None:
        self._check_sparsity()
        self._check_engine()
        self._check_attention_engine()
        self._check_accumulators()
        if self.block is None:
            return
        block = self.block
        if block.kernels and (self.stationarity != "output" or self.rows % block.patch_columns):
            raise ValueError(
                f"block.kernels: given with stationarity {self.stationarity} and {self.rows} rows in patches "
                f"{block.patch_columns} wide; allowed with output, and rows that patch_columns divides"
            )
        if self.block.inputs_first and self.stationarity != "output":
            raise ValueError(f'block.inputs_first: given with stationarity "{self.stationarity}"; allowed with output')
        if self.block.stripe is not None and self.stationarity != "weight":
            raise ValueError(f'block.stripe: given with stationarity "{self.stationarity}"; allowed with weight')
        if self.partial_use:
            raise ValueError("partial_use: is for systolic arrays; allowed false with a block")
        if self.fill_drain == "scale_sim":
            raise ValueError("fill_drain: scale_sim is for systolic arrays; allowed per_pass, per_command, hidden")

    def _check_sparsity(self) -> None:
        if self.sparsity is None:
            return
        kernels = self.block.kernels if self.block is not None else ()
        beside = {"scratchpads": self.scratchpads, "engine": self.engine, "block.kernels": kernels or None}
        for name, given in beside.items():
            if given is not None:
                raise ValueError(f"sparsity: given beside {name}; allowed without")

    def _check_accumulators(self) -> None:
        for number_format in self.shift_adds_per_pe_per_cycle or ():
            if number_format not in self.multiplies_per_pe_per_cycle:
                rates, place = self.multiplies_per_pe_per_cycle, "shift_adds_per_pe_per_cycle"
                raise ValueError(str(unknown("number format", number_format, rates, place=place)))
        for number_format, kept in self.accumulators.items():
            if number_format not in self.multiplies_per_pe_per_cycle:
                rates = self.multiplies_per_pe_per_cycle
                raise ValueError(str(unknown("number format", number_format, rates, place="accumulators")))
            narrow, wide = format_bits(number_format), format_bits(kept)
            if wide < narrow:
                raise ValueError(
                    f"accumulators: {number_format}: given {kept}, of {wide} bits; allowed {narrow} bits or more"
                )

    def _check_engine(self) -> None:
        if self.engine is None:
            if self.engine_options:
                raise ValueError("engine_options: given without an engine; allowed none")
            return
        if self.scratchpads is not None:
            raise ValueError(f'engine: given "{self.engine}" beside scratchpads; allowed one of the two')
        from tilewright.hw_models.quantised.part import check_engine  # which looks at machines

        try:
            check_engine(self.engine, self.engine_options, self.multiplies_per_pe_per_cycle)
        except InputError as error:
            raise ValueError(f"engine: {error}") from None

    def _check_attention_engine(self) -> None:
        if self.attention_engine is None:
            return
        from tilewright.hw_models.quantised.part import check_attention_engine

        try:
            check_attention_engine(self.attention_engine, self.multiplies_per_pe_per_cycle)
        except InputError as error:
            raise ValueError(f"attention_engine: {error}") from None

    @property
    def size_text(self) -> str:
        """Its extents for people: "16 x 16", with the depth of a block "16 x 16 x 16"; "/ 8" for 8 cycles a block."""
        text = f"{self.rows} x {self.columns}"
        if self.block is None:
            return text
        steps = f" / {self.block.step_cycles}" if self.block.step_cycles > 1 else ""
        return f"{text} x {self.block.depth}{steps}"

    @property
    def n_multipliers(self) -> Fraction:
        """Multiply-adds that the unit starts in a cycle at a rate of 1: rows x columns, x depth / step for blocks; with
        ``kernels`` those of the fastest.
        """
        block = self.block
        if block is None:
            return Fraction(self.rows * self.columns)
        if block.kernels:  # at most: output channels without end
            work, n = self.rows * block.depth * self.columns, self.columns
            return max(
                Fraction(work * k.height * k.width * k.engines, k.load_cycles + n * k.column_cycles)
                for k in block.kernels
            )
        return Fraction(self.rows * self.columns * block.depth, block.step_cycles)


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSpec:
    """A unit for depthwise convolutions that is fed pixel by pixel and keeps rows of its map in lines.

    One loop takes a pixel into the lines, another makes the result of a place out of them, a group of channels a cycle;
    they run one after the other, and every pixel starts them anew. ``channels``: of a group. ``kernel``: the widest and
    highest kernel that fits. ``input_cycles``: starting and leaving the loop for a pixel of the map;
    ``result_cycles``: for a pixel of the result. ``behind_products``: whether the unit stands behind the matrix unit:
    all results of products then pass its first loop, and a depthwise convolution that alone reads those of a
    convolution is part of the same command.
    """

    __pydantic_config__ = _STRICT

    channels: Count
    kernel: Count
    input_cycles: Cycles = 0
    result_cycles: Cycles = 0
    behind_products: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorUnitSpec:
    """The vector unit of one core: ``lanes`` elements at a time.

    ``lanes``: elements at a time. ``cycles``: cycles between two groups of ``lanes`` elements for each kind of
    operation (0: free, done within another one). ``startup_cycles``: from the first operand to the first result, once
    per command. ``reduction_depth_cycles``: the tree that turns the lanes' partial results into one, once per reducing
    command.
    ``arrangement``: whether operations of a command are done one after the other ("lanes"), or are stages that a value
    passes in one go ("pipeline"), of which the slowest counts, and never less than a cycle a group.
    ``passes_results``: whether all results of a product leave through this unit, also those behind which nothing is
    fused, in whole groups of the matrix unit's columns. ``rates``: values in a cycle for the kinds of operators that
    have a unit of their own (multiply-adds of depthwise convolutions, values under the windows of pools or the inputs
    of pools, inputs of reductions, results of element-wise work, words of 32 bits turned between lanes and rows); each
    takes the fastest way. ``lines``: a unit for depthwise convolutions that is fed pixel by pixel; those that fit are
    done there alone.
    """

    __pydantic_config__ = _STRICT

    lanes: Count
    cycles: Mapping[OperationKey, Cycles] = field(hash=False)
    startup_cycles: Cycles
    reduction_depth_cycles: Cycles
    arrangement: Literal["lanes", "pipeline"] = "lanes"
    passes_results: bool = False
    rates: Mapping[UnitKindKey, Positive] = field(default_factory=dict, hash=False)
    lines: LineSpec | None = None

    def __post_init__(self) -> None:
        if self.lines is not None and "depthwise" in self.rates:
            raise ValueError("lines: given beside rates.depthwise; allowed one of the two")
        lacking = [kind for kind in OPERATION_KINDS if kind not in self.cycles]
        if lacking:
            raise ValueError(f"cycles: lacks {', '.join(lacking)}; allowed all of {', '.join(OPERATION_KINDS)}")

    @property
    def takes_results(self) -> bool:
        """Whether all results of products leave through this unit, also those behind which nothing is fused."""
        return self.passes_results or (self.lines is not None and self.lines.behind_products)


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferPartSpec:
    """A part of a working buffer that holds some operands alone: a weight buffer, accumulators.

    ``name``: what errors call it. ``capacity_kib``: of the buffer's capacity, in units of 1024 bytes. ``holds``: the
    operands that it is for, "inputs" (A of C = A B, and what element-wise work reads), "weights" (B; K and V of
    attention) or "sums" (C; scores and output of attention). ``read_bytes_per_cycle``, ``write_bytes_per_cycle``: what
    its own ports pass in a cycle of what products read and write; none: never the bottleneck.
    """

    __pydantic_config__ = _STRICT

    name: Text
    capacity_kib: Annotated[float, Gt(0), Le(1_073_741_824)]
    holds: Annotated[tuple[Operand, ...], MinLen(1)]
    read_bytes_per_cycle: Positive | None = None
    write_bytes_per_cycle: Positive | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)

    @property
    def capacity_bytes(self) -> int:
        """Whole bytes that fit."""
        return _whole_bytes(self.capacity_kib)


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferSpec:
    """An on-chip buffer. A bandwidth of None is never the bottleneck.

    ``name``: what ``energy`` and ``sources`` call it. ``capacity_kib``: how much it holds, in units of 1024 bytes.
    ``read_bytes_per_cycle``, ``write_bytes_per_cycle``: what its ports pass in a cycle; none: never the bottleneck.
    ``shared_by_cores``: one buffer for all cores, else each core has its own of this size and bandwidth.
    ``latency_cycles``: of a buffer behind the working one, from the request to the first byte. Programs keep and stage
    data in such a buffer where both its bandwidths are given (:mod:`tilewright.sim.lowering.levels`).
    ``holds``: what a plan may keep in it, activations between operators and weights between inferences. ``parts``: of a
    working buffer, those for some operands alone; the other operands share what is left of its capacity.
    """

    __pydantic_config__ = _STRICT

    name: Text
    capacity_kib: Annotated[float, Gt(0), Le(1_073_741_824)]
    read_bytes_per_cycle: Positive | None = None
    write_bytes_per_cycle: Positive | None = None
    shared_by_cores: bool = False
    latency_cycles: Cycles = 0
    holds: tuple[Literal["activations", "weights"], ...] = ("activations", "weights")
    parts: tuple[BufferPartSpec, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.parts:
            self._check_parts()

    def _check_parts(self) -> None:
        """Every operand has one home, and all room is some operand's."""
        names: list[str] = [part.name for part in self.parts]
        held: list[str] = [one for part in self.parts for one in part.holds]
        for said, found in (("name", names), ("holds", held)):
            twice = sorted({one for one in found if found.count(one) > 1})
            if twice:
                raise ValueError(f'parts: {said}: "{twice[0]}" is there twice; allowed once')
        left = self.capacity_bytes - sum(part.capacity_bytes for part in self.parts)
        lacking = [one for one in OPERANDS if one not in held]
        if left < 0 or (lacking and not left):
            what = f"without a home for {', '.join(lacking)}" if left == 0 else f"{-left:,} bytes more than there are"
            raise ValueError(
                f"parts: they take {self.capacity_bytes - left:,} bytes of {self.capacity_bytes:,}, {what}; allowed "
                f"{'less than' if lacking else 'exactly'} capacity_kib, {self.capacity_kib:g}"
            )
        if left and not lacking:
            together = float(sum(exact(part.capacity_kib) for part in self.parts))
            raise ValueError(
                f"capacity_kib: {left:,} bytes beside the parts are for no operand; allowed {together:g}, the parts "
                "together, or an operand that no part holds"
            )

    def part_of(self, operand: Operand) -> BufferPartSpec | None:
        """The part that is for an operand; None where it shares what is left."""
        return next((part for part in self.parts if operand in part.holds), None)

    @property
    def capacity_bytes(self) -> int:
        """Whole bytes that fit."""
        return _whole_bytes(self.capacity_kib)


@lru_cache(maxsize=1024)
def _whole_bytes(kib: float) -> int:
    return int(exact(kib) * KIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class DramSpec:
    """The memory behind the chip, shared by all cores.

    ``bandwidth_gb_per_s``: of all channels together. ``first_access_latency_ns``: from a request to its first byte.
    ``burst_bytes``: transfers take whole bursts. ``grade``: a named grade whose row timing is known. ``timing``: row
    timing of one's own, instead of a grade.
    ``detail``: "bandwidth": a transfer costs the first access' latency and its bytes at full rate, in whole bursts.
    "row_buffer": banks, rows and refresh of the named ``grade`` (or of one's own ``timing``) as well; the
    bandwidth then says how many channels of the grade there are and how fast they are clocked.
    ``ports``: whether loads and stores share the bandwidth ("shared"), or each way has all of it ("separate").
    ``sustained_share``: the share of ``bandwidth_gb_per_s`` that a long transfer gets; a data sheet gives the rate of
    the pins, a controller keeps some of it. Beside what ``detail`` counts.
    ``capacity_gib``: how much it holds, in units of 2^30 bytes (left out: runs over time are not checked against it).
    """

    __pydantic_config__ = _STRICT

    bandwidth_gb_per_s: Annotated[float, Gt(0), Le(1_000_000)]
    first_access_latency_ns: Annotated[float, Ge(0), Le(1_000_000)]
    burst_bytes: Annotated[int, Ge(1), Le(65_536)]
    detail: Literal["bandwidth", "row_buffer"] = "bandwidth"
    ports: Literal["shared", "separate"] = "shared"
    grade: Text | None = None
    timing: RowTimingSpec | None = None
    sustained_share: Annotated[float, Gt(0), Le(1)] = 1.0
    capacity_gib: Annotated[float, Gt(0), Le(1_048_576)] | None = None

    def __post_init__(self) -> None:
        if self.grade is not None and self.timing is not None:
            raise ValueError("timing: given together with a grade; allowed one of the two")
        if self.grade is not None and self.grade not in grade_names():
            raise ValueError(str(unknown("DRAM grade", self.grade, grade_names(), place="grade")))
        if self.detail == "row_buffer" and self.row_timing is None:
            raise ValueError(
                "detail: row_buffer needs the rows' timing; allowed together with a grade "
                f"({', '.join(grade_names())}) or a timing of one's own"
            )

    @property
    def capacity_bytes(self) -> int | None:
        """Whole bytes that it holds; None where the file does not say."""
        return None if self.capacity_gib is None else int(exact(self.capacity_gib) * KIB**3)

    @property
    def row_timing(self) -> RowTimingSpec | None:
        """Row timing of the grade, or the file's own; None where neither is given."""
        return row_timing(self.grade) if self.grade is not None else self.timing


@dataclass(frozen=True, slots=True, kw_only=True)
class DmaSpec:
    """What moves the tiles of a core between its working buffer and the memories behind it.

    ``engines``: transfers of a core's own queues (loads, stores, weights from a memory of their own) that are under way
    at once; left out, one of each queue. ``start_cycles``: programming one, before its first access.
    """

    __pydantic_config__ = _STRICT

    engines: Annotated[int, Ge(1), Le(64)] | None = None
    start_cycles: Cycles = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OverheadsSpec:
    """Time that a network costs beside its operators' work, in microseconds; nothing else runs meanwhile.

    ``per_inference_us``: once for each run of the network (driver, start of the device). ``per_layer_us``: once for
    each job that is a command to the device (an operator with what is fused behind it, but none of the fallback's).
    """

    __pydantic_config__ = _STRICT

    per_inference_us: Annotated[float, Ge(0), Le(1e9)] = 0.0
    per_layer_us: Annotated[float, Ge(0), Le(1e9)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightMemorySpec:
    """A memory beside the DRAM from which weights are read: flash, or a host behind a link.

    ``name``: what it is called in results. ``bandwidth_gb_per_s``: of what it carries. ``first_access_latency_ns``:
    from a request to its first byte. ``burst_bytes``: transfers take whole bursts. ``read_pj_per_byte``: energy of a
    byte.
    """

    __pydantic_config__ = _STRICT

    name: Text
    bandwidth_gb_per_s: Annotated[float, Gt(0), Le(1_000_000)]
    first_access_latency_ns: Annotated[float, Ge(0), Le(1_000_000)] = 0.0
    burst_bytes: Annotated[int, Ge(1), Le(65_536)] = 1
    read_pj_per_byte: Picojoules = 0.0

    def __post_init__(self) -> None:
        _check_name(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSpec:
    """How the weights of networks are stored, and where they come from.

    ``compression``: bytes of the weights of products and convolutions in their number format over those that are
    stored, moved and kept on chip; the unit that multiplies decodes them. ``memory``: where weights come from (none:
    the DRAM). ``kept_kib``: room for weights that stay in what the file calls the DRAM from one inference to the next:
    those of a network's first operators, whole, as long as they fit. ``beside_activations``: whether activations take
    of that room too, as many bytes as are alive at once at most.
    """

    __pydantic_config__ = _STRICT

    compression: Annotated[float, Ge(1), Le(1000)] = 1.0
    memory: WeightMemorySpec | None = None
    kept_kib: Annotated[float, Ge(0), Le(1_073_741_824)] = 0.0
    beside_activations: bool = False

    def __post_init__(self) -> None:
        if self.kept_kib and self.memory is None:
            raise ValueError("kept_kib: given without a memory; allowed where weights come from one beside the DRAM")
        if self.beside_activations and not self.kept_kib:
            raise ValueError("beside_activations: given without kept_kib, the room that activations take from")

    @property
    def kept_bytes(self) -> int:
        """Whole bytes of weights that stay."""
        return _whole_bytes(self.kept_kib)


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackSpec:
    """The processor that does the operators of a network that the cores lack (``MachineSpec.lacks``).

    ``name``: what it is called in results. ``giga_operations_per_s``: basic operations that it sustains, a multiply-add
    as two. ``giga_operations_by_kind``: for kinds of operators that it does at a rate of their own.
    ``bandwidth_gb_per_s``: at which it reads and writes tensors. ``per_operator_us``: handing an operator over
    and back. The cores wait meanwhile.
    """

    __pydantic_config__ = _STRICT

    name: Text
    giga_operations_per_s: Positive
    bandwidth_gb_per_s: Positive
    per_operator_us: Annotated[float, Ge(0), Le(1e9)] = 0.0
    giga_operations_by_kind: Mapping[Text, Positive] = field(default_factory=dict, hash=False)

    def rate(self, kind: str) -> float:
        """10^9 operations a second in an operator of ``kind``."""
        return self.giga_operations_by_kind.get(kind, self.giga_operations_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLinkSpec:
    """The link to a host over which the inputs of an inference come and its results go, before and behind all work.

    ``name``: what it is called in results. ``bandwidth_gb_per_s``: of what it carries. ``per_transfer_us``: starting a
    transfer; every input and every result is one.
    """

    __pydantic_config__ = _STRICT

    name: Text
    bandwidth_gb_per_s: Positive
    per_transfer_us: Annotated[float, Ge(0), Le(1e9)] = 0.0


def _left_out() -> TableFigure:
    """A figure that a file does not give; with a node, tables put theirs in its place."""
    return TableFigure(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """What joins the cores to each other, to the DRAM and to the buffers that they share (:mod:`.links`).

    ``kind``: the paths that there are: one bus, a crossbar, a ring, or a mesh. ``bytes_per_cycle``: of one link: the
    bus, a core's port of the crossbar, a segment of ring or mesh. ``hop_cycles``: latency of a link.
    ``multicast``: whether one transfer can bring the same bytes to several cores.
    """

    __pydantic_config__ = _STRICT

    kind: Literal["bus", "crossbar", "ring", "mesh"]
    bytes_per_cycle: Positive
    hop_cycles: Cycles = 0
    multicast: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergySpec:
    """Energy of one action, in picojoules; constant power in milliwatts.

    ``multiply_accumulate_pj``: one multiply-add, by number format. ``register_pj_per_multiply_accumulate``: added to
    each (register files inside the PEs). ``shift_pj``, ``add_pj``: one shift, and one addition of products without
    multiplications, by number format; left out, the share of a multiply-add that
    :data:`tilewright.hw_models.primitives.UNIT_PJ` gives them.
    ``matrix_elementwise_pj``, ``vector_pj``: one element, by operation.
    ``buffer_read_pj_per_byte``, ``buffer_write_pj_per_byte``: one byte, by buffer. ``dram_read_pj_per_byte``,
    ``dram_write_pj_per_byte``: one byte of DRAM. ``dram_activate_pj``: a row activation, counted where the DRAM's grade
    is known, else it is part of the energy per byte. ``dram_background_mw``, ``static_mw``: power that flows all the
    time, of the DRAM and of the chip.
    ``node_nm``: the technology; figures that are left out are then those of published tables at that node
    (:mod:`tilewright.hw_models.energy_table`), which follow sizes and formats. ``dram_kind``: whose energies the table
    gives for DRAM; left out, that of the DRAM's grade.
    """

    __pydantic_config__ = _STRICT

    multiply_accumulate_pj: Mapping[FormatKey, Picojoules] = field(default_factory=dict, hash=False)
    register_pj_per_multiply_accumulate: Picojoules = field(default_factory=_left_out)
    shift_pj: Mapping[FormatKey, Picojoules] = field(default_factory=dict, hash=False)
    add_pj: Mapping[FormatKey, Picojoules] = field(default_factory=dict, hash=False)
    matrix_elementwise_pj: Mapping[OperationKey, Picojoules] = field(default_factory=dict, hash=False)
    vector_pj: Mapping[OperationKey, Picojoules] = field(default_factory=dict, hash=False)
    buffer_read_pj_per_byte: Mapping[str, Picojoules] = field(default_factory=dict, hash=False)
    buffer_write_pj_per_byte: Mapping[str, Picojoules] = field(default_factory=dict, hash=False)
    dram_read_pj_per_byte: Picojoules = field(default_factory=_left_out)
    dram_write_pj_per_byte: Picojoules = field(default_factory=_left_out)
    dram_activate_pj: Picojoules = field(default_factory=_left_out)
    dram_background_mw: NotNegative = 0.0
    static_mw: NotNegative = 0.0
    node_nm: Annotated[float, Ge(3), Le(65)] | None = None
    dram_kind: DramKind | None = None

    def __post_init__(self) -> None:
        if self.dram_kind is not None and self.node_nm is None:
            raise ValueError("dram_kind: given without node_nm; allowed together, for figures that are left out")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEnergySpec:
    """Energy of one action in a group of cores, in picojoules; what is left out is as in the main group, by name.

    ``multiply_accumulate_pj``: one multiply-add, by number format. ``register_pj_per_multiply_accumulate``: added to
    each. ``matrix_elementwise_pj``, ``vector_pj``: one element, by operation. ``buffer_read_pj_per_byte``,
    ``buffer_write_pj_per_byte``: one byte, by buffer of the group.
    """

    __pydantic_config__ = _STRICT

    multiply_accumulate_pj: Mapping[FormatKey, Picojoules] = field(default_factory=dict, hash=False)
    register_pj_per_multiply_accumulate: Picojoules | None = None
    matrix_elementwise_pj: Mapping[OperationKey, Picojoules] = field(default_factory=dict, hash=False)
    vector_pj: Mapping[OperationKey, Picojoules] = field(default_factory=dict, hash=False)
    buffer_read_pj_per_byte: Mapping[str, Picojoules] = field(default_factory=dict, hash=False)
    buffer_write_pj_per_byte: Mapping[str, Picojoules] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """A group of cores unlike those of the main group, beside them on the same DRAM (:mod:`.groups`).

    ``n_cores``: equal cores in it. ``clock_ghz``: its own clock; none: that of the main group. ``matrix``, ``vector``:
    its units; none: like those of the main group. ``buffers``: its own, the working buffer of its cores first; none
    given: like the main group's private ones. ``reaches``: buffers that the main group's cores share and that its cores
    reach too, behind their own. ``energy``: what an action costs. ``links``: what joins its cores; none:
    never the bottleneck. ``dma``: what moves its tiles; none: as in the main group. ``lacks``: operators that its cores
    cannot do. ``per_layer_us``: time for each command to it; none: as the machine's ``overheads`` say. ``processor``:
    it is no group of cores but a processor of a published rate, which does any operator.
    """

    __pydantic_config__ = _STRICT

    n_cores: Annotated[int, Ge(1), Le(4096)] = 1
    clock_ghz: Annotated[float, Ge(1e-9), Le(100)] | None = None
    matrix: MatrixUnitSpec | None = None
    vector: VectorUnitSpec | None = None
    buffers: tuple[BufferSpec, ...] = ()
    reaches: tuple[Text, ...] = ()
    energy: GroupEnergySpec = GroupEnergySpec()
    links: LinkSpec | None = None
    dma: DmaSpec | None = None
    lacks: tuple[Text, ...] = ()
    per_layer_us: Annotated[float, Ge(0), Le(1e9)] | None = None
    processor: FallbackSpec | None = None

    def __post_init__(self) -> None:
        if self.processor is None:
            return
        kept = ("processor", "per_layer_us")
        given = [
            name
            for name, entry in self.__dataclass_fields__.items()
            if name not in kept and getattr(self, name) != entry.default
        ]
        if given:
            raise ValueError(
                f"{given[0]}: given beside processor, whose rate is all that is known of it; allowed one of the two"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaSpec:
    """Silicon area of the whole machine in square millimetres, as far as known.

    ``matrix_mm2``, ``vector_mm2``, ``buffers_mm2``: all units of a kind together. ``total_mm2``: the whole chip.
    """

    __pydantic_config__ = _STRICT

    matrix_mm2: Positive | None = None
    vector_mm2: Positive | None = None
    buffers_mm2: Positive | None = None
    total_mm2: Positive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """Where figures come from.

    ``fields``: dotted paths, ``*`` stands for any text: ``energy.*``. Buffers are named:
    ``buffers.l1.capacity_kib``. Where several entries fit a field the first one counts.
    ``kind``: what sort of source it is. ``source``: which one, in words.
    """

    __pydantic_config__ = _STRICT

    fields: Annotated[tuple[Text, ...], MinLen(1)]
    kind: Literal["datasheet", "paper", "measured", "derived", "assumed"]
    source: Text


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MachineSpec(Shown):
    """A machine: ``n_cores`` equal cores (matrix unit, vector unit, buffers) on one DRAM.

    ``name``: letters, digits, _ + -. ``description``: one line for lists. ``clock_ghz``: the one clock of the cores.
    ``n_cores``: equal cores on one DRAM. ``matrix``: the unit that multiplies. ``vector``: the unit for element-wise
    work. ``dram``: the memory behind the chip. ``energy``: what an action costs. ``area``: silicon. ``overheads``: time
    beside the work. ``sources``: where figures come from.
    ``buffers`` stand nearest to the units first; ``buffers[0]`` is the working buffer of each core.
    ``gpu``: what a GPU has beyond that; its kernels are timed by :mod:`tilewright.sim.gpu`.
    ``weights``: how weights are stored. ``dma``: what moves tiles.
    ``links``: what joins cores and memory; none: never the bottleneck.
    ``lacks``: operators of networks that the cores cannot do, as kinds ("softmax") or kinds of one function
    ("elementwise:silu", "pool:average", "conv:depthwise", "conv:other_kernel"), or "*" for all; ``fallback`` does
    them, and where there is none they are refused. ``host``: the link that inputs and results of an inference cross.
    ``groups``: groups of cores unlike these, by name, beside them on the same DRAM; operators run where they end
    soonest (:mod:`tilewright.search.groups`). ``main``: what the group of these cores is called.
    ``pim``: the memory that computes behind the chip, by name or file (:mod:`tilewright.hw_models.pim`).
    ``residency``: whether networks run by a plan of what stays on chip ("plan"; "spills" lets tensors leave it for a
    part of their lives), or with every tensor in the DRAM between operators ("none").
    ``assumptions`` are sentences on what the description idealises; results repeat them.
    """

    __pydantic_config__ = _STRICT

    name: Text
    description: str = ""
    clock_ghz: Annotated[float, Ge(1e-9), Le(100)]  # from one cycle a second
    n_cores: Annotated[int, Ge(1), Le(4096)]
    matrix: MatrixUnitSpec
    vector: VectorUnitSpec
    buffers: Annotated[tuple[BufferSpec, ...], MinLen(1)]
    dram: DramSpec
    energy: EnergySpec
    links: LinkSpec | None = None
    area: AreaSpec | None = None
    gpu: GpuSpec | None = None
    overheads: OverheadsSpec = OverheadsSpec()
    dma: DmaSpec = DmaSpec()
    residency: Literal["plan", "spills", "none"] = "none"
    weights: WeightsSpec = WeightsSpec()
    lacks: tuple[Text, ...] = ()
    fallback: FallbackSpec | None = None
    host: HostLinkSpec | None = None
    main: Text = "cores"
    groups: Mapping[Text, GroupSpec] = field(default_factory=dict, hash=False)
    pim: Text | None = None
    assumptions: tuple[str, ...] = ()
    sources: tuple[SourceSpec, ...] = ()

    def __post_init__(self) -> None:
        _check_name(self.base_name)
        names = [buffer.name for buffer in self.buffers]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f'buffers: two are called "{twice[0]}"; allowed different names')
        if self.buffers[0].shared_by_cores and self.n_cores > 1:
            raise ValueError(
                f'buffers: the first one ("{names[0]}") is the working buffer of each core; '
                "allowed shared_by_cores: false there"
            )
        self._check_reach()
        memory = self.weights.memory
        if memory is not None and memory.name in (*names, "dram"):
            raise ValueError(f'weights.memory.name: "{memory.name}" is a buffer or the DRAM; allowed another name')
        if self.fallback is not None and not self.lacks:
            raise ValueError("fallback: given, but the cores lack nothing; allowed together with lacks")
        if self.fallback is not None and EVERYTHING not in self.lacks:
            kinds = {entry.partition(":")[0] for entry in self.lacks}
            for kind in sorted(set(self.fallback.giga_operations_by_kind) - kinds):
                place = "fallback.giga_operations_by_kind"
                raise ValueError(str(unknown("kind of operator", kind, sorted(kinds), place=place)))
        if self.energy.node_nm is not None:
            object.__setattr__(self, "energy", self._energy_of_the_node())
        self._check_energy(names)
        if self.groups:
            from tilewright.hw_models.groups import check_groups  # which makes machines of them

            check_groups(self)

    def _check_reach(self) -> None:
        """What nothing could read: buffers that programs cannot use, though the file gives figures of such use."""
        for number, buffer in enumerate(self.buffers):
            here = f"buffers.{number}"
            rates = {"read": buffer.read_bytes_per_cycle, "write": buffer.write_bytes_per_cycle}
            lacking = [way for way, rate in rates.items() if rate is None]
            if number and len(lacking) == 1:
                (given,) = rates.keys() - set(lacking)
                raise ValueError(
                    f"{here}.{given}_bytes_per_cycle: without {lacking[0]}_bytes_per_cycle nothing can be kept in "
                    f'"{buffer.name}"; allowed both, or neither (bytes then pass through it at a cost in energy only)'
                )
            if buffer.parts and (number or self.matrix.scratchpads is not None or self.matrix.engine is not None):
                why = "a level holds any operand" if number else "scratchpads and engines have pools of their own"
                raise ValueError(f"{here}.parts: {why}; allowed in the first buffer of other machines")
            if buffer.latency_cycles and (not number or lacking):
                why = "the working buffer is not waited for" if not number else "it is used with both bandwidths only"
                raise ValueError(
                    f'{here}.latency_cycles: nothing waits for "{buffer.name}", for {why}; allowed in buffers behind '
                    "the first one with read_bytes_per_cycle and write_bytes_per_cycle"
                )
        if self.gpu is not None and "l2" not in {buffer.name for buffer in self.buffers}:
            raise ValueError('gpu: needs a buffer called "l2", which its kernels read through; allowed with one')

    def _energy_of_the_node(self) -> EnergySpec:
        """The energies with those of the tables where the file gives none; made anew when sizes or formats change."""
        energy, node_nm = self.energy, self.energy.node_nm
        assert node_nm is not None
        sram = {buffer.name: sram_pj(buffer.capacity_kib, node_nm) for buffer in self.buffers}
        rates, operations = self.matrix.multiplies_per_pe_per_cycle, self.vector.cycles
        macs: dict[str, Any] = {one: multiply_accumulate_pj(one, node_nm) for one in rates}
        tables: dict[str, Any] = {
            "multiply_accumulate_pj": {one: value for one, value in macs.items() if value is not None},
            "matrix_elementwise_pj": {one: elementwise_pj(one, node_nm) for one in self.matrix.elementwise_cycles},
            "vector_pj": {one: elementwise_pj(one, node_nm) for one in operations},
            "buffer_read_pj_per_byte": {name: read for name, (read, _) in sram.items()},
            "buffer_write_pj_per_byte": {name: write for name, (_, write) in sram.items()},
        }
        changes: dict[str, Any] = {name: with_table(getattr(energy, name), table) for name, table in tables.items()}
        depth = 1 if self.matrix.block is None else self.matrix.block.depth
        dram = dram_figures(energy.dram_kind, self.dram.grade)
        single: dict[str, Any] = dict(zip(OF_DRAM, dram, strict=True)) | {_REGISTERS: register_pj(node_nm, depth)}
        changes |= {name: value for name, value in single.items() if isinstance(getattr(energy, name), TableFigure)}
        if energy.dram_kind is not None and not any(isinstance(changes.get(name), TableFigure) for name in OF_DRAM[:2]):
            raise ValueError(
                "energy.dram_kind: gives nothing, for DRAM's figures are given; allowed with them left out"
            )
        if not any(one and isinstance(one, TableFigure) for value in changes.values() for one in _figures_in(value)):
            raise ValueError("energy.node_nm: gives nothing, for every figure is given; allowed with some left out")
        return replace(energy, **changes)

    def _check_energy(self, buffer_names: list[str]) -> None:
        """Every action that the machine can do has an energy, and nothing else has one."""
        energy, matrix = self.energy, self.matrix
        for label, given, wanted in (
            ("multiply_accumulate_pj", energy.multiply_accumulate_pj, matrix.multiplies_per_pe_per_cycle),
            ("matrix_elementwise_pj", energy.matrix_elementwise_pj, matrix.elementwise_cycles),
            ("vector_pj", energy.vector_pj, self.vector.cycles),
            ("buffer_read_pj_per_byte", energy.buffer_read_pj_per_byte, buffer_names),
            ("buffer_write_pj_per_byte", energy.buffer_write_pj_per_byte, buffer_names),
        ):
            if wanted and not given and label != "matrix_elementwise_pj":
                raise ValueError(f"energy.{label}: this field is missing; allowed with {', '.join(wanted)}; {_BY_NODE}")
            _check_keys(f"energy.{label}", given, wanted)
        for label, given in (("shift_pj", energy.shift_pj), ("add_pj", energy.add_pj)):
            _check_keys(f"energy.{label}", given, set(given) & set(matrix.multiplies_per_pe_per_cycle))
        for label in OF_DRAM[:2]:
            if getattr(energy, label) == 0 and isinstance(getattr(energy, label), TableFigure):
                kinds = f", or dram_kind ({', '.join(DRAM_KINDS)})" if energy.node_nm else f"; {_BY_NODE}"
                raise ValueError(f"energy.{label}: this field is missing; allowed a number of at least 0{kinds}")

    @property
    def base_name(self) -> str:
        """The name without what was changed: ``edge-16x16`` of ``edge-16x16 with matrix.rows=32``."""
        return self.name.partition(WITH)[0]

    @property
    def stated(self) -> tuple[str, ...]:
        """The assumptions of the file, and what tables gave instead of it; results repeat them."""
        node_nm = self.energy.node_nm
        return self.assumptions if node_nm is None else (*self.assumptions, table_assumption(node_nm))

    @property
    def clock_hz(self) -> Fraction:
        """Cycles per second, exactly."""
        return exact(self.clock_ghz) * 10**9

    @property
    def working_buffer(self) -> BufferSpec:
        """The buffer that the units of one core work from."""
        return self.buffers[0]

    def buffer(self, name: str) -> BufferSpec:
        """The buffer called ``name``; raises :class:`InputError` when there is none."""
        for buffer in self.buffers:
            if buffer.name == name:
                return buffer
        raise unknown("buffer", name, [buffer.name for buffer in self.buffers], place=self.name)

    @property
    def group_names(self) -> tuple[str, ...]:
        """The groups of cores, the main one first."""
        return self.main, *self.groups

    def group(self, name: str) -> MachineSpec:
        """The machine with the group ``name`` alone; raises :class:`InputError` when there is none."""
        from tilewright.hw_models.groups import group_machine

        return group_machine(self, name)

    def seconds(self, cycles: int) -> float:
        """Time of ``cycles`` core-clock cycles in seconds."""
        return float(cycles / self.clock_hz)

    def to_yaml(self) -> str:
        """The text of a machine file that describes it; what is as if left out is left out. Read back, it is equal."""
        from tilewright.hw_models.machine_text import machine_yaml

        return machine_yaml(self)

    def with_(self, **changes: Any) -> MachineSpec:
        """A machine with some fields changed, checked like a file.

        ``machine.with_(**{"dram.bandwidth_gb_per_s": 60, "buffers.l1.capacity_kib": 64})``. A changed figure is
        listed in ``sources`` as assumed. Raises :class:`InputError` for unknown fields and values out of range.
        """
        from tilewright.hw_models.override import changed

        return changed(self, changes)


def _figures_in(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, Mapping) else (value,)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f'name: has characters that cannot be used; given "{name}"; allowed letters, digits, _ + -')


def _check_keys(path: str, given: Iterable[str], wanted: Iterable[str]) -> None:
    """``given`` names what ``wanted`` names, no less and no more."""
    lacking = [key for key in wanted if key not in set(given)]
    if lacking:
        raise ValueError(f"{path}: lacks {', '.join(lacking)}; allowed exactly {', '.join(wanted)}")
    extra = [key for key in given if key not in set(wanted)]
    if extra:
        fault = "has what the machine has not"
        raise ValueError(str(unknown("name", extra[0], wanted, place=f"{path}.{extra[0]}", fault=fault)))
