"""Thread blocks of a compiled kernel side by side on one multiprocessor, instruction by instruction.

Each of the four parts of a multiprocessor issues an instruction of one of its warps at a time, in the warp's order:
when the cycles that the compiler wrote behind the last one are over, the counters that it waits for are free, and its
unit takes it. Shared memory and the way to the L2 are one each for all parts. A load comes back after a given latency;
what shares the memory with other multiprocessors is left to :mod:`tilewright.sim.gpu.scheduled`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tilewright.hw_models.gpu.warp_trace import InstructionKind, WarpTrace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float64]

__all__ = ["HOPPER", "IssueModel", "loop_cycles"]

# A pipeline of four stages is full after four; blocks side by side then take turns, which evens out over many.
_FEW_TRIPS, _MORE_TRIPS, _MANY_TRIPS = 4, 11, 26


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueModel:
    """Cycles of a generation's units for an instruction of a warp of 32 threads, in one of the four parts.

    ``issue``: from one instruction to the next of another warp. ``special``, ``special_latency``: exponentials and
    such, one after the other, and until the result. ``old_product_macs``, ``product_macs``: multiply-adds of 16 bits a
    cycle of products of a warp and of four warps; ``..._latency`` until the result. ``shared_load``, ``shared_store``,
    ``copy``: beside the turns at the shared memory; ``shared_latency`` until a load's result. ``barrier``, ``arrive``:
    from the last warp of a block, or of four, to the next instruction. ``shared_queue``, ``memory_queue``,
    ``product_queue``: work (cycles; products) that a unit accepts before it makes warps wait. ``feed_bytes``: a cycle
    from the L2 to a multiprocessor.
    """

    issue: float
    floating: float
    integer: float
    multiply: float
    special: float
    special_latency: float
    old_product_macs: float
    old_product_latency: float
    product_macs: float
    product_latency: float
    product_queue: float
    shared_load: float
    shared_store: float
    shared_latency: float
    shared_queue: float
    copy: float
    memory_queue: float
    feed_bytes: float
    barrier: float
    arrive: float
    fence: float
    other_latency: float


#: Widths of units by NVIDIA's programming guide (16 integer, 32 floating lanes, 512 multiply-adds a part), latencies of
#: shared memory and products by the microbenchmarks of Luo et al. (arXiv 2402.13499). ``issue``, ``special``,
#: ``old_product_macs``, ``product_latency``, what loads, stores and copies take beside their turns, ``barrier`` and
#: ``feed_bytes`` were chosen on the calibration half of the H100's measurement: exponentials come at half of the
#: guide's 16 a cycle and multiprocessor, products of a warp at 73 % of the peak.
HOPPER = IssueModel(
    issue=1.1,
    floating=1,
    integer=2,
    multiply=2,
    special=16,
    special_latency=18,
    old_product_macs=372,
    old_product_latency=33,
    product_macs=512,
    product_latency=57,
    product_queue=8,
    shared_load=0.2,
    shared_store=0.92,
    shared_latency=24,
    shared_queue=48,
    copy=0.48,
    memory_queue=400,
    feed_bytes=61,
    barrier=20,
    arrive=4,
    fence=20,
    other_latency=25,
)


def loop_cycles(
    trace: WarpTrace, n_blocks: int, latency_cycles: float, model: IssueModel = HOPPER
) -> tuple[float, float]:
    """Cycles that ``n_blocks`` blocks side by side take for a trip of the loop each, and for all else of a block."""
    widths = tuple(float(value) for value in astuple(model))
    run, most = _compiled(), _MORE_TRIPS if n_blocks == 1 else _MANY_TRIPS
    few, more = (
        float(run(trace.rows, trace.loop_first, trace.loop_last, trips, trace.warps, n_blocks, latency_cycles, *widths))
        for trips in (_FEW_TRIPS, most)
    )
    step = (more - few) / (most - _FEW_TRIPS)
    return step, max(few - _FEW_TRIPS * step, 0.0)


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Any]:
    from tilewright.sim.engine.kept_code import compiled

    return compiled(_run)  # type: ignore[no-any-return]


_INTEGER, _FLOAT = int(InstructionKind.INTEGER), int(InstructionKind.FLOAT)
_MULTIPLY, _SPECIAL = int(InstructionKind.MULTIPLY), int(InstructionKind.SPECIAL)
_OLD_PRODUCT, _PRODUCT = int(InstructionKind.OLD_PRODUCT), int(InstructionKind.PRODUCT)
_PRODUCT_WAIT, _ARRIVE = int(InstructionKind.PRODUCT_WAIT), int(InstructionKind.PRODUCT_ARRIVE)
_SHARED_LOAD, _SHARED_STORE = int(InstructionKind.SHARED_LOAD), int(InstructionKind.SHARED_STORE)
_COPY, _COMMIT = int(InstructionKind.COPY), int(InstructionKind.COPY_COMMIT)
_COPY_WAIT, _LOAD = int(InstructionKind.COPY_WAIT), int(InstructionKind.LOAD)
_STORE, _LOCAL = int(InstructionKind.STORE), int(InstructionKind.LOCAL)
_BARRIER, _FENCE, _UNIFORM = int(InstructionKind.BARRIER), int(InstructionKind.FENCE), int(InstructionKind.UNIFORM)
_READ_CYCLES = 6.0  # until operands are read
_COPY_READ_CYCLES = 10.0
_SPECIAL_QUEUE = 16.0
_RING = 64  # groups of copies that are followed
_REGISTERS = 260
_NEVER = 1e18


def _run(
    rows: Rows,
    loop_first: int,
    loop_last: int,
    trips: int,
    warps: int,
    n_blocks: int,
    latency: float,
    issue: float,
    floating: float,
    integer: float,
    multiply: float,
    special: float,
    special_latency: float,
    old_product_macs: float,
    old_product_latency: float,
    product_macs: float,
    product_latency: float,
    product_queue: float,
    shared_load: float,
    shared_store: float,
    shared_latency: float,
    shared_queue: float,
    copy: float,
    memory_queue: float,
    feed_bytes: float,
    barrier: float,
    arrive: float,
    fence: float,
    other_latency: float,
) -> float:
    """When all is done, after ``trips`` of the loop."""
    n_rows, n_warps = rows.shape[0], warps * n_blocks
    ready, at, trip = np.zeros(n_warps), np.zeros(n_warps, np.int64), np.zeros(n_warps, np.int64)
    counters, written = np.zeros((n_warps, 6)), np.zeros((n_warps, _REGISTERS))
    copied, n_groups, groups = np.zeros(n_warps), np.zeros(n_warps, np.int64), np.zeros((n_warps, _RING))
    n_products, products = np.zeros(n_warps, np.int64), np.zeros((n_warps, _RING))
    part, integers, floats = np.zeros(4), np.zeros(4), np.zeros(4)
    specials, tensor, uniform = np.zeros(4), np.zeros(4), np.zeros(4)
    shared = memory = end = 0.0
    held, finished = np.zeros(n_warps, np.bool_), np.zeros(n_warps, np.bool_)
    arrived, together = np.zeros(n_blocks, np.int64), np.zeros(n_blocks)
    arrived_group, together_group = np.zeros(n_warps // 4 + 1, np.int64), np.zeros(n_warps // 4 + 1)
    done, last = 0, -1
    while done < n_warps:
        warp, first = -1, _NEVER
        for other in range(n_warps):
            if not finished[other] and not held[other]:
                if ready[other] < first or (ready[other] == first and other == last):
                    first, warp = ready[other], other
        if warp < 0:
            break
        row = at[warp]
        kind, amount, turns = int(rows[row, 0]), rows[row, 1], rows[row, 2]
        of, now = warp % 4, ready[warp]
        need = max(now, part[of])
        mask = int(rows[row, 7])
        for counter in range(6):
            if (mask >> counter) & 1:
                need = max(need, counters[warp, counter])
        for source in range(9, 13):
            register = int(rows[row, source])
            if register >= 0:
                need = max(need, written[warp, register])
        if kind == _INTEGER:
            need = max(need, integers[of])
        elif kind == _FLOAT or kind == _MULTIPLY:
            need = max(need, floats[of])
        elif kind == _SPECIAL:
            need = max(need, specials[of] - _SPECIAL_QUEUE)
        elif kind == _OLD_PRODUCT:
            need = max(need, tensor[of])
        elif kind == _PRODUCT:
            need = max(need, tensor[of] - product_queue * amount / product_macs)
        elif kind == _UNIFORM:
            need = max(need, uniform[of])
        elif kind == _SHARED_LOAD or kind == _SHARED_STORE or kind == _LOCAL:
            need = max(need, shared - shared_queue)
        elif kind == _LOAD or kind == _STORE:
            need = max(need, memory - memory_queue)
        elif kind == _COPY:
            need = max(need, shared - shared_queue, memory - memory_queue)
        elif kind == _COPY_WAIT:
            group = n_groups[warp] - int(amount)
            if group > 0:
                need = max(need, groups[warp, (group - 1) % _RING])
        elif kind == _PRODUCT_WAIT:
            group = n_products[warp] - int(amount)
            if group > 0:
                need = max(need, products[warp, (group - 1) % _RING])
        if need > now:  # another warp may come first
            ready[warp], last = need, -1
            continue
        last = warp
        part[of] = now + issue
        following, result, read = now + rows[row, 4], now + _READ_CYCLES, now + _READ_CYCLES
        waits = False
        if kind == _INTEGER:
            integers[of] = now + integer
        elif kind == _FLOAT:
            floats[of] = now + floating
        elif kind == _MULTIPLY:
            floats[of] = now + multiply
        elif kind == _SPECIAL:
            specials[of] = max(specials[of], now) + special
            result = specials[of] + special_latency
        elif kind == _UNIFORM:
            uniform[of] = now + 1.0
        elif kind == _OLD_PRODUCT:
            tensor[of] = now + amount / old_product_macs
            result = now + old_product_latency
            register = int(rows[row, 8])
            if register >= 0:
                for number in range(4):
                    written[warp, register + number] = result
        elif kind == _PRODUCT:
            shared = max(shared, now) + turns
            tensor[of] = max(max(now, tensor[of]) + amount / product_macs, shared)
            if rows[row, 3] > 0.5:
                products[warp, n_products[warp] % _RING] = tensor[of] + product_latency
                n_products[warp] += 1
        elif kind == _SHARED_LOAD or kind == _SHARED_STORE:
            shared = max(shared, now) + turns + (shared_store if kind == _SHARED_STORE else shared_load)
            result, read = shared + shared_latency, shared + 2.0
        elif kind == _LOCAL:
            shared = max(shared, now) + turns + shared_load
            result, read = shared + shared_latency + 8.0, shared
        elif kind == _COPY:
            memory = max(memory, now) + amount / feed_bytes
            shared = max(shared, now) + turns + copy
            copied[warp] = max(copied[warp], memory + latency)
            read = now + _COPY_READ_CYCLES
        elif kind == _LOAD:
            memory = max(memory, now) + amount / feed_bytes
            result, read = memory + latency, now + _COPY_READ_CYCLES
        elif kind == _STORE:
            memory = max(memory, now) + amount / feed_bytes
            read = memory
            end = max(end, memory)
        elif kind == _COMMIT:
            groups[warp, n_groups[warp] % _RING] = max(copied[warp], now)
            n_groups[warp] += 1
        elif kind == _FENCE:
            following = max(following, now + fence)
        elif kind == _BARRIER:
            block = warp // warps
            arrived[block] += 1
            together[block] = max(together[block], following)
            held[warp] = waits = True
            if arrived[block] == warps:
                for other in range(block * warps, (block + 1) * warps):
                    held[other], ready[other] = False, together[block] + barrier
                arrived[block], together[block] = 0, 0.0
        elif kind == _ARRIVE:
            block = warp // 4
            arrived_group[block] += 1
            together_group[block] = max(together_group[block], following)
            held[warp] = waits = True
            if arrived_group[block] == 4:
                for other in range(block * 4, block * 4 + 4):
                    held[other], ready[other] = False, together_group[block] + arrive
                arrived_group[block], together_group[block] = 0, 0.0
        else:
            result = now + other_latency
        counter = int(rows[row, 5])
        if counter >= 0:
            counters[warp, counter] = max(counters[warp, counter], result)
        counter = int(rows[row, 6])
        if counter >= 0:
            counters[warp, counter] = max(counters[warp, counter], read)
        if not waits:
            ready[warp] = following
        if row == loop_last and trip[warp] < trips - 1:
            trip[warp] += 1
            at[warp] = loop_first
        elif row == n_rows - 1:
            finished[warp] = True
            done += 1
            end = max(end, now)
        else:
            at[warp] = row + 1
    return end
