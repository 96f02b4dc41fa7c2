"""Packed programs that are run again and again with other costs.

A program that was recorded (:mod:`tilewright.sim.lowering.asked_costs`) is the same on another machine but for the
figures of
its commands and the integer scale in which the channel is shared: plain fields of the packed image. Writing them anew
takes a hundredth of the time of lowering and packing the program.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tilewright.sim.engine.image import AT_CHANNELS, AT_COMMANDS, AT_LISTS, COMMAND_SIZE, N_CHANNELS, pack
from tilewright.sim.engine.program import Program, channel_units, exact_shares
from tilewright.sim.lowering.asked_costs import number_of

__all__ = ["RetimedImages"]

Int64Array = npt.NDArray[np.int64]

_FIRST_SIZE = 1 << 14
_CYCLES, _CHANNEL, _WORK, _BYTES = 0, 1, 2, 3  # fields of a command


class RetimedImages:
    """Images of one-channel programs by number, all with the costs of one machine at a time."""

    def __init__(self) -> None:
        self._flat = np.empty(_FIRST_SIZE, dtype=np.int64)
        self._used = 0
        self._spans: dict[int, tuple[int, int]] = {}
        # One row a command: place, question. One row a transfer: place, question, image. By image: place of its
        # channel, weights of the engines that use it.
        self._commands: list[Int64Array] = []
        self._transfers: list[Int64Array] = []
        self._channels: list[int] = []
        self._weights: list[tuple[int, ...]] = []
        self._tables: tuple[Int64Array, Int64Array, Int64Array] | None = None

    @property
    def memory_bytes(self) -> int:
        """About how much memory the images take."""
        return 2 * self._flat.nbytes

    def __contains__(self, number: int) -> bool:
        return number in self._spans

    def add(self, number: int, program: Program) -> None:
        """Take in a recorded program; the costs must then be set anew."""
        image, texts = pack(program)
        assert image[N_CHANNELS] == 1
        begin, end = self._used, self._used + len(image)
        if end > len(self._flat):
            self._flat = np.concatenate([self._flat[:begin], np.empty(max(begin, 2 * len(image)), dtype=np.int64)])
        self._flat[begin:end] = image
        self._used = end
        self._spans[number] = begin, end
        fields = image[image[AT_COMMANDS] : image[AT_LISTS]].reshape(-1, COMMAND_SIZE)
        places = begin + int(image[AT_COMMANDS]) + COMMAND_SIZE * np.arange(len(fields))
        commands = np.column_stack([places, np.array([number_of(text.cost) for text in texts], dtype=np.int64)])
        transfers = commands[fields[:, _CHANNEL] >= 0]
        self._commands.append(commands)
        self._transfers.append(np.column_stack([transfers, np.full(len(transfers), len(self._channels))]))
        self._channels.append(begin + int(image[AT_CHANNELS]))
        self._weights.append(program.channel_weights(0))
        self._tables = None

    def set_costs(self, cycles: Int64Array, n_bytes: Int64Array, rate: Fraction, latency_cycles: int | None) -> None:
        """Give every command the cycles and bytes that answer its question, and the channel this rate.

        ``latency_cycles`` stands for the cycles of every transfer, if given. Raises InputError as
        :func:`tilewright.sim.engine.program.channel_units`.
        """
        if self._tables is None:
            self._tables = (
                np.concatenate(self._commands),
                np.concatenate(self._transfers),
                np.array(self._channels, dtype=np.int64),
            )
        commands, transfers, channels = self._tables
        work, image_of = n_bytes[transfers[:, 1]], transfers[:, 2]
        most = np.ones(len(channels), dtype=np.int64)
        np.maximum.at(most, image_of, work)
        units = self._units(most, rate)
        flat, places = self._flat, transfers[:, 0]
        flat[commands[:, 0] + _CYCLES] = cycles[commands[:, 1]]
        if latency_cycles is not None:
            flat[places + _CYCLES] = latency_cycles
        flat[places + _BYTES] = work
        flat[places + _WORK] = work * units[image_of, 0]
        flat[channels] = units[:, 1]

    def _units(self, most_bytes: Int64Array, rate: Fraction) -> Int64Array:
        """Units of a byte and of a cycle of the channel of each image."""
        known: dict[tuple[tuple[int, ...], int], tuple[int, int]] = {}
        rows = []
        for key in zip(self._weights, most_bytes.tolist(), strict=True):
            if key not in known:
                weights, most = key
                known[key] = channel_units(rate, exact_shares(weights), sum(weights), most)
            rows.append(known[key])
        return np.array(rows, dtype=np.int64).reshape(-1, 2)

    def images(self, numbers: Sequence[int]) -> list[Int64Array]:
        """The images with these numbers and the costs of now; they change with the next."""
        return [self._flat[begin:end] for begin, end in (self._spans[number] for number in numbers)]
