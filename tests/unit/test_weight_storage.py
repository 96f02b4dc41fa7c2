"""Weights as a machine stores them: compressed."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.describe import figures
from tilewright.hw_models.load import load_machine
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import simulate_stream
from tilewright.sim.jobs import jobs_of, jobs_on
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")
SMALLER = EDGE.with_(**{"weights.compression": 1.6})


def stream() -> OperatorStream:
    b = Layers("small", activations="int8", weights="int8")
    x = b.linear(b.input("x", (1, 4, 512)), 512, "up")
    return b.finish([b.linear(x, 512, "down")])


def test_compressed_weights_are_fewer_bytes_and_nothing_else() -> None:
    plain, less = (
        simulate_stream(stream(), machine, cache=MappingCache(), prefetch=False) for machine in (EDGE, SMALLER)
    )
    saved = 2 * (512 * 512 - 512 * 512 * 5 // 8)
    assert plain.dram_read_bytes - less.dram_read_bytes == pytest.approx(saved, rel=0.01)  # whole bursts
    assert plain.dram_write_bytes == less.dram_write_bytes and plain.macs == less.macs
    assert less.cycles < plain.cycles
    assert all(op.cycles >= op.lower_bound.cycles for op in less.operators)
    assert plain.weight_bytes == less.weight_bytes  # of the network, as it is given
    assert any("compressed by 1.6" in text for text in less.assumptions)
    assert not any("compressed" in text for text in plain.assumptions)


def test_only_weights_are_compressed() -> None:
    (up, _) = (job.layer for job in jobs_on(stream(), SMALLER))
    assert isinstance(up, GemmLayer) and up.b_bits == Fraction(8 * 5, 8)
    b = Layers("scores", activations="int8", weights="int8")
    q, k = b.input("q", (1, 4, 8)), b.input("k", (1, 8, 4))
    scores = b.finish([b.add("matmul", "scores", [q, k], [1, 4, 4], {"batch": 1, "m": 4, "k": 8, "n": 4})])
    assert [job.layer for job in jobs_on(scores, SMALLER)] == [job.layer for job in jobs_of(scores)]


def test_a_layer_alone_has_them_too() -> None:
    plain, less = (
        tilewright.simulate("gemm:m=4,k=512,n=512,a_format=int8,b_format=int8", one) for one in (EDGE, SMALLER)
    )
    assert less.dram_read_bytes < 0.7 * plain.dram_read_bytes


def test_none_is_no_figure_and_less_than_none_is_refused() -> None:
    assert not any(section == "weights" for section, _, _ in figures(EDGE))
    assert ("weights", "compression", 1.6) in list(figures(SMALLER))
    assert replace(SMALLER, weights=EDGE.weights) == replace(EDGE, sources=SMALLER.sources)
    with pytest.raises(InputError, match="compression"):
        EDGE.with_(**{"weights.compression": 0.5})
