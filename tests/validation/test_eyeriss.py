"""Latency of the convolution layers that the Eyeriss chip was measured on: AlexNet (batch 4) and VGG-16 (batch 3).

Measured figures: Eyeriss (JSSC 2017), tables V and VI, as two tables ``eyeriss_eie/eyeriss-*.csv`` in the folder that
the environment variable TILEWRIGHT_SHARED names, else in ``shared`` beside the checkout. The machine is ``eyeriss``.

What goes in: the layers' shapes, the chip's published sizes, the measured share of zeros (for the DRAM link only), and
one mapping for each layer. AlexNet's mappings are published (JSSC 2017, read at second hand). VGG-16's are not: they
are **inferred from the measured traffic** (global buffer and DRAM) and the active PEs, one for each block of layers of
equal size, by the search below, which sees no latency. The partial sums that it so finds are what the slow layers wait
for, so for these the comparison says that traffic explains latency, not that the latency was foreseen from the shape
alone. How wrong one is without that knowledge is computed below, too.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.search.api import simulate as simulate_operator
from tilewright.sim.dataflows.row_stationary.lower import (
    ARRAY,
    Convolution,
    RowMapping,
    RowRules,
    check_mapping,
    row_stationary_program,
    row_traffic,
)
from tilewright.sim.engine.run import simulate
from tilewright.sim.result import SimulationResult
from tilewright.units import ceil_div

pytestmark = pytest.mark.validation

MACHINE = load_machine("eyeriss")
LIMIT = 0.15
AS_IS = RowRules()
ALEXNET, VGG = "AlexNet", "VGG-16"
FILES = {ALEXNET: "eyeriss-alexnet.csv", VGG: "eyeriss-vgg16.csv"}
MB = 1_000_000


def mapping(n: int, m: int, e: int, p: int, q: int, r: int, t: int, columns: int = 0) -> RowMapping:
    return RowMapping(
        images=n, filters=m, strip=e, set_filters=p, set_channels=q, channel_sets=r, filter_sets=t, columns=columns
    )


def conv(
    batch: int, filters: int, channels: int, size: int, kernel: int, stride: int = 1, groups: int = 1
) -> Convolution:
    return Convolution(
        batch=batch,
        groups=groups,
        filters=filters,
        channels=channels,
        rows=size,
        columns=size,
        kernel_rows=kernel,
        kernel_columns=kernel,
        stride=stride,
    )


SHAPES = {
    ALEXNET: {
        "CONV1": conv(4, 96, 3, 55, 11, stride=4),
        "CONV2": conv(4, 128, 48, 27, 5, groups=2),
        "CONV3": conv(4, 384, 256, 13, 3),
        "CONV4": conv(4, 192, 192, 13, 3, groups=2),
        "CONV5": conv(4, 128, 192, 13, 3, groups=2),
    },
    VGG: {
        f"CONV{block}-{i + 1}": conv(3, widths[i + 1], widths[i], 448 >> block, 3)
        for block, widths in enumerate(
            ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512)), start=1
        )
        for i in range(len(widths) - 1)
    },
}
# n, m, e, p, q, r, t as in JSSC 2017.
PUBLISHED = {
    "CONV1": mapping(1, 96, 7, 16, 1, 1, 2),
    "CONV2": mapping(1, 64, 27, 16, 2, 1, 1),
    "CONV3": mapping(4, 64, 13, 16, 4, 1, 4),
    "CONV4": mapping(4, 64, 13, 16, 3, 2, 2),
    "CONV5": mapping(4, 64, 13, 16, 3, 2, 2),
}
# By block of VGG-16; what the search by traffic finds.
INFERRED = {
    "1": mapping(1, 32, 13, 8, 1, 1, 4, columns=112),
    "2": mapping(1, 32, 13, 8, 1, 1, 4),
    "3": mapping(1, 64, 13, 16, 2, 1, 4),
    "4": mapping(1, 32, 28, 16, 4, 1, 2),
    "5": mapping(3, 64, 14, 16, 4, 2, 2),
}


class Layer(NamedTuple):
    """One layer with what was measured: milliseconds, active PEs, MB."""

    network: str
    name: str
    shape: Convolution
    processing_ms: float
    total_ms: float
    pes: int
    buffer_mb: float
    dram_mb: float

    @property
    def mapping(self) -> RowMapping:
        return PUBLISHED[self.name] if self.network == ALEXNET else INFERRED[self.name[4]]


class Latency(NamedTuple):
    processing_ms: float
    total_ms: float


def folder() -> Path:
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    return Path(os.environ.get("TILEWRIGHT_SHARED", beside)) / "measured" / "eyeriss_eie"


@pytest.fixture(scope="module")
def layers() -> tuple[Layer, ...]:
    for name in FILES.values():
        if not (folder() / name).is_file():
            pytest.skip(f"the measured latencies are not here: {folder() / name} (or set TILEWRIGHT_SHARED)")
    return tuple(layer for network in FILES for layer in read(network))


def read(network: str) -> Iterator[Layer]:
    """The layers of a network as measured.

    The first layer's input lies plainly in DRAM; an output has the zeros of the next input (the last: of its own).
    """
    with (folder() / FILES[network]).open(encoding="utf-8", newline="") as file:
        rows = {row[0]: [cell.strip(" %") for cell in row[1:]] for row in csv.reader(file)}
    shapes = SHAPES[network]
    zeros = [round(float(rows[name][5]) / 100, 6) for name in shapes]
    for i, (name, shape) in enumerate(shapes.items()):
        _, total, processing, _, pes, _, buffer, dram = map(float, rows[name])
        coded = replace(shape, input_zeros=zeros[i] if i else None, output_zeros=zeros[min(i + 1, len(zeros) - 1)])
        # 163 for CONV5-1 alone among three layers of one shape; the table's own mean of 158 does not tell it from 168.
        yield Layer(network, name, coded, processing, total, 168 if pes == 163 else int(pes), buffer, dram)


@cache
def predicted(layer: Layer, how: RowMapping | None = None, rules: RowRules = AS_IS) -> Latency:
    run = simulate(row_stationary_program(layer.shape, how or layer.mapping, MACHINE, rules=rules))
    return Latency(1e3 * MACHINE.seconds(run.busy_cycles[ARRAY]), 1e3 * MACHINE.seconds(run.cycles))


def deviation(ours: float, measured: float) -> float:
    return ours / measured - 1


def processing(layer: Layer, how: RowMapping | None = None, rules: RowRules = AS_IS) -> float:
    return deviation(predicted(layer, how, rules).processing_ms, layer.processing_ms)


def total(layer: Layer, rules: RowRules = AS_IS) -> float:
    return deviation(predicted(layer, None, rules).total_ms, layer.total_ms)


def mean_absolute(values: Sequence[float]) -> float:
    return sum(map(abs, values)) / len(values)


def of(layers: Sequence[Layer], network: str) -> list[Layer]:
    return [layer for layer in layers if layer.network == network]


# --- traffic in closed form, and the mappings that it leaves possible -----------------------------------------------


def traffic(shape: Convolution, how: RowMapping) -> tuple[float, float]:
    """(buffer, DRAM) bytes, without rounding; written apart from the program."""
    columns = how.columns or shape.columns
    strips, tiles, rounds = ceil_div(shape.rows, how.strip), ceil_div(shape.columns, columns), shape.batch / how.images
    blocks = shape.filters / how.filters
    rows = shape.rows * shape.stride + strips * (shape.kernel_rows - shape.stride)
    wide = shape.columns * shape.stride + tiles * (shape.kernel_columns - shape.stride)
    inputs = shape.batch * shape.groups * shape.channels * rows * wide
    outputs = shape.batch * shape.groups * shape.filters * shape.rows * shape.columns
    taps = shape.kernel_rows * shape.kernel_columns
    filters = shape.groups * shape.filters * shape.channels * taps * rounds * strips * tiles
    chunks = ceil_div(shape.channels, how.pass_channels)
    buffer = 2 * (2 * outputs * chunks + inputs * shape.filters / how.pass_filters)
    return buffer, dram_bytes(inputs, shape.input_zeros) * blocks + 2 * filters + dram_bytes(
        outputs, shape.output_zeros
    )


def dram_bytes(words: float, zeros: float | None) -> float:
    return 2 * words if zeros is None else 8 * (1 - zeros) * words / 3


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


@cache
def candidates(shape: Convolution, pes: int) -> tuple[RowMapping, ...]:
    """Mappings that fit the chip with so many active PEs, and that cut images and filters evenly.

    p in multiples of 4, the words that move in a cycle; rows of output whole or in two halves.
    """
    found = []
    for n_sets in range(1, 1 + MACHINE.matrix.rows // shape.kernel_rows * MACHINE.matrix.columns):
        e, left = divmod(pes, shape.kernel_rows * n_sets)
        if left or e > shape.rows:
            continue
        for r, columns, q, p in product(divisors(n_sets), (0, shape.columns // 2), range(1, 13), range(4, 25, 4)):
            if q * shape.kernel_columns > 12 or q * r > max(r, shape.channels):
                continue
            for m, n in product(divisors(shape.filters), divisors(shape.batch)):
                how = mapping(n, m, e, p, q, r, n_sets // r, columns)
                if m % how.pass_filters == 0 and fits(shape, how):
                    found.append(how)
    return tuple(found)


def fits(shape: Convolution, how: RowMapping) -> bool:
    try:
        check_mapping(shape, how, MACHINE)
    except (InputError, MappingError):
        return False
    return True


def misfit(layers: Sequence[Layer], how: RowMapping) -> float:
    """Sum of squared logarithms of (buffer, DRAM) traffic over measured traffic."""
    logs = []
    for layer in layers:
        buffer, dram = traffic(layer.shape, how)
        logs += [math.log(buffer / MB / layer.buffer_mb), math.log(dram / MB / layer.dram_mb)]
    return sum(log * log for log in logs)


class Search(NamedTuple):
    """``best``: the mapping chosen. ``near``: all within 10 % of the measured traffic, root mean square, of ``n``."""

    best: RowMapping
    near: tuple[RowMapping, ...]
    n: int


def by_traffic(layers: Sequence[Layer]) -> Search:
    """The mapping that is nearest to the traffic of ``layers``.

    Whole rows, as in the publications, go before half rows if any of them is within 10 %.
    """
    largest = layers[-1]
    possible = sorted(
        (how for how in candidates(largest.shape, largest.pes) if all(fits(layer.shape, how) for layer in layers)),
        key=lambda how: misfit(layers, how),
    )
    limit = 2 * len(layers) * math.log(1.1) ** 2
    near = tuple(how for how in possible if misfit(layers, how) <= limit)
    whole_rows_first = sorted(near, key=lambda how: how.columns > 0)
    return Search((whole_rows_first or possible)[0], near, len(possible))


def blocks(layers: Sequence[Layer]) -> list[list[Layer]]:
    vgg = of(layers, VGG)
    return [[layer for layer in vgg if layer.name[4] == block] for block in INFERRED]


def least_energy(layer: Layer) -> RowMapping:
    """What one would choose without the chip: most active PEs, then least energy by the ratios of ISCA 2016."""
    for pes in range(168, 0, -1):
        if possible := candidates(layer.shape, pes):
            break

    def energy(how: RowMapping) -> float:
        buffer, dram = traffic(layer.shape, how)
        return 6 * buffer + 200 * dram

    return min(possible, key=energy)


# --- tests ----------------------------------------------------------------------------------------------------------


def test_the_set_is_whole(layers: tuple[Layer, ...]) -> None:
    assert len(layers) == 18
    assert sum(layer.shape.macs for layer in of(layers, ALEXNET)) / 1e9 == pytest.approx(2.66, abs=0.005)
    assert sum(layer.shape.macs for layer in of(layers, VGG)) / 1e9 == pytest.approx(46.04, abs=0.005)
    for layer in layers:
        assert layer.mapping.active_pes(layer.shape) == layer.pes, layer.name


def test_latencies(layers: tuple[Layer, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("\n\nEyeriss chip, latency in ms:    processing                        total, with DRAM")
        print("  layer             measured     ours   deviation    measured     ours   deviation")
        for layer in layers:
            ours = predicted(layer)
            print(
                f"  {layer.network:8} {layer.name:8}"
                f"{layer.processing_ms:8.1f} {ours.processing_ms:8.1f} {processing(layer):+11.1%}"
                f" {layer.total_ms:11.1f} {ours.total_ms:8.1f} {total(layer):+11.1%}"
            )
        for what, part in ((ALEXNET, of(layers, ALEXNET)), (VGG, of(layers, VGG)), ("all 18", list(layers))):
            print(
                f"  mean absolute deviation, {what:8} {mean_absolute([processing(x) for x in part]):18.1%}"
                f" {mean_absolute([total(x) for x in part]):32.1%}"
            )
    for deviations, mean in ((list(map(processing, layers)), 0.034), (list(map(total, layers)), 0.053)):
        assert mean_absolute(deviations) <= LIMIT
        assert mean_absolute(deviations) == pytest.approx(mean, abs=6e-4)  # as before


def test_known_worst_layers(layers: tuple[Layer, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Gaps. AlexNet CONV5 has the mapping of CONV4 and two thirds of its work, but was measured at 5/8 of its time.

    In the total latency the two ends of AlexNet are slow: part of the chip's loads and stores, which wait here for room
    in the buffer, must overlap with the array.
    """
    by_name = {layer.name: layer for layer in layers}
    worst = sorted(layers, key=lambda layer: -abs(processing(layer)))
    assert [layer.name for layer in worst[:2]] == ["CONV5", "CONV4"]
    assert processing(worst[0]) == pytest.approx(0.12, abs=0.005)
    assert by_name["CONV5"].processing_ms / by_name["CONV4"].processing_ms == pytest.approx(0.625)
    worst = sorted(layers, key=lambda layer: -abs(total(layer)))
    assert [layer.name for layer in worst[:3]] == ["CONV5", "CONV1", "CONV4-3"]
    assert [total(layer) for layer in worst[:3]] == pytest.approx([0.200, 0.186, -0.101], abs=0.002)
    with capsys.disabled():
        print("\n\nEyeriss chip, known gaps: processing of AlexNet CONV5 +12 %; total of AlexNet CONV5 +20 %,")
        print("  CONV1 +19 %, VGG-16 CONV4-3 -10 %")


def test_no_cost_of_a_pass_explains_conv5(layers: tuple[Layer, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """CONV4 and CONV5 run the same pass, 384 and 256 times; what was measured of each pass differs by 6.7 %.

    So whatever a pass costs, and whatever is paid once a layer beside it, one of the two is missed: exact on CONV4 is
    at least 6.7 % above CONV5. What a pass takes beyond its products is 1,264 cycles here (832 additions of partial
    sums, 432 to spread filters), 845 as measured of CONV4 and 324 of CONV5.
    """
    conv4, conv5 = (layer for layer in of(layers, ALEXNET) if layer.name in ("CONV4", "CONV5"))
    assert conv4.mapping == conv5.mapping and conv4.pes == conv5.pes
    assert replace(conv4.shape, filters=128, input_zeros=None, output_zeros=None) == replace(
        conv5.shape, input_zeros=None, output_zeros=None
    )
    how = conv4.mapping
    products = how.images * conv4.shape.columns * how.set_filters * how.set_channels * conv4.shape.kernel_columns
    beyond = {}
    for layer in (conv4, conv5):
        passes = (
            layer.shape.groups * layer.shape.filters * layer.shape.channels // (how.pass_filters * how.pass_channels)
        )
        cycles = layer.processing_ms / 1e3 * float(MACHINE.clock_hz)
        ours = predicted(layer).processing_ms / 1e3 * float(MACHINE.clock_hz)
        beyond[layer.name] = passes, cycles / passes - products, ours / passes - products
    assert [n for n, _, _ in beyond.values()] == [384, 256]
    assert [measured for _, measured, _ in beyond.values()] == pytest.approx([845, 324], abs=1)
    assert [ours for _, _, ours in beyond.values()] == pytest.approx([1264, 1264], abs=10)
    at_least = conv4.processing_ms * 2 / 3 / conv5.processing_ms - 1
    assert at_least == pytest.approx(0.067, abs=0.001)
    with capsys.disabled():
        print(f"\n\nEyeriss chip: a model of passes that is exact on CONV4 is {at_least:+.1%} or more on CONV5")


def test_traffic(layers: tuple[Layer, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Buffer accesses of AlexNet come out to the last published digit, but for CONV3; VGG-16's were searched for."""
    with capsys.disabled():
        print("\n\nEyeriss chip, traffic in MB:   buffer: measured, ours          DRAM: measured, ours")
        for layer in layers:
            counted = row_traffic(row_stationary_program(layer.shape, layer.mapping, MACHINE))
            assert traffic(layer.shape, layer.mapping) == pytest.approx((counted.buffer, counted.dram), rel=0.01)
            print(
                f"  {layer.network:8} {layer.name:8} {layer.buffer_mb:14.1f} {counted.buffer / MB:9.1f}"
                f" {layer.dram_mb:22.1f} {counted.dram / MB:7.1f}"
            )
            if layer.name == "CONV3":
                assert counted.buffer / MB == pytest.approx(69.2, abs=0.05)  # a gap: measured 50.2
            elif layer.network == ALEXNET:
                assert counted.buffer / MB == pytest.approx(layer.buffer_mb, abs=0.051)
            else:
                assert counted.buffer / MB == pytest.approx(layer.buffer_mb, rel=0.05)
            assert counted.dram / MB == pytest.approx(layer.dram_mb, rel=0.13)
    exact = replace(PUBLISHED["CONV3"], set_channels=3, channel_sets=2, filter_sets=2)
    assert traffic(layers[2].shape, exact)[0] / MB == pytest.approx(layers[2].buffer_mb, abs=0.05)


def test_the_mappings_of_vgg_are_those_of_its_traffic(
    layers: tuple[Layer, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """The search sees traffic and active PEs, no latency; on AlexNet it finds what is published, but for CONV3.

    On CONV2 it finds an equal one: twice the images and half the filters, with almost the same traffic.
    """
    lines = [
        "\n\nEyeriss chip, VGG-16's mappings from its traffic (n, m, e, p, q, r, t), and latencies that others give:"
    ]
    for block, part in zip(INFERRED, blocks(layers), strict=True):
        found = by_traffic(part)
        assert found.best == INFERRED[block], block
        spread = [mean_absolute([processing(layer, how) for layer in part]) for how in found.near]
        lines.append(
            f"  block {block}: {_letters(found.best):26} {len(found.near):2} of {found.n:4} mappings within 10 % of "
            f"the traffic: mean deviation {min(spread):.1%} to {max(spread):.1%}"
        )
        assert max(spread) < LIMIT
    same = []
    for layer in of(layers, ALEXNET):
        best = by_traffic([layer]).best
        alike = abs(misfit([layer], layer.mapping) - misfit([layer], best)) < 1e-3
        same += [layer.name] if alike else []
        lines.append(
            f"  AlexNet {layer.name}: published {_letters(layer.mapping):18} {processing(layer):+6.1%}   from traffic "
            f"{_letters(best):18} {processing(layer, best):+6.1%}{'' if alike else '   another one'}"
        )
    assert same == ["CONV1", "CONV2", "CONV4", "CONV5"]
    with capsys.disabled():
        print("\n".join(lines))


def _letters(how: RowMapping) -> str:
    letters = [how.images, how.filters, how.strip, how.set_filters, how.set_channels, how.channel_sets, how.filter_sets]
    return " ".join(map(str, letters)) + (" half rows" if how.columns else "")


RULES = {
    "as in the program": AS_IS,
    "no addition of partial sums": RowRules(adder_takes_psum=False),
    "filters spread behind the pass before": RowRules(filters_between_passes=False),
    "neither": RowRules(adder_takes_psum=False, filters_between_passes=False),
    "partial sums never wait": RowRules(psum_port=False),
    "none of the three": RowRules(adder_takes_psum=False, filters_between_passes=False, psum_port=False),
}
# Mean absolute deviation of the processing latency in percent, AlexNet and VGG-16: what the code now gives.
WORTH = {
    "as in the program": (4.2, 3.1),
    "no addition of partial sums": (5.0, 4.4),
    "filters spread behind the pass before": (5.2, 5.2),
    "neither": (10.0, 7.3),
    "partial sums never wait": (4.2, 32.8),
    "none of the three": (11.4, 43.4),
}


def test_what_each_rule_is_worth(layers: tuple[Layer, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """The rules that AlexNet chooses are the best on VGG-16; the partial sums' port shows on VGG-16 only."""
    found = {
        name: [100 * mean_absolute([processing(x, None, rules) for x in of(layers, net)]) for net in (ALEXNET, VGG)]
        for name, rules in RULES.items()
    }
    with capsys.disabled():
        print(
            "\n\nEyeriss chip, rules (no constant fitted in any), mean abs. deviation of processing:  AlexNet  VGG-16"
        )
        for name, (alexnet, vgg) in found.items():
            print(f"  {name:82} {alexnet:6.1f}% {vgg:6.1f}%")
        print(
            "  Chosen on AlexNet, which does not tell whether partial sums wait, the first two rules are also the best"
        )
        print("  on VGG-16. That 4 partial sums move in a cycle follows from 64-bit buffer words, and shows on VGG-16.")
        print("  All layers had been read when the rules were thought of: this tests the choice, not the invention.")
    for name, errors in found.items():
        assert errors == pytest.approx(WORTH[name], abs=0.06), name
    least = min(alexnet for alexnet, _ in found.values())
    chosen = [name for name, (alexnet, _) in found.items() if alexnet <= least + 0.01]
    assert chosen == ["as in the program", "partial sums never wait"]
    assert min(found, key=lambda name: found[name][1]) == "as in the program"


def test_without_the_chips_mapping(layers: tuple[Layer, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A known gap: VGG-16 ran on mappings far from the best, which nothing but its measured traffic tells."""
    blind = {network: [processing(x, least_energy(x)) for x in of(layers, network)] for network in FILES}
    with capsys.disabled():
        print("\n\nEyeriss chip, processing with mappings of most PEs and least energy instead of the chip's:")
        for network, errors in blind.items():
            each = " ".join(f"{error:+.0%}" for error in errors)
            print(f"  {network:8} mean absolute deviation {mean_absolute(errors):.1%}: {each}")
    assert mean_absolute(blind[VGG]) > LIMIT


# --- as a user meets it: an operator's text, the usual dataflow of the machine --------------------------------------


SEARCHED = ((ALEXNET, "CONV3"), (VGG, "CONV2-2"), (VGG, "CONV5-1"))  # three, as each takes seconds


def as_text(shape: Convolution) -> str:
    rows, columns = shape.input_rows(shape.rows), shape.input_columns(shape.columns)
    return (
        f"conv:in={shape.groups * shape.channels}x{rows}x{columns},out_channels={shape.groups * shape.filters},"
        f"kernel={shape.kernel_rows},stride={shape.stride},groups={shape.groups},batch={shape.batch},format=int16"
    )


def as_tiling(shape: Convolution, how: RowMapping) -> dict[str, int]:
    names = ("images", "filters", "strip", "set_filters", "set_channels", "channel_sets", "filter_sets")
    return {name: getattr(how, name) for name in names} | {"columns": how.columns or shape.columns}


def busy_ms(result: SimulationResult) -> float:
    return 1e3 * MACHINE.seconds(round(result.matrix_utilization * result.cycles))


@pytest.mark.slow
def test_the_command_runs_what_the_chip_ran(layers: tuple[Layer, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """``simulate conv:... -a eyeriss`` with the chip's mappings, and with those that it finds by itself.

    Its maps are not coded, so that the DRAM of its totals has more to do than the chip's had. What it finds by itself
    is what the chip could have done, not what it did: in the middle of VGG-16 several times as fast.
    """
    lines = [
        "\n\nEyeriss chip by `simulate conv:... -a eyeriss`, ms:  measured   chip's mapping        found by search"
    ]
    errors = []
    for layer in layers:
        text = as_text(layer.shape)
        given = simulate_operator(text, MACHINE, tiling=as_tiling(layer.shape, layer.mapping))
        assert given.dataflow == "row_stationary"
        assert busy_ms(given) == pytest.approx(predicted(layer).processing_ms)
        errors.append(deviation(busy_ms(given), layer.processing_ms))
        searched = ""
        if (layer.network, layer.name) in SEARCHED:
            found = simulate_operator(text, MACHINE)
            assert found.cycles <= given.cycles
            searched = f"{busy_ms(found):12.1f}   whole run {given.cycles / found.cycles:.2f} times as fast"
        lines.append(
            f"  {layer.network:8} {layer.name:8} processing {layer.processing_ms:18.1f} {busy_ms(given):9.1f} "
            f"{errors[-1]:+6.1%} {searched}"
        )
    lines.append(f"  mean absolute deviation with the chip's mappings {mean_absolute(errors):.1%}")
    lines.append(f"  within 10 %: {sum(abs(error) <= 0.1 for error in errors)} of {len(errors)}")
    with capsys.disabled():
        print("\n".join(lines))
    assert mean_absolute(errors) == pytest.approx(0.034, abs=6e-4)
