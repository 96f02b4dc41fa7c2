"""Is a choice of steps the best there is? Held against every choice on small tables."""

from __future__ import annotations

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import InputError
from tilewright.search.steps import choose as choose_module
from tilewright.search.steps.choose import choose
from tilewright.workloads.diffusion.similarity import Unit
from tilewright.workloads.diffusion.updates import Front, best_front, best_updates, grouped

seeds = st.integers(0, 2**32 - 1)


def unit(seed: int, n_steps: int, n_formats: int = 1) -> Unit:
    chance = np.random.default_rng(seed)
    losses = chance.integers(0, 6, (n_formats, n_steps)) / 10
    return Unit(name="u", similarity=chance.integers(0, 11, (n_steps, n_steps)) / 10, losses=losses)


def all_ways(n_steps: int, n_formats: int) -> list[list[tuple[int, int]]]:
    """Every set of updates that begins at step 0, each in every format."""
    ways = []
    for n in range(n_steps):
        for later in combinations(range(1, n_steps), n):
            ways += [list(zip((0, *later), kinds, strict=True)) for kinds in product(range(n_formats), repeat=n + 1)]
    return ways


def worth(one: Unit, way: list[tuple[int, int]]) -> float:
    """Step by step: the similarity to the last update before it, less what its format loses."""
    total = 0.0
    for step in range(len(one.similarity)):
        begin, kind = max(update for update in way if update[0] <= step)
        total += one.similarity[begin, step] - one.losses[kind, begin]
    return total


@settings(max_examples=60)
@given(seed=seeds, n_steps=st.integers(1, 8))
def test_updates_are_the_best_of_all_of_their_number(seed: int, n_steps: int) -> None:
    one = unit(seed, n_steps)
    found = best_updates(one.gains()[0])
    assert set(found) == set(range(1, n_steps + 1))
    for n, (value, steps) in found.items():
        best = max(worth(one, way) for way in all_ways(n_steps, 1) if len(way) == n)
        assert value == pytest.approx(best)
        assert worth(one, [(step, 0) for step in steps]) == pytest.approx(best)


@settings(max_examples=40)
@given(seed=seeds, n_steps=st.integers(1, 5), n_formats=st.integers(1, 3))
def test_the_front_of_a_unit_holds_every_best_way(seed: int, n_steps: int, n_formats: int) -> None:
    one, prices = unit(seed, n_steps, n_formats), [5, 3, 2][:n_formats]
    front = best_front(one.gains(), prices)
    ways = [(sum(prices[kind] for _, kind in way), worth(one, way)) for way in all_ways(n_steps, n_formats)]
    for price, value, way in zip(front.prices, front.values, front.ways, strict=True):
        assert worth(one, [(update.step, update.format) for update in way]) == pytest.approx(value)
        assert sum(prices[update.format] for update in way) == price
        assert value == pytest.approx(max(own for paid, own in ways if paid <= price))
    assert max(own for _, own in ways) == pytest.approx(front.values[-1])


def fronts_of(seed: int) -> list[Front]:
    chance = np.random.default_rng(seed)
    prices = chance.integers(1, 9, 3)
    return [best_front(unit(seed + at, 4).gains(), [int(price)]) for at, price in enumerate(prices)]


@settings(max_examples=60)
@given(seed=seeds, share=st.floats(0, 1))
def test_choices_are_the_best_within_the_budget(seed: int, share: float) -> None:
    fronts = fronts_of(seed)
    least = sum(int(front.prices[0]) for front in fronts)
    budget = least + int(share * sum(int(front.prices[-1]) - int(front.prices[0]) for front in fronts))
    found = choose(fronts, budget)
    best = max(
        sum(float(front.values[at]) for front, at in zip(fronts, ways, strict=True))
        for ways in product(*(range(len(front)) for front in fronts))
        if sum(int(front.prices[at]) for front, at in zip(fronts, ways, strict=True)) <= budget
    )
    assert found.value == pytest.approx(best)
    assert found.price <= budget
    assert found.proven
    with pytest.raises(InputError, match="less than the least"):
        choose(fronts, least - 1)


def test_too_many_states_give_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(1)
    gains = [np.asarray(unit(at, 8).gains() + chance.random((1, 8, 9))) for at in range(6)]
    fronts = [best_front(one, [int(chance.integers(10**6, 10**7))]) for one in gains]
    budget = sum(int(front.prices[-1]) for front in fronts) // 2
    exact = choose(fronts, budget)
    monkeypatch.setattr(choose_module, "MOST_STATES", 60)
    rough = choose(fronts, budget)
    assert rough.price <= budget
    assert rough.value <= exact.value + 1e-9 <= rough.bound + 2e-9
    assert not rough.proven


@settings(max_examples=30)
@given(seed=seeds, n_steps=st.integers(2, 9), length=st.integers(1, 4))
def test_groups_keep_their_lengths(seed: int, n_steps: int, length: int) -> None:
    one = unit(seed, n_steps)
    shortest, longest, n = max(1, -(-length // 2)), 2 * length, max(1, round(n_steps / length))
    allowed = []
    for way in all_ways(n_steps, 1):
        steps = [step for step, _ in way] + [n_steps]
        lengths = [later - before for before, later in pairwise(steps)]
        if len(way) == n and all(shortest <= one_length <= longest for one_length in lengths):
            allowed.append(worth(one, way))
    value, steps = grouped(one.gains()[0], length)
    assert value == pytest.approx(max(allowed))
    assert len(steps) == n
