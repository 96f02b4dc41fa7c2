"""Do the largest layers, the most cores, the smallest arrays and buffers run, or say in one sentence why not?"""

from __future__ import annotations

from typing import Any

import pytest

import tilewright
from tilewright.errors import MappingError
from tilewright.hw_models.load import load_machine

EDGE = load_machine("edge-16x16")
# One layer of a model with 405 billion parameters, 128 heads of 128 over 8 pairs of keys and values.
FEED_FORWARD = "gemm:m=16384,n=53248,k=16384"
DECODE = "attention:batch=1024,heads=128,kv_heads=8,query_len=1,key_len=131072,head_dim=128"


@pytest.mark.parametrize(
    ("workload", "changes"),
    [
        (FEED_FORWARD, {}),
        (FEED_FORWARD, {"n_cores": 512}),
        (FEED_FORWARD, {"matrix.rows": 1, "matrix.columns": 1}),
        ("gemm:m=512,n=768,k=768", {"buffers.l1.capacity_kib": 1 / 16}),
        ("gemm:m=512,n=768,k=768", {"buffers.l1.capacity_kib": 1 / 64, "matrix.rows": 1, "matrix.columns": 1}),
        ("attention:batch=1024,heads=12,seq=512,head_dim=64", {}),
    ],
)
def test_extremes_run_and_stay_above_their_bound(workload: str, changes: dict[str, Any]) -> None:
    result = tilewright.simulate(workload, EDGE.with_(**changes))
    assert result.lower_bound_cycles <= result.cycles < 2**50
    assert 0 < result.energy_pj < 1e25
    assert max(result.matrix_utilization, result.vector_utilization, result.dram_utilization) <= 1


def test_a_decode_step_of_a_large_batch_runs() -> None:
    tiling = {"query": 16, "key": 128, "depth": 2, "resident": 0}
    result = tilewright.simulate(DECODE, EDGE.with_(n_cores=512), dataflow="flash2", tiling=tiling)
    assert result.dram_read_bytes >= 1024 * 8 * 131072 * 128 * 2 * 2
    assert result.cycles >= result.lower_bound_cycles


def test_what_fits_nowhere_is_one_sentence() -> None:
    with pytest.raises(
        MappingError, match=r"^the mapping needs [\d,]+ bytes of buffer l1, which has 64 bytes; [^\n]*$"
    ):
        tilewright.simulate("bert-base", EDGE.with_(**{"buffers.l1.capacity_kib": 1 / 16}))
