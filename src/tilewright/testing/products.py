"""Products, convolutions and element-wise work of odd shapes, tiles for them, and their results. Needs Hypothesis."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from tilewright.hw_models.quantised.demand import Engine
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.gemm.numbers import convolution, run_product_on_numbers
from tilewright.sim.lowering.mapping import Dataflow, Layer, Tiling
from tilewright.workloads.conv_window import ConvWindow
from tilewright.workloads.gemm import Fused, GemmLayer, VectorLayer

__all__ = ["layers", "numbers", "rows", "tilings", "windows"]

_SIZES = st.integers(1, 9)
_OPERATIONS = st.sampled_from([(), (("max", 1),), (("add", 2), ("exp", 1))])


@st.composite
def windows(draw: st.DrawFn) -> ConvWindow:
    """Windows with strides, dilations and padding of their own in both directions."""

    def axis() -> tuple[int, int, int, int, int, int]:
        kernel, stride, dilation, pad = (draw(st.integers(*ends)) for ends in ((1, 3), (1, 3), (1, 2), (0, 2)))
        reach = (kernel - 1) * dilation + 1
        size = draw(st.integers(max(1, reach - 2 * pad), 9))
        return size, (size + 2 * pad - reach) // stride + 1, kernel, stride, dilation, pad

    down, across = axis(), axis()
    return ConvWindow(
        down[0], across[0], down[1], across[1], down[2], across[2], down[3], across[3],
        images=draw(st.integers(1, 3)), dilation_height=down[4], dilation_width=across[4],
        pad_top=down[5], pad_left=across[5],
    )  # fmt: skip


@st.composite
def layers(draw: st.DrawFn) -> GemmLayer:
    """Products and convolutions with work that is fused into them."""
    window = draw(st.none() | windows())
    m, k = draw(st.integers(1, 12)), draw(_SIZES)
    if window is not None:
        m, k = window.images * window.out_height * window.out_width, window.taps * draw(st.integers(1, 3))
    operations = draw(_OPERATIONS)
    bits = st.sampled_from([4, 8, 16])
    return GemmLayer(
        name="product",
        groups=draw(st.integers(1, 2)),
        m=m,
        k=k,
        n=draw(_SIZES),
        a_bits=draw(bits),
        b_bits=draw(bits),
        out_bits=draw(bits),
        accumulator_bits=32,
        compute_format=draw(st.sampled_from(["int8", "fp16"])),
        b_is_weight=draw(st.booleans()),
        fused=Fused(operations, extra_bits=tuple(draw(st.lists(bits, max_size=2))) if operations else ()),
        window=window,
    )


@st.composite
def on_engine(draw: st.DrawFn, engine: Engine) -> GemmLayer:
    """Such products on a quantised engine, in formats of its pair; no convolution of several taps behind a pass."""
    layer = draw(layers().filter(lambda one: one.window is None or one.window.taps == 1 or not _has_passes(engine)))
    weights, activations = (_one_of(formats) for formats in engine.pair.split(" x "))
    m, k, n = layer.m, layer.k, layer.n
    mine = engine.for_product(weights, activations, m, k, n)
    assert mine is not None, f"{engine.name} does not do products of its own pair {engine.pair}"
    b_bits, a_bits = mine.stored_bits(m, k, n)
    return replace(layer, engine=mine, b_is_weight=True, a_bits=Fraction(a_bits, m * k), b_bits=Fraction(b_bits, k * n))


def _one_of(formats: str) -> str:
    """A format of "int4", or of "int1 to int8"."""
    return "int4" if " to " in formats else formats


def _has_passes(engine: Engine) -> bool:
    return len(engine.steps(1, 1, 1)) > 1


@st.composite
def rows(draw: st.DrawFn) -> VectorLayer:
    """Element-wise work and reductions over rows."""
    return VectorLayer(
        name="rows",
        rows=draw(st.integers(1, 40)),
        read_bytes=draw(st.integers(0, 70)),
        write_bytes=draw(st.integers(0, 70)),
        operations=draw(_OPERATIONS),
        reduces=draw(st.booleans()),
        groups=draw(st.integers(1, 3)),
    )


@st.composite
def tilings(draw: st.DrawFn, dataflow: Dataflow, layer: Layer, machine: MachineSpec) -> dict[str, int]:
    """Each parameter's candidates, and for sizes what lies between them."""
    tiling = {}
    for parameter in dataflow.parameters:
        usual = parameter.candidates(layer, machine)
        sizes = st.integers(min(usual), max(usual))
        tiling[parameter.name] = min(draw(st.sampled_from(usual) | sizes), parameter.largest(layer))
    return tiling


def numbers(
    dataflow: Dataflow, layer: GemmLayer, machine: MachineSpec, tiling: Tiling, random: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What the dataflow computes of random operands, and what the product is."""
    window, (groups, m, n), k = layer.window, layer.before_cut, layer.k
    if layer.split is not None:
        groups, k = groups // layer.split.n_parts, layer.split.k
    shape = (groups, m, k)
    a = random.normal(size=shape)
    if window is not None:
        channels = layer.k // window.taps
        a = random.normal(size=(groups, window.images, window.in_height, window.in_width, channels))
    b = random.normal(size=(groups, k, n))
    extras = [random.normal(size=(groups, m, n)) for _ in layer.fused.extra_bits]
    want = a @ b if window is None else np.stack([convolution(window, x, w) for x, w in zip(a, b, strict=True)])
    found = run_product_on_numbers(layer, machine, tiling, a, b, extras, dataflow=dataflow)
    return found, sum(extras, start=want)
