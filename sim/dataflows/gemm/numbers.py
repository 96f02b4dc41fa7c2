"""Matrix products and convolutions executed on numbers: the lowering of :mod:`tilewright.sim.dataflows.gemm.lower`.

As in :mod:`tilewright.sim.numbers.interpreter`: what the simulated commands do to NumPy arrays, in the order in which
they finish,
with the slots that the lowering reserved. A convolution's slab is gathered here pixel by pixel from the definition of a
convolution; that it is not larger than the room reserved and the bytes paid for is checked at every load.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.gemm.costs import GemmCosts
from tilewright.sim.dataflows.gemm.engine_costs import EngineCosts, costs_of
from tilewright.sim.dataflows.gemm.lower import GEMM, GemmCore, Step, first_weight_tiles
from tilewright.sim.dataflows.gemm.space import KEEPS_A, KEEPS_B
from tilewright.sim.dataflows.gemm.stages import staged
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.costs import Work
from tilewright.sim.lowering.evaluation import core_shares
from tilewright.sim.lowering.levels import DRAM_CHANNEL
from tilewright.sim.lowering.mapping import Dataflow, Tiling, check_tiling
from tilewright.sim.numbers.hazards import Execution, FloatArray, HazardError, Place, Store
from tilewright.sim.numbers.interpreter import after, given, interpret, operation
from tilewright.units import BITS_PER_BYTE, ceil_div
from tilewright.workloads.conv_window import ConvWindow
from tilewright.workloads.gemm import GemmLayer

__all__ = ["convolution", "run_product_on_numbers"]


def run_product_on_numbers(
    layer: GemmLayer,
    machine: MachineSpec,
    tiling: Tiling,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    extras: Sequence[npt.ArrayLike] = (),
    *,
    dataflow: Dataflow = GEMM,
) -> FloatArray:
    """C + the fused inputs, (groups, m, n), as the commands of ``tiling`` compute it on the cores of ``machine``.

    Shapes: ``a`` (groups, m, k), or (groups, images, in_height, in_width, channels) for a convolution; ``b`` (groups,
    k, n); each of ``extras`` (groups, m, n); of a cut product, those of the whole. The fused work, whatever it costs,
    adds the fused inputs. Every core's program is run, one core after the other.

    Raises InputError for a wrong shape or tiling, MappingError when the tiles do not fit the working buffer,
    DeadlockError when the program gets stuck and HazardError when a command uses data that is not there, or one that
    serves several cores brings what not all of them need.
    """
    check_tiling(dataflow, layer, tiling)
    if layer.split is not None:
        from tilewright.sim.dataflows.gemm.split_numbers import run_split_on_numbers  # which runs products with this

        return run_split_on_numbers(layer, machine, tiling, a, b, extras, dataflow)
    costs = costs_of(layer, machine)
    (phase,) = dataflow.phases
    arrays = _Arrays(layer, a, b, extras)
    first = 0
    for share in core_shares(layer, machine):
        engines = phase.core.engines_for(costs, tiling, share.n_cores)
        builder = ProgramBuilder(engines, phase.core.channels(costs, tiling), unroll=True)
        core = phase.core(costs, n_groups=share.n_groups, builder=builder)
        phase.lower(core, tiling)
        program = builder.build()
        brought: list[tuple[tuple[str, int, int, int], ...]] = []
        for number in range(share.n_cores):
            pieces = [first + trip * share.n_cores + number for trip in range(share.n_groups)]
            chip = _ProductChip(core, tiling, arrays, pieces)
            interpret(program, chip)
            if isinstance(costs, EngineCosts) and costs.behind and not (chip.finished == costs.behind[-1]).all():
                raise HazardError("passes behind the product have left out some of its rows")
            brought.append(tuple(chip.brought))
        _check_sharing(core, brought)
        first += share.n_cores * share.n_groups
    c = arrays.result
    if np.isnan(c).any():
        group, row, column = np.argwhere(np.isnan(c))[0]
        raise HazardError(f"C of row {row} and column {column} of group {group} was never stored to DRAM")
    return c


def _check_sharing(core: TileCore[GemmCosts], brought: Sequence[tuple[tuple[str, int, int, int], ...]]) -> None:
    """What is brought once for so many cores must be what each of them needs, in the same order."""
    assert isinstance(core, GemmCore) or not any(brought)
    sharing = {o: core.costs.n_sharing[o] for o in core.arrived} | core.n_staging if isinstance(core, GemmCore) else {}
    for operand, n_cores in sharing.items():
        alike: dict[tuple[tuple[str, int, int, int], ...], int] = {}
        for of_core in brought:
            own = tuple(tile for tile in of_core if tile[0] == operand)
            alike[own] = alike.get(own, 0) + 1
        if any(n % n_cores for n in alike.values()):
            raise HazardError(f"{operand.upper()} is brought once for {n_cores} cores that need different tiles")


def convolution(window: ConvWindow, x: FloatArray, weights: FloatArray) -> FloatArray:
    """(pixels, n) of one group from x (images, in_height, in_width, channels) and weights (channels * taps, n)."""
    pixels = window.images * window.out_height * window.out_width
    columns = [_patch(window, pixel, x) for pixel in range(pixels)]
    return np.stack(columns) @ weights


def _inputs_of(window: ConvWindow, pixel: int) -> list[tuple[int, int, int] | None]:
    """(image, row, column) that each tap of an output pixel reads, None in the padding."""
    row, column = divmod(pixel, window.out_width)
    image, row = divmod(row, window.out_height)
    found: list[tuple[int, int, int] | None] = []
    for tap in range(window.taps):
        down, across = divmod(tap, window.kernel_width)
        y = row * window.stride_height + down * window.dilation_height - window.pad_top
        x = column * window.stride_width + across * window.dilation_width - window.pad_left
        inside = 0 <= y < window.in_height and 0 <= x < window.in_width
        found.append((image, y, x) if inside else None)
    return found


def _patch(window: ConvWindow, pixel: int, x: FloatArray) -> FloatArray:
    """The row of the unrolled input, channel by channel with all taps of each."""
    taps = [x[at] if at is not None else np.zeros(x.shape[-1]) for at in _inputs_of(window, pixel)]
    return np.stack(taps, axis=1).ravel()


# -- what there is to compute on ---------------------------------------------------------------------------


class _Arrays:
    """The operands and the result of the whole product in DRAM, with room for what rounding up its pieces adds."""

    def __init__(self, layer: GemmLayer, a: npt.ArrayLike, b: npt.ArrayLike, extras: Sequence[npt.ArrayLike]) -> None:
        whole, k, window = layer.before_cut, layer.k, layer.window
        groups, m, n = whole.groups, whole.m, whole.n
        a_shape: tuple[int, ...] = (groups, m, k)
        if window is not None:
            a_shape = (groups, window.images, window.in_height, window.in_width, k // window.taps)
        if len(extras) != len(layer.fused.extra_bits):
            raise InputError(f"extras: given {len(extras)} fused inputs, allowed {len(layer.fused.extra_bits)}")
        self.parts = (ceil_div(m, layer.m), ceil_div(n, layer.n))
        self.whole, self.piece = whole, (layer.m, layer.n)
        more_rows, more_columns = self.parts[0] * layer.m - m, self.parts[1] * layer.n - n
        rows, columns = (0, more_rows), (0, more_columns)
        self.a = given("a", a, a_shape)
        if window is None:
            self.a = np.pad(self.a, ((0, 0), rows, (0, 0)))
        self.b = np.pad(given("b", b, (groups, k, n)), ((0, 0), (0, 0), columns))
        self.extras = [np.pad(given("fused input", x, (groups, m, n)), ((0, 0), rows, columns)) for x in extras]
        self.c = np.full((groups, m + more_rows, n + more_columns), np.nan)

    @property
    def result(self) -> FloatArray:
        """C without the room of rounding."""
        return self.c[:, : self.whole.m, : self.whole.n]

    def origin(self, piece: int) -> tuple[int, int, int]:
        """(group, first row, first column) of a piece."""
        group, rest = divmod(piece, self.parts[0] * self.parts[1])
        row, column = divmod(rest, self.parts[1])
        return group, row * self.piece[0], column * self.piece[1]


class _ProductChip:
    """DRAM arrays and the pools of one core; ``pieces``: what of the product it does."""

    def __init__(self, core: TileCore[GemmCosts], tiling: Tiling, arrays: _Arrays, pieces: Sequence[int]) -> None:
        layer = core.costs.layer
        m, k, n = layer.m, layer.k, layer.n
        self.arrays, self.origins = arrays, [arrays.origin(piece) for piece in pieces]
        self.brought: list[tuple[str, int, int, int]] = []
        self.costs, self.layer = core.costs, layer
        if isinstance(core, GemmCore) and core.keeps_halo:
            tiling = {**tiling, "k": k, "order": KEEPS_B}
        self.keep_a, self.keep_b = (tiling["order"] == kept for kept in (KEEPS_A, KEEPS_B))
        self.kept_rows: dict[tuple[int, int], FloatArray] | None = (
            None  # input rows that a tile leaves for the next one
        )
        if isinstance(core, GemmCore) and core.keeps_halo:
            self.kept_rows = {}
        self.row_tile, self.depth_tile = min(tiling["m"], m), min(tiling["k"], k)
        reserved = core.builder.buffer_bytes
        self.stores = {
            pool.name: Store(
                pool.name, pool.slots, slot_bits=reserved[name] * BITS_PER_BYTE // pool.slots, bits_of=self._bits_of
            )
            for name, pool in core.pools.items()
        }
        what = staged(layer, core.costs.levels, tiling)
        assert isinstance(core, GemmCore) or not what.level
        slots = core.stage_slots if isinstance(core, GemmCore) else {}
        self.levels = {name.upper(): Store(f"staged {name}", n) for name, n in slots.items()}
        self.is_staged = {"A": what.a, "B": what.b}
        self.stays = what.columns >= n
        # What passes of an engine have made of the rows of A, and which rows of C they have finished, by piece.
        self.made, self.finished = (np.full((len(pieces), m), np.nan) for _ in range(2))
        if tiling["prefetched"] and core.n_groups == 1:
            self._hold_first_weights(tiling)

    def _hold_first_weights(self, tiling: Tiling) -> None:
        begin, only = 0, Span(0, True, True)
        for depth, columns in first_weight_tiles(self.layer, tiling):
            step = Step(0, only, only, only, Span(columns, True, False), Span(depth, False, False, begin))
            place = self.place_of_b(step)
            place.store.hold(place.tag, "B", _b_of(self, step))
            begin += depth

    def _bits_of(self, state: str) -> int | Fraction:
        layer = self.layer
        known = {"A": layer.a_bits, "B": layer.b_bits, "C": layer.out_bits, **self._extra_bits()}
        if isinstance(self.costs, EngineCosts):
            known |= {_prepared("A"): self.costs.a_on_chip, _prepared("B"): self.costs.b_on_chip}
        return known.get(state, layer.accumulator_bits)

    def state_of(self, operand: str) -> str:
        """In which state "A" or "B" is multiplied."""
        costs = self.costs
        if not isinstance(costs, EngineCosts):
            return operand
        is_prepared = costs.prepares_a if operand == "A" else costs.prepares_b or costs.prepares_b_on_array
        return _prepared(operand) if is_prepared else operand

    def _extra_bits(self) -> dict[str, int | Fraction]:
        return {_extra_state(number): bits for number, bits in enumerate(self.layer.fused.extra_bits)}

    def at(self, step: Step) -> tuple[int, slice, slice]:
        """(group, rows, columns) of an output tile in the whole product."""
        group, row, column = self.origins[step.group]
        return group, _range(step.all_rows, row), _range(step.all_columns, column)

    def bring(self, operand: str, step: Step) -> None:
        """Note a tile that may serve other cores, too."""
        group, rows, columns = self.at(step)
        self.brought.append((operand, group, (rows if operand == "a" else columns).start, step.k.start))

    # A tile that is streamed belongs to the kept panel, or the sums, that it is streamed past.

    def place_of_a(self, step: Step) -> Place:
        tag = f"A of rows {step.all_rows.start}, k {step.k.start}, group {step.group}{_part_of(step)}"
        return Place(self.stores["A panel"], tag) if self.keep_a else Place(self.stores["A"], _passing(tag, step))

    def place_of_b(self, step: Step) -> Place:
        tag = f"B of columns {step.all_columns.start}, k {step.k.start}, group {step.group}{_part_of(step)}"
        return Place(self.stores["B panel"], tag) if self.keep_b else Place(self.stores["B"], _passing(tag, step))

    def staged_a(self, step: Step) -> Place:
        """The place of a tile of A in the level that holds a part of it."""
        tag = f"A of rows from {step.part.rows.start}, group {step.group}"
        return Place(self.levels["A"], tag, step.rows.start * self.layer.k + step.k.start)

    def staged_b(self, step: Step) -> Place:
        """The place of a tile of B in the level that holds a part of it."""
        rows = 0 if self.stays else step.part.rows.start
        tag = f"B of columns from {step.part.columns.start}, group {step.group}, for rows from {rows}"
        return Place(self.levels["B"], tag, step.columns.start * self.layer.k + step.k.start)

    def place_of_sums(self, step: Step) -> Place:
        """Sums of two tiles that an engine scales before they are added up."""
        return Place(self.stores["sums to scale"], f"sums of {_output(step)}, k {step.k.start}")

    def place_of_c(self, step: Step) -> Place:
        return Place(self.stores["C"], _output(step))

    def place_of_extra(self, step: Step, number: int) -> Place:
        return Place(self.stores["fused input"], _output(step), number)


def _prepared(operand: str) -> str:
    return f"{operand} prepared"


def _passing(tag: str, step: Step) -> str:
    return f"{tag} for {step.outer.start}, {step.inner.start}"


def _part_of(step: Step) -> str:
    """Panels are kept through a part, not from one to the next."""
    return f", part {step.part.rows.start}, {step.part.columns.start}"


def _output(step: Step) -> str:
    return f"rows {step.all_rows.start}, columns {step.all_columns.start}, group {step.group}"


def _extra_state(number: int) -> str:
    return f"fused input {number}"


def _range(span: Span, origin: int = 0) -> slice:
    return slice(origin + span.start, origin + span.start + span.size)


# -- loads -------------------------------------------------------------------------------------------------


def _check_paid(run: Execution, value: FloatArray, bits: int | Fraction, work: Work) -> None:
    needed = value.size * bits
    paid = work.n_bytes if work.channel != DRAM_CHANNEL else work.counters.dram_read_bytes
    if paid * BITS_PER_BYTE < needed:
        raise run.error(f"loads {needed} bits, but pays for {paid} bytes")


def _load(run: Execution, place: Place, state: str, value: FloatArray, work: Work, *, opens: bool = True) -> None:
    _check_paid(run, value, place.store.bits_of(state), work)
    run.write(place, state, value, opens=opens)


def _a_of(chip: _ProductChip, step: Step) -> FloatArray:
    """A tile of A as it lies in its memory."""
    group, rows, _ = chip.at(step)
    if chip.layer.window is None:
        return chip.arrays.a[group, rows, _range(step.k)]
    return _slab(chip, step).of(chip.arrays.a[group])


def _b_of(chip: _ProductChip, step: Step) -> FloatArray:
    group, _, columns = chip.at(step)
    return chip.arrays.b[group, _range(step.k), columns]


@operation("load_a")
def _load_a(chip: _ProductChip, run: Execution, step: Step) -> None:
    work = chip.costs.load_a(step.all_rows, step.k, row_tile=chip.row_tile, depth_tile=chip.depth_tile)
    value = run.read(chip.staged_a(step), "A") if chip.is_staged["A"] else _a_of(chip, step)
    _check_passed(chip, run, step)
    _load(run, chip.place_of_a(step), "A", value, work)


@operation("load_new_a")
def _load_new_a(chip: _ProductChip, run: Execution, step: Step) -> None:
    """The rows of a tile that the one before it did not need."""
    slab, before = _slab(chip, step), _slab_before(chip, step)
    new = [i for i, row in enumerate(slab.rows) if row not in before.rows]
    value = slab.of(chip.arrays.a[chip.at(step)[0]])[new]
    _load(run, chip.place_of_a(step), "A", value, chip.costs.load_new_a(step.rows))


def _slab_before(chip: _ProductChip, step: Step) -> _Slab:
    """The slab of the tile of rows before that of ``step``."""
    rows = Span(chip.row_tile, step.rows.start == chip.row_tile, False, step.rows.start - chip.row_tile)
    return _slab(chip, step._replace(rows=rows))


def _with_kept_rows(chip: _ProductChip, run: Execution, step: Step, loaded: FloatArray) -> FloatArray:
    """The whole slab of a tile, with the rows that the one before it left; and what it leaves for the next."""
    assert chip.kept_rows is not None and chip.layer.window is not None
    rows, window = _slab(chip, step).rows, chip.layer.window
    value = loaded
    if not step.rows.first:
        kept = [chip.kept_rows[row] for row in rows if row in chip.kept_rows]
        if len(kept) + len(loaded) != len(rows):
            raise run.error(
                f"finds {len(kept)} kept rows for a tile of {len(rows)}, of which {len(loaded)} were loaded"
            )
        value = np.concatenate([np.array(kept).reshape(len(kept), *loaded.shape[1:]), loaded])
    most = window.reach_height - window.stride_height
    chip.kept_rows = dict(zip(rows[-most:], value[-most:], strict=True))
    return value


@operation("fetch_a")
def _fetch_a(chip: _ProductChip, run: Execution, step: Step) -> None:
    value = _a_of(chip, step)
    chip.bring("a", step)
    work = chip.costs.load_a(step.all_rows, step.k, row_tile=chip.row_tile, depth_tile=chip.depth_tile)
    _check_paid(run, value, chip.layer.a_bits, work)
    _check_passed(chip, run, step)
    run.write(chip.staged_a(step), "A", value, opens=step.rows.first and step.k.first)


@operation("bring_a")
def _bring_a(chip: _ProductChip, run: Execution, step: Step) -> None:
    chip.bring("a", step)


@operation("bring_b")
def _bring_b(chip: _ProductChip, run: Execution, step: Step) -> None:
    chip.bring("b", step)


@operation("load_b")
def _load_b(chip: _ProductChip, run: Execution, step: Step) -> None:
    value = run.read(chip.staged_b(step), "B") if chip.is_staged["B"] else _b_of(chip, step)
    _load(run, chip.place_of_b(step), "B", value, chip.costs.load_b(step.k.size, step.columns.size))


@operation("fetch_b")
def _fetch_b(chip: _ProductChip, run: Execution, step: Step) -> None:
    value = _b_of(chip, step)
    chip.bring("b", step)
    _check_paid(run, value, chip.layer.b_bits, chip.costs.load_b(step.k.size, step.columns.size))
    run.write(chip.staged_b(step), "B", value, opens=step.columns.first and step.k.first)


@operation("load_extra")
def _load_extra(chip: _ProductChip, run: Execution, step: Step, number: int) -> None:
    value = chip.arrays.extras[number][chip.at(step)]
    work = chip.costs.load_extra(number, step.rows.size, step.columns.size)
    opens = number == chip.costs.loaded_extras[0]
    _load(run, chip.place_of_extra(step, number), _extra_state(number), value, work, opens=opens)


class _Slab:
    """The input rows, columns and channels that a tile of a convolution needs."""

    def __init__(self, window: ConvWindow, rows: slice, k: slice, n_pixels: int) -> None:
        nothing: list[tuple[int, int, int] | None] = [None] * window.taps  # behind the last pixel
        pixels = range(*rows.indices(_FAR))
        self.taps = [_inputs_of(window, pixel) if pixel < n_pixels else nothing for pixel in pixels]
        needed = [at for taps in self.taps for at in taps if at is not None]
        self.rows = sorted({(image, y) for image, y, _ in needed})
        columns = [x for *_, x in needed]
        self.columns = slice(min(columns, default=0), max(columns, default=-1) + 1)
        self.k = range(*k.indices(_FAR))
        self.n_taps = window.taps
        self.channels = slice(self.k[0] // self.n_taps, self.k[-1] // self.n_taps + 1)

    def of(self, x: FloatArray) -> FloatArray:
        """(rows, columns, channels) out of x (images, in_height, in_width, channels)."""
        rows = [x[image, y, self.columns, self.channels] for image, y in self.rows]
        n_columns, n_channels = (part.stop - part.start for part in (self.columns, self.channels))
        return np.array(rows).reshape(len(rows), n_columns, n_channels)

    def unrolled(self, slab: FloatArray) -> FloatArray:
        """(pixels, k) from what is on chip."""
        row_of = {row: i for i, row in enumerate(self.rows)}
        found = np.zeros((len(self.taps), len(self.k)))
        for i, taps in enumerate(self.taps):
            for j, k in enumerate(self.k):
                channel, tap = divmod(k, self.n_taps)
                at = taps[tap]
                if at is not None:
                    column = at[2] - self.columns.start
                    found[i, j] = slab[row_of[at[:2]], column, channel - self.channels.start]
        return found


_FAR = 2**62


def _slab(chip: _ProductChip, step: Step) -> _Slab:
    assert chip.layer.window is not None
    return _Slab(chip.layer.window, chip.at(step)[1], _range(step.k), chip.arrays.whole.m)


# -- products, fused work, stores --------------------------------------------------------------------------


@operation("multiply")
def _multiply(chip: _ProductChip, run: Execution, step: Step) -> None:
    near = chip.costs.is_near
    states = chip.state_of("A"), chip.state_of("B")
    a = _a_of(chip, step) if near["a"] and states[0] == "A" else run.read(chip.place_of_a(step), states[0])
    b = _b_of(chip, step) if near["b"] and states[1] == "B" else run.read(chip.place_of_b(step), states[1])
    if chip.kept_rows is not None:
        a = _with_kept_rows(chip, run, step, a)
    if chip.layer.window is not None:
        a = _slab(chip, step).unrolled(a)
    if isinstance(chip.costs, EngineCosts) and chip.costs.scales_sums:
        run.write(chip.place_of_sums(step), "sums to scale", a @ b, opens=True)
    else:
        _add_up(chip, run, step, a @ b)


def _add_up(chip: _ProductChip, run: Execution, step: Step, value: FloatArray) -> None:
    """Add the product of two tiles to the accumulators of its output tile."""
    place, begins = chip.place_of_c(step), step.k.start == 0
    has_branch = isinstance(chip.costs, EngineCosts) and chip.costs.has_branch
    if not begins or has_branch:
        value = value + run.read(place, after("sum", step.k.start))
    end = step.k.start + step.k.size
    run.write(place, after("sum", end), value, opens=begins and not has_branch)
    if end == chip.layer.k and chip.costs.is_near["out"] and not chip.costs.through_vector_unit:
        _leave(chip, run, step, value)


# -- what a quantised engine does besides ---------------------------------------------------------------------


@operation("prepare_a")
def _prepare_a(chip: _ProductChip, run: Execution, step: Step) -> None:
    place = chip.place_of_a(step)
    value = _a_of(chip, step) if chip.costs.is_near["a"] else run.read(place, "A")
    run.write(place, _prepared("A"), value, opens=chip.costs.is_near["a"])


@operation("prepare_b")
def _prepare_b(chip: _ProductChip, run: Execution, step: Step) -> None:
    place = chip.place_of_b(step)
    value = _b_of(chip, step) if chip.costs.is_near["b"] else run.read(place, "B")
    run.write(place, _prepared("B"), value, opens=chip.costs.is_near["b"])


@operation("scale_sums")
def _scale_sums(chip: _ProductChip, run: Execution, step: Step, is_last: bool) -> None:
    """Of the last tile of k, or of the one before that of ``step``."""
    depth = chip.depth_tile
    of = step if is_last else step._replace(k=Span(depth, False, False, step.k.start - depth))
    _add_up(chip, run, of, run.read(chip.place_of_sums(of), "sums to scale"))


@operation("branch")
def _branch(chip: _ProductChip, run: Execution, step: Step) -> None:
    """What the branch adds is part of the weights here: nothing."""
    shape = step.rows.size, step.columns.size
    run.write(chip.place_of_c(step), after("sum", 0), np.zeros(shape), opens=True)


@operation("pass")
def _pass(chip: _ProductChip, run: Execution, group: int, number: int, rows: Span) -> None:
    at = (group, _range(rows))
    assert isinstance(chip.costs, EngineCosts)
    if number in chip.costs.before:
        run.store(chip.made, at, np.array(number))
        return
    origin, row, column = chip.origins[group]
    columns = slice(column, column + chip.layer.n)
    if np.isnan(chip.arrays.c[origin, _range(rows, row), columns]).any():
        raise run.error(f"goes over rows from {rows.start} of group {group}, which are not all stored")
    run.store(chip.finished, at, np.array(number))


def _check_passed(chip: _ProductChip, run: Execution, step: Step) -> None:
    """What passes leave for the product is there for all rows."""
    before = chip.costs.before if isinstance(chip.costs, EngineCosts) else ()
    if before and not (chip.made[step.group] == before[-1]).all():
        raise run.error(f"loads rows of group {step.group}, over which the passes are not done")


@operation("fused")
def _fused(chip: _ProductChip, run: Execution, step: Step) -> None:
    place = chip.place_of_c(step)
    value = run.read(place, after("sum", chip.layer.k))
    at = chip.at(step)
    for number in range(len(chip.arrays.extras)):
        is_loaded = number in chip.costs.loaded_extras
        more = run.read(chip.place_of_extra(step, number), _extra_state(number)) if is_loaded else None
        value = value + (chip.arrays.extras[number][at] if more is None else more)
    run.write(place, "C", value)
    if chip.costs.is_near["out"]:
        _leave(chip, run, step, value)


@operation("store_c")
def _store_c(chip: _ProductChip, run: Execution, step: Step) -> None:
    state = "C" if chip.costs.through_vector_unit else after("sum", chip.layer.k)
    value = run.read(chip.place_of_c(step), state)
    work = chip.costs.store_c(*value.shape)
    paid = work.counters.dram_write_bytes or work.n_bytes
    if paid * BITS_PER_BYTE < value.size * chip.layer.out_bits:
        raise run.error("stores more than it pays for")
    _leave(chip, run, step, value)


def _leave(chip: _ProductChip, run: Execution, step: Step, value: FloatArray) -> None:
    """Put a finished tile where the result stays."""
    at = chip.at(step)
    if not np.isnan(chip.arrays.c[at]).all():
        raise run.error(f"stores C of {_output(step)}, which was stored before")
    run.store(chip.arrays.c, at, value)
