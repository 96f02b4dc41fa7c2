"""Number-theoretic transforms as products of bytes: equal to the polynomial's values, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.vector_unit import vector_cycles
from tilewright.search.workload import layer_of
from tilewright.sim.fusion.reference import network_on_numbers
from tilewright.sim.jobs import jobs_of
from tilewright.testing import check_operator_kind
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.naming import what_is_named
from tilewright.workloads.network import load_network
from tilewright.workloads.number_theory import (
    REDUCTIONS,
    _root,
    byte_matrix,
    constant,
    factors,
    fold_matrix,
    from_bytes,
    ntt_moduli,
    reduced,
    step_matrix,
    to_bytes,
)


def transform(x: list[int], q: int) -> list[int]:
    """The polynomial at the odd powers of the root, in Python's integers."""
    n, psi = len(x), _root(len(x), q)
    return [sum(value * pow(psi, j * (2 * k + 1), q) for j, value in enumerate(x)) % q for k in range(n)]


@pytest.mark.parametrize(
    ("reduction", "steps"),
    [*((one, "fused") for one in REDUCTIONS), *((one, "apart") for one in REDUCTIONS if one != "shoup")],
)
@pytest.mark.parametrize(("n", "rows", "limbs", "batch"), [(64, 16, 3, 1), (32, 2, 1, 2), (128, 8, 2, 3)])
def test_a_transform_is_exact(reduction: str, steps: str, n: int, rows: int, limbs: int, batch: int) -> None:
    stream = load_network(f"ntt:n={n},rows={rows},limbs={limbs},batch={batch},modulo={reduction},steps={steps}")
    columns, moduli, numbers = n // rows, ntt_moduli(n, limbs), np.random.default_rng(n)
    x = np.stack([numbers.integers(0, q, (batch, rows, columns), dtype=np.uint64) for q in moduli])
    values = {"x": to_bytes(x).astype(float)}
    for side, step in (("rows", 1), ("columns", 3)):
        parts = [byte_matrix(step_matrix(rows, columns, q, step, reduction), q) for q in moduli]
        values[f"{side}.matrix"] = np.stack(parts).astype(float)
    known = np.stack([factors(rows, columns, q, reduction) for q in moduli])[:, None]
    values["factors"] = to_bytes(known, 8 if steps == "apart" else 4).astype(float)
    values["fold"] = np.stack([fold_matrix(q) for q in moduli]).astype(float)
    values = {name: value for name, value in values.items() if name in {one.name for one in stream.tensors}}
    found = from_bytes(network_on_numbers(stream, values)[stream.outputs[0]].astype(np.uint64))
    for limb, q in enumerate(moduli):
        for one in range(batch):
            # result k1 + rows k2 stands at (k1, k2)
            y = found[limb, one].T.reshape(-1)
            assert [int(value) for value in y] == transform([int(value) for value in x[limb, one].reshape(-1)], q)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_reduction_is_the_remainder(reduction: str) -> None:
    (q,) = ntt_moduli(2**10, 1)
    numbers = np.random.default_rng(1)
    a = numbers.integers(0, q, 1000, dtype=np.uint64)
    b = numbers.integers(0, q, 1000, dtype=np.uint64)
    a[:3], b[:3] = (0, 1, q - 1), (q - 1, q - 1, q - 1)
    stored = np.array([constant(int(value), q, reduction) for value in b], dtype=np.uint64)
    assert [int(v) for v in reduced(a * stored, q, reduction)] == [
        int(u) * int(v) % q for u, v in zip(a, b, strict=True)
    ]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("form", ["", ",word=64", ",steps=apart"])
def test_products_of_residues_are_exact(reduction: str, form: str) -> None:
    n, limbs, batch = 16, 3, 2
    stream = load_network(f"modular_multiply:n={n},limbs={limbs},batch={batch},modulo={reduction}{form}")
    moduli, numbers = ntt_moduli(n, limbs), np.random.default_rng(5)
    a, b = (np.stack([numbers.integers(0, q, (batch, n), dtype=np.uint64) for q in moduli]) for _ in range(2))
    known = np.stack(
        [(b[i] << np.uint64(32)) % np.uint64(q) if reduction == "montgomery" else b[i] for i, q in enumerate(moduli)]
    )
    given = {
        "x": a,
        "y": known,
        "y.quotients": np.stack([(b[i] << np.uint64(32)) // np.uint64(q) for i, q in enumerate(moduli)]),
    }
    values = {
        name: to_bytes(value, stream.tensor(name).shape[-1]).astype(float)
        for name, value in given.items()
        if name in {one.name for one in stream.tensors}
    }
    if any(one.name == "fold" for one in stream.tensors):
        values["fold"] = np.stack([fold_matrix(q) for q in moduli]).astype(float)
    found = from_bytes(network_on_numbers(stream, values)[stream.outputs[0]].astype(np.uint64))
    for limb, q in enumerate(moduli):
        assert found[limb].tolist() == [
            [int(u) * int(v) % q for u, v in zip(*pair, strict=True)] for pair in zip(a[limb], b[limb], strict=True)
        ]


def test_steps_apart_are_turns_products_and_reductions() -> None:
    stream = load_network("ntt:n=65536,limbs=51,rows=256,batch=2,steps=apart")
    assert [one.kind for one in stream.operators] == ["relayout", "ntt_product", "modular_sum"] * 2
    jobs = jobs_of(stream)
    assert len(jobs) == 6  # nothing is done on the tiles of a product
    product = jobs[1].layer
    assert isinstance(product, GemmLayer) and product.out_bits == 32 and not product.fused.operations
    n_residues = 51 * 2 * 65536
    # sums of 18, Montgomery's 5 and 15, the factors' 9 and 31
    assert dict(stream.operators[2].of_kind.work(stream.operators[2])) == {
        "mul": 14 * n_residues,
        "add": 64 * n_residues,
    }
    lazy = load_network("ntt:n=65536,limbs=51,rows=256,modulo=lazy,steps=apart")
    fold = next(job.layer for job in jobs_of(lazy) if job.operators[0].kind == "byte_fold")
    assert isinstance(fold, GemmLayer) and (fold.groups, fold.m, fold.k, fold.n) == (51, 65536, 4, 4)


def test_words_are_turned_by_the_unit_that_crosses_lanes() -> None:
    turn = load_network("ntt:n=65536,limbs=4,steps=apart").operators[0]
    unit, n_words, values = load_machine("tpu-v6e").vector, 4 * 65536, turn.of_kind.unit(turn)
    work = tuple(turn.of_kind.work(turn).items())
    assert vector_cycles(unit, work, reduces=False, values=values) == 16 + ceil(n_words / 62.2)
    # where there is no such unit, an instruction of 128 lanes for every word
    assert vector_cycles(replace(unit, rates={}), work, reduces=False, values=values) == 16 + n_words * 128 // 4096


def test_moduli_are_distinct_primes_with_roots() -> None:
    moduli = ntt_moduli(2**16, 51)
    assert len(set(moduli)) == 51
    for q in (moduli[0], moduli[-1]):
        assert q < 2**28 and q % 2**17 == 1 and pow(_root(2**16, q), 2**16, q) == q - 1
        assert all(q % d for d in range(2, int(q**0.5) + 1, 1) if d < 2000)


def test_steps_become_products_of_bytes_with_their_reductions_on_tiles() -> None:
    stream = load_network("ntt:n=65536,limbs=51,rows=256,batch=2")
    assert stream.macs == 2 * 51 * 2 * 256 * 1024 * 1024
    first, second = (job.layer for job in jobs_of(stream))
    assert isinstance(first, GemmLayer) and isinstance(second, GemmLayer)
    assert (first.groups, first.m, first.k, first.n) == (51, 512, 1024, 1024)
    assert (first.a_bits, first.b_bits, first.out_bits) == (8, 8, 8)
    assert (second.a_bits, second.out_bits) == (8, 8)
    # for each of a residue's four bytes, rounded up: Montgomery's 5 and 15, and 18 to join the sums of bytes
    assert dict(second.fused.operations) == {"mul": 2, "add": 9}
    assert dict(first.fused.operations) == {"mul": 4, "add": 16}  # with the factors' 9 and 31


def test_a_transform_is_run_as_a_network_and_refused_as_a_layer() -> None:
    assert what_is_named("ntt:n=64").kind == "network" and what_is_named("modular_multiply:n=64").kind == "operator"
    with pytest.raises(InputError, match="is 2 operators"):
        layer_of("ntt:n=64")


@pytest.mark.parametrize(
    "text", ["ntt:n=64,limbs=2", "ntt:n=64,limbs=2,modulo=lazy,steps=apart", "modular_multiply:n=16,limbs=3"]
)
def test_they_are_held_to_what_kinds_are_held_to(text: str) -> None:
    stream = load_network(text)
    for kind in dict.fromkeys(one.kind for one in stream.operators):
        check_operator_kind(kind, stream, load_machine("edge-16x16"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ntt:n=60", "n: given 60"),
        ("ntt:n=64,rows=5", "rows"),
        ("ntt:n=1048576,limbs=99", "limbs"),
        ("ntt:n=64,modulo=mersenne", "modulo"),
        ("ntt:n=64,steps=alone", "steps"),
        ("ntt:n=64,modulo=shoup,steps=apart", "steps: given apart, with modulo shoup"),
        ("modular_multiply:n=64,word=48", "word"),
        ("modular_multiply:limbs=2", "n: missing"),
    ],
)
def test_what_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_network(text)
