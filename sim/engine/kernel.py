"""The compiled event loop (Numba) with exact loop skipping. Plain integers in, plain integers out.

Meaning: :mod:`tilewright.sim.engine.reference`. Skipping: if the state at the end of one trip of a loop equals the
state at the end of an earlier trip, with the loop's own counters taken relative, everything in between
repeats exactly, so whole periods are jumped over. What makes it exact:

* The *participants* of a loop are the engines inside it in the same enclosing trips; they are compared in
  full. Any other engine must stand at the same command and have finished nothing in between; if it is busy,
  what it has left bounds the jump.
* A jump leaves the last trip of every participant to be run.
* A semaphore may gain or lose tokens over the period only if no start in the period lacked one of its
  tokens; a loss also bounds the jump, so that none can lack one in a skipped period either.
* Snapshots belong to one loop and one engine (the anchor, whose trip ended), the last eight are kept, and
  they are dropped when the anchor enters or leaves the loop.
"""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt

from tilewright.sim.engine.image import (
    AT_CHANNELS,
    AT_COMMANDS,
    AT_ENGINES,
    AT_INSTRUCTIONS,
    AT_LISTS,
    AT_LOOPS,
    AT_SEMAPHORES,
    COMMAND_SIZE,
    INSTRUCTION_SIZE,
    N_CHANNELS,
    N_ENGINES,
    N_LOOPS,
    N_SEMAPHORES,
    OP_COMMAND,
    OP_END,
    OP_LOOP,
)
from tilewright.sim.engine.kept_code import compiled
from tilewright.sim.engine.program import MAX_CYCLES

__all__ = [
    "EVENT_FIELDS",
    "EV_COMMAND",
    "EV_END",
    "EV_ENGINE",
    "EV_PREDECESSOR",
    "EV_START",
    "EV_VIA",
    "EXACTLY",
    "GIVEN_UP",
    "JUMP_FIXED_FIELDS",
    "NO_LIMIT",
    "N_CHANNELS",
    "N_ENGINES",
    "OUT_CYCLES",
    "OUT_DEADLOCK",
    "OUT_FIXED_FIELDS",
    "OUT_N_COMMANDS_RUN",
    "OUT_N_EVENTS",
    "OUT_N_JUMPS",
    "OUT_OVERFLOW",
    "TOO_LONG",
    "all_to_come",
    "run_batch",
    "run_one",
]

_Array = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

# Status of an engine.
_WAITING, _RUNNING, _LATENCY, _MOVING, _HALTED = 0, 1, 2, 3, 4

_DEPTH = 8  # deepest loop nest (program.MAX_LOOP_DEPTH)
_RING = 8  # snapshots kept per loop and anchor
_FAR = 2**62
_LIMIT = MAX_CYCLES
_LOSS = 1 - 1e-9  # of sums that are not exact
_EXTRA = 5  # per engine beside a snapshot: work left, busy, commands done, event in flight, cycles to come
NO_LIMIT = _FAR
EXACTLY, AT_LEAST, UNTOLD = 0, 1, 2

# Result row: fixed fields; per engine: busy cycles, command it stands at; per channel: bytes.
OUT_CYCLES, OUT_DEADLOCK, OUT_N_COMMANDS_RUN, OUT_N_EVENTS, OUT_N_JUMPS, OUT_OVERFLOW = 0, 1, 2, 3, 4, 5
OUT_FIXED_FIELDS = 6
TOO_LONG = 2  # in OUT_DEADLOCK: given up after MAX_CYCLES
GIVEN_UP = 3  # the run ends behind its limit; OUT_CYCLES is then a figure behind the limit that it does not undercut

# Trace rows. EV_PREDECESSOR: event that this start waited for, -1 none, -2-j: copy made by jump j. EV_VIA: the
# semaphore that it waited for, -1 its own queue. Of several the first in the wait list that lacked a token before.
EV_START, EV_END, EV_ENGINE, EV_COMMAND, EV_PREDECESSOR, EV_VIA = 0, 1, 2, 3, 4, 5
EVENT_FIELDS = 6
# Jump rows: periods, cycles per period, then per engine: takes part, event in flight at snapshot and match.
JUMP_FIXED_FIELDS = 2


@compiled
def _advance_control(
    img: _Array,
    e: int,
    pc: _Array,
    depth: _Array,
    ctr: _Array,
    cnt: _Array,
    lid: _Array,
    ring_n: _Array,
    crossed: _Array,
    n_crossed: int,
) -> tuple[int, int]:
    """Move engine ``e`` through loop marks to its next command or to the end of its queue."""
    at = img[AT_INSTRUCTIONS]
    n_engines = img[N_ENGINES]
    while True:
        i = at + pc[e] * INSTRUCTION_SIZE
        op = img[i]
        if op == OP_COMMAND:
            return _WAITING, n_crossed
        if op == OP_LOOP:
            trips = img[i + 2]
            if img[i + 3] != 0:
                trips += img[i + 3] * ctr[e, img[i + 4]]
            if trips <= 0:
                pc[e] = img[i + 5]
                continue
            d = depth[e]
            lid[e, d] = img[i + 1]
            ctr[e, d] = 0
            cnt[e, d] = trips
            depth[e] = d + 1
            ring_n[img[i + 1] * n_engines + e] = 0
            pc[e] += 1
        elif op == OP_END:
            d = depth[e] - 1
            if ctr[e, d] + 1 < cnt[e, d]:
                ctr[e, d] += 1
                pc[e] = img[i + 1]
                if img[img[AT_LOOPS] + lid[e, d]] == 1 and n_crossed < crossed.shape[0]:
                    crossed[n_crossed, 0] = e
                    crossed[n_crossed, 1] = d
                    n_crossed += 1
            else:
                depth[e] = d
                ring_n[lid[e, d] * n_engines + e] = 0
                pc[e] += 1
        else:
            return _HALTED, n_crossed


@compiled
def _take_snapshot(
    snap: _Array,
    n_eng: int,
    n_sem: int,
    t: int,
    anchor: int,
    d: int,
    pc: _Array,
    status: _Array,
    t_end: _Array,
    work: _Array,
    depth: _Array,
    ctr: _Array,
    lid: _Array,
    tokens: _Array,
    n_done: _Array,
) -> int:
    """Write the state relative to the anchor's trip into ``snap``; returns its hash."""
    h: Any = nb.int64(1469598103934665603)
    p = 0
    own = ctr[anchor, d]
    loop = lid[anchor, d]
    for e in range(n_eng):
        inside = depth[e] > d and lid[e, d] == loop
        if inside:
            for q in range(d):
                if lid[e, q] != lid[anchor, q] or ctr[e, q] != ctr[anchor, q]:
                    inside = False
                    break
        snap[p] = pc[e] * 16 + status[e] * 2 + (1 if inside else 0)
        if inside:
            left = nb.int64(0)
            if status[e] == _RUNNING or status[e] == _LATENCY:
                left = t_end[e] - t
            elif status[e] == _MOVING:
                left = work[e]
            snap[p + 1] = left
            snap[p + 2] = ctr[e, d] - own
        else:
            snap[p + 1] = n_done[e]
            snap[p + 2] = 0
        p += 3
        for q in range(depth[e]):
            if q != d or not inside:
                snap[p] = ctr[e, q]
            else:
                snap[p] = -1
            p += 1
        for _ in range(depth[e], _DEPTH):
            snap[p] = -2
            p += 1
    for s in range(n_sem):
        snap[p] = tokens[s]
        p += 1
    for q in range(p - n_sem):
        h = (h ^ snap[q]) * nb.int64(1099511628211)
        h ^= h >> 29
    return int(h)


@compiled
def all_to_come(img: _Array, left: _Array, due: _Array, per_byte: _Floats) -> int:
    """Cycles that each engine's queue takes at least, bytes of each channel, and the cycles of one.

    Returns EXACTLY, AT_LEAST where the trips of a loop are unlike, which count nothing, and UNTOLD where figures are
    too large.
    """
    told = EXACTLY
    at = img[AT_INSTRUCTIONS]
    times = np.ones(_DEPTH + 1, np.int64)
    for e in range(img[N_ENGINES]):
        weight = img[img[AT_ENGINES] + 2 * e + 1]
        i = at + img[img[AT_ENGINES] + 2 * e] * INSTRUCTION_SIZE
        d = 0
        while img[i] == OP_COMMAND or img[i] == OP_LOOP or img[i] == OP_END:
            if img[i] == OP_COMMAND:
                c = img[AT_COMMANDS] + img[i + 1] * COMMAND_SIZE
                cycles = img[c]
                q = img[c + 1]
                if q >= 0:
                    rate = img[img[AT_CHANNELS] + q]
                    cycles += (img[c + 2] + rate // weight - 1) // (rate // weight)
                    n_bytes = img[c + 3] * weight
                    if n_bytes > 0:
                        if times[d] > (_FAR - due[q]) // n_bytes:
                            return UNTOLD
                        due[q] += times[d] * n_bytes
                        per_byte[q] = img[c + 2] / img[c + 3] / rate
                if cycles > 0:
                    if times[d] > (_FAR - left[e]) // cycles:
                        return UNTOLD
                    left[e] += times[d] * cycles
            elif img[i] == OP_LOOP:
                trips = img[i + 2] if img[i + 3] == 0 and img[i + 2] > 0 else nb.int64(0)
                if img[i + 3] != 0:
                    told = AT_LEAST
                if trips > 0 and times[d] > _FAR // trips:
                    return UNTOLD
                times[d + 1] = times[d] * trips
                d += 1
            else:
                d -= 1
            i += INSTRUCTION_SIZE
    return told


@compiled
def _first_instance_trip(e: int, loop: int, depth: _Array, ctr: _Array, lid: _Array) -> int:
    """Trip of ``loop`` in which engine ``e`` stands, the first time that the loop is run; -1 elsewhere."""
    for q in range(depth[e]):
        if lid[e, q] == loop:
            return int(ctr[e, q])
        if ctr[e, q] != 0:
            return -1
    return -1


@compiled
def run_one(
    img: _Array,
    skip: bool,
    window_loop: int,
    window_from: int,
    window_to: int,
    events: _Array,
    jumps: _Array,
    limit: int,
    out: _Array,
) -> None:
    """Run the image ``img``; fill ``out`` (and ``events``, ``jumps`` as far as they reach).

    skip: jump over repeating loop trips. Commands that start in cycles [window_from, window_to) are
    recorded; no jump enters that window from before or starts inside it, unless window_from < 0: then all
    commands that were really run are recorded, and the jumps too. With ``window_loop`` 0 or more, the window
    is in trips of that loop, the first time that the loop is run. limit: a run is given up as soon as what is to come
    of an engine's queue, or of a channel's bytes, ends behind that cycle.
    """
    n_eng = img[N_ENGINES]
    n_chan = img[N_CHANNELS]
    n_sem = img[N_SEMAPHORES]
    n_loop = img[N_LOOPS]
    at_cmd = img[AT_COMMANDS]
    at_list = img[AT_LISTS]
    at_ins = img[AT_INSTRUCTIONS]
    at_eng = img[AT_ENGINES]
    at_chan = img[AT_CHANNELS]

    pc = np.empty(n_eng, np.int64)
    status = np.zeros(n_eng, np.int64)
    t_end = np.zeros(n_eng, np.int64)
    t_start = np.zeros(n_eng, np.int64)
    t_free = np.full(n_eng, -1, np.int64)
    work = np.zeros(n_eng, np.int64)
    chan = np.full(n_eng, -1, np.int64)
    busy = np.zeros(n_eng, np.int64)
    moved = np.zeros(n_chan, np.int64)
    n_done = np.zeros(n_eng, np.int64)
    depth = np.zeros(n_eng, np.int64)
    ctr = np.zeros((n_eng, _DEPTH), np.int64)
    cnt = np.zeros((n_eng, _DEPTH), np.int64)
    lid = np.zeros((n_eng, _DEPTH), np.int64)
    tokens = np.empty(n_sem, np.int64)
    taken = np.zeros(n_sem, np.int64)  # tokens taken so far
    missed_t = np.full(n_sem, -1, np.int64)  # cycle at which a start last lacked a token
    active = np.zeros(n_chan, np.int64)
    crossed = np.empty((n_eng * _DEPTH, 2), np.int64)
    for s in range(n_sem):
        tokens[s] = img[img[AT_SEMAPHORES] + s]

    # Snapshots: state vector, and what a jump needs beside it.
    width = n_eng * (3 + _DEPTH) + n_sem
    ring_n = np.zeros(n_loop * n_eng, np.int64)
    rings = np.empty((n_loop * n_eng * _RING if skip else 1, width), np.int64)
    extra_width = 3 + _EXTRA * n_eng + n_sem + n_chan
    extras = np.empty((n_loop * n_eng * _RING if skip else 1, extra_width), np.int64)
    now_state = np.empty(width, np.int64)

    record = events.shape[0] > 0
    path_mode = record and window_from < 0
    n_ev = 0
    n_jump = 0
    overflow = 0
    last_ev = np.full(n_eng, -1, np.int64)  # event in flight, or last finished, per engine
    sig_ev = np.full(n_sem, -1, np.int64)
    # Path mode only: tokens after the last starts, and the cycle at which a waiting engine was last short of one.
    held = tokens.copy()
    short_t = np.full(n_sem, -1, np.int64)
    most = nb.int64(0)  # most tokens that one start takes of one semaphore
    if path_mode:
        for c in range(at_cmd, at_list, COMMAND_SIZE):
            most = max(most, img[c + 5])

    # What queues and channels have to do yet, of commands that have not begun.
    left = np.zeros(n_eng, np.int64)
    due = np.zeros(n_chan, np.int64)
    per_byte = np.zeros(n_chan, np.float64)
    is_limited = limit < NO_LIMIT and all_to_come(img, left, due, per_byte) != UNTOLD
    least: Any = nb.int64(0)  # cycles that the run takes, where these are more than the limit

    t: Any = nb.int64(0)
    n_run = nb.int64(0)
    n_crossed = 0
    for e in range(n_eng):
        pc[e] = img[at_eng + 2 * e]
        status[e], n_crossed = _advance_control(img, e, pc, depth, ctr, cnt, lid, ring_n, crossed, n_crossed)
    deadlock = 0

    while True:
        # Starts, in engine order.
        for e in range(n_eng):
            if status[e] != _WAITING:
                continue
            command = img[at_ins + pc[e] * INSTRUCTION_SIZE + 1]
            c = at_cmd + command * COMMAND_SIZE
            first = at_list + img[c + 4]
            n_wait = img[c + 5]
            ready = True
            for w in range(n_wait):
                s = img[first + w]
                tokens[s] -= 1
                if tokens[s] < 0:
                    ready = False
                    missed_t[s] = t
            if not ready:
                for w in range(n_wait):
                    tokens[img[first + w]] += 1
                continue
            for w in range(n_wait):
                taken[img[first + w]] += 1
            t_start[e] = t
            chan[e] = img[c + 1]
            if is_limited:
                least = max(least, t + left[e])
                left[e] -= img[c]
                if chan[e] >= 0:
                    least = max(least, t + nb.int64(due[chan[e]] * per_byte[chan[e]] * _LOSS))
                    rate = img[at_chan + chan[e]] // img[at_eng + 2 * e + 1]
                    left[e] -= (img[c + 2] + rate - 1) // rate
                    due[chan[e]] -= img[c + 3] * img[at_eng + 2 * e + 1]
            if chan[e] >= 0:
                work[e] = img[c + 2]
                if img[c] > 0:
                    status[e] = _LATENCY
                    t_end[e] = t + img[c]
                else:
                    status[e] = _MOVING
                    active[chan[e]] += img[at_eng + 2 * e + 1]
            else:
                status[e] = _RUNNING
                t_end[e] = t + img[c]
            wanted = record and (path_mode or (window_from <= t < window_to))
            if record and window_loop >= 0:
                trip = _first_instance_trip(e, window_loop, depth, ctr, lid)
                wanted = window_from <= trip < window_to
            if wanted:
                if n_ev < events.shape[0]:
                    before = nb.int64(-1)
                    via = nb.int64(-1)
                    if t_free[e] == t:
                        before = last_ev[e]
                    elif path_mode:
                        for w in range(n_wait):
                            s = img[first + w]
                            held[s] -= 1
                            if held[s] < 0 and via < 0:
                                before = sig_ev[s]
                                via = s
                        for w in range(n_wait):
                            held[img[first + w]] += 1
                    events[n_ev, EV_START] = t
                    events[n_ev, EV_END] = -1
                    events[n_ev, EV_ENGINE] = e
                    events[n_ev, EV_COMMAND] = command
                    events[n_ev, EV_PREDECESSOR] = before
                    events[n_ev, EV_VIA] = via
                    last_ev[e] = n_ev
                    n_ev += 1
                else:
                    overflow = 1
                    last_ev[e] = -1
            else:
                last_ev[e] = -1

        if least > limit:
            t = least
            deadlock = GIVEN_UP
            break
        if path_mode:
            for e in range(n_eng):
                if status[e] == _WAITING:
                    c = at_cmd + img[at_ins + pc[e] * INSTRUCTION_SIZE + 1] * COMMAND_SIZE
                    first = at_list + img[c + 4]
                    for w in range(img[c + 5]):
                        tokens[img[first + w]] -= 1
                        if tokens[img[first + w]] < 0:
                            short_t[img[first + w]] = t
                    for w in range(img[c + 5]):
                        tokens[img[first + w]] += 1

        # Trips that ended just now: compare with earlier ones, jump if the state repeats.
        may_jump = skip and n_crossed > 0
        if may_jump and record and not path_mode:
            if window_loop < 0:
                may_jump = not window_from <= t < window_to
            else:
                for e in range(n_eng):
                    trip = _first_instance_trip(e, window_loop, depth, ctr, lid)
                    if window_from <= trip < window_to:
                        may_jump = False
            for e in range(n_eng):
                if last_ev[e] >= 0 and events[last_ev[e], EV_END] < 0:
                    may_jump = False  # a recorded command is in flight: its end must be its own
        if may_jump:
            for x in range(n_crossed):
                anchor = crossed[x, 0]
                d = crossed[x, 1]
                if depth[anchor] <= d:
                    continue
                slot = lid[anchor, d] * n_eng + anchor
                h = _take_snapshot(
                    now_state, n_eng, n_sem, t, anchor, d, pc, status, t_end, work, depth, ctr, lid, tokens, n_done
                )
                known = ring_n[slot]
                jumped = False
                for back in range(1, min(known, _RING) + 1):
                    r = slot * _RING + (known - back) % _RING
                    if extras[r, 0] != h:
                        continue
                    same = True
                    for q in range(width - n_sem):
                        if rings[r, q] != now_state[q]:
                            same = False
                            break
                    if not same:
                        continue
                    # A count that grows or shrinks is harmless if no start in the period lacked a token. A path
                    # also tells which token came last: no engine may even have been short of one while it waited.
                    k: Any = nb.int64(_FAR)
                    for s in range(n_sem):
                        drift = tokens[s] - rings[r, width - n_sem + s]
                        if drift != 0:
                            if missed_t[s] > extras[r, 2] or (path_mode and short_t[s] >= extras[r, 2]):
                                k = 0
                                break
                            if drift < 0:
                                spare = tokens[s] - most - (taken[s] - extras[r, 3 + _EXTRA * n_eng + s])
                                k = min(k, spare // -drift + 1 if spare >= 0 else nb.int64(0))
                    if k <= 0:
                        continue
                    step = ctr[anchor, d] - extras[r, 1]
                    dt = t - extras[r, 2]
                    if step <= 0 or dt <= 0:
                        continue
                    p = 0
                    for e in range(n_eng):
                        inside = now_state[p] & 1
                        p += 3 + _DEPTH
                        if inside:
                            k = min(k, (cnt[e, d] - 1 - ctr[e, d]) // step)
                        elif status[e] == _RUNNING or status[e] == _LATENCY:
                            k = min(k, (t_end[e] - t - 1) // dt)
                        elif status[e] == _MOVING:
                            used = extras[r, 3 + _EXTRA * e] - work[e]
                            if used > 0:
                                k = min(k, (work[e] - 1) // used)
                    if record and not path_mode and window_loop < 0 and t < window_from:
                        k = min(k, (window_from - 1 - t) // dt)
                    if record and window_loop >= 0 and lid[anchor, d] == window_loop:
                        for e in range(n_eng):
                            trip = _first_instance_trip(e, window_loop, depth, ctr, lid)
                            if 0 <= trip < window_from:
                                k = min(k, (window_from - 1 - trip) // step)
                    k = min(k, (_LIMIT - t) // dt + 1)  # just beyond the limit is far enough
                    if k <= 0:
                        continue
                    if path_mode:
                        if n_jump < jumps.shape[0]:
                            jumps[n_jump, 0] = k
                            jumps[n_jump, 1] = dt
                        else:
                            overflow = 1
                    p = 0
                    for e in range(n_eng):
                        inside = now_state[p] & 1
                        p += 3 + _DEPTH
                        flying = status[e] == _RUNNING or status[e] == _LATENCY or status[e] == _MOVING
                        elapsed = t - t_start[e] if flying else nb.int64(0)
                        busy[e] += k * (busy[e] + elapsed - extras[r, 3 + _EXTRA * e + 1]) if inside else 0
                        if path_mode and n_jump < jumps.shape[0]:
                            j = JUMP_FIXED_FIELDS + 3 * e
                            jumps[n_jump, j] = inside
                            jumps[n_jump, j + 1] = extras[r, 3 + _EXTRA * e + 3]
                            jumps[n_jump, j + 2] = last_ev[e] if flying else -1
                        if inside:
                            if is_limited:
                                left[e] -= k * (extras[r, 3 + _EXTRA * e + 4] - left[e])
                            done = n_done[e] - extras[r, 3 + _EXTRA * e + 2]
                            n_done[e] += k * done
                            n_run += k * done
                            ctr[e, d] += k * step
                            if status[e] == _RUNNING or status[e] == _LATENCY:
                                t_end[e] += k * dt
                            if flying:
                                t_start[e] += k * dt
                                if path_mode:
                                    if n_ev < events.shape[0]:
                                        events[n_ev, EV_START] = t_start[e]
                                        events[n_ev, EV_END] = -1
                                        events[n_ev, EV_ENGINE] = e
                                        events[n_ev, EV_COMMAND] = img[at_ins + pc[e] * INSTRUCTION_SIZE + 1]
                                        events[n_ev, EV_PREDECESSOR] = -2 - n_jump
                                        events[n_ev, EV_VIA] = events[last_ev[e], EV_VIA]
                                        last_ev[e] = n_ev
                                        n_ev += 1
                                    else:
                                        overflow = 1
                        elif status[e] == _MOVING:
                            work[e] -= k * (extras[r, 3 + _EXTRA * e] - work[e])
                    for s in range(n_sem):
                        if short_t[s] >= extras[r, 2]:
                            short_t[s] += k * dt
                        if missed_t[s] > extras[r, 2]:
                            missed_t[s] += k * dt  # it was lacking in the skipped trips too
                        tokens[s] += k * (tokens[s] - rings[r, width - n_sem + s])
                        taken[s] += k * (taken[s] - extras[r, 3 + _EXTRA * n_eng + s])
                    for q in range(n_chan):
                        if is_limited:
                            due[q] -= k * (moved[q] - extras[r, 3 + _EXTRA * n_eng + n_sem + q])
                        moved[q] += k * (moved[q] - extras[r, 3 + _EXTRA * n_eng + n_sem + q])
                    n_jump += 1
                    t += k * dt
                    jumped = True
                    break
                if jumped:
                    for e in range(n_eng):
                        ring_n[lid[anchor, d] * n_eng + e] = 0
                    break
                r = slot * _RING + known % _RING
                for q in range(width):
                    rings[r, q] = now_state[q]
                extras[r, 0] = h
                extras[r, 1] = ctr[anchor, d]
                extras[r, 2] = t
                for e in range(n_eng):
                    flying = status[e] == _RUNNING or status[e] == _LATENCY or status[e] == _MOVING
                    extras[r, 3 + _EXTRA * e] = work[e]
                    extras[r, 3 + _EXTRA * e + 1] = busy[e] + (t - t_start[e] if flying else nb.int64(0))
                    extras[r, 3 + _EXTRA * e + 2] = n_done[e]
                    extras[r, 3 + _EXTRA * e + 3] = last_ev[e] if flying else -1
                    if is_limited:
                        extras[r, 3 + _EXTRA * e + 4] = left[e]
                for s in range(n_sem):
                    extras[r, 3 + _EXTRA * n_eng + s] = taken[s]
                for q in range(n_chan):
                    extras[r, 3 + _EXTRA * n_eng + n_sem + q] = moved[q]
                ring_n[slot] = known + 1
        n_crossed = 0
        if path_mode:
            held[:] = tokens

        # The next cycle at which something happens.
        t_next = nb.int64(_FAR)
        n_halted = 0
        for e in range(n_eng):
            if status[e] == _RUNNING or status[e] == _LATENCY:
                t_next = min(t_next, t_end[e])
            elif status[e] == _MOVING:
                rate = img[at_chan + chan[e]] // active[chan[e]]
                t_next = min(t_next, t + (work[e] + rate - 1) // rate)
            elif status[e] == _HALTED:
                n_halted += 1
        if t_next == _FAR:
            if n_halted < n_eng:
                deadlock = 1
            break
        dt = t_next - t
        for e in range(n_eng):
            if status[e] == _MOVING:
                work[e] -= dt * (img[at_chan + chan[e]] // active[chan[e]])
        t = t_next
        if t > _LIMIT:
            deadlock = TOO_LONG
            break

        # Finishes, in engine order; a latency that is over turns into a transfer.
        for e in range(n_eng):
            finished = False
            if status[e] == _RUNNING:
                finished = t_end[e] == t
            elif status[e] == _MOVING:
                if work[e] <= 0:
                    finished = True
                    active[chan[e]] -= img[at_eng + 2 * e + 1]
                    work[e] = 0
            if not finished:
                continue
            command = img[at_ins + pc[e] * INSTRUCTION_SIZE + 1]
            c = at_cmd + command * COMMAND_SIZE
            first = at_list + img[c + 6]
            for w in range(img[c + 7]):
                s = img[first + w]
                tokens[s] += 1
                sig_ev[s] = last_ev[e]
            busy[e] += t - t_start[e]
            n_done[e] += 1
            if chan[e] >= 0:
                moved[chan[e]] += img[c + 3] * img[at_eng + 2 * e + 1]
            n_run += 1
            t_free[e] = t
            if last_ev[e] >= 0:
                events[last_ev[e], EV_END] = t
            pc[e] += 1
            status[e], n_crossed = _advance_control(img, e, pc, depth, ctr, cnt, lid, ring_n, crossed, n_crossed)
        for e in range(n_eng):
            if status[e] == _LATENCY and t_end[e] == t:
                status[e] = _MOVING
                active[chan[e]] += img[at_eng + 2 * e + 1]

    out[OUT_CYCLES] = t
    out[OUT_DEADLOCK] = deadlock
    out[OUT_N_COMMANDS_RUN] = n_run
    out[OUT_N_EVENTS] = n_ev
    out[OUT_N_JUMPS] = n_jump
    out[OUT_OVERFLOW] = overflow
    for e in range(n_eng):
        out[OUT_FIXED_FIELDS + 2 * e] = busy[e]
        position = nb.int64(-1)
        if status[e] == _WAITING:
            position = img[at_ins + pc[e] * INSTRUCTION_SIZE + 1]
        out[OUT_FIXED_FIELDS + 2 * e + 1] = position
    for q in range(n_chan):
        out[OUT_FIXED_FIELDS + 2 * n_eng + q] = moved[q]


@compiled
def run_batch(images: _Array, offsets: _Array, first: int, last: int, skip: bool, limit: int, outs: _Array) -> None:
    """Run images ``first`` to ``last`` (exclusive), laid end to end in ``images``, without Python between."""
    no_events = np.empty((0, EVENT_FIELDS), np.int64)
    no_jumps = np.empty((0, 1), np.int64)
    for i in range(first, last):
        run_one(images[offsets[i] : offsets[i + 1]], skip, -1, -1, -1, no_events, no_jumps, limit, outs[i])
