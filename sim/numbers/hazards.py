"""On-chip storage that refuses misuse: slots in rotation, and the order that waits alone guarantee.

A cycle-exact run shows one timing. A read that no wait protects may still find its operand there, because the
load happened to be early. So three things are checked when a command starts:

* *presence*: the slot that should hold an operand holds it, under its tag, whole, and in the state asked for
  (S before the exponential is not P);
* *room*: what a slot is asked to hold is not more than was reserved for it;
* *order*: the operand's writer is known to have finished through the tokens that this engine has taken, and
  whoever used a slot before is known to have finished before the slot is written again. Each engine keeps a
  vector clock, each token carries the clock of its signaller. What passes is right for every timing, so an operand
  that is there at the start of a command is also there, unchanged, at its finish.

Values appear when the command that makes them finishes; from its start on, what the slot held is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.errors import ProgramError
from tilewright.sim.engine.program import Command, Program

__all__ = ["Execution", "HazardError", "Order", "Place", "Store"]

FloatArray = npt.NDArray[np.float64]


class HazardError(ProgramError):
    """A command of a lowering uses data that is not there, or that nothing makes it wait for."""


class Use(NamedTuple):
    """The ``number``-th command of an engine, as a user of storage."""

    engine: int
    number: int
    label: str


@dataclass(slots=True)
class _Cell:
    """A value, None while it is being written; ``state`` says what it is (``S``, ``P``, …)."""

    state: str
    bits: int | Fraction
    writer: Use
    users: dict[int, Use]
    value: FloatArray | None = None


@dataclass(slots=True)
class _Slot:
    """``users``: the last command of each engine that touched any part of the slot."""

    tag: str | None = None
    cells: dict[int, _Cell] = field(default_factory=dict)
    users: dict[int, Use] = field(default_factory=dict)


class Store:
    """A pool of ``n_slots`` slots, taken in rotation (or as they are given back); a slot holds numbered parts under one
    tag.

    ``slot_bits`` is the room of a slot (None: not limited), ``bits_of`` the width of one value in a state.
    """

    def __init__(
        self,
        name: str,
        n_slots: int,
        *,
        slot_bits: int | None = None,
        bits_of: Callable[[str], int | Fraction] = lambda state: 0,
    ) -> None:
        self.name = name
        self.slots = [_Slot() for _ in range(n_slots)]
        self.slot_bits = slot_bits
        self.bits_of = bits_of
        self.n_taken = 0
        self.free: deque[_Slot] | None = None

    def gives_back(self) -> None:
        """From now on slots are taken not in rotation, but as they were given back (:meth:`Execution.release`)."""
        self.free = deque(self.slots)

    def next_slot(self) -> _Slot:
        if self.free is not None:
            if not self.free:
                raise HazardError(f'pool "{self.name}" has no slot that was given back')
            return self.free.popleft()
        slot = self.slots[self.n_taken % len(self.slots)]
        self.n_taken += 1
        return slot

    def hold(self, tag: str, state: str, value: FloatArray) -> None:
        """Fill the next slot before anything runs."""
        slot, writer = self.next_slot(), Use(0, 0, "before the start")
        slot.tag = tag
        slot.cells = {0: _Cell(state, value.size * self.bits_of(state), writer, {}, value)}

    def find(self, tag: str) -> _Slot | None:
        return next((slot for slot in self.slots if slot.tag == tag), None)


class Place(NamedTuple):
    """Part ``part`` of what ``store`` holds under ``tag``."""

    store: Store
    tag: str
    part: int = 0


class Order:
    """Which commands each engine knows to have finished, by the tokens it has taken (vector clocks)."""

    def __init__(self, program: Program) -> None:
        n_engines = len(program.engines)
        self.known = [[0] * n_engines for _ in range(n_engines)]
        nothing = (0,) * n_engines
        self._tokens = [deque([nothing] * semaphore.initial) for semaphore in program.semaphores]

    def start(self, engine: int, command: Command) -> None:
        """Take the tokens of ``command``: first signalled, first taken."""
        for semaphore in command.waits:
            clock = self._tokens[semaphore].popleft()
            self.known[engine] = [max(pair) for pair in zip(self.known[engine], clock, strict=True)]

    def finish(self, engine: int, command: Command) -> None:
        """Signal the tokens of ``command``, with all that its engine knows."""
        self.known[engine][engine] += 1
        for semaphore in command.signals:
            self._tokens[semaphore].append(tuple(self.known[engine]))


class Execution:
    """One command from its start to its finish: it reads at once, and what it writes appears at the finish.

    ``known``: per engine, how many commands are known to have finished (see :class:`Order`).
    """

    def __init__(self, *, label: str, engine: int, engine_name: str, cycle: int, known: Iterable[int]) -> None:
        self._known = tuple(known)
        self._use = Use(engine, self._known[engine] + 1, label)
        self._who = f'"{label}" on {engine_name} at cycle {cycle:,}'
        self._at_finish: list[Callable[[], None]] = []

    def read(self, place: Place, state: str) -> FloatArray:
        """The value at ``place``; raises HazardError unless it is there, finished and in ``state``."""
        slot = self._slot(place, f"reads {state}")
        cell = slot.cells.get(place.part)
        if cell is None:
            raise self.error(f"reads {state} of {_name(place)}, of which this part has not been written")
        if cell.value is None:
            raise self.error(f'reads {state} of {_name(place)} while "{cell.writer.label}" is still writing it')
        if cell.state != state:
            raise self.error(f"reads {state} of {_name(place)}, which holds {cell.state}")
        self._require_order({cell.writer.engine: cell.writer}, f"reads {state} of {_name(place)}")
        cell.users[self._use.engine] = self._use
        slot.users[self._use.engine] = self._use
        return cell.value

    def write(self, place: Place, state: str, value: FloatArray, *, opens: bool = False) -> None:
        """Write ``value`` to ``place``; with ``opens`` into the store's next slot, whose content is lost now."""
        doing = f"writes {state} of {_name(place)}"
        if opens:
            slot = place.store.next_slot()
            self._require_order(slot.users, f"{doing} over {slot.tag}")
            slot.tag, slot.cells, slot.users = place.tag, {}, {}
        else:
            slot = self._slot(place, f"writes {state}")
            if place.part in slot.cells:
                self._require_order(slot.cells[place.part].users, doing)
        bits = value.size * place.store.bits_of(state)
        cell = _Cell(state, bits, self._use, {self._use.engine: self._use})
        slot.cells[place.part] = cell
        slot.users[self._use.engine] = self._use
        needed, room = sum(cell.bits for cell in slot.cells.values()), place.store.slot_bits
        if room is not None and needed > room:
            raise self.error(f"{doing}, which then needs {needed} bits of a slot of {room} bits")

        def appear() -> None:
            cell.value = value

        self._at_finish.append(appear)

    def store(self, array: FloatArray, at: tuple[int | slice, ...], value: FloatArray) -> None:
        """Put ``value`` into an array in DRAM when the command finishes."""

        def put() -> None:
            array[at] = value

        self._at_finish.append(put)

    def release(self, place: Place) -> None:
        """Give the slot of ``place`` back to its store when the command finishes."""
        slot, store = self._slot(place, "releases"), place.store
        assert store.free is not None
        self._at_finish.append(lambda: store.free.append(slot))  # type: ignore[union-attr]

    def finish(self) -> None:
        """What the command wrote is there from now on."""
        for action in self._at_finish:
            action()

    def error(self, what: str) -> HazardError:
        """The error of this command that ``what`` continues: *"Q K^T" on matrix at cycle 7 reads …*."""
        return HazardError(f"{self._who} {what}")

    def _slot(self, place: Place, doing: str) -> _Slot:
        slot = place.store.find(place.tag)
        if slot is None:
            held = ", ".join(slot.tag for slot in place.store.slots if slot.tag is not None) or "nothing"
            raise self.error(f"{doing} of {_name(place)}, which is not there (the pool holds {held})")
        return slot

    def _require_order(self, users: Mapping[int, Use], doing: str) -> None:
        for use in users.values():
            if self._known[use.engine] < use.number and use.engine != self._use.engine:
                raise self.error(f'{doing}, but no token makes it wait for "{use.label}", which uses it too')


def _name(place: Place) -> str:
    return f'{place.tag} in pool "{place.store.name}"'
