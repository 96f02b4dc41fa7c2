"""Where the cycles of a run went: the critical path, by category, exact although loop trips were skipped.

The path is walked back from the command that ended last. Each command's predecessor is the command whose
end let it start (the one before it in its queue, or the one that signalled the token that came last), and it
starts in the very cycle in which its predecessor ends. So the commands of the path lie end to end from the
last cycle back to cycle 0, and their cycles add up to the run's.

A jump skipped ``k`` periods. Period 0 is the one that was recorded, between two equal states: *snapshot* and
*match*. What is in flight on an engine at the match is what is in flight there at the snapshot, one period
later. The walk comes from behind the jump on the copy of a command in flight at the match and goes through
the recorded period as if it were period k. Reaching a command in flight at the snapshot, it is at the same
engine's command in flight at the match, in period k - 1, and so on; in period 0 it is back on what really
ran. The walk through one period depends only on the engine on which it enters, so it is done once per engine,
and with ``k`` in the millions the sequence of engines soon repeats. A recorded period may hold jumps of inner
loops; the same walk goes through them, one level down.
"""

from __future__ import annotations

from typing import NamedTuple

from tilewright.errors import ProgramError
from tilewright.sim.engine.program import Command, Program
from tilewright.sim.engine.trace import Recording
from tilewright.sim.lowering.costs import Work
from tilewright.sim.result import Attribution

__all__ = ["attribute"]

_MATRIX, _VECTOR, _DRAM, _BUFFER_WAIT, _FILL_DRAIN = range(5)
_N_CATEGORIES = 5
_REAL_TIME = -1  # the level of the walk that is in no jump

Cycles = list[int]  # by category


def attribute(program: Program, recording: Recording) -> Attribution | None:
    """The critical path's cycles by category; they add up to ``recording.cycles``.

    ``recording`` is what :func:`tilewright.sim.engine.trace.record_path` gave for ``program``. None if it overflowed
    or if the run ended in a deadlock. Commands of matrix and vector engines count for these (what their
    :class:`~tilewright.sim.lowering.costs.Work` says is filling and draining is apart); transfers count as DRAM, and as
    waiting for a buffer if what they were started by was a buffer slot that became free.
    """
    if recording.window[0] >= 0:
        raise ProgramError("the critical path needs a recording of the whole run, not of a window of it")
    if recording.overflow or not recording.finished:
        return None
    kinds = _event_kinds(program, recording)
    parts = _Walk(recording, kinds, _N_CATEGORIES).parts()
    return Attribution(
        matrix_cycles=parts[_MATRIX],
        vector_cycles=parts[_VECTOR],
        dram_cycles=parts[_DRAM],
        buffer_wait_cycles=parts[_BUFFER_WAIT],
        fill_drain_cycles=parts[_FILL_DRAIN],
    )


class _Kind(NamedTuple):
    """What an event's cycles count as; up to ``fill_drain_cycles`` of them count as filling and draining."""

    category: int
    fill_drain_cycles: int = 0


def _event_kinds(program: Program, recording: Recording) -> list[_Kind]:
    from tilewright.sim.engine import kernel

    columns = recording.events[:, [kernel.EV_ENGINE, kernel.EV_COMMAND, kernel.EV_VIA]].tolist()
    known: dict[tuple[int, int], _Kind] = {}
    kinds = []
    for engine, command, via in columns:
        by_slot = via >= 0 and program.semaphores[via].is_slot
        key = (command, by_slot)
        if key not in known:
            known[key] = _kind(program.engines[engine].kind, recording.commands[command], by_slot)
        kinds.append(known[key])
    return kinds


def _kind(engine_kind: str, command: Command, by_slot: bool) -> _Kind:
    if engine_kind == "vector":
        return _Kind(_VECTOR)
    if engine_kind == "matrix" or (engine_kind not in ("load", "store") and command.channel < 0):
        return _Kind(_MATRIX, command.cost.fill_drain_cycles if isinstance(command.cost, Work) else 0)
    return _Kind(_BUFFER_WAIT if by_slot else _DRAM)


class _Jump(NamedTuple):
    """``n_periods`` were skipped, each of ``cycles``. ``at_match``: event in flight by engine (or -1);
    ``at_snapshot``: engine by event in flight, for the engines that took part."""

    n_periods: int
    cycles: int
    at_match: list[int]
    at_snapshot: dict[int, int]


class _Crossing(NamedTuple):
    """One period walked back: it was left through ``engine``, whose command in flight ended at ``end``."""

    engine: int
    end: int
    parts: Cycles


class _Walk:
    """The walk back through one recording.

    A *level* is a jump's number (times are those of its recorded period) or -1 (what really ran). A position
    is an event of the level, not yet counted, and the cycle at which it ends there: an event seen in a
    skipped period has no end of its own, and its end is its successor's start.
    """

    def __init__(self, recording: Recording, kinds: list[_Kind], n_categories: int) -> None:
        from tilewright.sim.engine import kernel

        self.kinds = kinds
        self.n_categories = n_categories
        self.cycles = recording.cycles
        self.start: list[int] = recording.events[:, kernel.EV_START].tolist()
        self.end: list[int] = recording.events[:, kernel.EV_END].tolist()
        self.engine: list[int] = recording.events[:, kernel.EV_ENGINE].tolist()
        self.predecessor: list[int] = recording.events[:, kernel.EV_PREDECESSOR].tolist()
        self.jumps = [_read_jump(row, kernel.JUMP_FIXED_FIELDS) for row in recording.jumps.tolist()]
        self.crossings: dict[tuple[int, int], _Crossing] = {}

    def parts(self) -> Cycles:
        """Cycles of the whole path by category."""
        parts = [0] * self.n_categories
        last = [event for event, end in enumerate(self.end) if end == self.cycles]
        if last:
            self._to_floor(_REAL_TIME, min(last, key=lambda event: self.engine[event]), self.cycles, parts)
        return parts

    def _to_floor(self, level: int, event: int, end: int, parts: Cycles) -> tuple[int, int]:
        """Walk back to the level's floor, counting into ``parts``; the position there.

        The floor is an event in flight at the jump's snapshot, or, of real time, (-1, 0).
        """
        floor = self.jumps[level].at_snapshot if level != _REAL_TIME else {}
        while event not in floor and event >= 0:
            self._count(event, end - self.start[event], parts)
            event, end = self._before(event, parts)
        return event, end

    def _count(self, event: int, cycles: int, parts: Cycles) -> None:
        kind = self.kinds[event]
        apart = min(kind.fill_drain_cycles, cycles)
        parts[kind.category] += cycles - apart
        if apart:
            parts[_FILL_DRAIN] += apart

    def _before(self, event: int, parts: Cycles) -> tuple[int, int]:
        """The position before ``event``, on the same level. Of a copy: what ran before all skipped periods."""
        predecessor = self.predecessor[event]
        if predecessor >= -1:
            return predecessor, self.start[event]
        return self._through(-2 - predecessor, self.engine[event], parts)

    def _through(self, number: int, engine: int, parts: Cycles) -> tuple[int, int]:
        """Walk back through all skipped periods of jump ``number``; the position then, in period 0.

        The walk starts at the copy of the command in flight on ``engine``, which has been counted.
        """
        jump = self.jumps[number]
        left = jump.n_periods
        here = [0] * self.n_categories
        seen: dict[int, tuple[int, Cycles]] = {}
        while True:
            if engine in seen:
                left_then, then = seen[engine]
                times = (left - 1) // (left_then - left)
                left -= times * (left_then - left)
                here = [now + times * (now - before) for now, before in zip(here, then, strict=True)]
                seen = {}
            seen[engine] = (left, here)
            crossing = self._crossing(number, engine)
            here = [a + b for a, b in zip(here, crossing.parts, strict=True)]
            engine, end = crossing.engine, crossing.end + jump.cycles
            event = jump.at_match[engine]
            left -= 1
            if left == 0:
                break
            self._count(event, end - self.start[event], here)
        for category, cycles in enumerate(here):
            parts[category] += cycles
        return event, end

    def _crossing(self, number: int, engine: int) -> _Crossing:
        """From the command in flight on ``engine`` at the match (not counted) back to the snapshot."""
        known = self.crossings.get((number, engine))
        if known is None:
            parts = [0] * self.n_categories
            event, end = self._before(self.jumps[number].at_match[engine], parts)
            event, end = self._to_floor(number, event, end, parts)
            known = _Crossing(self.jumps[number].at_snapshot[event], end, parts)
            self.crossings[number, engine] = known
        return known


def _read_jump(row: list[int], n_fixed: int) -> _Jump:
    engines = range((len(row) - n_fixed) // 3)
    takes_part, at_snapshot, at_match = (row[n_fixed + i :: 3] for i in range(3))
    return _Jump(
        n_periods=row[0],
        cycles=row[1],
        at_match=at_match,
        at_snapshot={at_snapshot[e]: e for e in engines if takes_part[e] and at_snapshot[e] >= 0},
    )
