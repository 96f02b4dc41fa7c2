"""Bit widths by measured quality: NSGA-II on losses that interact, and accounts of what a bit costs where."""

from __future__ import annotations

import random
from itertools import pairwise, product

import pytest

from tilewright.errors import InputError
from tilewright.reports.bits.explanation import explanation_png, trust_text
from tilewright.search.bits.explain import LayerRole, explain, layer_roles, sample_assignments
from tilewright.search.bits.measured import search_measured
from tilewright.search.bits.problem import Assignment, BitProblem, Decision, Option, problem_of
from tilewright.search.bits.sensitivity import LayerSensitivity, OptionSensitivity, Sensitivity
from tilewright.workloads.network import load_network


def problem(n: int = 6) -> BitProblem:
    dice = random.Random(5)
    decisions = []
    for at in range(n):
        size = dice.randrange(50, 400)
        loss = dice.expovariate(1)
        options = tuple(
            Option(
                weights=f"int{b}", activations="int8", sensitivity=loss * 4.0 ** (8 - b) / 256, costs={"size": size * b}
            )
            for b in (8, 6, 4)
        )
        decisions.append(Decision(layers=(f"blocks.{at // 2}.{'ab'[at % 2]}",), options=options))
    return BitProblem(decisions=tuple(decisions))


def interacting(of: BitProblem, assignment: Assignment) -> float:
    """The sum, and neighbours that are both narrow hurt each other more."""
    together = sum(a * b for a, b in pairwise(assignment))
    return of.sensitivity(assignment) + 0.3 * together


@pytest.mark.extras
def test_measured_search_finds_the_front_that_sums_do_not_see() -> None:
    pytest.importorskip("pymoo")
    of = problem()
    calls: list[Assignment] = []

    def measure(assignment: Assignment) -> float:
        calls.append(assignment)
        return interacting(of, assignment)

    front = search_measured(of, measure, "size", n_measurements=250, seed=3)
    assert len(calls) == len(set(calls)) <= 250 < of.n_assignments
    every = [(of.cost("size", one), interacting(of, one)) for one in product(*(range(3),) * 6)]
    true = [(c, q) for c, q in every if not any(d <= c and r < q for d, r in every if (d, r) != (c, q))]
    for point in front:
        assert point.loss == interacting(of, point.assignment)
    hit = [1 for c, q in true if any(point.cost <= c and point.loss <= q * 1.05 + 1e-12 for point in front)]
    assert len(hit) >= 0.9 * len(true)
    assert front == search_measured(of, lambda one: interacting(of, one), "size", n_measurements=250, seed=3)


@pytest.mark.extras
def test_measured_search_keeps_budgets_and_its_number_of_measurements() -> None:
    pytest.importorskip("pymoo")
    of = problem()
    limit = int(0.7 * of.cost("size", of.reference))
    seen: list[Assignment] = []

    def measure(assignment: Assignment) -> float:
        seen.append(assignment)
        return interacting(of, assignment)

    front = search_measured(of, measure, "size", limits={"size": limit}, n_measurements=40, seed=1)
    assert 4 <= len(seen) <= 40
    assert all(of.cost("size", one) <= limit for one in seen)
    assert front


def test_too_few_measurements_are_refused() -> None:
    with pytest.raises(InputError, match="n_measurements: given 3"):
        search_measured(problem(), lambda one: 0.0, "size", n_measurements=3)


def roles(of: BitProblem) -> dict[str, LayerRole]:
    found = {}
    for decision in of.decisions:
        (layer,) = decision.layers
        _, block, part = layer.split(".")
        found[layer] = LayerRole(kind="linear" if part == "a" else "conv 3x3", place="early", block=block, part=part)
    return found


def test_the_account_finds_what_a_bit_costs() -> None:
    """Without interactions it is exact: the effects are the sensitivities."""
    of = problem(10)
    found = explain(of, roles(of), of.sensitivity, n_samples=400, seed=2)
    assert found.rank_correlation > 0.99
    assert (found.n_fitted, found.n_held_out) == (300, 100)
    true = {
        d.layers[0]: sum((o.sensitivity - d.options[0].sensitivity) / (8 - int(o.weights[3:])) for o in d.options[1:])
        / 2
        for d in of.decisions
    }
    ours, theirs = (sorted(table, key=lambda name: -table[name])[:3] for table in (found.by_layer, true))
    assert ours[0] == theirs[0]
    assert set(ours) == set(theirs)
    assert sum(group.share for group in found.of("part")) == pytest.approx(1.0)
    assert [group.per_bit for group in found.of("block")] == sorted(
        (g.per_bit for g in found.of("block")), reverse=True
    )
    assert explanation_png(found, title="made up")[:4] == b"\x89PNG"
    assert "rank correlation" in trust_text(found)


def test_interactions_lower_the_correlation_but_are_stated() -> None:
    of = problem(10)
    dice = random.Random(4)
    noise = {one: dice.gauss(0, 2.0) for one in sample_assignments(of, 300, seed=0)}
    noisy = explain(of, roles(of), lambda one: of.sensitivity(one) + noise[one], n_samples=300)
    assert noisy.rank_correlation < 0.99


def test_samples_differ_and_repeat() -> None:
    of = problem(4)
    given = sample_assignments(of, 40, seed=1)
    assert len(set(given)) == 40
    assert given == sample_assignments(of, 40, seed=1)
    assert len(sample_assignments(of, 1000)) > 70  # of 81
    with pytest.raises(InputError, match="n_samples: given 8"):
        explain(of, roles(of), of.sensitivity, n_samples=8)
    with pytest.raises(InputError, match=r'roles: lacks layer "blocks\.0\.a"'):
        explain(of, {}, of.sensitivity)


def test_roles_of_layers_come_from_their_paths() -> None:
    stream = load_network("mobilenet-v2")
    products = [op for op in stream.operators if op.kind in ("conv", "matmul")]
    option = (OptionSensitivity(weights="int8", activations="int8", sensitivity=0.0),)
    layers = tuple(LayerSensitivity(name=op.name, n_weights=1, macs=op.macs, options=option) for op in products)
    given = Sensitivity(network="mobilenet-v2", measured_by="", layers=layers)
    found = layer_roles(stream, given)
    assert len(problem_of(given).decisions) == len(found) == len(products)
    assert {role.place for role in found.values()} == {"first", "early", "middle", "late", "last"}
    assert {"conv 1x1", "depthwise 3x3", "linear"} <= {role.kind for role in found.values()}
    blocks = {role.block for role in found.values()}
    assert len(blocks) < len(products) / 2
