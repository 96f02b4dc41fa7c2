"""What the matrix unit takes: cycles and operand traffic of one product, and cycles of element-wise work.

The array computes C[m, n] = A[m, k] B[k, n] in passes. One operand stays in the processing elements (PEs) during a
pass, the others stream through (R rows, C columns, ``rate`` multiply-adds per PE and cycle):

========== ============== ======================= ==================
stays      spread over    number of passes        streaming cycles
========== ============== ======================= ==================
output     m x n          ceil(m/R) ceil(n/C)     ceil(k / rate)
weight (B) k x n          ceil(k/R) ceil(n/C)     ceil(m / rate)
input (A)  k x m          ceil(k/R) ceil(m/C)     ceil(n / rate)
========== ============== ======================= ==================

Entering and leaving a systolic array costs 2 R + C - 2 cycles: R to load (or unload) what stays, R + C - 2 for the
skew of the streams (Samajdar et al., SCALE-Sim, arXiv 1811.02883, runtime of one fold). ``fill_drain`` says how much
of it shows:

* ``per_pass``: every pass pays it.
* ``per_command``: passes follow each other back to back with a second set of registers for what stays, so it is paid
  once per command; but the next tile needs R cycles to shift in, so a pass with another one behind it lasts at
  least R.
* ``hidden``: not at all (an idealisation that published studies make).
* ``scale_sim``: what SCALE-Sim v3 counts. Every pass pays the skew, R + C - 2, and where an operand stays, R more to
  load it; results of an output-stationary pass leave behind the skew of its operands, at no cost of their own
  (systolic_compute_os, _ws and _is of scalesim 3.0.0: lines of the demand matrices). Its reports number cycles from 0,
  so that their "Total Cycles" is one less than ``cycles`` here.

A unit with ``partial_use`` can work as any array whose rows and columns are its own, halved some number of times: each
command takes the fastest.

A unit with a ``block`` (cube, tensor core, dot-product tree) has no waves. A block of C takes ceil(k / (depth x rate))
steps (K below), or what the unit's own way with convolutions makes of it (:mod:`tilewright.hw_models.block_steps`, and
:mod:`tilewright.hw_models.block_kernels` for engines with a way of their own for certain kernels).
Whichever operand stays, every block meets every other one: ceil(m/R) ceil(n/C) K steps; they differ in how often
operands and sums are moved. What shows of ``fill_drain`` is the unit's pipeline: after every block that stays, once per
command, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from tilewright import formats
from tilewright.errors import InputError, unknown
from tilewright.formats import NumberFormat
from tilewright.hw_models.block_kernels import kernel_cost
from tilewright.hw_models.block_steps import ConvShape, depth_steps, row_steps
from tilewright.hw_models.primitives import products_per_cycle
from tilewright.hw_models.spec import BlockSpec, MatrixUnitSpec
from tilewright.units import exact

WHOLE = Fraction(1)  # no multiply-add is left out

__all__ = ["MatrixCost", "elementwise", "fill_drain_once", "holding_format", "no_rate", "product"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixCost:
    """One product as one command.

    ``cycles`` in all, of which ``fill_drain_cycles`` stream nothing; ``macs`` = m k n, without those that are left out.
    Elements that cross between the working buffer and the array: A and B read, results written (partial sums as often
    as they leave the array), and partial sums read back.
    """

    cycles: int
    fill_drain_cycles: int
    macs: int
    read_elements_a: int
    read_elements_b: int
    write_elements: int
    read_partial_elements: int


def product(
    unit: MatrixUnitSpec,
    m: int,
    k: int,
    n: int,
    number_format: str,
    conv: ConvShape | None = None,
    speed: Fraction = WHOLE,
    primitive: str = "",
) -> MatrixCost:
    """Cost of C[m, n] = A[m, k] B[k, n] (each at least 1) with operands in ``number_format``.

    ``conv``: of which convolution it is a tile, for units whose blocks follow taps or rows of a map. ``speed``: how
    many times as fast it goes because multiply-adds with zeros are left out. ``primitive``: what B needs instead of
    multiplications (:mod:`tilewright.hw_models.primitives`). With stationarity "flexible" the fastest
    of the three; among equals the one that moves the fewest elements, then output, weight, input in this order. Raises
    :class:`InputError` for a format without a multiply rate.
    """
    rate = products_per_cycle(unit, number_format, primitive)
    if rate is None:
        raise no_rate(number_format, unit.multiplies_per_pe_per_cycle)
    up, down = (1, 1) if rate == 1.0 else _ratio(rate)
    up, down = up * speed.numerator, down * speed.denominator
    if unit.block is not None:
        cost = _blocks(unit, unit.block, m, k, n, up, down, conv)
    elif unit.partial_use:
        costs = (_systolic(part, m, k, n, up, down) for part in _parts(_array(unit)))
        cost = min(costs, key=_cycles_then_traffic)
    else:
        cost = _systolic(unit, m, k, n, up, down)
    cycles, idle, read_a, read_b, write, read_partial = cost
    return MatrixCost(
        cycles=cycles,
        fill_drain_cycles=idle,
        macs=-(-m * k * n * speed.denominator // speed.numerator),
        read_elements_a=read_a,
        read_elements_b=read_b,
        write_elements=write,
        read_partial_elements=read_partial,
    )


class _Array(NamedTuple):
    """What the cost of a product depends on."""

    rows: int
    columns: int
    stationarity: str
    fill_drain: str


def _array(unit: MatrixUnitSpec) -> _Array:
    return _Array(unit.rows, unit.columns, unit.stationarity, unit.fill_drain)


@lru_cache(maxsize=256)
def _parts(array: _Array) -> tuple[_Array, ...]:
    """The whole array and all that halving its rows and columns leaves."""
    rows = [array.rows >> i for i in range(array.rows.bit_length())]
    columns = [array.columns >> i for i in range(array.columns.bit_length())]
    return tuple(array._replace(rows=r, columns=c) for r in rows for c in columns)


def _systolic(unit: MatrixUnitSpec | _Array, m: int, k: int, n: int, up: int, down: int) -> _Cost:
    if unit.stationarity != "flexible":
        return _SHAPES[unit.stationarity](unit, m, k, n, up, down)
    return min((shape(unit, m, k, n, up, down) for shape in _SHAPES.values()), key=_cycles_then_traffic)


def holding_format(unit: MatrixUnitSpec, number_format: str) -> str | None:
    """The narrowest format with a multiply rate that holds every value of ``number_format``; the fastest of several.

    The format itself where it has a rate. Integers of b bits are values of a float whose mantissa, hidden bit and sign
    have b bits. None when the unit has no such format. Raises InputError for an unknown format.
    """
    if number_format in unit.multiplies_per_pe_per_cycle:
        return number_format
    given = formats.number_format(number_format)
    fitting = [
        (known.bits, -rate, name)
        for name, rate in unit.multiplies_per_pe_per_cycle.items()
        if _holds(known := formats.number_format(name), given)
    ]
    return min(fitting)[2] if fitting else None


def _holds(wide: NumberFormat, narrow: NumberFormat) -> bool:
    if wide.kind == narrow.kind == "integer":
        return wide.bits >= narrow.bits
    if narrow.kind == "integer":
        return wide.mantissa_bits + 2 >= narrow.bits
    return (
        wide.kind == "float"
        and wide.exponent_bits >= narrow.exponent_bits
        and wide.mantissa_bits >= narrow.mantissa_bits
    )


def elementwise(unit: MatrixUnitSpec, kind: str, rows: int, columns: int) -> int:
    """Cycles of one operation of ``kind`` on rows x columns elements spread over the array.

    ceil(rows / R) ceil(columns / C) times the cycles of the kind. Raises :class:`InputError` when the array does not do
    this kind of work.
    """
    cycles = unit.elementwise_cycles.get(kind)
    if cycles is None:
        raise InputError(
            f'the matrix unit does no element-wise work of this kind; given "{kind}"; allowed '
            f"{', '.join(unit.elementwise_cycles) or 'none'}"
        )
    return -(-rows // unit.rows) * -(-columns // unit.columns) * int(cycles)


def fill_drain_once(unit: MatrixUnitSpec) -> int:
    """Cycles to fill and drain the array once: 2 R + C - 2; the pipeline of a unit that multiplies blocks."""
    return 2 * unit.rows + unit.columns - 2 if unit.block is None else unit.block.pipeline_cycles


#: Cycles, those that stream nothing, elements of A and B read, written, and of partial sums read back.
_Cost = tuple[int, int, int, int, int, int]


def _output(unit: MatrixUnitSpec | _Array, m: int, k: int, n: int, up: int, down: int) -> _Cost:
    row_tiles, column_tiles = -(-m // unit.rows), -(-n // unit.columns)
    cycles, idle = _cycles(unit, row_tiles * column_tiles, k, up, down, loads=0)
    return cycles, idle, m * k * column_tiles, k * n * row_tiles, m * n, 0


def _blocks(
    unit: MatrixUnitSpec, block: BlockSpec, m: int, k: int, n: int, up: int, down: int, conv: ConvShape | None
) -> _Cost:
    if block.kernels:
        cost = kernel_cost(unit, block, m, k, n, conv)
        return (
            cost.cycles + block.pipeline_cycles,
            cost.idle + block.pipeline_cycles,
            cost.read_a,
            cost.read_b,
            m * n,
            0,
        )
    steps = (row_steps(block, unit.rows, m, conv), depth_steps(block, k, up, down, conv), -(-n // unit.columns))
    if unit.stationarity != "flexible":
        return _BLOCK_SHAPES[unit.stationarity](unit, block, m, k, n, steps)
    return min((shape(unit, block, m, k, n, steps) for shape in _BLOCK_SHAPES.values()), key=_cycles_then_traffic)


def _blocks_of_sums(unit: MatrixUnitSpec, block: BlockSpec, m: int, k: int, n: int, steps: _Steps) -> _Cost:
    rows, depths, columns = steps
    useful = rows * columns * depths * block.step_cycles
    idle = _pipeline(unit, block, rows * columns) + _inputs_first(block, rows, depths)
    return useful + idle, idle, m * k * (1 if block.inputs_first else columns), k * n * rows, m * n, 0


def _blocks_of_weights(unit: MatrixUnitSpec, block: BlockSpec, m: int, k: int, n: int, steps: _Steps) -> _Cost:
    """Without stripes a block of weights meets all rows, and sums leave behind every depth; with them sums stay."""
    rows, depths, columns = steps
    if block.stripe is None:
        useful = rows * columns * depths * block.step_cycles
        idle = _pipeline(unit, block, depths * columns)
        return useful + idle, idle, m * k * columns, k * n, m * n * depths, m * n * (depths - 1)
    n_stripes = -(-rows // block.stripe.most_steps)
    useful = max(rows, n_stripes * block.stripe.least_steps) * columns * depths * block.step_cycles
    idle = _pipeline(unit, block, n_stripes * depths * columns)
    return useful + idle, idle, m * k * columns, k * n * n_stripes, m * n, 0


def _blocks_of_inputs(unit: MatrixUnitSpec, block: BlockSpec, m: int, k: int, n: int, steps: _Steps) -> _Cost:
    rows, depths, columns = steps
    useful = rows * columns * depths * block.step_cycles
    idle = _pipeline(unit, block, depths * rows)
    return useful + idle, idle, m * k, k * n * rows, m * n * depths, m * n * (depths - 1)


def _inputs_first(block: BlockSpec, rows: int, depths: int) -> int:
    """Steps in which the inputs of rows of blocks come, before anything is multiplied."""
    return rows * depths * block.step_cycles if block.inputs_first else 0


def _pipeline(unit: MatrixUnitSpec, block: BlockSpec, n_passes: int) -> int:
    return block.pipeline_cycles * {"hidden": 0, "per_command": 1}.get(unit.fill_drain, n_passes)


#: Blocks along m, along the sum, and along n.
_Steps = tuple[int, int, int]
_BLOCK_SHAPES = {"output": _blocks_of_sums, "weight": _blocks_of_weights, "input": _blocks_of_inputs}


def _weight(unit: MatrixUnitSpec | _Array, m: int, k: int, n: int, up: int, down: int) -> _Cost:
    row_tiles, column_tiles = -(-k // unit.rows), -(-n // unit.columns)
    cycles, idle = _cycles(unit, row_tiles * column_tiles, m, up, down)
    return cycles, idle, m * k * column_tiles, k * n, m * n * row_tiles, m * n * (row_tiles - 1)


def _input(unit: MatrixUnitSpec | _Array, m: int, k: int, n: int, up: int, down: int) -> _Cost:
    row_tiles, column_tiles = -(-k // unit.rows), -(-m // unit.columns)
    cycles, idle = _cycles(unit, row_tiles * column_tiles, n, up, down)
    return cycles, idle, m * k, k * n * column_tiles, m * n * row_tiles, m * n * (row_tiles - 1)


_SHAPES = {"output": _output, "weight": _weight, "input": _input}


def _cycles_then_traffic(cost: _Cost) -> tuple[int, int]:
    return cost[0], cost[2] + cost[3] + cost[4] + cost[5]


def _cycles(
    unit: MatrixUnitSpec | _Array, n_passes: int, streamed: int, up: int, down: int, *, loads: int = 1
) -> tuple[int, int]:
    """(all cycles, those that stream nothing) of ``n_passes`` passes of ``streamed`` elements at rate up/down.

    ``loads``: operands that are loaded into the PEs before a pass, 0 or 1.
    """
    stream = -(-streamed * down // up)
    useful = n_passes * stream
    if unit.fill_drain == "hidden":
        return useful, 0
    once = 2 * unit.rows + unit.columns - 2
    if unit.fill_drain == "scale_sim":
        once -= 0 if loads else unit.rows
        return useful + n_passes * once, n_passes * once
    if unit.fill_drain == "per_pass":
        return useful + n_passes * once, n_passes * once
    cycles = (n_passes - 1) * max(stream, unit.rows) + stream + once
    return cycles, cycles - useful


@lru_cache(maxsize=256)
def _ratio(rate: float) -> tuple[int, int]:
    """``rate`` as a fraction of whole numbers, from its decimals."""
    fraction = exact(rate)
    return fraction.numerator, fraction.denominator


def no_rate(number_format: str, rates: Iterable[str], *, place: str = "") -> InputError:
    """The error for a format that a machine does not multiply; ``rates``: the formats that it does."""
    fault = "the matrix unit has no multiply rate for this number format"
    return unknown("number format", number_format, rates, place=place, fault=fault)
