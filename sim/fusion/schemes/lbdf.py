"""Line-buffer depth-first fusion (LBDF): a group runs row by row, all its weights on chip.

Every feature map of the group keeps only the rows that are still needed. The rows of all maps are made in one order
in time: row z of map i is finished at time (z + 1 - o_i) / r_i, where r_i is how many of its rows fall on one unit of
time (a consumer with stride s reads s times as fast as it writes) and o_i how many rows it is ahead:

    o_i = max over its readers c of (reach_c - pad_c + s_c (o_c - 1)),   1 where nobody in the group reads it,

reach = (kernel - 1) dilation + 1. When a reader makes its row w, row w s_c - pad_c is the oldest that it needs, and
o_i + pad_c + s_c (1 - o_c) rows from there on have been made. The largest of these over the readers is the number of
rows that map i holds: k rows in front of one k x k convolution; in front of a residual block also the lag of its main
path, for the sum that waits for it. A reader with an upsampling factor u divides these rows by u.

Where a reader needs a whole map before its first row (the gate of a squeeze and excite, keys and values), the group
runs in phases: a later one starts when the earlier ones have ended, and what crosses is held whole. A global pooling
adds up the rows as they are made and holds one.

Formulas: derived here; the idea is that of Goetschalckx and Verhelst (JETCAS 9(2), 2019, DOI
10.1109/JETCAS.2019.2905361) and, with residuals, of Shi et al. (JETCAS 11(4), 2021, DOI 10.1109/JETCAS.2021.3120103).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.fused import FusedProgram
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.layer_alone import ALONE_ASSUMPTIONS, alone
from tilewright.sim.fusion.rows import NOT_BY_ROWS, plan_rows
from tilewright.sim.fusion.scheme import GroupCost, register_scheme
from tilewright.workloads.homes import GROUP_IN_DRAM, GroupHomes
from tilewright.workloads.stream.graph import OperatorStream

if TYPE_CHECKING:
    from tilewright.sim.engine.program import Program
    from tilewright.sim.fusion.line_buffers.program import FusedTiling

__all__ = ["LBDF", "LineBuffers"]

Granularity = Literal["row", "element"]
LBDF = "lbdf"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineBuffers:
    """LBDF for a working buffer of ``capacity_bytes``.

    ``granularity``: maps are filled row by row, which is how the programs run, or ``element`` by element, which needs
    ((k - 1) width + k) pixels in front of a k x k convolution and no whole row behind it.
    """

    capacity_bytes: int
    granularity: Granularity = "row"

    name = LBDF
    has_programs = True
    heeds_homes = True
    works_in_place = True
    source = "Goetschalckx and Verhelst, JETCAS 9(2) 2019; Shi et al., JETCAS 11(4) 2021; formulas derived here"
    assumptions = (
        "all weights of a group stay on chip, loaded once",
        "an element-wise operator or a join writes over its only input, or beside the others, without room of its own",
        "one image at a time; the maps of a group have the same number of images",
        *ALONE_ASSUMPTIONS,
        "a result that leaves the group has one row on chip (one pixel at element granularity) until it is stored",
    )

    def cost(self, graph: FusionGraph, group_mask: int) -> GroupCost:
        """See the module's text; a node that does not fit with all its weights is run as a layer alone.

        Groups with an attention, a product of activations or a look-up do not run, nor those whose maps differ in
        their number of images.
        """
        nodes = graph.nodes
        weights, unknown = 0, ""
        for i in members(group_mask):
            weights += nodes[i].weight_bytes
            if nodes[i].kind in NOT_BY_ROWS:
                unknown = nodes[i].name
        single = not group_mask & (group_mask - 1)
        if unknown and single:
            return alone(graph, group_mask.bit_length() - 1, self.capacity_bytes)
        plan = plan_rows(graph, group_mask)
        reads = sum(tensor.n_bytes for tensor in graph.read_from_outside(group_mask))
        writes = sum(nodes[i].output.n_bytes for i in graph.needed_outside(group_mask))
        by_element = self.granularity == "element"
        room = weights + (plan.element_bytes() if by_element else plan.row_bytes())
        if room > self.capacity_bytes and single:
            return alone(graph, group_mask.bit_length() - 1, self.capacity_bytes)
        return GroupCost(
            buffer_bytes=room,
            dram_read_bytes=reads,
            dram_write_bytes=writes,
            weight_bytes=weights,
            reason=f"{unknown} does not run row by row" if unknown else plan.reason,
        )

    def fusable_mask(self, graph: FusionGraph) -> int:
        """All nodes but those whose weights alone fill the buffer, and those whose rows are not known."""
        mask = 0
        for node in graph.nodes:
            if node.weight_bytes < self.capacity_bytes and node.kind not in NOT_BY_ROWS:
                mask |= node.bit
        return mask

    def least_bytes(self, graph: FusionGraph, group_mask: int) -> int:
        """All weights, which stay on chip."""
        nodes = graph.nodes
        return sum(nodes[i].weight_bytes for i in members(group_mask))

    def programs(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        group_mask: int,
        machine: MachineSpec,
        homes: GroupHomes = GROUP_IN_DRAM,
    ) -> Iterator[FusedProgram]:
        """Row by row with the least room, then with a spare row, and with 1, 2, 4 ... 32 rows a step, as they fit."""
        from tilewright.sim.fusion.line_buffers.program import tilings_that_fit

        tilings = tilings_that_fit(stream, graph, group_mask, machine, homes)
        yield from self._fused(stream, graph, group_mask, machine, homes, tilings)

    def fast_programs(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        group_mask: int,
        machine: MachineSpec,
        homes: GroupHomes,
        limit: Callable[[], int],
    ) -> Iterator[FusedProgram]:
        """Those of :meth:`programs` that may take fewer than ``limit()`` cycles, the largest commands first."""
        from tilewright.sim.fusion.line_buffers.program import fast_tilings

        tilings = fast_tilings(stream, graph, group_mask, machine, homes, limit)
        yield from self._fused(stream, graph, group_mask, machine, homes, tilings)

    def _fused(
        self,
        stream: OperatorStream,
        graph: FusionGraph,
        group_mask: int,
        machine: MachineSpec,
        homes: GroupHomes,
        tilings: Iterator[tuple[FusedTiling, Program]],
    ) -> Iterator[FusedProgram]:
        from tilewright.sim.fusion.commands import COMMAND_ASSUMPTIONS, HOME_ASSUMPTIONS
        from tilewright.sim.fusion.line_buffers.numbers import run_group_on_numbers

        for tiling, program in tilings:
            yield FusedProgram(
                group=tuple(graph.names(group_mask)),
                program=program,
                tiling=asdict(tiling),
                assumptions=COMMAND_ASSUMPTIONS if homes == GROUP_IN_DRAM else HOME_ASSUMPTIONS,
                on_numbers=partial(
                    run_group_on_numbers, stream, graph, group_mask, machine, tiling=tiling, homes=homes
                ),
            )


def _make(capacity_bytes: int) -> LineBuffers:
    return LineBuffers(capacity_bytes=capacity_bytes)


register_scheme(LBDF, _make, rank=3, usual=True)
