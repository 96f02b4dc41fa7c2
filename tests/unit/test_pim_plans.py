"""Host and banks together: numbers in the banks, assignments against all of them, plans by batch, the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tilewright.__main__ import main
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.pim import PimSpec, load_pim
from tilewright.search.gpu.kernel_options import kernel_options
from tilewright.search.network import BANKS_IDLE
from tilewright.search.pim.batches import plans_by_batch
from tilewright.search.pim.place import best_overlapping, best_sequence
from tilewright.search.pim.plan import PimPlan, memory_of, plan_network
from tilewright.search.runs.simulator import RunSimulator
from tilewright.sim.pim.numbers import attention_in_banks, product_in_banks
from tilewright.sim.pim.operators import BankWork, bank_work
from tilewright.sim.pim.register_banks import register_product, splits_of
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

NPU = load_machine("npu-with-lpddr5x-pim")
AIM, LPDDR = load_pim("gddr6-aim"), load_pim("lpddr5x-pim")


def small(pim: PimSpec) -> PimSpec:
    return replace(pim, organisation=replace(pim.organisation, n_channels=2))


@pytest.mark.parametrize("pim", [small(AIM), small(LPDDR)], ids=lambda pim: pim.name)
@pytest.mark.parametrize(
    ("outputs", "k"), [(3, 5), (40, 64), (33, 1024), (700, 1500), (1200, 33), (500, 2100), (6149, 70)]
)
def test_banks_compute_the_product(pim: PimSpec, outputs: int, k: int) -> None:
    chance = np.random.default_rng(outputs)
    matrix, vectors = chance.integers(-8, 8, (outputs, k)), chance.integers(-8, 8, (2, k))
    found = product_in_banks(pim, matrix.astype(float), vectors.astype(float))
    assert (found == vectors @ matrix.T).all()


def test_groups_of_channels_share_a_narrow_product() -> None:
    chance = np.random.default_rng(3)
    matrix, vectors = chance.integers(-8, 8, (300, 600)), chance.integers(-8, 8, (2, 600))
    found = product_in_banks(LPDDR, matrix.astype(float), vectors.astype(float), split=4)
    assert (found == vectors @ matrix.T).all()
    assert splits_of(LPDDR, 600) == (1, 2, 4, 8)
    assert splits_of(LPDDR, 601) == (1,)
    whole, parts = (register_product(LPDDR, 512, 2048, 1, split=split) for split in (1, 4))
    assert parts.cycles < whole.cycles / 2
    assert (whole.padded_m, parts.padded_m) == (2048, 2048)  # a quarter of the rows is padding no more
    assert parts.host_bytes_in == whole.host_bytes_in == 2048


@pytest.mark.parametrize("pim", [small(AIM), small(LPDDR)], ids=lambda pim: pim.name)
def test_banks_compute_attention(pim: PimSpec) -> None:
    chance = np.random.default_rng(1)
    q, k, v = chance.normal(size=(3, 64)), chance.normal(size=(131, 64)), chance.normal(size=(131, 48))
    scores = q @ k.T / 8
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    wanted = weights @ v / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(attention_in_banks(pim, q, k, v), wanted, rtol=1e-12)


def sequence_cost(costs: list[tuple[int, int | None]], places: tuple[bool, ...], switch: int) -> int | None:
    total, before = 0, False
    for (host, banks), place in zip(costs, places, strict=True):
        if place and banks is None:
            return None
        total += (banks if place and banks is not None else host) + switch * (place != before)
        before = place
    return total + switch * before


def random_costs(chance: Random, n: int) -> list[tuple[int, int | None]]:
    return [(chance.randrange(1, 20), chance.choice([None, chance.randrange(1, 20)])) for _ in range(n)]


def test_the_best_sequence_is_the_best_of_all() -> None:
    chance = Random(0)
    for _ in range(60):
        costs, switch = random_costs(chance, chance.randrange(1, 8)), chance.randrange(6)
        everything = (sequence_cost(costs, places, switch) for places in product((False, True), repeat=len(costs)))
        found = best_sequence(costs, switch)
        assert found.picoseconds == min(cost for cost in everything if cost is not None)
        assert found.picoseconds == sequence_cost(costs, found.in_banks, switch)
        assert found.is_proven


def schedule_cost(costs: list[tuple[int, int | None]], before: list[list[int]]) -> int:
    """All orders of all assignments, each operator as early as it can be."""
    n, best = len(costs), sum(host for host, _ in costs)
    orders = [
        one for one in permutations(range(n)) if all(one.index(b) < one.index(a) for a in range(n) for b in before[a])
    ]
    for places in product((False, True), repeat=n):
        if any(place and costs[at][1] is None for at, place in enumerate(places)):
            continue
        for order in orders:
            free, ends = {False: 0, True: 0}, [0] * n
            for at in order:
                start = max([free[places[at]], *(ends[one] for one in before[at])])
                price = costs[at][1] if places[at] else costs[at][0]
                assert price is not None
                ends[at] = free[places[at]] = start + price
            best = min(best, max(ends))
    return best


def test_the_best_overlapping_schedule_is_the_best_of_all() -> None:
    chance = Random(1)
    for _ in range(8):
        n = chance.randrange(2, 6)
        costs = random_costs(chance, n)
        before = [[one for one in range(at) if chance.random() < 0.5] for at in range(n)]
        found = best_overlapping(costs, before)
        assert found.is_proven
        assert found.picoseconds == schedule_cost(costs, before)


def layer(**changes: object) -> GemmLayer:
    bits = {"a_bits": 8, "b_bits": 8, "out_bits": 8, "accumulator_bits": 32, "compute_format": "int8"}
    given = {"name": "product", "groups": 1, "m": 1, "k": 2048, "n": 8192, "b_is_weight": True, **bits}
    return GemmLayer(**given | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (layer(b_bits=4), "weights of 4 bits; the banks multiply 8"),
        (layer(a_bits=16), "vectors of 16 bits; the banks multiply 8"),
        (layer(b_is_weight=False), "both operands are made while the network runs"),
        (layer(k=1 << 20, n=1 << 20), "bytes of weights; the banks hold"),
        (VectorLayer(name="norm", rows=1, read_bytes=8, write_bytes=8, operations=()), "element-wise work stays"),
    ],
    ids=["weights", "vectors", "no_weight", "room", "vector"],
)
def test_banks_say_what_they_cannot_do(what: GemmLayer | VectorLayer, reason: str) -> None:
    found = bank_work(what, LPDDR, NPU)
    assert isinstance(found, str)
    assert reason in found


def work(what: GemmLayer | AttentionLayer, pim: PimSpec = LPDDR) -> BankWork:
    found = bank_work(what, pim, NPU)
    assert isinstance(found, BankWork), found
    return found


def test_work_in_banks_grows_with_the_batch_and_the_context() -> None:
    one, two = work(layer()), work(layer(m=2))
    assert two.bank_seconds == pytest.approx(2 * one.bank_seconds)
    assert one.bank_seconds == pytest.approx(20.7e-6, rel=0.01)  # GeniePIM's linear1 of OPT-1.3B: 20,726 ns

    def attention(key_len: int, batch: int = 1) -> AttentionLayer:
        return AttentionLayer(
            name="a", batch=batch, query_heads=32, kv_heads=8, query_len=1, key_len=key_len, head_dim=64, value_dim=64,
            qkv_format="int8",
        )  # fmt: skip

    assert work(attention(512)).seconds < work(attention(4096)).seconds
    assert work(attention(512, 2)).bank_seconds == pytest.approx(2 * work(attention(512)).bank_seconds)


def test_banks_with_a_buffer_have_energy() -> None:
    host = replace(AIM.commander, kind="machine")
    found = work(layer(a_bits=16, b_bits=16), replace(AIM, host=host))
    assert found.energy_pj is not None
    assert found.energy_pj > 0


def decoder() -> OperatorStream:
    b = Layers("small", activations="int8", weights="int8")
    x = b.input("x", (1, 1, 1024))
    x = b.linear(b.elementwise("gelu", b.linear(x, 4096, "up"), name="gelu"), 1024, "down")
    return b.finish([x])


@pytest.fixture(scope="module")
def plan() -> PimPlan:
    return plan_network(decoder(), NPU, keep_mappings=False)


def test_a_plan_is_the_sum_of_its_operators_and_proven(plan: PimPlan) -> None:
    assert plan.is_proven
    assert plan.speedup > 2
    assert plan.products_pay
    assert plan.seconds == pytest.approx(plan.fixed_seconds + sum(one.seconds for one in plan.operators), rel=1e-6)
    assert all(one.banks is None or not one.in_banks or one.banks.seconds <= one.host_seconds for one in plan.operators)
    assert plan.energy_pj is not None
    assert 2 * plan.energy_pj < plan.host.energy_pj  # no weight crosses the pins
    weights = 2 * 1024 * 4096 * (8 * 0.55 + 0.32)
    assert plan.energy_pj > weights
    data = plan.to_dict()
    json.dumps(data)
    assert data["proven"]


def test_what_runs_on_the_chip_alone_says_so(plan: PimPlan) -> None:
    assert BANKS_IDLE in plan.host.assumptions
    assert BANKS_IDLE not in plan.assumptions
    assert BANKS_IDLE in RunSimulator(machine=NPU, kernels=kernel_options(NPU)).notes


def test_a_plan_for_energy_takes_no_more_of_it(plan: PimPlan) -> None:
    found = plan_network(decoder(), NPU, objective="energy", keep_mappings=False)
    assert found.energy_pj is not None
    assert plan.energy_pj is not None
    assert found.energy_pj <= plan.energy_pj * (1 + 1e-9)
    with pytest.raises(InputError, match="objective: given energy; neupims's host works on"):
        plan_network(decoder(), load_machine("npu-with-neupims"), objective="energy", keep_mappings=False)


def test_a_slow_hand_over_leaves_everything_on_the_chip(plan: PimPlan, tmp_path: Path) -> None:
    path = tmp_path / "slow.yaml"
    path.write_text("base: lpddr5x-pim\nname: slow\nhost: {switch_ns: 1.0e+6}\n", encoding="utf-8")
    slow = plan_network(decoder(), replace(NPU, pim=str(path)), keep_mappings=False)
    assert not slow.products_pay
    assert slow.seconds == slow.host_seconds == plan.host_seconds


def test_a_host_with_memory_of_its_own_is_no_slower(plan: PimPlan, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("base: lpddr5x-pim\nname: own\nhost: {meanwhile: own_memory}\n", encoding="utf-8")
    own = plan_network(decoder(), replace(NPU, pim=str(path)), keep_mappings=False)
    assert own.is_proven
    assert own.seconds <= plan.seconds * (1 + 1e-6)  # whole picoseconds


def test_the_turn_between_batches_is_found_by_halves(plan: PimPlan) -> None:
    asked = []
    nothing = replace(plan, operators=tuple(replace(one, in_banks=False) for one in plan.operators))

    def at(batch: int) -> PimPlan:
        asked.append(batch)
        return plan if batch <= 6 else nothing

    found = plans_by_batch(at, (1, 2, 4, 8, 16))
    assert (found.last_paying, found.first_not_paying) == (6, 7)
    assert asked == [1, 2, 4, 8, 16, 6, 7]
    assert [row["batch"] for row in found.rows()] == [1, 2, 4, 6, 7, 8, 16]
    assert plans_by_batch(lambda _: nothing, (1, 2)).last_paying is None
    assert plans_by_batch(lambda _: plan, (1, 2)).first_not_paying is None


def test_machines_without_such_a_memory_are_refused() -> None:
    with pytest.raises(InputError, match="edge-16x16: its memory does not compute"):
        memory_of(load_machine("edge-16x16"))
    with pytest.raises(InputError, match="the host of cent is of kind cxl"):
        memory_of(replace(NPU, pim="cent"))
    with pytest.raises(InputError, match=r"unknown memory that computes.*did you mean"):
        memory_of(replace(NPU, pim="lpddr5-pim"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["simulate", "ds-cnn", "-a", "lpddr5x-pim"],
            '"lpddr5x-pim" is a memory that computes, and nobody commands it',
        ),
        (["search", "ds-cnn", "--over", "pim", "-a", "edge-16x16"], "its memory does not compute"),
        (
            ["search", "ds-cnn", "--over", "pim", "-a", "npu-with-lpddr5x-pim", "--batches", "1,x"],
            "--batches: not a list",
        ),
        (
            ["search", "ds-cnn:batch=2", "--over", "pim", "-a", "npu-with-lpddr5x-pim", "--batches", "1"],
            "--batches: the",
        ),
        (["simulate", "ds-cnn", "-a", "npu-with-lpddr5x-pim", "--objective", "edp"], "--objective: given edp"),
        (["simulate", "ds-cnn", "-a", "npu-with-lpddr5x-pim", "--report", "out"], "--report: plans with memory"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("tilewright: error:") == 1


def test_a_search_over_batches_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    formats = ["--weights", "int8", "--activations", "int8"]
    command = [
        "search",
        "ds-cnn",
        "--over",
        "pim",
        "-a",
        "npu-with-lpddr5x-pim",
        "--batches",
        "1,2",
        "--json",
        str(path),
    ]
    with pytest.raises(SystemExit) as left:
        main([*command, *formats])
    assert left.value.code == 0
    data = json.loads(path.read_text(encoding="utf-8"))
    assert [row["batch"] for row in data["batches"]] == [1, 2]
    assert "by batch" in capsys.readouterr().out
