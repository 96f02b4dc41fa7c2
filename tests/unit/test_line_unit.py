"""A unit for depthwise convolutions that is fed pixel by pixel, behind an engine for 1 x 1 that is, too."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from tilewright import simulate_network
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.matrix_unit import product
from tilewright.hw_models.spec import LineSpec, MachineSpec
from tilewright.hw_models.vector_unit import least_vector_cycles, vector_cycles
from tilewright.sim.jobs import jobs_on
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.vector_work import UnitValues, unit_values
from tilewright.workloads.zoo.layers import Layers

MACHINE = load_machine("codenet-ultra96")
SIDE, INS, OUTS = 6, 40, 24


def pair(stride: int = 1, kernel: int = 3, *, twice: bool = False, first: int = 1, wide: int = 1) -> OperatorStream:
    """A convolution, relu, a depthwise one and a relu; ``twice``: what is between has another reader."""
    b = Layers("pair", activations="int8", weights="int8")
    x = b.input("x", (1, INS, SIDE, SIDE))
    y = b.elementwise("relu", b.conv(x, OUTS, first, "first"), name="between")
    z = b.conv(y, wide * OUTS, kernel, "depthwise", stride=stride, groups=OUTS)
    z = b.elementwise("relu", z, name="behind")
    return b.finish([z, y] if twice else [z])


def lined(**changes: object) -> MachineSpec:
    lines = replace(MACHINE.vector.lines, **changes) if MACHINE.vector.lines else None
    return replace(MACHINE, vector=replace(MACHINE.vector, lines=lines))


def test_two_loops_for_each_pixel() -> None:
    """36 pixels in, 9 out, 2 groups of 16 channels: 36 (2 + 50) + 9 (2 + 21), and the start of a command."""
    operator = pair(stride=2).operators[2]
    values = unit_values(operator)
    assert values is not None and operator.kind == "conv"
    unit = MACHINE.vector
    work = (("mul", operator.macs), ("add", operator.macs))
    lanes = replace(unit, lines=None)
    assert vector_cycles(lanes, work, reduces=False, values=values) == -(-operator.macs // 16) + 8
    free = replace(unit, lines=LineSpec(channels=16, kernel=3))
    assert vector_cycles(free, work, reduces=False, values=values) == 36 * 2 + 9 * 2 + 8
    assert vector_cycles(unit, work, reduces=False, values=values) == 36 * 52 + 9 * 23 + 8
    assert least_vector_cycles(unit, work, values) == 36 * 52 + 9 * 23
    half = values.share(Fraction(1, 2))
    assert vector_cycles(unit, (), reduces=False, values=half) <= 18 * 52 + Fraction(9, 2) * 23 + 9


def test_a_kernel_that_does_not_fit_goes_by_the_lanes() -> None:
    values = unit_values(pair(kernel=5).operators[2])
    assert values is not None and values.pixels is not None and values.pixels.kernel == 5
    work = (("mul", values.n), ("add", values.n))
    assert vector_cycles(MACHINE.vector, work, reduces=False, values=values) == -(-values.n // 16) + 8


def test_inputs_come_before_the_first_block() -> None:
    """For each of 5 pixels 3 steps of inputs, then for each of 2 groups of outputs 3 steps and the pipeline."""
    cost = product(MACHINE.matrix, 5, 48, 32, "int8")
    assert cost.cycles == 5 * (3 + 2 * (3 + 11))
    assert cost.fill_drain_cycles == 5 * (3 + 2 * 11)
    assert cost.read_elements_a == 5 * 48


@pytest.mark.parametrize("stride", [1, 2])
def test_a_depthwise_convolution_behind_a_product_is_one_job(stride: int) -> None:
    (job,) = jobs_on(pair(stride), MACHINE)
    layer = job.layer
    assert isinstance(layer, GemmLayer)
    assert [operator.name for operator in job.operators] == ["first", "between", "depthwise", "behind"]
    share = Fraction(1, stride**2)
    assert (layer.m, layer.k, layer.n) == (SIDE**2, INS, OUTS)
    assert layer.fused.line_results == share and layer.out_bits == 8 * share
    assert not layer.fused.extra_bits
    result = simulate_network(pair(stride), MACHINE)
    overhead = round(73e-6 * 0.25e9)
    product_cycles = 36 * (3 + 2 * (3 + 11))
    in_lines = 36 * (2 + 50) + int(36 * share) * (2 + 21)
    assert result.cycles - overhead >= max(product_cycles, in_lines)
    # far less than one behind the other, with what the DRAM and the last tile take
    assert result.cycles - overhead < max(product_cycles, in_lines) + min(product_cycles, in_lines)
    assert layer.compulsory_bits == 8 * (SIDE**2 * INS + INS * OUTS + OUTS * SIDE**2 * share)


def test_what_stays_apart() -> None:
    """Another reader, a kernel that does not fit, several results a channel, a unit that stands elsewhere."""
    assert len(jobs_on(pair(twice=True), MACHINE)) == 2
    assert len(jobs_on(pair(kernel=5), MACHINE)) == 2
    assert len(jobs_on(pair(wide=2), MACHINE)) == 2
    assert len(jobs_on(pair(), lined(behind_products=False))) == 2
    assert len(jobs_on(pair(), MACHINE, chained=False)) == 2
    assert len(jobs_on(pair(), MACHINE, fuse=False)) == 4
    first, second = jobs_on(pair(), lined(behind_products=False))
    assert isinstance(first.layer, GemmLayer) and not first.layer.fused.line_results
    assert isinstance(second.layer, VectorLayer) and isinstance(second.layer.values, UnitValues)


def test_results_of_products_pass_the_lines() -> None:
    """One group of outputs, 64 channels: 4 + 4 + 11 cycles a pixel in the engine, 1 + 50 on the way out."""
    b = Layers("predict", activations="int8", weights="int8")
    stream = b.finish([b.conv(b.input("x", (1, 64, 16, 16)), 2, 1, "predict")])
    through = simulate_network(stream, MACHINE)
    straight = simulate_network(stream, lined(behind_products=False))
    overhead = round(73e-6 * 0.25e9)
    assert straight.cycles - overhead < 256 * 30 < 256 * 51 < through.cycles - overhead < 256 * 60


def test_first_layers_go_to_the_processor() -> None:
    (job, *_) = jobs_on(pair(first=3), MACHINE)
    assert type(job.layer).__name__ == "FallbackLayer" and job.operators[0].name == "first"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("vector.rates", {"depthwise": 144}, "lines"),
        ("matrix.stationarity", "weight", "inputs_first"),
        ("vector.lines.kernel", 0, "kernel"),
    ],
)
def test_faults_are_named(path: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        MACHINE.with_(**{path: value})
