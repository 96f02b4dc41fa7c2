"""Groups as numbers for a graph neural network, and groups sampled by random search to learn from."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tilewright.search.fusion.plan import inner_edges, random_plan
from tilewright.sim.fusion.graph.fusion_graph import NODE_KINDS, FusionGraph, members
from tilewright.sim.fusion.scheme import get_scheme

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = ["BUFFER_SIZES", "N_FEATURES", "Features", "Sample", "sample_groups"]

#: Working buffers for which groups are labelled, in bytes (128 to 2048 KiB).
BUFFER_SIZES = tuple(kib * 1024 for kib in (128, 256, 512, 1024, 2048))
_LOG_FEATURES, _RATIO_FEATURES = 10, 3
N_FEATURES = len(NODE_KINDS) + _LOG_FEATURES + 2 * _RATIO_FEATURES + 1
_LARGEST_RATIO = 8.0
_MOST_NODES = 64


class Features:
    """The features of a graph's nodes; groups pick their rows.

    Of each node: its kind; the sizes of its window, its input and its output, its weights and its multiply-accumulates
    (logarithms); and, as parts of the buffer, its weights, the rows that it needs of its inputs, and its output.
    """

    def __init__(self, graph: FusionGraph) -> None:
        import numpy as np

        self.graph = graph
        fixed = np.zeros((len(graph), len(NODE_KINDS) + _LOG_FEATURES), dtype=np.float32)
        sizes = np.zeros((len(graph), _RATIO_FEATURES), dtype=np.float64)
        for node in graph.nodes:
            edges = graph.edges_in[node.index]
            rows = sum(min(edge.rows.most, edge.tensor.height) * edge.tensor.row_bytes for edge in edges)
            inputs = sum(edge.tensor.n_bytes for edge in edges)
            out = node.output
            logs = (
                node.in_channels, out.channels, out.height, out.width, node.kernel[0], node.stride[0],
                node.weight_bytes, inputs, out.n_bytes, node.macs,
            )  # fmt: skip
            fixed[node.index, NODE_KINDS.index(node.kind)] = 1
            fixed[node.index, len(NODE_KINDS) :] = [math.log2(1 + value) / 16 for value in logs]
            sizes[node.index] = node.weight_bytes, rows, out.n_bytes
        self._fixed, self._sizes = fixed, sizes

    def of_group(self, nodes: Sequence[int], capacity_bytes: int) -> Floats:
        """(nodes, N_FEATURES): those of the group's nodes for a buffer of so many bytes."""
        import numpy as np

        index = list(nodes)
        ratio = self._sizes[index] / capacity_bytes
        buffer = np.full((len(index), 1), math.log2(capacity_bytes / 1024) / 16)
        parts = (self._fixed[index], np.minimum(ratio, _LARGEST_RATIO), np.log2(1 + ratio), buffer)
        found: Floats = np.concatenate(parts, axis=1).astype(np.float32)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One group, numbered from 0: features (nodes, N_FEATURES), edges (producer, consumer), and whether it fits."""

    features: Any
    edges: tuple[tuple[int, int], ...]
    fits: bool

    @classmethod
    def of_group(cls, features: Features, mask: int, capacity_bytes: int, *, fits: bool = False) -> Sample:
        """The group ``mask`` for a buffer of so many bytes."""
        nodes = members(mask)
        place = {node: at for at, node in enumerate(nodes)}
        edges = tuple((place[p], place[i]) for p, i in inner_edges(features.graph, mask))
        return cls(features=features.of_group(nodes, capacity_bytes), edges=edges, fits=fits)


def sample_groups(graph: FusionGraph, scheme: str, n_groups: int, seed: int) -> list[tuple[Sample, ...]]:
    """At most ``n_groups`` groups of random plans, each as one sample per buffer size of :data:`BUFFER_SIZES`.

    Groups have 2 to 64 nodes, each is drawn once, and all sizes are about equally likely.
    """
    chance = random.Random(f"{seed} {graph.name}")
    by_size: dict[int, set[int]] = {}
    for _ in range(20 * n_groups // max(1, len(graph)) + 200):
        for mask in random_plan(graph, graph.all_mask, chance):
            if 2 <= mask.bit_count() <= _MOST_NODES:
                by_size.setdefault(mask.bit_count().bit_length(), set()).add(mask)
    pools = [sorted(pool) for _, pool in sorted(by_size.items())]
    for pool in pools:
        chance.shuffle(pool)
    drawn = [pool[at] for at in range(n_groups) for pool in pools if at < len(pool)][:n_groups]
    features = Features(graph)
    ways = [get_scheme(scheme, capacity) for capacity in BUFFER_SIZES]
    fusable = [way.fusable_mask(graph) for way in ways]

    def labelled(mask: int) -> Iterator[Sample]:
        for way, allowed in zip(ways, fusable, strict=True):
            fits = not mask & ~allowed and way.cost(graph, mask).valid(way.capacity_bytes)
            yield Sample.of_group(features, mask, way.capacity_bytes, fits=fits)

    return [tuple(labelled(mask)) for mask in drawn]
