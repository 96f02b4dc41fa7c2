"""Weight methods against brute force and definitions; error measures against what they estimate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.errors import InputError

pytestmark = pytest.mark.extras

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[bits]'")

from tilewright.search.sensitivity.measures import MEASURES, Calibration, channel_salience, hessian_traces  # noqa: E402
from tilewright.search.sensitivity.network import LayerFormats, QuantisableNetwork  # noqa: E402
from tilewright.search.sensitivity.rounding import adaround, gptq  # noqa: E402
from tilewright.search.sensitivity.table import measure_sensitivity  # noqa: E402
from tilewright.search.sensitivity.weights import (  # noqa: E402
    METHODS,
    float_grid,
    hadamard,
    quantise_weights,
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)


def error(weights: Any, found: Any) -> float:
    return float((weights - found).square().sum())


@pytest.mark.parametrize("method", METHODS.names())
def test_more_bits_are_never_worse_and_the_shape_stays(method: str) -> None:
    weights = torch.randn(8, 6, 3, 3)
    names = {
        "float": ["fp4_e2m1", "fp6_e2m3", "fp8_e3m4"],
        "block": ["mxfp4", "mxfp6_e2m3", "mxint8"],
        "block_hadamard": ["mxfp4", "mxfp6_e2m3", "mxint8"],
    }.get(method, ["int2", "int3", "int4", "int6"])
    errors = []
    bits = []
    for name in names:
        found = quantise_weights(weights, name, method)
        assert found.values.shape == weights.shape and found.values.dtype == weights.dtype
        errors.append(error(weights, found.values))
        bits.append(found.n_bits)
    assert errors == sorted(errors, reverse=True) and bits == sorted(bits)
    assert errors[0] < error(weights, 0 * weights)


def test_uniform_uses_so_many_codes_with_one_step_a_channel() -> None:
    weights = torch.randn(4, 200)
    found = quantise_weights(weights, "int3", "uniform").values
    for row in found:
        steps = row.unique()
        assert len(steps) <= 8
        gaps = steps.diff()
        assert torch.allclose(gaps, gaps.min().expand_as(gaps) * (gaps / gaps.min()).round(), atol=1e-6)
    plain = weights.abs().amax(1, keepdim=True) / 3
    assert error(weights, found) <= error(weights, (weights / plain).round() * plain)


def test_kmeans_finds_values_that_are_few() -> None:
    weights = torch.tensor([[1.0, -2.0, 5.0, 1.0], [0.5, 0.5, 7.0, -7.0]]).repeat(1, 9)
    found = quantise_weights(weights, "int2", "kmeans")
    assert torch.equal(found.values, weights)
    assert found.n_bits == 2 * weights.numel() + 2 * 4 * 16
    assert error(weights, quantise_weights(weights, "int2", "kmeans_all").values) > 0


def test_float_grid_is_that_of_the_format() -> None:
    """With the largest value at 6 the E2M1 grid is 0, 0.5, 1, 1.5, 2, 3, 4, 6."""
    wanted = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = torch.linspace(-7, 7, 5001, dtype=torch.float64)
    found = float_grid(values, torch.tensor(6.0, dtype=torch.float64), 2, 1)
    np.testing.assert_allclose(found.abs().unique().numpy(), wanted, atol=1e-12)
    nearest = torch.tensor(np.sort(np.concatenate([wanted, -wanted[1:]])))
    best = nearest[(values.clamp(-6, 6)[:, None] - nearest).abs().argmin(1)]
    assert ((found - best).abs() < 1e-9).double().mean() > 0.99  # ties may go either way
    powers = float_grid(values, torch.tensor(4.0, dtype=torch.float64), 3, 0).abs().unique()
    np.testing.assert_allclose(np.log2(powers[1:].numpy()), [-4, -3, -2, -1, 0, 1, 2], atol=1e-9)


def test_hadamard_is_orthogonal_and_helps_against_outliers() -> None:
    matrix = hadamard(32)
    assert torch.allclose(matrix @ matrix.T, torch.eye(32, dtype=matrix.dtype), atol=1e-12)
    weights = torch.randn(16, 128)
    weights[:, ::32] *= 30
    plain, turned = (quantise_weights(weights, "mxfp4", m).values for m in ("block", "block_hadamard"))
    bulk = weights.abs() < 4
    assert error(weights[bulk], turned[bulk]) < error(weights[bulk], plain[bulk])


def test_gptq_and_adaround_beat_rounding_to_nearest_on_the_output() -> None:
    mixing = torch.randn(24, 24)
    inputs = torch.randn(300, 24) @ mixing
    weights = torch.randn(12, 24)
    scale = weights.abs().amax(1, keepdim=True) / 3

    def output_error(found: Any) -> float:
        return float((inputs @ (found - weights).T).square().mean())

    nearest = (weights / scale).round().clamp(-4, 3) * scale
    by_gptq = gptq(weights, inputs, scale, 3)
    assert output_error(by_gptq) < output_error(nearest)
    assert torch.allclose(by_gptq / scale, (by_gptq / scale).round(), atol=1e-4)
    step = scale.expand_as(weights)
    by_adaround = adaround(weights, inputs, step, -4 * step, 3 * step)
    assert output_error(by_adaround) < output_error(nearest)
    assert torch.allclose(by_adaround / scale, (by_adaround / scale).round(), atol=1e-4)
    assert ((by_adaround - weights).abs() <= scale * 1.01).all()  # to one of the two neighbours


@pytest.mark.parametrize(
    ("name", "method", "said"),
    [
        ("int4", "unifrm", 'unknown weight method; given "unifrm".*did you mean "uniform"'),
        ("fp4_e2m1", "kmeans", 'weight method kmeans: given "fp4_e2m1"; allowed int1 to int16'),
        ("int4", "float", 'weight method float: given "int4"; allowed a floating-point format'),
        ("int99", "", "int99"),
    ],
)
def test_faults_are_one_line(name: str, method: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        quantise_weights(torch.randn(2, 4), name, method)


def small_network() -> tuple[Any, Any, Any]:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 16, 5),
    )
    return module, torch.randn(32, 1, 4, 4), torch.randint(0, 5, (32,))


def test_a_network_is_the_same_again_afterwards_and_counts_its_work() -> None:
    module, inputs, _ = small_network()
    before = module(inputs)
    network = QuantisableNetwork(module, inputs)
    assert list(network.layers) == ["0", "3"]
    assert network.macs("0") == 4 * 16 * 9 and network.macs("3") == 64 * 5
    found = network.output({"0": LayerFormats("int2", "int8"), "3": LayerFormats("int8", "int4")}, inputs)
    assert not torch.allclose(found, before)
    assert torch.equal(module(inputs), before)
    wide = network.output({"0": LayerFormats("fp16", "fp16")}, inputs)
    assert torch.equal(wide, before)
    with pytest.raises(InputError, match='unknown layer; given "30"'):
        network.output({"30": LayerFormats("int8", "int8")}, inputs)


def test_activations_have_so_many_values() -> None:
    module, inputs, _ = small_network()
    network = QuantisableNetwork(module, inputs)
    seen: list[Any] = []
    module[3].register_forward_hook(lambda layer, given, out: seen.append(given[0]))
    network.output({"3": LayerFormats("fp16", "int3")}, inputs)
    assert seen[-1].unique().numel() <= 8 and seen[-1].min() >= 0  # behind a ReLU all codes are for positive values


def test_hutchinson_estimates_the_trace_of_a_quadratic() -> None:
    """Loss = mean of (x w)^2: its Hessian in w is 2 E[x xᵀ], its trace twice the mean squared length of x."""
    module = torch.nn.Sequential(torch.nn.Linear(6, 1, bias=False))
    inputs = torch.randn(500, 6)
    network = QuantisableNetwork(module, inputs)
    calibration = Calibration(network, None, lambda out, labels: out.square().mean())
    found = hessian_traces(calibration, n_probes=200)["0"]
    assert found == pytest.approx(float(2 * inputs.square().sum(1).mean()), rel=0.1)


def test_measures_rank_bits_and_salience_is_by_channel() -> None:
    module, inputs, labels = small_network()
    calibration = Calibration(QuantisableNetwork(module, inputs), labels)
    for name in set(MEASURES.names()) - {"loss"}:
        costs = [MEASURES.get(name)(calibration, "3", LayerFormats(f"int{bits}", "fp16")) for bits in (2, 4, 8)]
        assert costs == sorted(costs, reverse=True) and costs[-1] >= 0, name
    salience = channel_salience(calibration, "3", LayerFormats("int2", "fp16"))
    assert salience.shape == (5,) and bool((salience >= 0).all())


def test_the_table_is_kept_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path))
    module, inputs, labels = small_network()
    told: list[str] = []

    def measure() -> Any:
        return measure_sensitivity(
            module, inputs, [("int8", "int8"), ("int4", "int8", "kmeans")], measure="hessian", labels=labels,
            tied=[["0", "3"]], progress=lambda done, total, what: told.append(what),
        )  # fmt: skip

    table = measure()
    assert [layer.name for layer in table.layers] == ["0", "3"] and table.tied == (("0", "3"),)
    assert {option.method for option in table.layers[0].options} == {"", "kmeans"}
    assert told and measure() == table and len(told) == 3
    (kept,) = tmp_path.glob("sensitivity/*.json")
    kept.write_text("{", encoding="utf-8")
    assert measure() == table
    with torch.no_grad():
        module[0].weight[0] += 1
    assert measure() != table
    with pytest.raises(InputError, match=r'unknown measure; given "hesian".*did you mean "hessian"'):
        measure_sensitivity(module, inputs, [("int8", "int8")], measure="hesian")
    with pytest.raises(InputError, match="measure: loss needs labels"):
        measure_sensitivity(module, inputs, [("int8", "int8")], measure="loss")
