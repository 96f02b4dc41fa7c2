"""Scans: every form gives the float64 recurrence, on odd shapes; operators are simulated, bounded and refused."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.network import simulate_stream
from tilewright.sim.dataflows.scan.costs import ScanCosts, ScanTile
from tilewright.sim.dataflows.scan.numbers import run_scan_on_numbers
from tilewright.sim.jobs import jobs_of
from tilewright.sim.lowering.evaluation import evaluate
from tilewright.sim.lowering.mapping import DATAFLOWS
from tilewright.testing import check_operator_kind
from tilewright.workloads import scan_numbers as scans
from tilewright.workloads.network import load_network
from tilewright.workloads.scan import ScanLayer
from tilewright.workloads.scan_counts import ChunkedScan, delta_rule_counts, linear_attention_counts, ssd_counts

TEXTS = (
    "ssd:tokens=37,heads=6,key_heads=2,key_dim=8,value_dim=5",
    "ssd:tokens=1,heads=6,key_heads=1,key_dim=8,value_dim=5,state=yes",
    "selective_scan:tokens=37,channels=19,states=4",
    "selective_scan:tokens=1,channels=19,state=yes,state_format=fp16",
    "linear_attention:tokens=37,heads=4,key_heads=2,key_dim=8,value_dim=5",
    "linear_attention:tokens=37,heads=4,key_dim=8,value_dim=5,gate=head",
    "linear_attention:tokens=37,heads=4,key_dim=8,value_dim=5,gate=channel",
    "delta_rule:tokens=37,heads=4,key_heads=2,key_dim=8,value_dim=5",
    "delta_rule:tokens=9,heads=4,key_dim=8,value_dim=5,gate=channel,state=yes",
    "causal_conv:tokens=37,channels=19",
    "causal_conv:tokens=1,channels=19,state=yes",
)


def drawn(tokens: int, *, by_channel: bool = False) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(tokens)
    shape = (2, tokens, 4)
    return {
        "q": numbers.standard_normal((2, tokens, 4 if by_channel else 2, 8)),
        "k": numbers.standard_normal((2, tokens, 4 if by_channel else 2, 8)) / 3,
        "v": numbers.standard_normal((*shape, 5)),
        "decays": -numbers.random((*shape, 8) if by_channel else shape),
        "state": numbers.standard_normal((2, 4, 8, 5)),
    }


@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize(("tokens", "chunk"), [(1, 1), (7, 3), (16, 16), (37, 16), (37, 1)])
def test_chunked_forms_are_the_recurrence(tokens: int, chunk: int, by_channel: bool) -> None:
    given = drawn(tokens, by_channel=by_channel)
    beta = np.random.default_rng(1).random((2, tokens, 4))
    pairs = (
        (scans.decay_scan(**given), scans.chunked_decay_scan(**given, chunk=chunk)),
        (scans.delta_scan(**given, beta=beta), scans.chunked_delta_scan(**given, beta=beta, chunk=chunk)),
    )
    for recurrent, chunked in pairs:
        for expected, found in zip(recurrent, chunked, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("tokens", "chunk"), [(1, 1), (7, 3), (37, 16), (37, 37)])
def test_the_tree_of_a_chunk_is_the_selective_scan(tokens: int, chunk: int) -> None:
    numbers = np.random.default_rng(0)
    x, b, c = (numbers.standard_normal((2, tokens, n)) for n in (6, 4, 4))
    step, a, state = numbers.random((2, tokens, 6)), -numbers.random((6, 4)), numbers.standard_normal((2, 6, 4))
    expected = scans.selective_scan(x, step, a, b, c, state=state)
    for one, other in zip(scans.tree_selective_scan(x, step, a, b, c, chunk=chunk, state=state), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_a_sequence_in_two_parts_passes_its_state() -> None:
    given = drawn(9)
    whole, last = scans.decay_scan(**given)
    state = given.pop("state")
    first, between = scans.decay_scan(**{key: x[:, :4] for key, x in given.items()}, state=state)
    second, end = scans.decay_scan(**{key: x[:, 4:] for key, x in given.items()}, state=between)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole)
    np.testing.assert_allclose(end, last)
    x, weight, bias = given["v"][..., 0], np.ones((4, 4)), np.zeros(4)
    all_at_once, _ = scans.causal_conv(x, weight, bias)
    begun, kept = scans.causal_conv(x[:, :2], weight, bias)
    np.testing.assert_allclose(
        np.concatenate([begun, scans.causal_conv(x[:, 2:], weight, bias, state=kept)[0]], axis=1), all_at_once
    )


@pytest.mark.parametrize("text", TEXTS)
def test_operators_are_held_to_what_others_are(text: str) -> None:
    check_operator_kind(text.partition(":")[0], load_network(text), load_machine("edge-16x16"))


@pytest.mark.parametrize("machine", ["edge-16x16", "flat-edge"])
@pytest.mark.parametrize("text", TEXTS[:9])
def test_every_mapping_runs_and_keeps_its_bound(text: str, machine: str) -> None:
    spec, flow = load_machine(machine), DATAFLOWS.get("scan")
    (job,) = jobs_of(load_network(text))
    assert isinstance(job.layer, ScanLayer)
    bound = flow.bound(job.layer, spec)
    (layer,) = flow.family.pieces(job.layer, spec)
    tilings = list(flow.phases[0].space(layer, spec))
    assert tilings
    for tiling in tilings:
        assert evaluate(flow, layer, spec, tiling).cycles >= bound.cycles


def test_what_is_moved_is_what_is_there() -> None:
    """With the state on chip everything crosses once; with the states in the DRAM between chunks, they do too."""
    spec, flow = load_machine("edge-16x16"), DATAFLOWS.get("scan")
    (job,) = jobs_of(load_network("ssd:tokens=64,heads=4,key_heads=1,key_dim=16,value_dim=16,a_format=fp16"))
    tiling = {"chunk": 16, "heads": 2, "values": 16, "order": 2, "recurrent": 0}
    stay = evaluate(flow, job.layer, spec, tiling).dram_bytes
    move = evaluate(flow, job.layer, spec, tiling | {"order": 1}).dram_bytes
    of_each = 4 * 16 * 16 * 4
    assert stay >= job.layer.compulsory_bytes
    assert move - stay >= 2 * 3 * of_each


@pytest.mark.parametrize("kind", ["ssd", "linear_attention", "delta_rule"])
def test_products_are_those_counted_by_stage(kind: str) -> None:
    """Whole squares, chunks that divide the length: each product of the published stages once."""
    spec = load_machine("edge-16x16")
    (job,) = jobs_of(load_network(f"{kind}:tokens=64,heads=4,key_heads=4,key_dim=8,value_dim=16"))
    costs = ScanCosts(job.layer, spec)
    of_chunk = (*costs.scores(16), *costs.products(ScanTile(tokens=16, heads=1, values=16)))
    extents = ChunkedScan(batch=1, n_tokens=64, n_heads=4, n_key_heads=4, key_dim=8, value_dim=16, chunk=16)
    counts = {
        "ssd": lambda: ssd_counts(extents, causal=False),
        "linear_attention": lambda: linear_attention_counts(extents, causal=False),
        "delta_rule": lambda: delta_rule_counts(extents),
    }[kind]()
    on_vector_unit = ("cumulative_sum", "state_passing", "inverse", "diagonal")
    n_macs = sum(stage.flop for stage in counts.stages if stage.name not in on_vector_unit) // 2
    assert 4 * 4 * sum(one.times * one.m * one.k * one.n for one in of_chunk) == n_macs


@pytest.mark.slow
def test_a_state_pays_behind_a_long_context() -> None:
    """docs/ssm.md: a step of Mamba takes the same time anywhere, one of a transformer passes it."""
    step = tilewright.simulate_network("mamba-1.4b:decode=1", "edge-16x16").cycles
    near, far = (
        tilewright.simulate_network(f"llama-3.2-1b:decode=1,context={n}", "edge-16x16").cycles for n in (8192, 10240)
    )
    assert near < step < far


def test_cost_does_not_grow_with_length() -> None:
    """Rounds repeat: so many commands are simulated, whatever the length."""
    spec, flow = load_machine("edge-16x16"), DATAFLOWS.get("scan")
    tiling = {"chunk": 128, "heads": 2, "values": 64, "order": 0, "recurrent": 0}
    cycles = []
    for tokens in (2048, 4096, 65536):
        (job,) = jobs_of(load_network(f"ssd:tokens={tokens},heads=24,key_heads=1,key_dim=128,value_dim=64"))
        cycles.append(evaluate(flow, job.layer, spec, tiling).cycles)
    assert cycles[2] - cycles[1] == 30 * (cycles[1] - cycles[0])


def test_a_step_costs_the_same_behind_any_context() -> None:
    result = tilewright.simulate("ssd:tokens=1,heads=24,key_heads=1,key_dim=128,value_dim=64,state=yes", "edge-16x16")
    state = 24 * 128 * 64 * 4
    assert 2 * state <= result.dram_bytes <= 2 * state * 1.1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ssd:tokens=8,heads=2,key_dim=8,value_dim=8,chunk=9", "chunk: longer than the sequence; given 9"),
        ("ssd:tokens=8,heads=3,key_heads=2,key_dim=8,value_dim=8", "heads: given 3 on 2 of keys"),
        ("delta_rule:tokens=8,heads=4,key_heads=2,key_dim=8,value_dim=8,gate=channel", "key_heads: given 2 for 4"),
        ("linear_attention:tokens=8,key_dim=8,value_dim=8,gate=chanel", 'given "chanel"'),
        ("selective_scan:tokens=8,channels=8,state=yes,state_format=fp15", "state_format"),
        ("ssd:tokens=0,heads=2,key_dim=8,value_dim=8", "tokens: must be a whole number"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_network(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recurrent", [0, 1])
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("state", ["no", "yes"])
@pytest.mark.parametrize("kind", ["linear_attention", "delta_rule"])
def test_programs_compute_the_recurrence(kind: str, state: str, order: int, recurrent: int) -> None:
    """On numbers, with two groups, heads that three do not divide, columns and chunks that do not divide either."""
    text = f"{kind}:tokens=11,heads=8,key_heads=2,key_dim=3,value_dim=5,gate=head,state={state}"
    (job,) = jobs_of(load_network(text))
    assert isinstance(job.layer, ScanLayer)
    numbers = np.random.default_rng(3)
    given = {"q": numbers.standard_normal((1, 11, 2, 3)), "k": numbers.standard_normal((1, 11, 2, 3)) / 3}
    given |= {"v": numbers.standard_normal((1, 11, 8, 5)), "decays": -numbers.random((1, 11, 8))}
    given |= {"beta": numbers.random((1, 11, 8))} if kind == "delta_rule" else {}
    start = numbers.standard_normal((1, 8, 3, 5))
    define = scans.delta_scan if kind == "delta_rule" else scans.decay_scan
    y, last = define(**given, state=start if state == "yes" else None)
    for heads, values in ((3, 5), (1, 2), (4, 5)):
        tiling = {"chunk": 4, "heads": heads, "values": values, "order": order, "recurrent": recurrent}
        found, states = run_scan_on_numbers(job.layer, load_machine("edge-16x16"), tiling, given, start)
        np.testing.assert_allclose(found, y, rtol=1e-9, atol=1e-11)
        if state == "yes":
            np.testing.assert_allclose(states, last, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("recurrent", [0, 1])
@pytest.mark.parametrize("kind", ["linear_attention", "delta_rule"])
def test_programs_with_gates_by_channel_compute_the_recurrence(kind: str, recurrent: int, order: int) -> None:
    (job,) = jobs_of(load_network(f"{kind}:tokens=11,heads=3,key_dim=3,value_dim=5,gate=channel"))
    assert isinstance(job.layer, ScanLayer)
    numbers = np.random.default_rng(4)
    given = {name: numbers.standard_normal((1, 11, 3, n)) / 3 for name, n in (("q", 3), ("k", 3), ("v", 5))}
    given |= {"decays": -numbers.random((1, 11, 3, 3))}
    given |= {"beta": numbers.random((1, 11, 3))} if kind == "delta_rule" else {}
    y, _ = (scans.delta_scan if kind == "delta_rule" else scans.decay_scan)(**given)
    tiling = {"chunk": 4, "heads": 1, "values": 2, "order": order, "recurrent": recurrent}
    found, _ = run_scan_on_numbers(job.layer, load_machine("edge-16x16"), tiling, given, np.zeros((1, 3, 3, 5)))
    np.testing.assert_allclose(found, y, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("recurrent", [0, 1])
def test_programs_of_the_selective_scan_compute_it(recurrent: int, order: int) -> None:
    (job,) = jobs_of(load_network("selective_scan:tokens=11,channels=7,states=3,state=yes"))
    assert isinstance(job.layer, ScanLayer)
    numbers = np.random.default_rng(5)
    given = {name: numbers.standard_normal((1, 11, 1, n)) for name, n in (("q", 3), ("k", 3), ("v", 7))}
    given |= {"decays": numbers.random((1, 11, 1, 7)), "a": -numbers.random((7, 3))}
    start = numbers.standard_normal((1, 1, 3, 7))
    q, k, v, step = (given[name][:, :, 0] for name in ("q", "k", "v", "decays"))
    y, last = scans.selective_scan(v, step, given["a"], k, q, state=start[:, 0].transpose(0, 2, 1))
    tiling = {"chunk": 4, "heads": 1, "values": 2, "order": order, "recurrent": recurrent}
    found, states = run_scan_on_numbers(job.layer, load_machine("edge-16x16"), tiling, given, start)
    np.testing.assert_allclose(found[:, :, 0], y, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(states[:, 0], last.transpose(0, 2, 1), rtol=1e-9, atol=1e-11)


def test_a_given_chunk_is_kept() -> None:
    (job,) = jobs_of(load_network("ssd:tokens=64,heads=2,key_dim=8,value_dim=8,chunk=32"))
    chunks = DATAFLOWS.get("scan").parameters[0].candidates(job.layer, load_machine("edge-16x16"))
    assert chunks == (32,)


def test_more_cores_share_heads_or_columns() -> None:
    (job,) = jobs_of(load_network("ssd:tokens=64,heads=6,key_heads=1,key_dim=8,value_dim=8"))
    layer = job.layer
    assert isinstance(layer, ScanLayer)
    (cut,) = layer.cuts(4)
    assert (cut.groups, cut.heads, cut.macs) == (3, 2, layer.macs)
    result = simulate_stream(load_network("ssd:tokens=64,heads=6,key_dim=8,value_dim=8"), load_machine("edge-16x16"))
    assert result.cycles > 0
