"""Packed programs that are run again and again at other DRAM bandwidths and first-access latencies.

With the DRAM described by bandwidth, these two change nothing in a program but the latency of its transfers and the
integer scale in which the channel is shared; both are plain fields of the packed image. Writing them anew takes a
hundredth of the time of lowering and packing the program.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tilewright.sim.image import AT_CHANNELS, AT_COMMANDS, AT_LISTS, COMMAND_SIZE, N_CHANNELS
from tilewright.sim.program import MAX_WORK_UNITS

__all__ = ["RetimedImages"]

Int64Array = npt.NDArray[np.int64]

_FIRST_SIZE = 1 << 14


class RetimedImages:
    """Images of one-channel programs by number, all at one rate (bytes a cycle) and latency (cycles) at a time.

    ``rate`` and ``latency_cycles`` are those of the programs that will be added.
    """

    def __init__(self, rate: Fraction, latency_cycles: int) -> None:
        self._given = self._now = (rate, latency_cycles)
        self._flat = np.empty(_FIRST_SIZE, dtype=np.int64)
        self._used = 0
        self._spans: dict[int, tuple[int, int]] = {}
        # Places of the fields that change, and what a latency or rate makes of them.
        self._commands: list[Int64Array] = []
        self._channels: list[int] = []
        self._bytes: list[Int64Array] = []  # of a transfer, times the channel's shares
        self._shares: list[int] = []
        self._tables: tuple[Int64Array, Int64Array, Int64Array, Int64Array] | None = None

    @property
    def n_bytes(self) -> int:
        """Memory that the images take."""
        return 2 * self._flat.nbytes

    def __contains__(self, number: int) -> bool:
        return number in self._spans

    def add(self, number: int, image: Int64Array) -> None:
        """Take in the image of a program that was built for the first rate and latency."""
        assert image[N_CHANNELS] == 1
        begin, end = self._used, self._used + len(image)
        if end > len(self._flat):
            self._flat = np.concatenate([self._flat[:begin], np.empty(max(begin, 2 * len(image)), dtype=np.int64)])
        self._flat[begin:end] = image
        self._used = end
        self._spans[number] = begin, end
        commands = image[image[AT_COMMANDS] : image[AT_LISTS]].reshape(-1, COMMAND_SIZE)
        transfers = np.flatnonzero(commands[:, 1] >= 0)
        channel = int(image[AT_CHANNELS])
        shares = int(image[channel]) // self._given[0].numerator
        self._commands.append(begin + int(image[AT_COMMANDS]) + transfers * COMMAND_SIZE)
        self._channels.append(begin + channel)
        self._bytes.append(commands[transfers, 3] * shares)
        self._shares.append(shares)
        self._tables = None

    def set_timing(self, rate: Fraction, latency_cycles: int) -> bool:
        """Let all images run at this rate and latency; False where a transfer would need too large whole numbers."""
        if self._tables is None:
            self._tables = (
                np.concatenate([np.empty(0, np.int64), *self._commands]),
                np.array(self._channels, dtype=np.int64),
                np.concatenate([np.empty(0, np.int64), *self._bytes]),
                np.array(self._shares, dtype=np.int64),
            )
            self._now = (Fraction(0), 0)  # the new ones are at the rate that they were built for
        if self._now == (rate, latency_cycles):
            return True
        commands, channels, n_bytes, shares = self._tables
        most = max(int(n_bytes.max(initial=0)) * rate.denominator, int(shares.max(initial=0)) * rate.numerator)
        if most > MAX_WORK_UNITS:
            return False
        self._flat[commands] = latency_cycles
        self._flat[commands + 2] = n_bytes * rate.denominator
        self._flat[channels] = shares * rate.numerator
        self._now = (rate, latency_cycles)
        return True

    def images(self, numbers: Sequence[int]) -> list[Int64Array]:
        """The images with these numbers, at the rate and latency of now; they change with the next."""
        return [self._flat[begin:end] for begin, end in (self._spans[number] for number in numbers)]
