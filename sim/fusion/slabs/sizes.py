"""Rows, room and traffic of one choice of slabs; the formulas stand in :mod:`tilewright.sim.fusion.schemes.brr`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from tilewright.sim.fusion.graph.fusion_graph import FusionGraph, members
from tilewright.sim.fusion.layer_alone import SUM_BITS
from tilewright.sim.fusion.rows import RowPlan, riders
from tilewright.sim.fusion.schedule import needed_rows
from tilewright.sim.fusion.slabs.choice import Slabs, Unit, mixes
from tilewright.units import BITS_PER_BYTE, bits_to_bytes, ceil_div

__all__ = ["SlabChoice", "SlabRules", "SlabSizer", "step_rows", "step_span"]

HALVES = 4  # fewer rows per step that are tried, for the weights that then stay


class SlabChoice(NamedTuple):
    """How a group runs: its slabs, rows per step, weights that stay (nodes); what that needs and moves, in bytes."""

    plan: RowPlan
    slabs: Slabs
    rides_on: Mapping[int, int]
    rows_per_step: int
    joined_start: bool
    resident: frozenset[int]
    held: Mapping[int, int]
    room: Mapping[str, int]
    read_bytes: int
    weight_bytes: int

    @property
    def buffer_bytes(self) -> int:
        return sum(self.room.values())

    @property
    def least_pixels(self) -> int:
        """Pixels that the map with the fewest makes in a step."""
        tensors = self.plan.maps.tensors
        return min(
            min(rows * self.rows_per_step, tensors[i].height) * tensors[i].width for i, rows in self.plan.steps.items()
        )


class SlabRules(Protocol):
    """The choices behind slabs: see :class:`tilewright.sim.fusion.schemes.brr.BufferReduction`, which has them."""

    @property
    def capacity_bytes(self) -> int: ...

    @property
    def piece_channels(self) -> int: ...

    @property
    def piece_slots(self) -> int: ...

    @property
    def least_pixels(self) -> int: ...

    def refusal(self, graph: FusionGraph, mask: int) -> str | None:
        """Why a group cannot run in slabs, None where it can."""
        ...

    def choose(self, graph: FusionGraph, group_mask: int) -> SlabChoice:
        """The slabs, rows and weights of a group that can."""
        ...


def step_rows(ahead: int, rows: int, height: int, step: int, *, joined: bool) -> range:
    """The new rows of a full map in a step, when it makes ``rows`` a step and is ``ahead`` rows ahead."""
    begin, end = (min(height, max(0, rows * n + ahead)) for n in (step - 1, step))
    if joined and step <= 1:
        begin, end = 0, end if step == 1 else 0
    return range(begin, end)


def step_span(ahead: int, rows: int, height: int, *, joined: bool) -> tuple[int, int]:
    """(first, last) step in which a full map makes rows."""
    first, last = ceil_div(1 - ahead, rows), ceil_div(height - ahead, rows)
    return (1, max(1, last)) if joined else (first, last)


class SlabSizer:
    """Rows, room and traffic of one choice of slabs."""

    def __init__(self, rules: SlabRules, graph: FusionGraph, mask: int, plan: RowPlan, slabs: Slabs) -> None:
        self.rules, self.graph, self.mask, self.plan, self.slabs = rules, graph, mask, plan, slabs
        self.maps = plan.maps
        self.inside = members(mask)
        self.stored = set(graph.needed_outside(mask))
        self.rides_on = riders(graph, self.maps, mask, plan.readers, plan.phases, slabs.partial)
        self.offset = {i: int(ahead) for i, ahead in plan.offsets.items()}
        self.order = [*reversed(self.inside), *[i for i in plan.readers if i not in set(self.inside)]]
        self.images = graph.nodes[self.inside[0]].output.batch
        self.weights = {i: graph.nodes[i].weight_bytes for i in self.inside if graph.nodes[i].weight_bytes}
        self.fixed_reads = sum(
            self.maps.tensors[i].n_bytes for i in plan.readers if not self._is_inside(i) and i not in slabs.partial
        )
        self.in_pieces = [i for i in slabs.partial if not self._is_inside(i)]
        self.pieces = self._pieces()
        self.joined = False
        self.sees_padding = self._padded()
        self._held_at: dict[tuple[int, bool], dict[int, int]] = {}
        self._active_at: dict[tuple[int, bool], dict[int, tuple[int, int]]] = {}

    def is_least(self, choice: SlabChoice) -> bool:
        """Whether nothing is moved twice, and no rows of an input could be left out."""
        outside = [i for i in self.plan.readers if not self._is_inside(i)]
        if any(r.rows.stride > r.rows.reach for i in outside for r in self.plan.readers[i]):
            return False
        inputs = sum(self.maps.tensors[i].n_bytes for i in outside)
        return choice.read_bytes == inputs and choice.weight_bytes == sum(self.weights.values())

    def _is_inside(self, i: int) -> bool:
        return i < self.maps.n_nodes and bool(self.mask >> i & 1)

    def choices(self) -> Iterator[SlabChoice]:
        """All weights staying; then the most rows that fit and halves of that, with the weights that fit beside."""
        everything = frozenset(self.weights)
        self.joined = False
        smallest = self._choice(1, everything)
        yield smallest
        rows = 2
        while everything and smallest.least_pixels < self.rules.least_pixels and rows <= self._most_rows():
            larger = self._choice(rows, everything)
            if larger.buffer_bytes > self.rules.capacity_bytes:
                break
            yield larger
            if larger.least_pixels >= self.rules.least_pixels:
                break
            rows *= 2
        if smallest.buffer_bytes <= self.rules.capacity_bytes or not everything:
            return
        if not self._fits(1):
            yield self._choice(1, frozenset())
            return
        for self.joined in (False, True):
            if self.joined and not self._fits(1):
                return
            rows = self._most_that_fit()
            for _ in range(HALVES):
                yield self._choice(rows, self._staying(rows))
                rows //= 2
                if not rows:
                    break

    def _fits(self, rows: int) -> bool:
        """Whether so many rows per step fit without any weights that stay."""
        return sum(self._room(rows, frozenset(), self._held(rows)).values()) <= self.rules.capacity_bytes

    def _most_that_fit(self) -> int:
        low, high = 1, self._most_rows()
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._fits(middle) else (low, middle - 1)
        return low

    def _most_rows(self) -> int:
        """Rows per step with which every map is made in one."""
        return max(ceil_div(self.maps.tensors[i].height, self.plan.steps[i]) for i in self.plan.readers)

    def _staying(self, rows: int) -> frozenset[int]:
        """The weights that stay: the most traffic saved for each first."""
        held = self._held(rows)
        free = self.rules.capacity_bytes - sum(self._room(rows, frozenset(), held).values())
        stay: set[int] = set()
        saved = {i: size * (self._steps_of(rows, i) * self.images - 1) for i, size in self.weights.items()}
        for i in sorted(self.weights, key=lambda i: -saved[i]):
            if saved[i] > 0 and self.weights[i] <= free:
                stay.add(i)
                free -= self.weights[i]
        return frozenset(stay)

    def _choice(self, rows: int, resident: frozenset[int]) -> SlabChoice:
        held = self._held(rows)
        again = sum(
            size * (1 if i in resident else self._steps_of(rows, i) * self.images) for i, size in self.weights.items()
        )
        reads = self.fixed_reads + sum(self._read_in_pieces(i, rows) for i in self.in_pieces)
        return SlabChoice(
            plan=self.plan,
            slabs=self.slabs,
            rides_on=self.rides_on,
            rows_per_step=rows,
            joined_start=self.joined,
            resident=resident,
            held=held,
            room=self._room(rows, resident, held),
            read_bytes=reads,
            weight_bytes=again,
        )

    # -- rows --------------------------------------------------------------------------------------------------

    def _held(self, rows: int) -> dict[int, int]:
        """Rows of each map on chip."""
        if (rows, self.joined) in self._held_at:
            return self._held_at[rows, self.joined]
        free: dict[int, int] = {}
        held: dict[int, int] = {}
        partial, phases, steps = self.slabs.partial, self.plan.phases, self.plan.steps
        for i in self.order:
            step, height = steps[i] * rows, self.maps.tensors[i].height
            most = 0 if i in partial and i not in self.stored else step
            for reader in self.plan.readers[i]:
                c, window = reader.consumer, reader.rows
                if reader.sweeps:
                    continue
                if not reader.slides or phases[c] != phases[i]:
                    most = height
                    break
                made = free[c] if c in partial else steps[c] * rows
                most = max(most, self.offset[i] + window.pad + window.stride * (made - self.offset[c]))
            if self.joined:
                most = max(most, step + self.offset[i])
            free[i] = most
            held[i] = min(height, most)
        self._held_at[rows, self.joined] = held
        return held

    def _active(self, rows: int) -> dict[int, tuple[int, int]]:
        """(first, last) step in which each map makes rows."""
        if (rows, self.joined) in self._active_at:
            return self._active_at[rows, self.joined]
        found: dict[int, tuple[int, int]] = {}
        for i in self.order:
            step, ahead, height = self.plan.steps[i] * rows, self.offset[i], self.maps.tensors[i].height
            own = step_span(ahead, step, height, joined=self.joined)
            if i in self.slabs.partial:
                spans = [found[r.consumer] for r in self.plan.readers[i]]
                spans += [own] if i in self.stored else []
                own = (min(span[0] for span in spans), max(span[1] for span in spans))
            found[i] = own
        self._active_at[rows, self.joined] = found
        return found

    def _steps_of(self, rows: int, i: int) -> int:
        """Steps in which node i makes rows."""
        first, last = self._active(rows)[i]
        if i not in self.sees_padding:
            return last - first + 1
        return sum(bool(self._rows_at(i, rows, n)) for n in range(first, last + 1))

    def _rows_at(self, i: int, rows: int, step: int) -> range:
        """The rows of a map in one step: new ones, or all that the readers of a partial map then need."""
        new = step_rows(
            self.offset[i], self.plan.steps[i] * rows, self.maps.tensors[i].height, step, joined=self.joined
        )
        if i not in self.slabs.partial:
            return new
        spans = [new] if i in self.stored else []
        for reader in self.plan.readers[i]:
            made = self._rows_at(reader.consumer, rows, step)
            spans += [needed_rows(reader.rows, made.start, len(made))] if made else []
        spans = [span for span in spans if span]
        return range(min(s.start for s in spans), max(s.stop for s in spans)) if spans else range(0)

    def _padded(self) -> set[int]:
        """Partial maps of which some rows of a reader, or of a reader's reader, need nothing: they see only padding."""
        found: set[int] = set()
        for i in self.order:
            if i not in self.slabs.partial:
                continue
            for reader in self.plan.readers[i]:
                window, last = reader.rows, self.maps.tensors[reader.consumer].height - 1
                empty = any(not needed_rows(window, row, 1) for row in (0, last))
                if empty or reader.consumer in found:
                    found.add(i)
        return found

    def _read_in_pieces(self, i: int, rows: int) -> int:
        """Bytes of an input that comes in pieces: for every step the rows that its readers then need."""
        tensor, (first, last) = self.maps.tensors[i], self._active(rows)[i]
        total = sum(len(self._rows_at(i, rows, n)) for n in range(first, last + 1))
        return total * tensor.row_bytes * self.images

    # -- room --------------------------------------------------------------------------------------------------

    def _room(self, rows: int, resident: frozenset[int], held: Mapping[int, int]) -> dict[str, int]:
        room: dict[str, int] = {}
        channels = self.rules.piece_channels
        for i, kept in held.items():
            if i in self.rides_on:
                continue
            tensor = self.maps.tensors[i]
            n_bytes = tensor.row_bytes
            if i in self.slabs.partial:
                n_bytes = bits_to_bytes(min(channels, tensor.channels) * tensor.width * tensor.bits)
            room[f"rows of {tensor.name}"] = kept * n_bytes
        sums = max([self._sum_bytes(unit, rows) for unit in self.slabs.units], default=0)
        if sums:
            room["sums"] = sums
        scores = max([self._score_bytes(i, rows) for i in self.inside], default=0)
        if scores:
            room["scores"] = scores
        for i in sorted(resident):
            room[f"weights of {self.graph.nodes[i].name}"] = self.weights[i]
        piece = max([self.pieces[i] for i in self.weights if i not in resident], default=0)
        if piece:
            room["weights in pieces"] = piece * self.rules.piece_slots
        return room

    def _sum_bytes(self, unit: Unit, rows: int) -> int:
        """Wide sums of the rows that a unit adds up in a step; none where one piece holds all channels."""
        if unit.channels <= self.rules.piece_channels:
            return 0
        total = 0
        for i in unit.sums:
            tensor = self.maps.tensors[i]
            made = min(self.plan.steps[i] * rows, tensor.height)
            total += ceil_div(made * tensor.width * tensor.channels * SUM_BITS, BITS_PER_BYTE)
        return total

    def _score_bytes(self, i: int, rows: int) -> int:
        """Scores of one head for the query rows of a step."""
        if self.graph.nodes[i].kind != "attention":
            return 0
        keys = self.graph.edges_in[i][-1].tensor.height
        made = min(self.plan.steps[i] * rows, self.maps.tensors[i].height)
        return ceil_div(made * keys * SUM_BITS, BITS_PER_BYTE)

    def _pieces(self) -> dict[int, int]:
        """Bytes of the largest piece of each node's weights."""
        found = {}
        of_sums = {i for unit in self.slabs.units if unit.partial for i in unit.sums}
        for i, size in self.weights.items():
            node, share = self.graph.nodes[i], self.rules.piece_channels
            if i in of_sums:
                whole = node.in_channels
            elif mixes(node) or i in self.slabs.partial:
                whole = node.output.channels
            else:
                whole = share
            found[i] = ceil_div(size * min(share, whole), whole)
        return found
