"""Complex products and products with Kronecker weights, as compositions of real ones: equal to numpy on odd shapes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.errors import InputError
from tilewright.sim.fusion.reference import network_on_numbers, random_values, seen
from tilewright.sim.jobs import jobs_of
from tilewright.sim.kinds.elementwise import FUNCTIONS
from tilewright.workloads.compositions.kronecker_matmul import kronecker_product
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.naming import what_is_named
from tilewright.workloads.network import load_network, network_options
from tilewright.workloads.stream.builder import StreamBuilder
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

Floats = npt.NDArray[np.float64]
PARTS = ("real", "imaginary")


def results(stream: OperatorStream, values: Mapping[str, Floats]) -> list[Floats]:
    """What the network gives, also where that is another view of what an operator makes."""
    known = network_on_numbers(stream, values)

    def value(name: str) -> Floats:
        spec = stream.tensor(name)
        return known[name] if spec.view_of is None else seen(spec, value(spec.view_of))

    return [value(name) for name in stream.outputs]


def factor(name: str, c: npt.NDArray[np.complex128], products: int, *, is_weight: bool = True) -> dict[str, Floats]:
    """The tensors that hold a complex operand; a weight of two dimensions is stored results by inputs."""
    c = c.T if is_weight and c.ndim == 2 else c
    if products == 4:
        return {f"{name}.real": c.real, f"{name}.imaginary": c.imag}
    return {f"{name}.real": c.real, f"{name}.difference": c.imag - c.real, f"{name}.total": c.real + c.imag}


@pytest.mark.parametrize("products", [3, 4])
@pytest.mark.parametrize("operand", ["weight", "activation"])
@pytest.mark.parametrize(("batch", "m", "k", "n"), [(1, 5, 3, 7), (3, 2, 9, 1), (2, 4, 5, 5)])
def test_a_complex_product_is_numpys(products: int, operand: str, batch: int, m: int, k: int, n: int) -> None:
    stream = load_network(f"complex_matmul:m={m},k={k},n={n},batch={batch},b={operand},products={products}")
    numbers = np.random.default_rng(batch * m)
    shapes = ((batch, m, k), (k, n) if operand == "weight" else (batch, k, n))
    a, b = (numbers.standard_normal(shape) + 1j * numbers.standard_normal(shape) for shape in shapes)
    values = factor("a", a, 4) | factor("b", b, products if operand == "weight" else 4)
    real, imaginary = results(stream, values)
    np.testing.assert_allclose(real + 1j * imaginary, a @ b, rtol=1e-12, atol=1e-12)


def test_three_products_take_a_quarter_of_the_multiply_adds_for_sums() -> None:
    m, k, n = 64, 32, 48
    four, three = (load_network(f"complex_matmul:m={m},k={k},n={n},products={products}") for products in (4, 3))
    assert (four.macs, three.macs) == (4 * m * k * n, 3 * m * k * n)
    assert (four.n_weights, three.n_weights) == (2 * k * n, 3 * k * n)
    # a sum or a difference is done on the tiles of the last product of its part; that of a by itself
    assert [job.kind for job in jobs_of(four)] == ["gemm"] * 4
    assert [job.kind for job in jobs_of(three)] == ["vector", "gemm", "gemm", "gemm"]
    fused = [job.layer.fused.operations for job in jobs_of(four) if isinstance(job.layer, GemmLayer)]
    assert fused == [(), (("sub", 1),), (), (("add", 1),)]
    computed = load_network(f"complex_matmul:m={m},k={k},n={n},b=activation,products=3")
    assert sum(op.kind == "elementwise" for op in computed.operators) == 5  # of b a difference and a sum more


@pytest.mark.parametrize("first", ["fewest", "a", "b"])
@pytest.mark.parametrize(("m", "p", "q", "r", "s"), [(5, 3, 4, 2, 7), (1, 7, 1, 3, 5), (6, 3, 3, 5, 5)])
def test_a_product_with_kronecker_weights_is_numpys(first: str, m: int, p: int, q: int, r: int, s: int) -> None:
    stream = load_network(f"kronecker_matmul:m={m},p={p},q={q},r={r},s={s},first={first}")
    values = random_values(stream, m)
    (found,) = results(stream, values)
    np.testing.assert_allclose(found, values["x"] @ np.kron(values["a"], values["b"]).T, rtol=1e-12, atol=1e-12)
    macs = {"a": m * r * q * (p + s), "b": m * p * s * (r + q)}
    assert stream.macs == (min(macs.values()) if first == "fewest" else macs[first])
    assert stream.n_weights == p * q + r * s


def test_kronecker_factors_become_two_products_with_a_turn_between() -> None:
    stream = load_network("kronecker_matmul:m=512,p=384,q=384,r=2,s=2")
    first, second = (job.layer for job in jobs_of(stream))
    assert isinstance(first, GemmLayer) and isinstance(second, GemmLayer)
    assert (first.m, first.k, first.n) == (1024, 384, 384)
    assert (second.m, second.k, second.n) == (512 * 384, 2, 2)
    assert first.b_is_weight and second.b_is_weight
    assert stream.macs * 1.98 < 512 * 768 * 768 < stream.macs * 2  # of the whole weight


def test_a_layer_of_kronecker_weights_has_a_bias() -> None:
    b = Layers("layer")
    x = b.input("x", (2, 3, 12))
    stream = b.finish([b.kronecker(x, 20, 4, "linear")], n_parameters=b.n_parameters)
    values = random_values(stream, 3)
    (found,) = results(stream, values)
    whole = np.kron(values["linear.a"], values["linear.b"]).T
    np.testing.assert_allclose(found, values["x"] @ whole + values["linear.bias"], rtol=1e-12)
    assert stream.n_parameters == 3 * 5 + 16 + 20


def test_berts_weights_can_be_kronecker_products() -> None:
    whole, small = load_network("bert-base:seq=8"), load_network("bert-base-kronecker:seq=8,block=4")
    weights = 12 * (4 * 768 * 768 + 2 * 768 * 3072)
    assert whole.n_parameters is not None
    assert small.n_parameters == whole.n_parameters - weights + weights // 16 + 12 * 6 * 16


@pytest.mark.parametrize("products", [3, 4])
@pytest.mark.parametrize(("image", "modes", "width", "batch"), [(9, 3, 2, 2), (10, 5, 3, 1)])
def test_a_fourier_operator_is_numpys(products: int, image: int, modes: int, width: int, batch: int) -> None:
    stream = load_network(f"fno-2d:image={image},modes={modes},width={width},batch={batch},products={products}")
    values = random_values(stream, image)
    numbers = np.random.default_rng(image)
    places, kept = np.arange(image), np.arange(modes)
    signs = np.concatenate([kept, image - kept[::-1] - 1])
    twice = np.where((kept == 0) | (2 * kept == image), 1, 2)  # of a real field: each but these stands for two
    columns = np.exp(-2j * np.pi * np.outer(places, kept) / image)
    rows = np.exp(-2j * np.pi * np.outer(places, signs) / image)
    values |= factor("fourier.columns", columns, 4) | factor("fourier.rows", rows, products)
    values |= factor("fourier.rows_back", rows.conj().T / image, products)
    values |= factor("fourier.columns_back", columns.conj().T * twice[:, None] / image, 4)
    mixes = []
    for index in range(4):
        shape = (modes * 2 * modes, width, width)
        mixes.append(numbers.standard_normal(shape) + 1j * numbers.standard_normal(shape))
        values |= factor(f"layers.{index}.mix", mixes[-1], products)

    def linear(x: Floats, name: str) -> Floats:
        return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    x = linear(values["field"], "lift")
    for index, mix in enumerate(mixes):
        z = np.fft.rfft2(x, axes=(1, 2))
        mixed = np.zeros_like(z)
        of_modes = mix.reshape(modes, 2 * modes, width, width)
        for at, row in enumerate(signs):
            for column in kept:
                mixed[:, row, column] = z[:, row, column] @ of_modes[column, at]
        y = linear(x, f"layers.{index}.around") + np.fft.irfft2(mixed, s=(image, image), axes=(1, 2))
        x = FUNCTIONS["gelu"](y) if index < 3 else y
    x = linear(FUNCTIONS["gelu"](linear(x, "head")), "project")
    (found,) = results(stream, values)
    np.testing.assert_allclose(found, x, rtol=1e-9, atol=1e-9)


def test_a_fourier_operator_counts_its_numbers() -> None:
    stream, usual = load_network("fno-2d"), network_options("fno-2d")
    width, modes = int(usual["width"]), int(usual["modes"])
    mixing = 4 * 2 * (2 * modes * modes) * width**2
    around = 4 * (width**2 + width) + 4 * width + (width * 128 + 128) + 129
    assert stream.n_parameters == mixing + around == 2_368_001
    assert load_network("fno-2d:products=3").macs < stream.macs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("complex_matmul:m=4,k=4", "n: missing"),
        ("complex_matmul:m=4,k=4,n=4,products=5", 'unknown products; given "5"; allowed 4, 3'),
        ("complex_matmul:m=4,k=4,n=4,imaginary=2", "imaginary"),
        ("kronecker_matmul:m=4,p=2,q=2,r=2", "s: missing"),
        ("kronecker_matmul:m=4,p=2,q=2,r=2,s=2,first=c", "first"),
        ("fno-2d:image=16,modes=9", "modes: given 9; allowed 1 to 8"),
        ("fno-2d:products=2", "products: given 2"),
        ("bert-base-kronecker:block=5", "block: given 5"),
    ],
)
def test_what_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_network(text)


def test_widths_that_do_not_fit_are_refused() -> None:
    b = StreamBuilder("small")
    x, first, second = b.input("x", (2, 5)), b.weight("first", (2, 2)), b.weight("second", (3, 3))
    with pytest.raises(InputError, match="given 5; allowed 6"):
        kronecker_product(b, x, first, second, "product")


def test_compositions_are_run_as_networks() -> None:
    for text in ("complex_matmul:m=4,k=4,n=4", "kronecker_matmul:m=4,p=2,q=2,r=2,s=2"):
        assert what_is_named(text).kind == "network"
