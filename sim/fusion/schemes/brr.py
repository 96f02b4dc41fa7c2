"""Buffer requirement reduction (BRR): weights in pieces, maps in full and partial slabs.

A group runs in steps. In each, the map that advances slowest makes ``rows_per_step`` rows; the others what belongs to
them (:mod:`tilewright.sim.fusion.rows`, o_i and s as there). Weights that are not kept on chip are loaded again in
every step, a piece at a time. Maps are full or partial (:mod:`tilewright.sim.fusion.slabs.choice`):

* a full map i slides: it makes n_i new rows a step and holds o_i + pad - s o_c + s m_c rows, the largest over its
  readers c, where m_c is what c makes in a step;
* a partial map holds ``piece_channels`` channels of the rows that its readers need in the step and makes all of them
  again, halo included (m_c of a partial reader is what it holds, of a full one its n_c);
* maps that are ahead (o_i > 0) make those rows in steps of their own before the first, or, with a ``joined_start``, in
  the first, which then holds n_i + o_i of its rows;
* sums over pieces are 32 bits wide while they are added up.

What the group moves: inputs once (those that come in pieces, their halo again with every step), results once, weights
once where they stay and once a step where they do not. With a given buffer the choice is: which slabs are full (see
:func:`~tilewright.sim.fusion.slabs.choice.find_slabs`), rows per step, and which weights stay; the best of those tried
is
taken (rows per step: the most that fit, and halves of it; weights that stay: the largest first).

Source of the idea: Optimus (Cai, Wang and Zhang, LCTES 2021). Its own counting is in
:mod:`tilewright.sim.fusion.schemes.optimus_rules`; unlike it, this one holds weights and sums, loads weights whole
times, and
slides full maps, so that their halo is not computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from tilewright.errors import InputError, MappingError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.fused import FusedProgram
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.layer_alone import ALONE_ASSUMPTIONS, alone
from tilewright.sim.fusion.rows import plan_rows
from tilewright.sim.fusion.scheme import GroupCost, register_scheme
from tilewright.sim.fusion.slabs.choice import find_slabs
from tilewright.sim.fusion.slabs.sizes import SlabChoice, SlabSizer
from tilewright.workloads.homes import GROUP_IN_DRAM, GroupHomes
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["BRR", "BufferReduction"]

BRR = "brr"
_SMALLER = (2, 4)
_UNKNOWN = ("gather", "memory", "move", "matmul", "upsample")


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferReduction:
    """BRR for a working buffer of ``capacity_bytes``.

    ``piece_channels``: channels of a partial map that are held; ``piece_slots``: pieces of weights on chip at a time
    (2: one is loaded while the other is used); ``least_pixels``: of choices that move as much, one that makes so many
    pixels in a command is taken before a smaller one (fewer leave most of an array idle).
    """

    capacity_bytes: int
    piece_channels: int = 32
    piece_slots: int = 2
    least_pixels: int = 64

    name = BRR
    has_programs = True
    heeds_homes = True
    source = "Optimus: Cai, Wang and Zhang, LCTES 2021; formulas derived here"
    assumptions = (
        "weights that stay are loaded once; the others once in every step, in pieces that share their places",
        "partial maps are computed again for every step, halo included; full ones slide",
        "a group's maps advance at whole-number rates, and it holds no upsampling",
        *ALONE_ASSUMPTIONS,
    )

    def cost(self, graph: FusionGraph, group_mask: int) -> GroupCost:
        """The cheapest choice that fits, with the room that it takes; where none does, that of the smallest."""
        reason = self.refusal(graph, group_mask)
        single = not group_mask & (group_mask - 1)
        if reason is not None:
            if single:
                return alone(graph, group_mask.bit_length() - 1, self.capacity_bytes)
            return GroupCost(buffer_bytes=0, dram_read_bytes=0, dram_write_bytes=0, weight_bytes=0, reason=reason)
        choice = self.choose(graph, group_mask)
        writes = sum(graph.nodes[i].output.n_bytes for i in graph.needed_outside(group_mask))
        cost = GroupCost(
            buffer_bytes=choice.buffer_bytes,
            dram_read_bytes=choice.read_bytes,
            dram_write_bytes=writes,
            weight_bytes=choice.weight_bytes,
        )
        if single:
            other = alone(graph, group_mask.bit_length() - 1, self.capacity_bytes)
            if not cost.valid(self.capacity_bytes) or other.dram_bytes < cost.dram_bytes:
                return other
        return cost

    def choose(self, graph: FusionGraph, group_mask: int) -> SlabChoice:
        """The choice behind :meth:`cost` of a group that can run this way."""
        plan = plan_rows(graph, group_mask, rows_per_step=1)
        best: SlabChoice | None = None
        seen: set[frozenset[int]] = set()
        for first_partial, all_full in ((True, True), (True, False), (False, False)):
            slabs = find_slabs(
                graph, plan.maps, group_mask, plan.phases, plan.readers,
                first_partial=first_partial, all_full=all_full,
            )  # fmt: skip
            if slabs.partial in seen:
                continue
            seen.add(slabs.partial)
            sizer = SlabSizer(self, graph, group_mask, plan, slabs)
            for choice in sizer.choices():
                if best is None or self._rank(choice) < self._rank(best):
                    best = choice
            if best is not None and best.buffer_bytes <= self.capacity_bytes and sizer.is_least(best):
                return best  # every tensor moves once; all full comes first, which computes nothing again
        assert best is not None
        return best

    def _rank(self, choice: SlabChoice) -> tuple[int, ...]:
        moved = choice.read_bytes + choice.weight_bytes
        if choice.buffer_bytes > self.capacity_bytes:
            return 1, choice.buffer_bytes, moved, 0
        return 0, moved, -min(self.least_pixels, choice.least_pixels), choice.buffer_bytes

    def refusal(self, graph: FusionGraph, mask: int) -> str | None:
        """Why the group cannot run in slabs, None where it can."""
        batches = set()
        for i in members(mask):
            node = graph.nodes[i]
            if node.kind in _UNKNOWN or node.function == "transposed":
                return f"{node.name} ({node.function}) does not run in slabs"
            if node.kind == "attention" and (len(graph.edges_in[i]) > 3 or node.weight_bytes):
                return f"{node.name} adds more to its scores than slabs load"
            if node.kind == "attention" and any(edge.tensor.width > 1 for edge in graph.edges_in[i]):
                return f"{node.name} reads its keys pixel by pixel from a map"
            batches.add(node.output.batch)
            for edge in graph.edges_in[i]:
                batches.add(edge.tensor.batch)
                if edge.rows.up != 1:
                    return f"{node.name} reads its input at places between rows"
        return None if len(batches) == 1 else "its feature maps differ in the number of images"

    def fusable_mask(self, graph: FusionGraph) -> int:
        """The nodes that run in slabs."""
        mask = 0
        for node in graph.nodes:
            if self.refusal(graph, node.bit) is None:
                mask |= node.bit
        return mask

    def least_bytes(self, graph: FusionGraph, group_mask: int) -> int:
        """Nothing: weights come in pieces."""
        return 0

    def programs(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        group_mask: int,
        machine: MachineSpec,
        homes: GroupHomes = GROUP_IN_DRAM,
    ) -> Iterator[FusedProgram]:
        """The one of the choice behind :meth:`cost`; with operands on chip also those of a half and a quarter of the
        buffer, for the room that is left.
        """
        yield self._program(stream, graph, group_mask, machine, homes)
        if homes == GROUP_IN_DRAM:
            return
        for share in _SMALLER:
            smaller = replace(self, capacity_bytes=self.capacity_bytes // share)
            with suppress(InputError, MappingError):
                yield smaller._program(stream, graph, group_mask, machine, homes)

    def fast_programs(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        group_mask: int,
        machine: MachineSpec,
        homes: GroupHomes,
        limit: Callable[[], int],
    ) -> Iterator[FusedProgram]:
        """All of :meth:`programs`: that of the least traffic need not be the fastest."""
        return self.programs(stream, graph, group_mask, machine, homes)

    def _program(
        self, stream: OperatorStream, graph: FusionGraph, group_mask: int, machine: MachineSpec, homes: GroupHomes
    ) -> FusedProgram:
        from tilewright.sim.fusion.commands import COMMAND_ASSUMPTIONS, COPY_ASSUMPTIONS
        from tilewright.sim.fusion.slabs.numbers import run_slabs_on_numbers
        from tilewright.sim.fusion.slabs.program import SlabProgram

        made = SlabProgram(stream, graph, group_mask, machine, self, homes)
        return FusedProgram(
            group=tuple(graph.names(group_mask)),
            program=made.program(),
            tiling={
                "rows_per_step": made.choice.rows_per_step,
                "piece_channels": self.piece_channels,
                "piece_slots": self.piece_slots,
            },
            assumptions=COMMAND_ASSUMPTIONS + (() if homes == GROUP_IN_DRAM else COPY_ASSUMPTIONS),
            on_numbers=partial(run_slabs_on_numbers, stream, graph, group_mask, machine, rules=self, homes=homes),
        )


def _make(capacity_bytes: int) -> BufferReduction:
    return BufferReduction(capacity_bytes=capacity_bytes)


register_scheme(BRR, _make, rank=1)
