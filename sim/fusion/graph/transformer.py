"""The groups that operator fusion means in transformers, found in a fusion graph.

============  ======================================================================================================
kind          what it holds
============  ======================================================================================================
attention     projections of queries, keys and values, attention, output projection, sum and norm behind it; a norm
              in front that only the projections read
mlp           the products before and behind an activation, with what lies between: the hidden map never leaves the
              chip; sum and norm behind; a norm in front that only these products read
behind        a product with the sum and the norm behind it
layer         an attention block with the mlp that follows it: a whole encoder or decoder layer
============  ======================================================================================================

They are groups like any other, priced by the schemes: with line buffers all their weights stay on chip, in slabs
(``brr``) weights come in pieces, the hidden map of an mlp is a partial slab between two products, and keys and values
are held whole between the phases of an attention. What the engine runs is
:func:`~tilewright.sim.fusion.slabs.program.slab_program`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members

__all__ = ["BlockKind", "TransformerBlock", "transformer_blocks"]

BlockKind: TypeAlias = Literal["attention", "mlp", "behind", "layer"]
_BETWEEN = ("elementwise", "concat", "move", "pad")


class TransformerBlock(NamedTuple):
    """One such group; ``name`` is that of its first matrix operator."""

    kind: BlockKind
    name: str
    mask: int


def transformer_blocks(graph: FusionGraph) -> tuple[TransformerBlock, ...]:
    """All blocks of ``graph``, by kind and then in the order of the network."""
    attentions = [_attention(graph, node.index) for node in graph.nodes if node.kind == "attention"]
    taken = 0
    for mask in attentions:
        taken |= mask
    mlps = list(_mlps(graph, taken))
    layers = []
    for mask in attentions:
        below = [mlp for mlp in mlps if graph.successors_of(mask) & mlp]
        if below:
            layers.append(_closed(graph, mask | below[0]))
    kinds: tuple[tuple[BlockKind, list[int]], ...] = (
        ("attention", attentions),
        ("mlp", mlps),
        ("behind", list(_behind(graph))),
        ("layer", layers),
    )
    return tuple(
        TransformerBlock(kind, _name(graph, mask), mask)
        for kind, masks in kinds
        for mask in dict.fromkeys(masks)
        if graph.is_group(mask)
    )


def _name(graph: FusionGraph, mask: int) -> str:
    dense = [i for i in members(mask) if graph.nodes[i].kind == "dense"]
    return graph.nodes[(dense or list(members(mask)))[0]].name


def _closed(graph: FusionGraph, mask: int) -> int:
    """The group with all that lies on paths between its nodes."""
    return mask | (graph.above(mask) & graph.below(mask))


def _products_above(graph: FusionGraph, start: int) -> int:
    """The products that feed node ``start`` through element-wise operators and moves, and those between."""
    found, waiting = 0, list(graph.predecessors[start])
    while waiting:
        i = waiting.pop()
        node = graph.nodes[i]
        if node.kind == "dense":
            found |= node.bit
        elif node.kind in _BETWEEN and not found & node.bit and _products_above_only(graph, i):
            found |= node.bit
            waiting += graph.predecessors[i]
    return found


def _products_above_only(graph: FusionGraph, i: int) -> bool:
    """Whether what comes into an element-wise node comes from products (not from a residual path)."""
    return all(graph.nodes[p].kind in ("dense", *_BETWEEN) for p in graph.predecessors[i])


def _with_neighbours(graph: FusionGraph, mask: int) -> int:
    """With the sum and the norm behind, and a norm in front that only this group reads."""
    for wanted in ("elementwise", "norm"):
        (*_, last) = members(mask)
        after = [s for s in graph.successors[last] if not mask >> s & 1]
        if len(after) == 1 and graph.nodes[after[0]].kind == wanted:
            mask |= 1 << after[0]
    first = {p for i in members(mask) for p in graph.predecessors[i] if not mask >> p & 1}
    for p in first:
        node = graph.nodes[p]
        if node.kind == "norm" and not graph.successor_masks[p] & ~mask:
            mask |= node.bit
    return _closed(graph, mask)


def _attention(graph: FusionGraph, start: int) -> int:
    mask = 1 << start | _products_above(graph, start)
    for s in graph.successors[start]:
        if graph.nodes[s].kind == "dense":
            mask |= 1 << s
    return _with_neighbours(graph, _closed(graph, mask))


def _mlps(graph: FusionGraph, taken: int) -> Iterator[int]:
    for node in graph.nodes:
        if node.kind != "dense" or taken & node.bit:
            continue
        between = [p for p in graph.predecessors[node.index] if graph.nodes[p].kind == "elementwise"]
        above = _products_above(graph, node.index) & ~taken
        if between and any(graph.nodes[i].kind == "dense" for i in members(above)):
            yield _with_neighbours(graph, _closed(graph, node.bit | above))


def _behind(graph: FusionGraph) -> Iterator[int]:
    for node in graph.nodes:
        if node.kind != "dense":
            continue
        mask = node.bit
        for wanted in ("elementwise", "norm"):
            (*_, last) = members(mask)
            after = graph.successors[last]
            if len(after) != 1 or graph.nodes[after[0]].kind != wanted:
                break
            mask |= 1 << after[0]
        if mask.bit_count() == 3:
            yield mask
