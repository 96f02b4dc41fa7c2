"""What the vector unit takes: cycles of one command of element-wise and reducing work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

from tilewright.hw_models.spec import LineSpec, VectorUnitSpec
from tilewright.units import exact

__all__ = ["RESULTS", "Passing", "least_vector_cycles", "vector_cycles"]

RESULTS = "results"  # of a product, on their way out: a kind of work without a rate


class Pixels(Protocol):
    """Pixels that pass a unit with lines: of its map, of its result; their channels, the longer side of the kernel."""

    @property
    def n_inputs(self) -> int | Fraction: ...
    @property
    def n_results(self) -> int | Fraction: ...
    @property
    def channels(self) -> int: ...
    @property
    def kernel(self) -> int: ...


class UnitValues(Protocol):
    """What a unit counts of some work whose values pass once: of which kind, how many; the inputs of a pool."""

    @property
    def kind(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def n_inputs(self) -> int: ...
    @property
    def pixels(self) -> Pixels | None: ...


class Passing(NamedTuple):
    """Values that pass the unit."""

    kind: str
    n: int
    n_inputs: int = 0
    pixels: Pixels | None = None


def vector_cycles(
    unit: VectorUnitSpec, work: Sequence[tuple[str, int]], *, reduces: bool, values: UnitValues | None = None
) -> int:
    """Cycles of one vector command that does ``work``, pairs of (kind of operation, number of elements).

    start-up + sum of ceil(elements / lanes) x cycles of the kind, + the depth of the reduction tree when the command
    ``reduces``; at least 1. ``values``: what passes, where each value passes once. A pipeline then takes
    ceil(values / lanes) times its slowest stage; where the unit has a rate for their kind the faster way counts; a
    depthwise convolution that fits the lines is done there;
    RESULTS may have to pass whatever is done on them. Raises KeyError for a kind that is none of ``OPERATION_KINDS``.
    """
    lanes = unit.lanes
    cycles_of = unit.cycles
    cycles = 0
    if values is not None and unit.arrangement == "pipeline":
        cycles = -(-values.n // lanes) * _slowest(unit, work)
    else:
        for kind, n_elements in work:
            cycles += -(-n_elements // lanes) * cycles_of[kind]
    in_lines = None if values is None else _in_lines_alone(unit, values)
    if in_lines is not None:
        cycles = -(-in_lines.numerator // in_lines.denominator)
    elif values is not None and unit.rates:
        cycles = min([cycles, *(-(-way.numerator // way.denominator) for way in _ways(unit, values))])
    if unit.passes_results and values is not None and values.kind == RESULTS:
        cycles = max(cycles, -(-values.n // lanes))
    if values is not None and values.kind == RESULTS:
        through = _through_lines(unit, values)
        cycles = max(cycles, -(-through.numerator // through.denominator))
    cycles += unit.startup_cycles
    if reduces:
        cycles += unit.reduction_depth_cycles
    return cycles if cycles > 0 else 1


def least_vector_cycles(
    unit: VectorUnitSpec, work: Sequence[tuple[str, int]], values: UnitValues | None = None
) -> Fraction:
    """What :func:`vector_cycles` of any commands that do this work together do not undercut."""
    if values is not None and unit.arrangement == "pipeline":
        least = Fraction(values.n * _slowest(unit, work), unit.lanes)
    else:
        least = Fraction(sum(n * unit.cycles[kind] for kind, n in work), unit.lanes)
    in_lines = None if values is None else _in_lines_alone(unit, values)
    if in_lines is not None:
        least = in_lines
    elif values is not None:
        least = min([least, *_ways(unit, values)])
        if unit.passes_results and values.kind == RESULTS:
            least = max(least, Fraction(values.n, unit.lanes))
        if values.kind == RESULTS:
            least = max(least, _through_lines(unit, values))
    return least


def _slowest(unit: VectorUnitSpec, work: Sequence[tuple[str, int]]) -> int:
    return max([1, *(unit.cycles[kind] for kind, _ in work)])


def _ways(unit: VectorUnitSpec, values: UnitValues) -> Iterator[Fraction]:
    """Cycles that the units of their own take for ``values``."""
    for kind, n in ((values.kind, values.n), (f"{values.kind}_inputs", values.n_inputs)):
        if kind in unit.rates:
            yield n / exact(unit.rates[kind])


def _in_lines_alone(unit: VectorUnitSpec, values: UnitValues) -> Fraction | None:
    """Cycles of a depthwise convolution in the lines, where it fits them; None of anything else."""
    pixels, lines = values.pixels, unit.lines
    if values.kind == RESULTS or lines is None or pixels is None or pixels.kernel > lines.kernel:
        return None
    return _in_lines(lines, pixels)


def _in_lines(lines: LineSpec, pixels: Pixels) -> Fraction:
    """Cycles of two loops over the groups of channels of a pixel: for each of the map, and for each of the result."""
    groups = -(-pixels.channels // lines.channels)
    return Fraction(pixels.n_inputs * (groups + lines.input_cycles) + pixels.n_results * (groups + lines.result_cycles))


def _through_lines(unit: VectorUnitSpec, values: UnitValues) -> Fraction:
    """What results of products take on their way through the lines, with what a depthwise convolution makes of them."""
    lines, pixels = unit.lines, values.pixels
    return Fraction(0) if lines is None or pixels is None or not lines.behind_products else _in_lines(lines, pixels)
