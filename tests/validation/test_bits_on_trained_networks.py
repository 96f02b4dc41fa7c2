"""End to end on trained networks: the searched front of accuracy, latency and energy beside uniform and random formats.

Accuracy is that of the network really run in the chosen formats; cycles and energy are those of the whole network
simulated in them on edge-16x16.
"""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.validation, pytest.mark.extras, pytest.mark.slow]  # trains two networks: make trained

pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[bits]'")
pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'tilewright[bits]'")
pytest.importorskip("pymoo", reason="pymoo is not installed: pip install 'tilewright[search]'")

NETWORKS = ["convolutional", "transformer"]


@pytest.mark.parametrize("network", NETWORKS)
def test_the_front_dominates_uniform_and_random_formats(network: str) -> None:
    from digits_search import explore

    found = explore(network, "edge-16x16")
    assert found.float_test >= 0.97
    print(f"\n{network}: float {found.float_choice:.1%} / {found.float_test:.1%} (choice / test)")
    for point in (*found.front, *found.uniform):
        print(
            f"  {point.name:10} {point.choice:6.1%} / {point.test:6.1%}  {point.cycles:>8,} cycles  "
            f"{point.energy_pj * 1e-6:6.1f} uJ"
        )
    for other in (*found.uniform, *found.random):
        assert any(point.dominates(other) for point in found.front), other
    # What was chosen on other images holds on the test images, within two standard errors of 397 of them.
    assert max(point.test for point in found.front) >= found.float_test - 0.01
    best = max(found.front, key=lambda point: point.choice)
    assert best.choice >= found.float_choice - 0.002
    assert best.energy_pj < 0.9 * found.uniform[0].energy_pj and best.cycles < found.uniform[0].cycles


@pytest.mark.parametrize("network", NETWORKS)
def test_a_linear_account_ranks_configurations_that_it_has_not_seen(network: str) -> None:
    from digits_search import account

    found = account(network)
    print(f"\n{network}: rank correlation {found.rank_correlation:.2f} on {found.n_held_out} held out")
    for aspect in ("kind", "place", "part"):
        for group in found.of(aspect):
            print(f"  {aspect:6} {group.group:16} {group.per_bit:.5f} a bit, {group.share:6.1%} of the loss")
    assert found.n_held_out >= 40
    assert found.rank_correlation > 0.6
