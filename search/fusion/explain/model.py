"""The validity model: a graph neural network of four k-GNN layers (Morris et al., arXiv 1810.02244, k = 1).

Each layer: h' = ReLU(h W1 + sum over neighbours of (edge weight) h W2 + b), hidden width 128. The graph is the sum of
its nodes; two linear layers answer with one number, positive for "fits". Edges count in both directions; their weights
are 1, or less where an explainer masks them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from tilewright.errors import InputError
from tilewright.search.fusion.explain.samples import N_FEATURES, Sample

__all__ = ["HIDDEN", "N_LAYERS", "Batch", "batch_of", "need_torch", "new_model"]

HIDDEN = 128
N_LAYERS = 4


def need_torch() -> Any:
    """The module torch; raises InputError where it is not installed."""
    try:
        import torch
    except ImportError:
        raise InputError("graph explanation needs PyTorch; install it with: pip install 'tilewright[gnn]'") from None
    return torch


class Batch:
    """Some groups as one graph: features of all nodes, both directions of all edges, and which group a node is of."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        torch = need_torch()
        import numpy as np

        ends, group_of, group_of_edge, first = [], [], [], 0
        for at, sample in enumerate(samples):
            ends += [(first + p, first + i) for p, i in sample.edges]
            group_of += [at] * len(sample.features)
            group_of_edge += [at] * len(sample.edges)
            first += len(sample.features)
        self.n_groups = len(samples)
        self.features = torch.from_numpy(np.concatenate([sample.features for sample in samples]))
        self.edges = torch.tensor(ends, dtype=torch.long).reshape(-1, 2)
        self.group_of = torch.tensor(group_of, dtype=torch.long)
        self.group_of_edge = torch.tensor(group_of_edge, dtype=torch.long)
        self.fits = torch.tensor([float(sample.fits) for sample in samples])


def batch_of(sample: Sample) -> Batch:
    """One group."""
    return Batch([sample])


def new_model(seed: int) -> Any:
    """An untrained model; ``model(batch, edge_weights)`` gives a number per group, ``model.nodes`` their embeddings."""
    torch = need_torch()
    torch.manual_seed(seed)
    widths = [N_FEATURES] + [HIDDEN] * N_LAYERS

    Module: Any = torch.nn.Module

    class ValidityModel(Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            pairs = list(itertools.pairwise(widths))
            self.own = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in pairs)
            self.near = torch.nn.ModuleList(torch.nn.Linear(a, b, bias=False) for a, b in pairs)
            self.head = torch.nn.Sequential(
                torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1)
            )

        def nodes(self, batch: Batch, edge_weights: Any = None) -> Any:
            h = batch.features
            begin, end = batch.edges[:, 0], batch.edges[:, 1]
            for own, near in zip(self.own, self.near, strict=True):
                sent = near(h)
                down, up = sent[begin], sent[end]
                if edge_weights is not None:
                    down, up = down * edge_weights[:, None], up * edge_weights[:, None]
                h = torch.relu(own(h).index_add(0, end, down).index_add(0, begin, up))
            return h

        def answer(self, batch: Batch, nodes: Any) -> Any:
            whole = torch.zeros(batch.n_groups, HIDDEN).index_add(0, batch.group_of, nodes)
            return self.head(whole)[:, 0]

        def forward(self, batch: Batch, edge_weights: Any = None) -> Any:
            return self.answer(batch, self.nodes(batch, edge_weights))

    return ValidityModel()
