"""The tilings of one phase as columns of numbers, for searches on many machines.

What a tiling needs on chip, the list of what it does and its program are recorded once
(:mod:`tilewright.sim.lowering.asked_costs`), so that on each machine a search is arithmetic on columns and the run of
a few
programs that are there already (:mod:`tilewright.search.shared.phase_work`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import numpy as np
import numpy.typing as npt

from tilewright.errors import MappingError
from tilewright.search.paces import least_cycles
from tilewright.sim.engine.alone import Layout, layout_of
from tilewright.sim.engine.run import run_images
from tilewright.sim.lowering.asked_costs import Answers, AskedCosts, WorkRecorder
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.lowering.evaluation import CoreShare, build_phase, core_shares, needed_bytes, phase_tiling
from tilewright.sim.lowering.mapping import Phase, Tiling
from tilewright.sim.lowering.pace import split
from tilewright.sim.lowering.retiming import RetimedImages

__all__ = ["PhaseTable", "Setting"]

Int64Array = npt.NDArray[np.int64]

_MOST_SETTINGS = 512
_UNKNOWN = -1
_NEVER = 2**62  # bytes: a tiling that no buffer holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What decides the cycles of a program: ``units`` (equal where all but the DRAM's speed is), bytes a cycle, and
    cycles to the first byte of every transfer, None where the answers of the costs say that.
    """

    units: Hashable
    rate: Fraction
    latency_cycles: int | None


class PhaseTable:
    """The ``tilings`` of ``phase``, recorded as they are needed with the costs that ``asked`` stands for."""

    def __init__(self, phase: Phase, asked: AskedCosts, tilings: Sequence[dict[str, int]]) -> None:
        self.phase = phase
        self.tilings = tilings
        self._costs = cast(TileCosts, asked)
        self._numbers = {tuple(tiling.values()): number for number, tiling in enumerate(tilings)}
        self.shares: tuple[CoreShare, ...] = core_shares(asked.layer, asked.machine)
        self.needs = np.array([self._need(tiling) for tiling in tilings], dtype=np.int64)
        names = [parameter.name for parameter in phase.parameters if parameter.changes_work]
        numbers: dict[tuple[int, ...], int] = {}
        kinds = [numbers.setdefault(tuple(tiling[name] for name in names), len(numbers)) for tiling in tilings]
        self._kind = np.array(kinds, dtype=np.int64)  # tilings of one kind do the same work
        self._record = np.full(len(numbers), _UNKNOWN, dtype=np.int64)  # where that is noted
        self.entries: list[Int64Array] = []  # by record and share: rows as a WorkRecorder notes them
        self._images = RetimedImages()
        self._costs_set: tuple[Setting, int] | None = None
        self._cycles: OrderedDict[Setting, Int64Array] = OrderedDict()
        self._layouts: dict[int, Layout] = {}
        self._least: OrderedDict[Setting, Int64Array] = OrderedDict()  # at any pace

    @property
    def memory_bytes(self) -> int:
        """About how much memory the table takes."""
        noted = 2000 * len(self.entries)
        return (
            600 * len(self.tilings)
            + noted
            + self._images.memory_bytes
            + (len(self._cycles) + len(self._least)) * self.needs.nbytes
        )

    def number_of(self, tiling: Tiling) -> int:
        """The number of the tiling whose part for this phase is that of ``tiling``."""
        own, _ = split(self.phase.name, phase_tiling(self.phase, tiling))
        return self._numbers[tuple(own.values())]

    @property
    def n_records(self) -> int:
        """How many kinds of work are noted."""
        return len(self.entries) // len(self.shares)

    def fitting(self, capacity_bytes: int) -> Int64Array:
        """The numbers of the tilings that a working buffer of this size holds, in the order of the space."""
        return np.flatnonzero(self.needs <= capacity_bytes)

    def smallest(self) -> dict[str, int]:
        """The tiling that needs the least room."""
        return self.tilings[int(self.needs.argmin())]

    def records(self, numbers: Int64Array) -> Int64Array:
        """Where the work of these tilings is noted; what is not yet is noted now."""
        kinds = self._kind[numbers]
        records: Int64Array = self._record[kinds]
        if (records == _UNKNOWN).any():
            for number, kind in zip(numbers.tolist(), kinds.tolist(), strict=True):
                if self._record[kind] == _UNKNOWN:
                    noted = self._noted(self.tilings[number])
                    self._record[kind] = self.n_records
                    self.entries += noted
            records = self._record[kinds]
        return records

    def prepare(self, numbers: Int64Array, setting: Setting) -> list[int]:
        """See to it that the programs of those tilings whose cycles are unknown are there; which they are."""
        new: list[int] = numbers[self._known(setting)[numbers] == _UNKNOWN].tolist()
        for number in new:
            if number not in self._images:
                self._images.add(number, build_phase(self.phase, self._costs, self.tilings[number]))
                self._costs_set = None
        return new

    def run(self, numbers: Sequence[int], setting: Setting, answers: Answers) -> None:
        """Find the exact cycles of these tilings, whose programs are there."""
        self._set_costs(setting, answers)
        cycles = run_images(self._images.images(numbers), n_threads=1)
        if (cycles < 0).any():
            raise AssertionError(
                f"{self.phase.name} deadlocks with tiling {self.tilings[numbers[int(cycles.argmin())]]}"
            )
        self._known(setting)[numbers] = cycles

    def least_cycles(self, numbers: Int64Array, setting: Setting, answers: Answers) -> Int64Array:
        """Cycles that none of these tilings, which were run, undercuts at any pace of its ports."""
        known = self._of_setting(self._least, setting)
        new: list[int] = numbers[known[numbers] == _UNKNOWN].tolist()
        if new:
            self._set_costs(setting, answers)
            images = self._images.images(new)
            for number, image in zip(new, images, strict=True):
                if number not in self._layouts:
                    self._layouts[number] = layout_of(image)
            layouts = [self._layouts[number] for number in new]
            known[new] = least_cycles(images, layouts=layouts, n_threads=1)
        least: Int64Array = known[numbers]
        return least

    def _set_costs(self, setting: Setting, answers: Answers) -> None:
        if self._costs_set != (setting, len(answers.works)):
            self._costs_set = None
            self._images.set_costs(answers.cycles, answers.n_bytes, setting.rate, setting.latency_cycles)
            self._costs_set = setting, len(answers.works)

    def cycles(self, numbers: Int64Array, setting: Setting) -> Int64Array:
        """The exact cycles of tilings that were run."""
        cycles: Int64Array = self._known(setting)[numbers]
        return cycles

    def _known(self, setting: Setting) -> Int64Array:
        return self._of_setting(self._cycles, setting)

    def _of_setting(self, of_all: OrderedDict[Setting, Int64Array], setting: Setting) -> Int64Array:
        known = of_all.get(setting)
        if known is None:
            while len(of_all) >= _MOST_SETTINGS:
                of_all.popitem(last=False)
            known = of_all[setting] = np.full(len(self.tilings), _UNKNOWN, dtype=np.int64)
        else:
            of_all.move_to_end(setting)
        return known

    def _need(self, tiling: dict[str, int]) -> int:
        try:
            return needed_bytes(self.phase, self._costs, tiling)
        except MappingError:
            return _NEVER

    def _noted(self, tiling: dict[str, int]) -> list[Int64Array]:
        """What the tiling does, for each share of the cores."""
        noted = []
        for share in self.shares:
            recorder = WorkRecorder()
            core = self.phase.core(self._costs, n_groups=share.n_groups, builder=recorder)
            core.share = share.share
            self.phase.lower(core, tiling)
            noted.append(np.array(recorder.noted, dtype=np.int64).reshape(-1, 3))
        return noted
