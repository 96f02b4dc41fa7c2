"""What a program takes at least, however its transfers are slowed down: a run in which none shares a channel.

A program without shared channels is a timed event graph: engines run their queues in order and wait for tokens, so a
command that ends earlier makes no other end later. Transfers that share a channel, or are slowed down, only end later
than with the channel to themselves; so such a run bounds all others from below. Where several engines take tokens of
one semaphore, an earlier one may take another's: there that semaphore is not waited for at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.sim.engine.image import (
    AT_CHANNELS,
    AT_COMMANDS,
    AT_ENGINES,
    AT_INSTRUCTIONS,
    AT_LISTS,
    AT_SEMAPHORES,
    COMMAND_SIZE,
    INSTRUCTION_SIZE,
    OP_COMMAND,
)
from tilewright.sim.engine.program import MAX_CYCLES

__all__ = ["Alone", "Layout", "layout_of"]

Int64Array = npt.NDArray[np.int64]

_PLENTY = 2**50  # tokens of a semaphore that nobody waits for
_CYCLES, _CHANNEL, _WORK, _WAITS, _N_WAITS = 0, 1, 2, 4, 5  # fields of a command


class Layout(NamedTuple):
    """What images of one program have in common, whatever their commands cost: which commands are transfers, the engine
    of each and its weight, and the places of semaphores whose tokens several engines take.
    """

    moves: Int64Array
    engines: Int64Array
    weights: Int64Array
    contended: Int64Array


MOST_LAYOUTS = 3_000
_layouts: dict[bytes, Layout] = {}


def layout_of(image: Int64Array) -> Layout:
    """That of the program of ``image``; remembered, for many programs differ in trips and costs alone."""
    commands = _commands_of(image)
    instructions = image[image[AT_INSTRUCTIONS] : image[AT_COMMANDS]].reshape(-1, INSTRUCTION_SIZE)
    parts = (
        image[: image[AT_CHANNELS]],
        instructions[:, 0],
        commands[:, _CHANNEL] >= 0,
        commands[:, _WAITS : _N_WAITS + 1],
        image[image[AT_LISTS] :],
    )
    key = b"".join(part.tobytes() for part in parts)
    known = _layouts.get(key)
    if known is None:
        if len(_layouts) >= MOST_LAYOUTS:
            _layouts.clear()
        known = _layouts[key] = _layout(image, commands, instructions)
    return known


def _layout(image: Int64Array, commands: Int64Array, instructions: Int64Array) -> Layout:
    engines = image[image[AT_ENGINES] : image[AT_CHANNELS]].reshape(-1, 2)
    places = np.flatnonzero(instructions[:, 0] == OP_COMMAND)
    of_engine = np.searchsorted(engines[:, 0], places, side="right") - 1
    moves = np.flatnonzero(commands[:, _CHANNEL] >= 0)
    own = of_engine[moves]
    return Layout(moves, own, engines[own, 1], _contended(image, commands, of_engine))


class Alone:
    """The program of an ``image`` with a channel for each engine, all of which it has for itself."""

    def __init__(self, image: Int64Array, layout: Layout | None = None) -> None:
        self._layout = layout_of(image) if layout is None else layout
        self._image = image.copy()
        commands, moves = _commands_of(self._image), self._layout.moves
        self._channels = commands[moves, _CHANNEL]
        self._latency = commands[moves, _CYCLES]
        self._shares = image[image[AT_CHANNELS] + self._channels] // self._layout.weights
        self._work = commands[moves, _WORK]
        commands[moves, _CHANNEL] = -1
        commands[moves, _CYCLES] += -(-self._work // self._shares)
        self._image[self._layout.contended] = _PLENTY

    @property
    def image(self) -> Int64Array:
        """With all channels at full rate."""
        return self._image

    def like(self, image: Int64Array) -> Alone:
        """The same of an ``image`` that differs in what commands take that are no transfers."""
        found = copy(self)
        found._image = image.copy()
        moves, own = self._layout.moves, _commands_of(self._image)
        _commands_of(found._image)[moves] = own[moves]
        found._image[self._layout.contended] = _PLENTY
        return found

    @cached_property
    def users(self) -> dict[int, tuple[int, ...]]:
        """The channels of its transfers, with the weights of the engines that use each."""
        _, engines, weights, _ = self._layout
        found = {}
        for at in set(self._channels.tolist()):
            _, first = np.unique(engines[self._channels == at], return_index=True)
            found[at] = tuple(weights[self._channels == at][first].tolist())
        return found

    def slowed(self, slower: Mapping[int, Fraction]) -> Int64Array:
        """The image with channels slowed down (2: half the rate). Its run ends no later than any run of the program in
        which these channels, and any others, are slowed down by that much or more.
        """
        found, commands = self._image.copy(), self._layout.moves
        for channel, by in slower.items():
            own = np.flatnonzero(self._channels == channel)
            pairs = zip(self._work[own].tolist(), self._shares[own].tolist(), strict=True)
            cycles = [min(MAX_CYCLES, -(-n * by.numerator // (share * by.denominator))) for n, share in pairs]
            _commands_of(found)[commands[own], _CYCLES] = self._latency[own] + np.array(cycles, dtype=np.int64)
        return found


def _commands_of(image: Int64Array) -> Int64Array:
    return image[image[AT_COMMANDS] : image[AT_LISTS]].reshape(-1, COMMAND_SIZE)


def _contended(image: Int64Array, commands: Int64Array, of_engine: Int64Array) -> Int64Array:
    """The places of semaphores whose tokens several engines take."""
    lists, semaphores = int(image[AT_LISTS]), int(image[AT_SEMAPHORES])
    taker: dict[int, int] = {}
    found: set[int] = set()
    waits = zip(commands[:, _WAITS].tolist(), commands[:, _N_WAITS].tolist(), of_engine.tolist(), strict=True)
    for first, n, engine in waits:
        for semaphore in image[lists + first : lists + first + n].tolist():
            if taker.setdefault(semaphore, engine) != engine:
                found.add(semaphores + semaphore)
    return np.array(sorted(found), dtype=np.int64)
