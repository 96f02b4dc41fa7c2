"""Small weight formats on the weights of trained networks, beside the orderings that FP4DiT and MR-GPTQ report.

FP4DiT (arXiv 2503.15465): floating point in groups suits bell-shaped weights better than integers. MR-GPTQ (arXiv
2509.23202): NVFP4's error is below MXFP4's.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import pytest

pytestmark = [pytest.mark.validation, pytest.mark.extras, pytest.mark.slow]  # trains two networks: make trained

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[bits]'")
pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'tilewright[bits]'")

from tilewright.search.sensitivity.weights import quantise_weights  # noqa: E402

FORMATS = (
    ("int4", "uniform"),
    ("int4-g128", "block"),
    ("int4-g32", "block"),
    ("int4", "kmeans"),
    ("int4", "log"),
    ("fp4_e2m1-g128", "block"),
    ("fp4_e2m1", "float"),
    ("fp4_e1m2", "float"),
    ("fp4_e3m0", "float"),
    ("mxfp4", "block"),
    ("mxfp4", "block_hadamard"),
    ("nvfp4", "block"),
    ("nvfp4", "block_hadamard"),
    ("fp6_e2m3", "float"),
    ("fp6_e3m2", "float"),
    ("mxfp6_e2m3", "block"),
    ("int8", "uniform"),
)
NETWORKS = ("convolutional", "transformer", "normal distribution")


@lru_cache(maxsize=3)
def weights_of(network: str) -> list[Any]:
    """The weight tensors whose rows are long enough for groups."""
    if network == "normal distribution":
        return [torch.randn(256, 512, generator=torch.Generator().manual_seed(0))]
    from digits import trained

    layers = [m.weight.detach() for m in trained(network).modules() if hasattr(m, "weight") and m.weight.dim() > 1]
    return [weight for weight in layers if weight[0].numel() >= 64]


@lru_cache(maxsize=64)
def measured(network: str, name: str, method: str) -> tuple[float, float]:
    """Signal over noise in decibels over all layers, and bits a weight."""
    layers = weights_of(network)
    found = [quantise_weights(weight, name, method) for weight in layers]
    signal = sum(float(weight.double().square().sum()) for weight in layers)
    noise = sum(float((w - q.values).double().square().sum()) for w, q in zip(layers, found, strict=True))
    return 10 * math.log10(signal / noise), sum(q.n_bits for q in found) / sum(w.numel() for w in layers)


def decibels(network: str, name: str, method: str) -> float:
    return measured(network, name, method)[0]


def kurtosis(weights: Any) -> float:
    centred = weights.double() - weights.double().mean()
    return float(centred.pow(4).mean() / centred.square().mean().square())


def test_table() -> None:
    torch.set_num_threads(1)
    print("\n| weights | method | bits | " + " | ".join(NETWORKS) + " |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, method in FORMATS:
        cells = [measured(network, name, method) for network in NETWORKS]
        print(f"| {name} | {method} | {cells[-1][1]:.2f} | " + " | ".join(f"{db:.1f}" for db, _ in cells) + " |")
    for network in NETWORKS:
        values = [kurtosis(weight) for weight in weights_of(network)]
        print(f"kurtosis of {network}: {min(values):.1f} to {max(values):.1f}")


@pytest.mark.parametrize("network", NETWORKS)
def test_nvfp4_is_better_than_mxfp4(network: str) -> None:
    """As reported: smaller groups with a scale that is no power of two, for a quarter of a bit more."""
    assert decibels(network, "nvfp4", "block") > decibels(network, "mxfp4", "block") + 0.9


@pytest.mark.parametrize("network", ["convolutional", "normal distribution"])
def test_fp4_in_groups_is_better_than_int4_on_bell_shaped_weights(network: str) -> None:
    """Scales by the largest magnitude for both, groups of 128, as FP4DiT compares them."""
    assert all(kurtosis(weight) > 2.8 for weight in weights_of(network))
    assert decibels(network, "fp4_e2m1-g128", "block") > decibels(network, "int4-g128", "block") + 0.5


def test_int4_is_better_on_flat_weights() -> None:
    """The other way round where weights are nearly uniform, as those of the little transformer still are."""
    assert sum(kurtosis(weight) < 2.7 for weight in weights_of("transformer")) > 8
    assert decibels("transformer", "int4-g128", "block") > decibels("transformer", "fp4_e2m1-g128", "block")
    assert decibels("transformer", "fp4_e1m2", "float") > decibels("transformer", "fp4_e2m1", "float")


@pytest.mark.parametrize("network", NETWORKS)
def test_a_searched_scale_helps_and_a_rotation_does_not_without_outliers(network: str) -> None:
    assert decibels(network, "fp4_e2m1", "float") > decibels(network, "fp4_e2m1-g128", "block")
    assert decibels(network, "mxfp4", "block_hadamard") < decibels(network, "mxfp4", "block") + 0.2
    assert decibels(network, "fp4_e3m0", "float") < decibels(network, "int4", "uniform")
