"""Lowerings recorded with what they ask of the costs, so that they need not run again on another machine.

What a lowering writes depends on the machine only through the costs that it is given: the :class:`Work` of each
tile, which it hands on as it is, and some plain figures (bits, bytes, whether the array does softmax). The works are
recorded as *questions*, to be answered by the costs of any other machine; the figures as *facts*, which must be the
same there for the recording to hold. The DRAM's bandwidth is no fact: a lowering may not look at it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, NamedTuple

import numpy as np

from tilewright.sim.engine.program import MAX_CYCLES, too_long
from tilewright.sim.lowering.core import WorkCounter
from tilewright.sim.lowering.costs import TileCosts, Work
from tilewright.sim.lowering.levels import DRAM_CHANNEL

__all__ = ["Answers", "AskedCosts", "AskedWork", "UnaskedWorkError", "WorkRecorder", "number_of"]


class UnaskedWorkError(TypeError):
    """A lowering made a work of its own."""


class AskedWork(Work):
    """The answer to the question with this ``number``."""

    number: int


class _Question(NamedTuple):
    name: str
    arguments: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]

    def ask(self, costs: TileCosts) -> Any:
        return getattr(costs, self.name)(*self.arguments, **dict(self.options))


class _Reading(NamedTuple):
    path: tuple[str, ...]

    def ask(self, costs: TileCosts) -> Any:
        value: Any = costs
        for name in self.path:
            value = getattr(value, name)
        return value


class AskedCosts:
    """The ``costs`` of one machine as a lowering sees them, with a record of ``questions`` and ``facts``."""

    def __init__(self, costs: TileCosts) -> None:
        self.layer = costs.layer
        self.rate = costs.rate
        self.costs = costs
        self.questions: list[_Question] = []
        self.works: list[Work] = []  # the answers to the questions
        self.facts: list[tuple[_Question | _Reading, Any]] = []

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.costs, name)
        if callable(value):
            answer: Any = self._asking(name)
        elif is_dataclass(value):
            answer = _Watched(value, (name,), self._note)
        else:
            self._note((name,), value)
            answer = value
        setattr(self, name, answer)  # the next time it is found at once
        return answer

    def _note(self, path: tuple[str, ...], value: Any) -> None:
        self.facts.append((_Reading(path), value))

    def _asking(self, name: str) -> Callable[..., Any]:
        """The method ``name`` of the costs, with each different call noted once."""
        known: dict[Any, Any] = {}
        with_options = object()

        def ask(*arguments: Any, **options: Any) -> Any:
            key = (with_options, arguments, *options.items()) if options else arguments
            try:
                return known[key]
            except TypeError:  # there is a list among the arguments
                return ask(*map(_fixed, arguments), **{option: _fixed(value) for option, value in options.items()})
            except KeyError:
                answer = known[key] = self._answer(_Question(name, arguments, tuple(options.items())))
                return answer

        return ask

    def _answer(self, question: _Question) -> Any:
        answer = question.ask(self.costs)
        if isinstance(answer, Work):
            asked = AskedWork(*answer)
            asked.number = len(self.questions)
            self.questions.append(question)
            self.works.append(answer)
            return asked
        self.facts.append((question, answer))
        return answer


class _Watched:
    """A part of the machine of which every figure that is read becomes a fact."""

    def __init__(self, value: Any, path: tuple[str, ...], note: Callable[[tuple[str, ...], Any], None]) -> None:
        self._value = value
        self._path = path
        self._note = note

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._value, name)
        path = (*self._path, name)
        answer: Any = value
        if callable(value):
            self._note(self._path, self._value)  # it may look at anything
        elif is_dataclass(value):
            answer = _Watched(value, path, self._note)
        else:
            self._note(path, value)
        setattr(self, name, answer)
        return answer


def _fixed(value: Any) -> Any:
    """``value`` with lists as tuples, so that it can be looked up."""
    if isinstance(value, list | tuple):
        return tuple(map(_fixed, value))
    if value.__hash__ is None:
        raise UnaskedWorkError(f"the costs cannot be asked about a {type(value).__name__}")
    return value


def number_of(work: Work) -> int:
    """The question that ``work`` answers. Raises UnaskedWorkError for a work that came from nowhere."""
    try:
        return work.number  # type: ignore[attr-defined,no-any-return]
    except AttributeError:
        raise UnaskedWorkError("a lowering must hand on the works of the costs as they are") from None


class Answers:
    """What the ``costs`` of one machine answer to the questions of a record, as columns that grow with it.

    ``costs``: None for those of the machine on which the record is made. ``works``: the answers; ``cycles``,
    ``n_bytes``, ``energy_pj``: their figures.
    """

    def __init__(self, asked: AskedCosts, costs: TileCosts | None) -> None:
        self.works: list[Work] = []
        self.cycles = self.n_bytes = np.empty(0, dtype=np.int64)
        self.energy_pj = np.empty(0, dtype=np.float64)
        self._asked = asked
        self._costs = costs
        self._n_facts = 0

    def update(self) -> bool:
        """Answer what has been asked since; False when a fact is not so on this machine."""
        asked, costs, n = self._asked, self._costs, len(self.works)
        new = asked.works[n:]
        if costs is not None:
            if any(question.ask(costs) != value for question, value in asked.facts[self._n_facts :]):
                return False
            self._n_facts = len(asked.facts)
            new = [question.ask(costs) for question in asked.questions[n:]]
        if new:
            if max(work.cycles for work in new) > MAX_CYCLES:
                raise too_long("one command")
            self.works += new
            self.cycles = np.append(self.cycles, np.array([work.cycles for work in new], dtype=np.int64))
            self.n_bytes = np.append(self.n_bytes, np.array([work.n_bytes for work in new], dtype=np.int64))
            self.energy_pj = np.append(self.energy_pj, np.array([work.energy_pj for work in new], dtype=np.float64))
        return True


class WorkRecorder(WorkCounter):
    """A counter that notes what is to be added up.

    ``noted``: three numbers for each kind of command in turn: the kind of its engine, how many times it runs, and the
    question that its work answers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.noted = array("q")

    def add(self, engine: int, work: Work) -> None:
        if work.channel != DRAM_CHANNEL:
            raise UnaskedWorkError("a record knows the DRAM's channel alone")
        self.noted.extend((engine, self._times, number_of(work)))

    def add_shared(self, work: Work, n_cores: int) -> None:
        raise UnaskedWorkError("a record knows each core's own transfers alone")
