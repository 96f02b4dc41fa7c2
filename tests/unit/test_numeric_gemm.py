"""Products and convolutions on numbers: right results, enough loaded, and forgotten synchronisation caught."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.load import load_machine
from tilewright.sim.dataflows.gemm.lower import GEMM, GemmCore
from tilewright.sim.dataflows.gemm.numbers import convolution, run_product_on_numbers
from tilewright.sim.lowering.core import Pool
from tilewright.sim.lowering.mapping import Dataflow, Tiling
from tilewright.sim.numbers.hazards import FloatArray, HazardError
from tilewright.workloads.conv_window import ConvWindow, Slab
from tilewright.workloads.gemm import Fused, GemmLayer, Whole

EDGE = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4})
MACHINES = {
    "slow DRAM": EDGE.with_(**{"dram.bandwidth_gb_per_s": 1}),
    "fast DRAM": EDGE.with_(**{"dram.bandwidth_gb_per_s": 3000, "dram.first_access_latency_ns": 0}),
    "slow vector": EDGE.with_(**{"vector.lanes": 1}),
}
ADD = Fused(operations=(("add", 1),), extra_bits=(16,))
TWO_MORE = Fused(operations=(("add", 2), ("mul", 1)), extra_bits=(8, 16))


def a_layer(**changes: Any) -> GemmLayer:
    values: dict[str, Any] = {
        "name": "product", "groups": 1, "m": 7, "k": 11, "n": 9, "a_bits": 8, "b_bits": 8, "out_bits": 8,
        "accumulator_bits": 32, "compute_format": "int8",
    }  # fmt: skip
    return GemmLayer(**(values | changes))


def a_conv(channels: int, n: int, *, images: int = 1, groups: int = 1, **shape: Any) -> GemmLayer:
    """A convolution of 3x3 over 9x7 with padding 1 unless ``shape`` says otherwise."""
    size, kernel = shape.get("size", (9, 7)), shape.get("kernel", (3, 3))
    stride, dilation, pad = shape.get("stride", (1, 1)), shape.get("dilation", (1, 1)), shape.get("pad", (1, 1))
    out = [
        (size[i] + 2 * pad[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    ]  # fmt: skip
    window = ConvWindow(
        *size, *out, *kernel, *stride, images=images, dilation_height=dilation[0], dilation_width=dilation[1],
        pad_top=pad[0], pad_left=pad[1],
    )  # fmt: skip
    return a_layer(groups=groups, m=images * out[0] * out[1], k=window.taps * channels, n=n, window=window)


def a_tiling(layer: GemmLayer, m: int, n: int, k: int, **changes: int) -> dict[str, int]:
    values = {"m": m, "n": n, "k": k, "order": 0, "depth": 2, "outputs": 2, "prefetched": 0} | changes
    return values | {name: min(values[name], getattr(layer, name)) for name in ("m", "n", "k")}


def operands(layer: GemmLayer) -> tuple[FloatArray, FloatArray, list[FloatArray]]:
    random, window = np.random.default_rng(3), layer.window
    shape: tuple[int, ...] = (layer.groups, layer.m, layer.k)
    if window is not None:
        shape = (layer.groups, window.images, window.in_height, window.in_width, layer.k // window.taps)
    output = (layer.groups, layer.m, layer.n)
    extras = [random.normal(size=output) for _ in layer.fused.extra_bits]
    return random.normal(size=shape), random.normal(size=(layer.groups, layer.k, layer.n)), extras


def expected(layer: GemmLayer) -> FloatArray:
    a, b, extras = operands(layer)
    window = layer.window
    result = a @ b if window is None else np.stack([convolution(window, x, w) for x, w in zip(a, b, strict=True)])
    return np.asarray(sum(extras, start=result))


def run(layer: GemmLayer, tiling: Tiling, machine: Any = EDGE, dataflow: Dataflow = GEMM) -> FloatArray:
    return run_product_on_numbers(layer, machine, tiling, *operands(layer), dataflow=dataflow)


def check(layer: GemmLayer, tiling: Tiling, machine: Any = EDGE) -> None:
    np.testing.assert_allclose(run(layer, tiling, machine), expected(layer), rtol=1e-12, atol=1e-12)


# -- is the result the product? ----------------------------------------------------------------------------

LAYERS = {
    "plain": a_layer(),
    "three groups": a_layer(groups=3),
    "residual": a_layer(fused=ADD),
    "two residuals in two groups": a_layer(groups=2, fused=TWO_MORE),
    "activation": a_layer(fused=Fused(operations=(("max", 1),))),
    "one row": a_layer(m=1),
    "odd bits": a_layer(a_bits=4, b_bits=3, out_bits=6),
    "second operand no weight": a_layer(b_is_weight=False, groups=2),
}
TILES = [(3, 4, 5), (7, 9, 11), (7, 2, 11), (2, 9, 3), (1, 1, 1)]


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_products(layer: GemmLayer, order: int) -> None:
    for (m, n, k), depth, prefetched in product(TILES, (1, 2, 5), (0, 1)):
        if m * n * k == 1 and depth == 2:  # the most commands, so only the least and the most slots
            continue
        check(layer, a_tiling(layer, m, n, k, order=order, depth=depth, prefetched=prefetched))


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_whatever_is_slow(machine: Any) -> None:
    layer = a_layer(groups=2, fused=TWO_MORE)
    for order, depth, outputs in product((0, 1, 2), (1, 3), (1, 2)):
        check(layer, a_tiling(layer, 3, 4, 5, order=order, depth=depth, outputs=outputs), machine)


CONVOLUTIONS = {
    "3x3": a_conv(4, 6),
    "3x3, stride 2": a_conv(4, 6, stride=(2, 2)),
    "3x3, no padding, three images": a_conv(2, 6, images=3, pad=(0, 0)),
    "3x3, three images": a_conv(2, 6, images=3),
    "3x3, dilation 2": a_conv(3, 5, dilation=(2, 2), pad=(2, 2)),
    "3x3, dilation 2, stride 2, two images": a_conv(3, 5, dilation=(2, 2), stride=(2, 2), images=2),
    "1x1": a_conv(8, 6, kernel=(1, 1), pad=(0, 0)),
    "1x1, stride 2": a_conv(8, 6, kernel=(1, 1), stride=(2, 2), pad=(0, 0), images=2),
    "2x2 patches": a_conv(3, 6, size=(8, 6), kernel=(2, 2), stride=(2, 2), pad=(0, 0)),
    "stride beyond the kernel": a_conv(3, 6, kernel=(2, 2), stride=(3, 3), pad=(0, 0), images=2),
    "one dimension": a_conv(4, 6, size=(1, 20), kernel=(1, 5), pad=(0, 2)),
    "5x3, uneven": a_conv(2, 4, kernel=(5, 3), stride=(1, 2), pad=(2, 0)),
    "four groups": a_conv(2, 3, groups=4),
    "kernel larger than the map": a_conv(2, 3, size=(2, 3), kernel=(5, 5), pad=(2, 2), images=2),
}


@pytest.mark.parametrize("layer", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions(layer: GemmLayer) -> None:
    """Tiles of whole output rows and ragged ones, of whole channels and ragged ones, across images."""
    assert layer.window is not None
    width, taps = layer.window.out_width, layer.window.taps
    for m, k in product((width, 2 * width, 5, 10**6), (taps, taps + 1, layer.k)):
        for order, prefetched in ((0, 0), (1, 1), (2, 0)):
            check(layer, a_tiling(layer, m, 4, k, order=order, prefetched=prefetched))


# -- how much a slab holds ---------------------------------------------------------------------------------


def test_slabs_of_a_map_with_padding() -> None:
    """56 x 56, 3x3, padding 1: eight output rows need ten input rows, nine at the border."""
    window = ConvWindow(56, 56, 56, 56, 3, 3, 1, 1, pad_top=1, pad_left=1)
    assert window.slab_at(0, 8 * 56) == (9, 56, 1)
    assert window.slab_at(8 * 56, 8 * 56) == (10, 56, 1)
    assert window.slab_at(48 * 56, 8 * 56) == (9, 56, 1)
    assert window.largest_slab(8 * 56, tile=8 * 56) == (10, 56, 1)
    assert window.largest_slab(56 * 56, tile=56 * 56) == (56, 56, 1)
    assert window.largest_slab(28, tile=28) == (3, 30, 1)
    assert window.needed_pixels == 56 * 56


def test_slabs_leave_out_what_no_output_needs() -> None:
    window = ConvWindow(56, 56, 28, 28, 1, 1, 2, 2, images=4)
    assert window.needed_pixels == 4 * 28 * 28
    assert window.slab_at(0, 28 * 28) == Slab(28, 55, row_step=2)
    assert window.largest_slab(7 * 28, tile=7 * 28) == Slab(7, 55, row_step=2)


def test_slabs_of_whole_images_are_exact() -> None:
    window = ConvWindow(14, 14, 14, 14, 3, 3, 1, 1, images=8, pad_top=1, pad_left=1)
    assert window.largest_slab(2 * 196, tile=2 * 196).rows == 28
    assert window.slab_at(196, 3 * 196).rows == 42


@pytest.mark.parametrize("layer", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_the_largest_slab_covers_every_tile(layer: GemmLayer) -> None:
    window = layer.window
    assert window is not None
    for tile in range(1, layer.m + 1):
        starts = range(0, layer.m, tile)
        largest = window.largest_slab(tile, tile=tile)
        for start in starts:
            n = min(tile, layer.m - start)
            slab, any_of_size = window.slab_at(start, n), window.largest_slab(n, tile=tile)
            assert slab.rows <= any_of_size.rows <= largest.rows
            assert slab.columns <= any_of_size.columns <= largest.columns


def test_a_slab_that_is_too_small_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = CONVOLUTIONS["3x3"]
    right = ConvWindow.largest_slab

    def one_row_less(window: ConvWindow, n_pixels: int, *, tile: int) -> Slab:
        slab = right(window, n_pixels, tile=tile)
        return slab._replace(rows=slab.rows - 1)

    monkeypatch.setattr(ConvWindow, "largest_slab", one_row_less)
    with pytest.raises(HazardError, match=r'^"load A" on load at cycle \d+ loads \d+ bits, but pays for \d+ bytes$'):
        run(layer, a_tiling(layer, 14, 6, 36), EDGE.with_(**{"dram.burst_bytes": 1}))
    with pytest.raises(HazardError, match=r"which then needs \d+ bits of a slot of \d+ bits"):
        run(layer, a_tiling(layer, 14, 6, 36))


# -- is forgotten synchronisation caught? ------------------------------------------------------------------


ISSUING = ("load", "load_weights", "store", "matrix", "vector")


class ForgetfulCore:
    """A core whose commands do not wait for the semaphore ``forgotten``, or with ``fewer`` slots in a pool."""

    def __init__(self, core: GemmCore, forgotten: str, seen: set[str], fewer: str = "") -> None:
        self._core, self._forgotten, self._seen, self._fewer = core, forgotten, seen, fewer
        self._dropped: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._core, name)
        return self._command(attribute) if name in ISSUING else attribute

    def _command(self, issue: Callable[..., None]) -> Callable[..., None]:
        def forgetful(work: Any, *, waits: Sequence[int] = (), **rest: Any) -> None:
            issue(work, waits=[wait for wait in waits if wait not in self._dropped], **rest)

        return forgetful

    def _note(self, name: str, number: int) -> int:
        self._seen.add(name)
        if name == self._forgotten:
            self._dropped.add(number)
        return number

    def pool(self, name: str, **options: int) -> Pool:
        pool = self._core.pool(name, **options)
        self._note(f"{name} slot free", pool.free)
        self._note(f"{name} ready", pool.full)
        if name == self._fewer:
            self._core.pools[name] = pool._replace(slots=pool.slots - 1)
        return pool

    def semaphore(self, name: str, *arguments: Any, **options: Any) -> int:
        return self._note(name, self._core.semaphore(name, *arguments, **options))


def forgetting(semaphore: str, seen: set[str] | None = None, *, fewer: str = "") -> Dataflow:
    (phase,) = GEMM.phases
    noted = set() if seen is None else seen

    def lower(core: GemmCore, tiling: Tiling) -> None:
        phase.lower(ForgetfulCore(core, semaphore, noted, fewer), tiling)  # type: ignore[arg-type]

    return replace(GEMM, phases=(replace(phase, lower=lower),))


@pytest.mark.parametrize("fused", [Fused(), ADD], ids=["stored as they are", "with a residual"])
@pytest.mark.parametrize("prefetched", [0, 1])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_every_forgotten_wait_is_caught(order: int, prefetched: int, fused: Fused) -> None:
    layer, seen, caught = a_layer(m=12, n=12, k=12, fused=fused), set[str](), set[str]()
    for tiles, depth in product(((4, 4, 4), (4, 4, 12), (4, 12, 12), (12, 4, 12)), (2, 5)):
        tiling = a_tiling(layer, *tiles, order=order, prefetched=prefetched, depth=depth)
        run(layer, tiling, dataflow=forgetting("", seen))
        for semaphore in seen - caught:
            for machine in MACHINES.values():
                try:
                    run(layer, tiling, machine, forgetting(semaphore))
                except HazardError:
                    caught.add(semaphore)
    # The first of two tiles is loaded in the same queue before the second, which is waited for; not so where the second
    # is there from the start. With nothing kept, the slots of A and B are given up together, and A's is waited for.
    implied = set() if order != 1 and prefetched else {{0: "A panel ready", 1: "B panel ready", 2: "A ready"}[order]}
    assert seen - caught == (implied | {"B slot free"} if order == 2 else implied)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_one_slot_fewer_than_the_tokens_say_is_caught(order: int) -> None:
    layer = a_layer(m=12, n=12, k=12, fused=ADD)
    for pool in ((("A panel", "B"), ("B panel", "A"), ("A", "B"))[order]) + ("C", "fused input"):
        with pytest.raises(HazardError, match=r"which is not there|but no token makes it wait for|bits of a slot"):
            run(layer, a_tiling(layer, 4, 4, 6, order=order), dataflow=forgetting("", fewer=pool))


# -- what is refused ---------------------------------------------------------------------------------------


def test_wrong_operands_are_refused() -> None:
    layer = a_layer()
    a, b, _ = operands(layer)
    tiling = a_tiling(layer, 4, 4, 4)
    with pytest.raises(InputError, match=r"^b: wrong shape; given \(1, 9, 11\); allowed \(1, 11, 9\)$"):
        run_product_on_numbers(layer, EDGE, tiling, a, b.transpose(0, 2, 1))
    with pytest.raises(InputError, match="given 1 fused inputs, allowed 0"):
        run_product_on_numbers(layer, EDGE, tiling, a, b, [a])
    with pytest.raises(InputError, match=r"^a: wrong shape; given \(1, 7, 11\); allowed \(1, 14, 11\)$"):
        run_product_on_numbers(replace(layer, groups=2, whole=Whole(1, 14, 9)), EDGE, tiling, a, b)
    with pytest.raises(MappingError, match="needs"):
        run_product_on_numbers(layer, EDGE.with_(**{"buffers.l1.capacity_kib": 1 / 16}), tiling, a, b)
    with pytest.raises(InputError, match="fused: an input that is loaded needs an operation"):
        a_layer(fused=Fused(extra_bits=(8,)))
