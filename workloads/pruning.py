"""Weights pruned in blocks, as in LPViT (Xu et al., arXiv 2407.02068): how dense they are at a share of operations."""

from __future__ import annotations

from tilewright.errors import InputError
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["effective_macs", "pruned_to"]


def effective_macs(stream: OperatorStream) -> float:
    """Multiply-accumulates of ``stream`` without those of weights that are 0 (their ``density``)."""
    return sum(one.macs * _density(stream, one.inputs) for one in stream.operators if one.macs)


def _density(stream: OperatorStream, inputs: tuple[str, ...]) -> float:
    return stream.base(inputs[1]).density if len(inputs) > 1 else 1.0


def pruned_to(stream: OperatorStream, share: float) -> OperatorStream:
    """``stream`` with as many blocks of weights left in each product that :func:`effective_macs` is ``share`` of all.

    Products of activations (attention) stay as they are, so weights are pruned further than the share says. On a
    machine, whole blocks are left out by a ``matrix.sparsity`` without a structure, whose ``index_bits`` are a block's
    place over its values. Raises InputError for a share that is not above that of the products of activations, or is
    above 1.
    """
    n_all = sum(one.macs for one in stream.operators)
    half = stream.with_weight_density(0.5)
    prunable = 2 * (n_all - effective_macs(half))
    least = 1 - prunable / n_all if n_all else 1.0
    if not least < share <= 1:
        raise InputError(
            f"{stream.name}: share: given {share:g}; allowed above {least:.3g}, what has no weights, and at most 1"
        )
    return stream.with_weight_density(1 - (1 - share) * n_all / prunable)
