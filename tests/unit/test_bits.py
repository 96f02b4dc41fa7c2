"""Bit widths: files of sensitivities, budgets, the integer program against every assignment, curves, closed form."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest

from tilewright.errors import InputError
from tilewright.search.bits.budget import amount_text, limits_of, parse_budget, parse_budgets
from tilewright.search.bits.equal_loss import equal_loss_assignment, equal_loss_bits
from tilewright.search.bits.pareto import convex_hull, pareto_curve
from tilewright.search.bits.problem import BitProblem, Decision, Option, problem_of
from tilewright.search.bits.program import InfeasibleError, least_cost, solve
from tilewright.search.bits.sensitivity import (
    Sensitivity,
    load_sensitivity,
    save_sensitivity,
    sensitivity_from_data,
)


def data(**changes: Any) -> dict[str, Any]:
    options = [
        {"weights": "int8", "activations": "int8", "sensitivity": 0.01},
        {"weights": "int4", "activations": "int8", "sensitivity": 0.3, "sqnr_db": 17.5},
    ]
    layers = [
        {"name": name, "n_weights": 64, "macs": 1000, "options": options, "operators": [f"{name}.op"]}
        for name in ("a", "b", "c")
    ]
    return {
        "schema": "tilewright.sensitivity",
        "version": 1,
        "network": "three",
        "measured_by": "made up",
        "layers": layers,
        **changes,
    }


def table(**changes: Any) -> Sensitivity:
    return sensitivity_from_data(data(**changes), name="sens.json")


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    given = table(tied=[["a", "b"]], pinned={"c": {"weights": "int8", "activations": "int8"}})
    save_sensitivity(given, tmp_path / "sens.json")
    assert load_sensitivity(tmp_path / "sens.json") == given
    assert given.layer("a").options[1].sqnr_db == 17.5
    assert given.layer("a").operator_names == ("a.op",)
    assert given.layer("a").reference.weights == "int8"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "another"}, 'schema: this file holds no sensitivities; allowed "schema": "tilewright.sensitivity"'),
        ({"version": 2}, "version: given 2; allowed 1"),
        ({"version": "1"}, 'version: given "1"; allowed 1'),
        (
            {
                "layers": [
                    {
                        **data()["layers"][0],
                        "options": [{"weights": "int8", "activations": "int8", "sensitivity": 1.7e308}],
                    }
                ]
            },
            "sensitivity: out of range; given 1.7e+308",
        ),
        ({"tied": [["a", "bb"]]}, 'tied: unknown layer; given "bb"'),
        ({"tied": [["a", "b"], ["b", "c"]]}, '"b" stands there twice'),
        ({"pinned": {"a": {"weights": "int4", "activations": "int4"}}}, "a: given int4/int4; allowed int8/int8, int4/"),
        ({"layers": []}, "layers: too few entries"),
        ({"sensitivity": 3}, "sensitivity: unknown field"),
    ],
)
def test_wrong_files_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        table(**changes)
    assert said in str(caught.value)


def test_a_wrong_format_in_a_file_says_where() -> None:
    wrong = data()
    wrong["layers"][1]["options"][0] = {"weights": "int7.5", "activations": "int8", "sensitivity": 1.0}
    with pytest.raises(InputError, match=r"sens.json: layers\.1\.options\.0\.weights: unknown number format"):
        sensitivity_from_data(wrong, name="sens.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "no such file"), ("{", "not valid JSON"), ("[]", "schema"), (b"\xff", "not UTF-8")],
)
def test_files_that_are_none_are_refused(tmp_path: Path, text: str | bytes | None, said: str) -> None:
    path = tmp_path / "sens.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=said):
        load_sensitivity(path)


def test_pinning_one_more_layer() -> None:
    assert table().pin("a", "int4", "int8").pinned["a"].weights == "int4"
    with pytest.raises(InputError, match="three: pinned: a: given int2/int8"):
        table().pin("a", "int2", "int8")


# --- from the table to the problem -----------------------------------------------------------------------------------


def test_tied_layers_are_one_decision_and_pinned_ones_have_no_choice() -> None:
    of = problem_of(table(tied=[["a", "c"]], pinned={"b": {"weights": "int8", "activations": "int8"}}))
    assert [(d.layers, len(d.options)) for d in of.decisions] == [(("a", "c"), 2), (("b",), 1)]
    narrow = of.decisions[0].options[1]
    assert narrow.sensitivity == 0.6
    assert narrow.costs == {"size": 2 * 64 * 4, "bops": 2 * 1000 * 32}
    assert of.costs(of.reference) == {"size": 3 * 64 * 8, "bops": 3 * 1000 * 64}
    assert of.uniform("int4", "int8") == (1, 0)


def test_scales_of_groups_count_in_the_size() -> None:
    given = data()
    for layer in given["layers"]:
        layer["options"] = [{"weights": "mxfp4", "activations": "int8", "sensitivity": 0.1}]
    assert problem_of(sensitivity_from_data(given, name="x")).costs((0, 0, 0))["size"] == 3 * 64 * 17 // 4


def test_layers_that_are_tied_and_pinned_apart_are_refused() -> None:
    pinned = {
        "a": {"weights": "int8", "activations": "int8"},
        "b": {"weights": "int4", "activations": "int8"},
    }
    with pytest.raises(InputError, match="a, b are tied and pinned to different options"):
        problem_of(table(tied=[["a", "b"]], pinned=pinned))


# --- budgets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("latency=0.6x", 600),
        ("latency=2us", 2000),
        ("latency=500", 500),
        ("size=1.5kB", 12_000),
        ("energy=2nJ", 2_000_000),
        ("dram=1KiB", 1024),
        ("bops=3G", 3_000_000_000),
    ],
)
def test_budgets_as_people_write_them(text: str, limit: int) -> None:
    assert parse_budget(text).limit({"latency": 1000}, Fraction(10**9)) == limit


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latency", "not of the form COST=AMOUNT"),
        ("speed=3x", 'unknown cost; given "speed"'),
        ("size=3mJ", 'size: unknown unit; given "mJ"'),
        ("size=0x", "given 0; allowed more than 0"),
        ("size=1e99999999x", "size: out of range; given 1e99999999; allowed 1e-30 to"),
        ("size=1e-99999999x", "given 1e-99999999; allowed more than 0"),
        (f"size=1.{'1' * 5000}x", "out of range"),
    ],
)
def test_wrong_budgets_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_budget(text)


def test_a_budget_keeps_its_digits() -> None:
    budget = parse_budget("latency=7788239")
    assert budget.text == "latency=7788239"
    assert parse_budget(budget.text) == budget


def test_no_budget_is_refused() -> None:
    for texts in ([], [""], [" , "]):
        with pytest.raises(InputError, match=r"budget: none given; allowed size, .* as latency=0\.6x"):
            parse_budgets(texts)


def test_a_budget_that_nothing_can_measure_is_refused() -> None:
    with pytest.raises(InputError, match="latency=1ms: a time needs a machine"):
        limits_of(parse_budgets(["latency=1ms"]), {"size": 3})
    with pytest.raises(InputError, match="energy comes from the simulator"):
        limits_of(parse_budgets(["size=0.5x,energy=0.5x"]), {"size": 3})
    with pytest.raises(InputError, match="size: given twice"):
        parse_budgets(["size=1MB", "size=0.5x"])


def test_amounts_in_words() -> None:
    assert [amount_text(kind, 8e6) for kind in ("size", "latency", "dram")] == ["1 MB", "8,000,000 cycles", "8 MB"]


# --- the integer program ---------------------------------------------------------------------------------------------


def some_problem(seed: int, n_decisions: int = 5) -> BitProblem:
    """Two to four options each; costs of two kinds, not monotonous."""
    dice = random.Random(seed)
    decisions = []
    for at in range(n_decisions):
        options = [
            Option(
                weights=f"int{8 - number}",
                activations="int8",
                sensitivity=round(dice.expovariate(1), 6),
                costs={"size": dice.randrange(1, 200), "latency": dice.randrange(1, 10**9)},
            )
            for number in range(dice.randrange(2, 5))
        ]
        decisions.append(Decision(layers=(f"l{at}",), options=tuple(options)))
    return BitProblem(decisions=tuple(decisions), constants={"size": 17})


def everything(of: BitProblem) -> list[tuple[int, ...]]:
    return list(product(*(range(len(d.options)) for d in of.decisions)))


@pytest.mark.parametrize("seed", range(12))
def test_the_integer_program_finds_the_best_of_all_assignments(seed: int) -> None:
    of, dice = some_problem(seed), random.Random(seed + 1000)
    every = everything(of)
    middle = dice.choice(every)
    limits = {kind: of.cost(kind, middle) for kind in of.kinds}
    inside = [one for one in every if all(of.cost(kind, one) <= limits[kind] for kind in limits)]
    found = solve(of, limits)
    assert found.sensitivity == pytest.approx(min(map(of.sensitivity, inside)), rel=1e-9)
    assert all(found.costs[kind] <= limits[kind] for kind in limits)
    assert found.proven
    assert found == solve(of, limits) or found.assignment == solve(of, limits).assignment
    for kind in limits:
        others = [one for one in every if all(of.cost(k, one) <= limits[k] for k in limits if k != kind)]
        assert (kind in found.binding) == (min(map(of.sensitivity, others)) < found.sensitivity * (1 - 1e-9))
        assert least_cost(of, kind, limits) == min(of.cost(kind, one) for one in others)


def test_a_budget_is_kept_to_the_last_unit() -> None:
    """Costs so large that one unit is below the solver's precision."""
    large = 10**15
    options = (
        Option(weights="int8", activations="int8", sensitivity=0.0, costs={"energy": large + 1}),
        Option(weights="int4", activations="int8", sensitivity=1.0, costs={"energy": large}),
    )
    of = BitProblem(decisions=tuple(Decision(layers=(f"l{at}",), options=options) for at in range(3)))
    assert sorted(solve(of, {"energy": 3 * large + 2}).assignment) == [0, 0, 1]
    assert solve(of, {"energy": 3 * large}).sensitivity == 3.0


def test_budgets_that_cannot_be_kept_say_the_least() -> None:
    of = some_problem(1)
    with pytest.raises(InfeasibleError, match=r"size: given .*; the least possible is") as caught:
        solve(of, {"size": of.least("size") - 1})
    assert caught.value.least == {"size": of.least("size")}
    every, limits = everything(of), {kind: of.least(kind) for kind in of.kinds}
    if not any(all(of.cost(kind, one) <= limits[kind] for kind in limits) for one in every):
        with pytest.raises(InfeasibleError, match="cannot be kept together") as caught:
            solve(of, limits)
        assert caught.value.least["size"] > of.least("size")
    with pytest.raises(InputError, match="dram: comes from the simulator"):
        solve(of, {"dram": 3})


# --- curves ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_the_hull_is_the_hull_of_all_assignments(seed: int) -> None:
    of = some_problem(seed)
    every = [(of.cost("latency", one), of.sensitivity(one)) for one in everything(of)]
    for point in convex_hull(of, "latency"):
        # Nothing lies below a line through the point and its neighbours: test by prices on both sides.
        assert not any(cost <= point.cost and loss < point.sensitivity - 1e-12 for cost, loss in every)
    for price in (0.0, 1e-12, 1e-10, 1e-9, 1e-8, 1e-6, 1.0):
        best = min(loss + price * cost for cost, loss in every)
        on_hull = min(point.sensitivity + price * point.cost for point in convex_hull(of, "latency"))
        assert on_hull == pytest.approx(best, rel=1e-12)


def test_the_curve_is_a_front_and_contains_exact_optima() -> None:
    of = some_problem(3, n_decisions=6)
    curve = pareto_curve(of, "latency", n_points=9)
    assert all(a.cost < b.cost and a.sensitivity > b.sensitivity for a, b in pairwise(curve))
    every = [(of.cost("latency", one), of.sensitivity(one)) for one in everything(of)]
    for point in curve:
        assert point.sensitivity == pytest.approx(min(loss for cost, loss in every if cost <= point.cost), rel=1e-9)
    assert any(not point.on_hull for point in curve)
    bounded = pareto_curve(
        of, "latency", n_points=4, limits={"size": of.cost("size", curve[len(curve) // 2].assignment)}
    )
    assert bounded


# --- the closed form -------------------------------------------------------------------------------------------------


def test_equal_losses() -> None:
    bits = equal_loss_bits([1.0, 4.0, 16.0], 4.0)
    assert bits == pytest.approx((3.0, 4.0, 5.0))
    losses = [c * 2 ** (-2 * r) for c, r in zip([1.0, 4.0, 16.0], bits, strict=True)]
    assert losses == pytest.approx([losses[0]] * 3)


@pytest.mark.parametrize("seed", range(6))
def test_the_closed_form_is_optimal_within_its_range(seed: int) -> None:
    dice = random.Random(seed)
    c, n = [dice.expovariate(1) * 4 ** dice.randrange(6) for _ in range(7)], [dice.randrange(1, 9) for _ in range(7)]
    mean = dice.uniform(2.2, 7.5)
    bits = equal_loss_bits(c, mean, counts=n, lowest=2.0, highest=8.0)
    assert sum(a * b for a, b in zip(n, bits, strict=True)) == pytest.approx(mean * sum(n))
    assert all(2.0 <= one <= 8.0 for one in bits)
    slope = [2 * a * 2 ** (-2 * r) / b for a, r, b in zip(c, bits, n, strict=True)]  # loss per bit that is given
    free = [s for s, r in zip(slope, bits, strict=True) if 2.0 < r < 8.0]
    for s, r in zip(slope, bits, strict=True):
        if free:
            assert s == pytest.approx(free[0]) or (r == 2.0 and s < free[0]) or (r == 8.0 and s > free[0])


def test_a_mean_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="mean_bits: given 9; allowed 2 to 8"):
        equal_loss_bits([1.0], 9.0, lowest=2.0, highest=8.0)
    assert json.dumps(equal_loss_bits([1.0, 2.0], 8.0, lowest=2.0, highest=8.0)) == "[8.0, 8.0]"


def test_the_closed_form_rounded_to_options_is_never_better_than_the_program() -> None:
    dice = random.Random(3)
    decisions = []
    for at in range(12):
        loss, n = dice.expovariate(1) * 4 ** dice.randrange(4), dice.randrange(100, 2000)
        options = tuple(
            Option(weights=f"int{b}", activations="int8", sensitivity=loss * 4.0**-b, costs={"size": n * b})
            for b in (8, 6, 4, 3, 2)
        )
        decisions.append(Decision(layers=(f"l{at}",), options=options))
    of = BitProblem(decisions=tuple(decisions))
    for mean in (2.5, 4.0, 6.0):
        rounded = equal_loss_assignment(of, mean)
        exact = solve(of, {"size": of.cost("size", rounded)})
        assert exact.sensitivity <= of.sensitivity(rounded) <= 4 * exact.sensitivity
    assert equal_loss_assignment(of, 8.0) == of.reference
