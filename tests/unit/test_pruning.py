"""Weights pruned in blocks to a share of a network's operations."""

from __future__ import annotations

import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.workloads.network import load_network
from tilewright.workloads.pruning import effective_macs, pruned_to


@pytest.mark.parametrize("share", [1, 0.5, 0.45, 0.29])
def test_a_share_of_all_operations_is_left(share: float) -> None:
    dense = load_network("deit-s")
    pruned = pruned_to(dense, share)
    assert effective_macs(pruned) == pytest.approx(share * dense.macs, rel=1e-12)
    densities = {one.density for one in pruned.tensors if one.density != 1}
    assert len(densities) == (share < 1) and all(density < share for density in densities)


def test_what_has_no_weights_cannot_be_pruned() -> None:
    with pytest.raises(InputError, match="what has no weights"):
        pruned_to(load_network("deit-s"), 0.05)
    with pytest.raises(InputError, match="at most 1"):
        pruned_to(load_network("deit-s"), 1.5)


def test_a_machine_that_leaves_blocks_out_is_as_much_faster() -> None:
    text = "gemm:m=256,k=512,n=512,format=int8"
    machine = load_machine("edge-16x16").with_(**{"matrix.sparsity": {"index_bits": 10 / 1024, "most_speedup": 64}})
    dense = load_network(text)
    whole = tilewright.simulate_network(dense, machine, keep_mappings=False)
    half = tilewright.simulate_network(pruned_to(dense, 0.5), machine, keep_mappings=False)
    assert 0.48 < half.cycles / whole.cycles < 0.56
