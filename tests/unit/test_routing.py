"""Experts: chances, distinct ones, tiles and orders against enumeration; files that say how tokens went."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import InputError
from tilewright.sim.decoding.experts import expert_loads, last_used_hits, pinned_hits
from tilewright.sim.decoding.work import distinct_experts, step_work
from tilewright.workloads.language.catalogue import language_model
from tilewright.workloads.language.routing import (
    fitted_exponent,
    padded_rows,
    power_law,
    rounded_loads,
    routing_of,
)
from tilewright.workloads.language.stored import STORAGES


@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(4, 2, 3), (5, 1, 4), (6, 3, 2)])
def test_means_are_those_of_all_routings(experts: int, top_k: int, tokens: int) -> None:
    """Every way that tokens may go, one by one: distinct experts, rows of tiles, bytes."""
    uniform = routing_of("uniform")
    distinct, rows, n = 0, {1: 0, 2: 0, 3: 0}, 0
    for choice in product(combinations(range(experts), top_k), repeat=tokens):
        loads = Counter(expert for token in choice for expert in token)
        distinct, n = distinct + len(loads), n + 1
        rows = {tile: total + padded_rows(list(loads.values()), tile) for tile, total in rows.items()}
    assert uniform.distinct(experts, top_k, tokens) == pytest.approx(distinct / n, rel=1e-12)
    assert distinct_experts(experts, top_k, tokens) == pytest.approx(distinct / n, rel=1e-12)
    for tile, total in rows.items():
        assert uniform.tile_rows(experts, top_k, tokens, tile) == pytest.approx(total / n, rel=1e-12)
    assert uniform.tile_rows(experts, top_k, tokens, 1) == pytest.approx(tokens * top_k)


def test_even_tokens() -> None:
    even = routing_of("balanced")
    assert even.distinct(8, 2, 3) == 6 and even.distinct(8, 2, 100) == 8
    assert even.tile_rows(4, 1, 6, 4) == 4 * 4  # loads 2, 2, 1, 1


@settings(max_examples=40)
@given(
    exponent=st.floats(0, 3),
    experts=st.integers(2, 40),
    top_k=st.integers(1, 4),
    tokens=st.integers(1, 60),
    tile=st.integers(1, 32),
)
def test_laws_of_skew(exponent: float, experts: int, top_k: int, tokens: int, tile: int) -> None:
    top_k = min(top_k, experts)
    routing = power_law(exponent, experts)
    chances = routing.chances(experts, top_k)
    assert chances.sum() == pytest.approx(top_k, rel=1e-9) and (chances <= 1 + 1e-12).all()
    distinct = routing.distinct(experts, top_k, tokens)
    assert top_k - 1e-9 <= distinct <= distinct_experts(experts, top_k, tokens) + 1e-9  # skew saves loads
    rows = routing.tile_rows(experts, top_k, tokens, tile)
    assert tokens * top_k - 1e-6 <= rows <= tokens * top_k + distinct * (tile - 1) + 1e-6
    assert pinned_hits(routing, experts, top_k, experts) == pytest.approx(1)


def test_the_skew_that_was_observed() -> None:
    """Layered prefill: 55 % of Qwen3-30B's experts at 32 tokens, 86 % at 128; all alike would be 87 % at 32."""
    exponent = fitted_exponent(128, 8, [(32, 0.55), (128, 0.86)])
    routing = power_law(exponent, 128)
    assert exponent == pytest.approx(1.28, abs=0.02)
    assert routing.distinct(128, 8, 32) / 128 == pytest.approx(0.55, abs=0.02)
    assert routing.distinct(128, 8, 128) / 128 == pytest.approx(0.86, abs=0.02)
    model = language_model("qwen3-30b-a3b")
    even, skewed = (
        step_work(model, STORAGES["fp16"], batch=32, distinct=way.distinct) for way in (routing_of("uniform"), routing)
    )
    assert skewed.weight_bytes < 0.7 * even.weight_bytes


def test_rounding_tokens_to_tiles() -> None:
    loads = [130, 60, 128, 300, 0]
    assert padded_rows(loads, 128) - sum(loads) == 126 + 68 + 0 + 84
    assert rounded_loads(loads, 128) == (128, 0, 128, 256, 0)
    assert padded_rows(rounded_loads(loads, 128), 128) == sum(rounded_loads(loads, 128))


@settings(max_examples=40)
@given(
    choices=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True), max_size=12),
    room=st.integers(1, 7),
)
def test_orders_of_tokens(choices: list[list[int]], room: int) -> None:
    """A room for all brings each once, as tokens taken by expert do; a smaller one never brings less."""
    used = {expert for token in choices for expert in token}
    assert expert_loads(choices, by_expert=True) == len(used) == expert_loads(choices, room=6)
    assert len(used) <= expert_loads(choices, room=room) <= sum(map(len, choices))
    flat = [expert for token in choices for expert in token]
    assert expert_loads(choices, room=1) == sum(a != b for a, b in zip(flat, [None, *flat], strict=False))


def test_caches_of_experts_behind_flash() -> None:
    """Kept for good beats used last; both as drawn, one token after the other."""
    routing, experts, top_k, room = power_law(1.0, 24), 24, 3, 8
    chance = np.random.default_rng(0)
    rates = np.array(routing.popularity)
    tokens = [np.argsort(chance.exponential(1 / rates))[:top_k].tolist() for _ in range(20_000)]
    drawn = np.bincount(np.concatenate(tokens), minlength=experts) / len(tokens)
    assert drawn == pytest.approx(routing.chances(experts, top_k), abs=0.03)
    drawn_hits = 1 - expert_loads(tokens, room=room) / (len(tokens) * top_k)
    assert last_used_hits(routing, experts, top_k, room) == pytest.approx(drawn_hits, abs=0.03)
    kept = sum(expert < room for token in tokens for expert in token) / (len(tokens) * top_k)
    assert pinned_hits(routing, experts, top_k, room) == pytest.approx(kept, abs=0.03)
    assert pinned_hits(routing, experts, top_k, room) >= last_used_hits(routing, experts, top_k, room)


def test_counts_in_a_file(tmp_path: Path) -> None:
    table, listed = tmp_path / "counts.csv", tmp_path / "counts.json"
    table.write_text("expert,count\n2,5\n0,10\n")
    listed.write_text(json.dumps([10, 0, 5]))
    assert routing_of(str(table), 3).popularity == routing_of(str(listed), 3).popularity == (10, 5, 0)
    assert routing_of(str(table), 3).chances(3, 2) == pytest.approx([1, 1, 0])
    faults = {
        "expert,count\n3,5\n": "expert: given 3; allowed 0 to 2",
        "expert,count\n1,5\n1,6\n": "expert 1: given twice",
        "expert,count\n1,-2\n": "given -2; allowed a count",
        "expert,count\n1,0\n": "no expert was ever chosen",
        "layer,count\n1,0\n": "allowed expert and count",
    }
    for text, told in faults.items():
        table.write_text(text)
        with pytest.raises(InputError, match=told):
            routing_of(str(table), 3)
    for text in ("{}", "[1, 2]", "nothing", '[1, "x", 2]'):
        listed.write_text(text)
        with pytest.raises(InputError):
            routing_of(str(listed), 3)
    with pytest.raises(InputError, match="allowed an exponent from 0 to 8"):
        routing_of("skew=many", 3)
    with pytest.raises(InputError, match="allowed balanced, uniform"):
        routing_of("fair", 3)
    with pytest.raises(InputError, match="allowed the router's 4"):
        power_law(1.0, 3).chances(4, 2)
