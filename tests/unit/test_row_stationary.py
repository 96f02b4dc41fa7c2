"""Does the row-stationary program compute the convolution, and does it cost what its loop nest says?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.sim.dataflows.row_stationary.costs import coded_bytes
from tilewright.sim.dataflows.row_stationary.lower import (
    ARRAY,
    Convolution,
    RowMapping,
    RowRules,
    RowStep,
    RowTraffic,
    check_mapping,
    row_stationary_program,
    row_traffic,
)
from tilewright.sim.engine.program import Program
from tilewright.sim.engine.reference import run_reference
from tilewright.sim.engine.run import simulate

Array = npt.NDArray[np.float64]
Key = tuple[int, ...]
MACHINE = load_machine("eyeriss")
SMALL = Convolution(batch=2, filters=6, channels=5, rows=7, columns=6, kernel_rows=3, kernel_columns=3)

CASES = {
    "one pass": (
        Convolution(batch=1, filters=4, channels=2, rows=5, columns=4, kernel_rows=3, kernel_columns=3),
        RowMapping(images=1, filters=4, strip=5, set_filters=4, set_channels=2),
    ),
    "all divide": (
        Convolution(batch=4, filters=8, channels=8, rows=6, columns=8, kernel_rows=3, kernel_columns=3),
        RowMapping(
            images=2, filters=4, strip=3, set_filters=1, set_channels=2, channel_sets=2, filter_sets=2, columns=4
        ),
    ),
    "nothing divides": (
        replace(SMALL, batch=3),
        RowMapping(images=2, filters=4, strip=4, set_filters=3, set_channels=1, channel_sets=2, columns=4),
    ),
    "stride and groups": (
        Convolution(
            batch=1, groups=2, filters=3, channels=3, rows=4, columns=5, kernel_rows=5, kernel_columns=4, stride=2
        ),
        RowMapping(images=1, filters=3, strip=3, set_filters=2, set_channels=2),
    ),
    "a set wider than the array": (
        Convolution(batch=1, filters=2, channels=3, rows=20, columns=3, kernel_rows=2, kernel_columns=1),
        RowMapping(images=1, filters=2, strip=17, set_filters=1, set_channels=2, filter_sets=2),
    ),
    "coded maps": (
        replace(SMALL, input_zeros=0.6, output_zeros=0.3),
        RowMapping(images=1, filters=6, strip=7, set_filters=2, set_channels=2, filter_sets=2),
    ),
}
each_case = pytest.mark.parametrize(("conv", "mapping"), CASES.values(), ids=CASES.keys())


class Numbers:
    """Runs the steps on arrays that stand where the chip has them; used too early or overwritten is an error."""

    def __init__(self, conv: Convolution) -> None:
        make = np.random.default_rng(11).integers
        self.conv = conv
        planes = (conv.input_rows(conv.rows), conv.input_columns(conv.columns))
        kernel = (conv.kernel_rows, conv.kernel_columns)
        self.maps: Array = make(-3, 4, (conv.groups, conv.batch, conv.channels, *planes)).astype(np.float64)
        self.filters: Array = make(-3, 4, (conv.groups, conv.filters, conv.channels, *kernel)).astype(np.float64)
        self.out: Array = np.full((conv.groups, conv.batch, conv.filters, conv.rows, conv.columns), np.nan)
        self.extras: Array = make(-3, 4, self.out.shape).astype(np.float64)
        self.inputs: tuple[Key, Array] | None = None
        self.extra: tuple[Key, Array] | None = None
        self.ahead: tuple[Key, Array] | None = None
        self.pads: tuple[Key, Array] | None = None
        self.sums: tuple[Key, Array] | None = None
        self.met: npt.NDArray[np.int64] = np.zeros((conv.groups, conv.filters, conv.channels), dtype=np.int64)

    def start(self, step: RowStep) -> None:
        if step.label == "load inputs":
            self.inputs = None
        elif step.label == "load filters":
            assert self.ahead is None
        elif step.label == "pass" and self.sums is None:
            shape = (step.tile.images, self.conv.filters, step.tile.rows, step.tile.columns)
            self.sums = (_block(step), np.zeros(shape))

    def end(self, step: RowStep) -> None:
        conv, tile = self.conv, step.tile
        images = slice(step.image, step.image + tile.images)
        channels = slice(step.channel, step.channel + tile.channels)
        filters = slice(step.filter, step.filter + tile.filters)
        rows, columns = slice(step.row, step.row + tile.rows), slice(step.column, step.column + tile.columns)
        match step.label:
            case "load inputs":
                top, left = step.row * conv.stride, step.column * conv.stride
                under = slice(top, top + conv.input_rows(tile.rows))
                beside = slice(left, left + conv.input_columns(tile.columns))
                self.inputs = ((*_block(step), step.channel), self.maps[step.group, images, channels, under, beside])
            case "load filters":
                self.ahead = ((step.group, step.filter, step.channel), self.filters[step.group, filters, channels])
            case "spread filters":
                self.pads, self.ahead = self.ahead, None
            case "pass":
                assert self.inputs is not None and self.pads is not None and self.sums is not None
                assert self.inputs[0] == (*_block(step), step.channel)
                assert self.pads[0] == (step.group, step.filter, step.channel)
                assert self.sums[0] == _block(step)
                self.sums[1][:, filters] += self.one_pass(self.inputs[1], self.pads[1], tile.rows, tile.columns)
                self.met[step.group, filters, channels] += 1
            case "load fused input":
                assert self.extra is None
                self.extra = _block(step), self.extras[step.group, images, filters, rows, columns]
            case "fused work":
                assert self.sums is not None and self.extra is not None
                assert self.sums[0] == self.extra[0] == _block(step)
                self.sums[1][:, filters] += self.extra[1]
                self.extra = None
            case "store outputs":
                assert self.sums is not None and self.sums[0] == _block(step)
                assert np.isnan(self.out[step.group, images, filters, rows, columns]).all()
                self.out[step.group, images, filters, rows, columns] = self.sums[1][:, filters]
                self.sums = None
            case _:
                raise AssertionError(step.label)

    def one_pass(self, maps: Array, filters: Array, n_rows: int, n_columns: int) -> Array:
        """PE (i, j) slides filter row i along input row j * stride + i; a column of PEs adds to output row j."""
        stride = self.conv.stride
        sums = np.zeros((len(maps), len(filters), n_rows, n_columns))
        for i in range(self.conv.kernel_rows):
            for j in range(n_rows):
                row = maps[:, :, j * stride + i, :]
                for x in range(n_columns):
                    window = row[:, :, x * stride : x * stride + self.conv.kernel_columns]
                    sums[:, :, j, x] += np.einsum("ncs,mcs->nm", window, filters[:, :, i, :])
        return sums


def _block(step: RowStep) -> Key:
    return step.group, step.image, step.row, step.column


def in_order_of_time(program: Program) -> list[tuple[str, RowStep]]:
    """("start" or "end", step) as they happen; within a cycle what ends comes first."""
    moments: list[tuple[int, int, int, str, RowStep]] = []
    for event in run_reference(program).events:
        moments.append((event.end, 0, event.engine, "end", event.command.run))
        moments.append((event.start, 1, event.engine, "start", event.command.run))
    return [(what, step) for *_, what, step in sorted(moments, key=lambda moment: moment[:3])]


def convolution(numbers: Numbers) -> Array:
    conv = numbers.conv
    out = np.zeros_like(numbers.out)
    for i in range(conv.kernel_rows):
        for s in range(conv.kernel_columns):
            rows = slice(i, i + (conv.rows - 1) * conv.stride + 1, conv.stride)
            columns = slice(s, s + (conv.columns - 1) * conv.stride + 1, conv.stride)
            out += np.einsum("gncyx,gmc->gnmyx", numbers.maps[..., rows, columns], numbers.filters[..., i, s])
    return out


@each_case
def test_simulated_order_computes_the_convolution(conv: Convolution, mapping: RowMapping) -> None:
    numbers = Numbers(conv)
    for what, step in in_order_of_time(row_stationary_program(conv, mapping, MACHINE, unroll=True)):
        getattr(numbers, what)(step)
    assert np.array_equal(numbers.out, convolution(numbers))  # small whole numbers: no rounding
    assert len(np.unique(numbers.met)) == 1


@each_case
def test_loops_and_skipping_change_nothing(conv: Convolution, mapping: RowMapping) -> None:
    looped = row_stationary_program(conv, mapping, MACHINE)
    unrolled = row_stationary_program(conv, mapping, MACHINE, unroll=True)
    runs = [simulate(looped), simulate(looped, skip=False), simulate(unrolled)]
    reference = run_reference(looped)
    assert not reference.waiting
    assert {run.cycles for run in runs} == {reference.cycles}
    assert {run.busy_cycles for run in runs} == {reference.busy_cycles}
    assert row_traffic(looped) == row_traffic(unrolled)
    assert sum(c.cost.counters.macs.get("int16", 0) * times for _, c, times in looped.commands()) == conv.macs


def test_one_pass_by_hand() -> None:
    """Maps (6 x 7 x 2 words) and filters (4 x 2 x 9) come over one link; then filters in, the pass, the store."""
    conv, mapping = CASES["one pass"]
    filters_alone = 2 * 2 * 72  # bytes that both transfers have moved when the filters are there
    assert filters_alone / 2.4 == 120
    maps_there = (filters_alone + 168 - 144) / 2.4
    spread, one_pass, store = 72 / 4, 4 * 4 * (2 * 3 + 1), 4 * 5 * 4 * 2 / 2.4
    run = simulate(row_stationary_program(conv, mapping, MACHINE))
    assert run.cycles == np.ceil(max(maps_there, 120 + spread) + one_pass + store)
    assert run.busy_cycles[ARRAY] == spread + one_pass
    traffic = row_traffic(row_stationary_program(conv, mapping, MACHINE))
    assert traffic == RowTraffic(buffer=2 * (84 + 2 * 80), dram_inputs=168, dram_filters=144, dram_outputs=160)
    assert traffic.dram == 168 + 144 + 160


def test_partial_sums_can_be_what_the_array_waits_for() -> None:
    """One channel a pass: 3 products and an addition a PE, but 14 rows of partial sums through 4 words a cycle."""
    conv = Convolution(batch=1, filters=16, channels=1, rows=14, columns=14, kernel_rows=3, kernel_columns=3)
    mapping = RowMapping(images=1, filters=16, strip=14, set_filters=4, set_channels=1, filter_sets=4)
    spread = 16 * 9 // 4
    for rules, cycles in (
        (RowRules(), spread + 16 * 14 * 14 // 4),
        (RowRules(psum_port=False), spread + 4 * 14 * 4),
        (RowRules(psum_port=False, adder_takes_psum=False), spread + 4 * 14 * 3),
        (RowRules(psum_port=False, filters_between_passes=False), 1 + 4 * 14 * 4),
    ):
        run = simulate(row_stationary_program(conv, mapping, MACHINE, rules=rules))
        assert run.busy_cycles[ARRAY] == cycles, rules
    assert mapping.active_pes(conv) == 168


def test_long_layers_have_short_programs() -> None:
    mapping = RowMapping(images=1, filters=32, strip=14, set_filters=16, set_channels=4, filter_sets=2)
    conv = Convolution(batch=1, filters=64, channels=64, rows=28, columns=28, kernel_rows=3, kernel_columns=3)
    short = row_stationary_program(conv, mapping, MACHINE)
    long = row_stationary_program(replace(conv, batch=1000, channels=4096), mapping, MACHINE)
    assert long.n_commands == short.n_commands
    assert simulate(long).n_jumps > 0


@pytest.mark.parametrize(("words", "zeros", "expected"), [(9, 0.0, 24), (10, 0.0, 32), (300, 0.7, 240), (5, 1.0, 8)])
def test_three_values_in_a_coded_word(words: int, zeros: float, expected: int) -> None:
    assert coded_bytes(words, zeros) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"set_filters": 19}, r"needs 228 words of filter scratchpads, which has 224 words"),
        ({"set_channels": 5, "set_filters": 8}, r"needs 15 words of input scratchpads, which has 12 words"),
        ({"set_filters": 25, "set_channels": 1}, r"needs 25 words of partial-sum scratchpads, which has 24 words"),
        ({"strip": 8, "filter_sets": 5}, r"needs 5 places of sets of PEs on eyeriss, which has 4 places"),
        ({"strip": 28, "filter_sets": 3}, r"needs 3 places of sets of PEs on eyeriss, which has 2 places"),
        ({"filters": 160}, r"bytes of buffer global, which has 102,400 bytes"),
    ],
)
def test_what_does_not_fit(change: dict[str, int], message: str) -> None:
    conv = Convolution(batch=1, filters=512, channels=64, rows=56, columns=56, kernel_rows=3, kernel_columns=3)
    mapping = RowMapping(images=1, filters=80, strip=7, set_filters=16, set_channels=4)
    check_mapping(conv, mapping, MACHINE)
    with pytest.raises(MappingError, match=message):
        check_mapping(conv, replace(mapping, **change), MACHINE)


def test_capacity_of_both_buffers_is_named() -> None:
    conv = replace(SMALL, batch=1, filters=96, channels=3, rows=55, columns=55, stride=4)
    conv = replace(conv, kernel_rows=11, kernel_columns=11)
    mapping = RowMapping(images=1, filters=96, strip=7, set_filters=16, set_channels=1, filter_sets=2)
    assert check_mapping(conv, mapping, MACHINE) == {
        "partial sums": 2 * 96 * 7 * 55,
        "input maps": 2 * 35 * 227,
        "filters": 2 * 32 * 121,
    }
    small = MACHINE.with_(**{"buffers.filters.capacity_kib": 7})
    with pytest.raises(MappingError, match="needs 7,744 bytes of buffer filters, which has 7,168 bytes"):
        row_stationary_program(conv, mapping, small)


@pytest.mark.parametrize(
    "change", [{"images": 3}, {"filters": 7}, {"strip": 8}, {"columns": 7}, {"set_filters": 0}, {"filter_sets": 9}]
)
def test_sizes_out_of_range(change: dict[str, int]) -> None:
    mapping = RowMapping(images=1, filters=6, strip=7, set_filters=2, set_channels=2)
    with pytest.raises(InputError, match=r'mapping: "\w+": given \d+, allowed 1 to \d+'):
        row_stationary_program(SMALL, replace(mapping, **change), MACHINE)


def test_layers_and_machines_out_of_range() -> None:
    with pytest.raises(InputError, match='convolution: "rows": given 0, allowed 1 or more'):
        replace(SMALL, rows=0)
    with pytest.raises(InputError, match=r'"input_zeros": given 1\.5, allowed a share from 0 to 1'):
        replace(SMALL, input_zeros=1.5)
    mapping = RowMapping(images=1, filters=6, strip=7, set_filters=2, set_channels=2)
    with pytest.raises(InputError, match=r"edge-16x16: row-stationary convolutions need matrix\.scratchpads"):
        row_stationary_program(SMALL, mapping, load_machine("edge-16x16"))
    with pytest.raises(InputError, match='no multiply rate for this number format; given "fp16"; allowed int16'):
        row_stationary_program(replace(SMALL, number_format="fp16"), mapping, MACHINE)
