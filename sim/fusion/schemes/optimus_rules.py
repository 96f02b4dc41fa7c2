"""What the published Optimus tool counts for a group: the rules behind its printed DRAM traffic.

Optimus (Cai, Wang and Zhang, LCTES 2021, github.com/SheaCai/optimus, MIT licence) is where buffer requirement
reduction comes from. Its counting is not that of a program that could run; this module holds it apart from
:mod:`tilewright.sim.fusion.schemes.brr` so that our optimum can be put beside its printed figures. Facts of its
counting:

* Everything is in words of the maps' number format; a group must hold strictly less than the buffer.
* A convolution's slab is its ``min_rows`` (propagated back through the group, (rows - 1) stride + kernel, cut to the
  map's height) times its width times all its channels ("full") or 32 of them ("partial"). Full and partial alternate
  along the graph, starting with either; the one with the smaller share of buffer for a further row is taken. Inputs
  are held when the first layer is partial and free when it is full. Pools, joins and sums hold nothing, unless first.
* If all weights fit beside the slabs they are loaded once. If not, rows grow as far as they fit (``rounds_rows_up``:
  to the next whole step, as it does for every network but SqueezeNet, and so beyond the buffer), and each
  convolution's weights are counted height / rows times, as a fraction, where ``rows`` includes the halo; but once
  where neither its input nor its output channels are cut.
* A group cannot begin with a pool, join or sum; one of these alone moves nothing.
* A convolution alone is a loop nest with block sizes k, c (channels) and n (pixels): k c R S + n k + n c stride^2
  words must fit. One of its three tensors stays inside: inputs count K / k times, weights pixels / n times, outputs
  2 C / c - 1 times (fractions), or once for the one that stays. Inputs are pixels stride^2 C.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, inf, lcm
from typing import TypeAlias

import numpy as np

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.fused import FusedProgram
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, FusionNode, members
from tilewright.sim.fusion.scheme import GroupCost, register_scheme
from tilewright.units import BITS_PER_BYTE
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["OPTIMUS_RULES", "OptimusRules"]

OPTIMUS_RULES = "optimus-rules"
_MIXING = ("conv", "dense")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimusRules:
    """Costs by the rules of the published tool, for its default array (``least_channels`` = 32 by 32 columns)."""

    capacity_bytes: int
    least_channels: int = 32
    least_columns: int = 32
    rounds_rows_up: bool = False

    name = OPTIMUS_RULES
    has_programs = False
    source = "Cai, Wang and Zhang, LCTES 2021; github.com/SheaCai/optimus, read in its files scheduling/*.py"
    assumptions = (
        "counting of the published tool, for comparison only: no halo, fractional reloads, pools alone are free, "
        "weights in pieces and partial sums take no room of their own",
    )

    def cost(self, graph: FusionGraph, group_mask: int) -> GroupCost:
        """The least DRAM traffic that its rules print for a group, and the slabs' bytes.

        Words are those of the first node's number format.
        """
        first, word = self._first(graph, group_mask)
        if group_mask == 1 << first:
            return _group_cost(self._alone(graph, first, word), word)
        return _group_cost(_Group(graph, group_mask, self, word).words(), word)

    def as_searched(self, graph: FusionGraph, group_mask: int) -> tuple[GroupCost, float]:
        """(what it prints for the slabs that it would choose itself, the bytes that its own search minimises).

        Its search counts weights once per whole step, where it then prints fractions.
        """
        first, word = self._first(graph, group_mask)
        if group_mask == 1 << first:
            cost = _group_cost(self._alone(graph, first, word), word)
            return cost, float(cost.dram_bytes)
        group = _Group(graph, group_mask, self, word)
        return _group_cost(group.words(chosen=True), word), group.searched_words() * word

    def _first(self, graph: FusionGraph, group_mask: int) -> tuple[int, float]:
        first = (group_mask & -group_mask).bit_length() - 1
        return first, float(graph.nodes[first].output.bits) / BITS_PER_BYTE

    def fusable_mask(self, graph: FusionGraph) -> int:
        """All nodes."""
        return graph.all_mask

    def least_bytes(self, graph: FusionGraph, group_mask: int) -> int:
        """Nothing: weights come in pieces."""
        return 0

    def programs(
        self, stream: OperatorStream, graph: FusionGraph, group_mask: int, machine: MachineSpec
    ) -> Iterator[FusedProgram]:
        """None: its counting is not that of a program."""
        return iter(())

    def _alone(self, graph: FusionGraph, index: int, word: float) -> tuple[float, ...] | None:
        node = graph.nodes[index]
        if node.kind not in _MIXING:
            return (0, 0, 0, 0)
        out = node.output
        return _loop_nest(
            node.in_channels,
            out.channels,
            out.height * out.width * out.batch,
            node.kernel[0] * node.kernel[1],
            node.stride[0] * node.stride[1],
            int(self.capacity_bytes / word),
            min(self.least_channels, out.channels),
            min(self.least_columns, out.width),
        )


def _group_cost(words: tuple[float, ...] | None, word: float) -> GroupCost:
    if words is None:
        return GroupCost(
            buffer_bytes=0, dram_read_bytes=0, dram_write_bytes=0, weight_bytes=0, reason="the slabs do not fit"
        )
    room, read, write, weights = (round(count * word) for count in words)
    return GroupCost(buffer_bytes=room, dram_read_bytes=read, dram_write_bytes=write, weight_bytes=weights)


@lru_cache(maxsize=4096)
def _loop_nest(
    c: int, k: int, pixels: int, taps: int, strides: int, room: int, least_k: int, least_pixels: int
) -> tuple[float, ...] | None:
    """(words held, inputs, outputs, weights) of the block sizes with the least traffic."""
    blocks_k = np.arange(least_k, k + 1)[:, None]
    blocks_c = np.arange(1, c + 1)[None, :]
    n = np.floor((room - blocks_c * blocks_k * taps) / (blocks_k + blocks_c * strides))
    fits = n >= least_pixels
    if not fits.any():
        return None
    n = np.clip(n, 1, pixels)
    inputs, outputs, weights = float(pixels * strides * c), float(pixels * k), float(c * k * taps)
    again = (inputs * k / blocks_k, outputs * (2 * c / blocks_c - 1), weights * pixels / n)
    best: tuple[float, ...] | None = None
    for stays in range(3):
        parts = [np.broadcast_to(part, fits.shape) for part in again]
        parts[stays] = np.full(fits.shape, (inputs, outputs, weights)[stays])
        if stays != 1:  # an uncut sum is written once whatever stays
            parts[1] = np.where(blocks_c == c, outputs, parts[1])
        else:
            parts[0] = np.where(blocks_k == k, inputs, parts[0])
        total = np.where(fits, parts[0] + parts[1] + parts[2], np.inf)
        at = np.unravel_index(int(np.argmin(total)), total.shape)
        if best is None or total[at] < sum(best[1:]):
            k_at, c_at, n_at = at[0] + least_k, at[1] + 1, float(n[at])
            held = k_at * c_at * taps + n_at * (k_at + c_at * strides)
            best = (float(held), *(float(part[at]) for part in parts))
    return best


_Option: TypeAlias = tuple[dict[int, int], float, float, dict[int, bool]]


class _Group:
    """Several nodes: rows, slabs and weights."""

    def __init__(self, graph: FusionGraph, mask: int, rules: OptimusRules, word: float) -> None:
        self.graph, self.rules = graph, rules
        self.inside = members(mask)
        self.next = {i: [c for c in graph.successors[i] if mask >> c & 1] for i in self.inside}
        self.before = {i: [p for p in graph.predecessors[i] if mask >> p & 1] for i in self.inside}
        self.lasts = [i for i in self.inside if not self.next[i]]
        self.mask = mask
        self.room = rules.capacity_bytes / word
        self.weights = {i: _filter_words(graph.nodes[i]) for i in self.inside}
        self.visited = self._visited()

    def words(self, *, chosen: bool = False) -> tuple[float, ...] | None:
        """(words held, inputs, outputs, weights), None where the tool refuses the group.

        ``chosen``: with the slabs that the tool chooses, where not with those of the least traffic.
        """
        options = self._options()
        if not options:
            return None
        if chosen:
            option = min(options, key=self._share_of_a_row)
        else:
            option = min(options, key=lambda one: self._weight_words(*one))
        inputs = sum(tensor.n_elements for tensor in self.graph.read_from_outside(self.mask))
        outputs = sum(self.graph.nodes[i].output.n_elements for i in self.graph.needed_outside(self.mask))
        return option[1], float(inputs), float(outputs), self._weight_words(*option)

    def searched_words(self) -> float:
        """What the tool's search minimises: weights once per whole step."""
        words = self.words(chosen=True)
        if words is None:
            return inf
        _, held, further, _ = min(self._options(), key=self._share_of_a_row)
        weights = sum(self.weights.values())
        most = min(self.graph.nodes[i].output.height for i in self.lasts)
        fits = self.room >= held + weights
        n_steps = 1 if fits else ceil(most / self._steps(held, further))
        return words[1] + words[2] + weights * n_steps

    def _options(self) -> list[_Option]:
        """Full or partial first, as far as the slabs fit."""
        begins = [i for i in self.inside if not self.before[i]]
        scale = self._scale()
        if scale is None or any(self.graph.nodes[i].kind not in _MIXING for i in begins):
            return []
        least = self._rows(scale, 1)
        found = [(scale, *self._slabs(scale, least, first_full=first)) for first in (True, False)]
        return [one for one in found if one[1] < self.room]

    def _share_of_a_row(self, option: _Option) -> float:
        return option[2] / (self.room - option[1])

    def _steps(self, held: float, further: float) -> int:
        most = min(self.graph.nodes[i].output.height for i in self.lasts)
        grow = ceil if self.rules.rounds_rows_up else floor
        return min(grow((self.room - held) / further) + 1, most)

    def _scale(self) -> dict[int, int] | None:
        """Rows of each node on one step; None where its readers do not agree."""
        down: dict[int, int] = {}
        for i in self.inside:
            down[i] = max([down[p] for p in self.before[i]], default=1) * self.graph.nodes[i].stride[0]
        whole = lcm(*(down[i] for i in self.lasts))
        scale: dict[int, int] = {}
        for i in reversed(self.inside):
            asked = {scale[c] * self.graph.nodes[c].stride[0] for c in self.next[i]}
            if len(asked) > 1:
                return None
            scale[i] = asked.pop() if asked else whole // down[i]
        return scale

    def _visited(self) -> list[int]:
        """The tool's topological order (depth first, reversed): an input's slab is that of its first reader in it."""
        done: list[int] = []

        def visit(i: int) -> None:
            for c in reversed(self.next[i]):
                if c not in done:
                    visit(c)
            done.append(i)

        for i in self.inside:
            if not self.before[i]:
                visit(i)
        return done[::-1]

    def _rows(self, scale: dict[int, int], steps: int) -> dict[int, int]:
        """Rows of each node when the last ones make ``steps`` of their steps together, halo included."""
        nodes = self.graph.nodes
        rows: dict[int, int] = {}
        for i in reversed(self.inside):
            asked = [(rows[c] - 1) * nodes[c].stride[0] + nodes[c].kernel[0] for c in self.next[i]]
            rows[i] = min(max(asked), nodes[i].output.height) if asked else scale[i] * steps
        return rows

    def _slabs(
        self, scale: dict[int, int], least: dict[int, int], *, first_full: bool
    ) -> tuple[float, float, dict[int, bool]]:
        """(words of the least slabs, words of a further row, which are full)."""
        full: dict[int, bool] = {}
        held, further = 0.0, 0.0
        counted: set[str] = set()
        for i in self.visited:
            node, before = self.graph.nodes[i], self.before[i]
            mixes = node.kind in _MIXING
            if not before:
                full[i] = first_full
                for edge in self.graph.edges_in[i]:
                    if not first_full and edge.tensor.name not in counted:
                        counted.add(edge.tensor.name)
                        width = (node.output.width - 1) * node.stride[1] + node.kernel[1]
                        rows = min((least[i] - 1) * node.stride[0] + node.kernel[0], edge.tensor.height)
                        held += edge.tensor.channels * rows * width
                        further += edge.tensor.channels * scale[i] * node.stride[0] * width
            elif mixes:
                full[i] = not full[before[-1]]
            else:
                full[i] = any(full[p] for p in before)
            if mixes:
                wide = node.output.channels if full[i] else min(self.rules.least_channels, node.output.channels)
                held += wide * least[i] * node.output.width
                further += wide * scale[i] * node.output.width
        return held, further, full

    def _weight_words(self, scale: dict[int, int], held: float, further: float, full: dict[int, bool]) -> float:
        nodes = self.graph.nodes
        if self.room >= held + sum(self.weights.values()):
            return sum(self.weights.values())
        rows = self._rows(scale, self._steps(held, further))
        total = 0.0
        for i in self.inside:
            node = nodes[i]
            if node.kind not in _MIXING:
                continue
            out = node.output
            least = min(self.rules.least_channels, out.channels)
            k = out.channels if full[i] else least
            c = node.in_channels if any(full[p] for p in self.before[i]) else min(least, node.in_channels)
            if k < out.channels:
                c = node.in_channels
            cut = k < out.channels or c < node.in_channels
            again = out.height * out.batch / min(rows[i], out.height) if cut else 1.0
            total += self.weights[i] * again
        return total


def _filter_words(node: FusionNode) -> float:
    """Weights of a convolution, biases left out."""
    if node.kind not in _MIXING:
        return 0.0
    return float(node.in_channels * node.output.channels * node.kernel[0] * node.kernel[1])


def _make(capacity_bytes: int) -> OptimusRules:
    return OptimusRules(capacity_bytes=capacity_bytes)


register_scheme(OPTIMUS_RULES, _make, rank=4)
