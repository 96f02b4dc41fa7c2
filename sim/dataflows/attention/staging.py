"""K and V of attention through a level on chip, and over a link to all the cores that need them.

``far`` names the level (1 is the nearest; 0 for none) that holds the whole K and V of a head: they are fetched from the
DRAM tile by tile when the first row block needs them, once for the cores that share the head, and read from there again
by every row block. ``shared=1`` brings each tile to one of these cores, from which it is sent to all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tilewright.hw_models.links import multicasts, of_each_core
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention import parts
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.costs import AttentionCosts
from tilewright.sim.engine.program import Channel, Engine
from tilewright.sim.lowering.core import ENGINE_KINDS, Pool
from tilewright.sim.lowering.evaluation import core_shares
from tilewright.sim.lowering.levels import Level, channels_of, levels_of
from tilewright.sim.lowering.mapping import Parameter, Tiling
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.homes import DRAM

__all__ = ["FAR", "SHARED", "Stage", "StagedCore", "is_distinct", "legal", "n_sharing", "no_staging"]

OPERANDS = ("k", "v")
TILES_ON_THEIR_WAY = 2  # in a mover between the DRAM and a level
FETCH, BRING, SEND = 0, 2, 4  # first of two engines, one for K and one for V, behind a core's own


def n_sharing(layer: AttentionLayer, machine: MachineSpec) -> int:
    """How many cores need the same K and V at the same time: the pieces of a head, where each core has one piece."""
    if layer.whole is None or layer.key_parts > 1:
        return 1
    shares = core_shares(layer, machine)
    return layer.n_groups // layer.whole.n_groups if len(shares) == 1 and shares[0].n_groups == 1 else 1


def level_of(machine: MachineSpec, tiling: Mapping[str, int]) -> Level | None:
    """The level in which ``tiling`` stages; None where it does not."""
    far, levels = tiling.get("far", 0), levels_of(machine)
    return levels[far - 1] if 0 < far <= len(levels) else None


def sends(layer: AttentionLayer, machine: MachineSpec, tiling: Mapping[str, int]) -> bool:
    """Whether ``tiling`` has K and V sent to several cores."""
    return bool(tiling.get("shared", 0)) and multicasts(machine) and n_sharing(layer, machine) > 1


class Stage(NamedTuple):
    """An operand ("K", "V") on its way: the level that holds it (None: none does), for so many heads at a time.

    ``free``: slots for a head there; ``full``: tiles that have come there; ``arrived``: those that are with one core;
    ``mover_free``, ``mover_full``, ``begin``, ``written``: of tiles on their way there, where commands of their own
    write them (as those of :class:`tilewright.sim.dataflows.gemm.lower.Mover`).
    """

    operand: str
    level: str | None
    slots: int
    free: int
    full: int
    arrived: int
    mover_free: int = -1
    mover_full: int = -1
    begin: int = -1
    written: int = -1


class StagedCore(AttentionCore):
    """A core beside which movers bring K and V into a level, to one of the cores, and from there to all."""

    @classmethod
    def engines_for(
        cls, costs: AttentionCosts, tiling: Mapping[str, int], n_cores: int, suffix: str = ""
    ) -> list[Engine]:
        """Four, and the movers; one that serves several cores at once counts once for them."""
        engines, machine = cls.engines(n_cores, suffix), costs.machine
        sharing = n_sharing(costs.layer, machine)
        level = level_of(machine, tiling)
        served = sharing if level is not None and level.is_shared else 1
        n_fetching = max(1, n_cores // served)
        engines += [Engine(f"fetch {name}{suffix}", "load", n_fetching) for name in "KV"]
        fills = [Engine(f"write {name}{suffix}", "load", n_fetching) for name in "KV"]
        if level is None or not costs.fills(level):
            fills = []
        if not sends(costs.layer, machine, tiling):
            return engines + fills
        assert machine.links is not None
        n_sets = max(1, n_cores // sharing)
        engines += [Engine(f"load {name} shared{suffix}", "load", n_sets) for name in "KV"]
        receiving = n_cores if of_each_core(machine.links) else n_sets
        return [*engines, *(Engine(f"send {name}{suffix}", "load", receiving) for name in "KV"), *fills]

    @classmethod
    def channels(cls, costs: AttentionCosts, tiling: Mapping[str, int]) -> tuple[Channel, ...]:
        uses_more = tiling.get("far", 0) or sends(costs.layer, costs.machine, tiling)
        return channels_of(costs.machine) if uses_more else super().channels(costs, tiling)

    def staging(self, tiling: Mapping[str, int]) -> Staging | None:
        level = level_of(self.costs.machine, tiling)
        is_sent = sends(self.layer, self.costs.machine, tiling)
        return Staging(self, level, is_sent=is_sent) if level is not None or is_sent else None

    def comes_again(self, tiling: Mapping[str, int]) -> bool:
        return level_of(self.costs.machine, tiling) is not None

    def move(
        self, engine: int, work: Any, n_cores: int, *, waits: list[int], signals: list[int], label: str, run: Any
    ) -> None:
        """A command of a mover that serves ``n_cores`` at once."""
        if self._count is not None:
            self._count.add_shared(work, n_cores)
        else:
            self._transfer(len(ENGINE_KINDS) + engine, work, waits, signals, label, run)


class Staging:
    """The room of a head's K and V in a level, and the commands that bring a tile from there."""

    def __init__(self, core: StagedCore, level: Level | None, *, is_sent: bool) -> None:
        self.core, self.level, self.is_sent = core, level, is_sent
        layer, costs = core.layer, core.costs
        machine = costs.machine
        self.n_sharing = n_sharing(layer, machine)
        self.n_served = self.n_sharing if level is not None and level.is_shared else 1
        self.is_filled = level is not None and costs.fills(level)
        slots = min(2, ceil_div(layer.n_groups, machine.n_cores))
        self.stages = {operand: self._stage(operand, slots) for operand in OPERANDS}
        if level is not None:
            of_head = costs.key_bytes(layer.key_len * layer.head_dim) + costs.value_bytes(
                layer.key_len * layer.value_dim
            )
            copies = min(machine.n_cores, layer.n_groups) // self.n_sharing if level.is_shared else machine.n_cores
            core.stage(level.name, slots * of_head * copies)

    def _stage(self, operand: str, slots: int) -> Stage:
        core, name = self.core, operand.upper()
        level = None if self.level is None else self.level.name
        free = full = arrived = -1
        if level is not None:
            free = core.semaphore(f"{name} {level} slot free", slots, is_slot=True)
            full = core.semaphore(f"{name} in {level}")
        if self.is_sent:
            arrived = core.semaphore(f"{name} with one core")
        if not self.is_filled:
            return Stage(name, level, slots, free, full, arrived)
        return Stage(
            name, level, slots, free, full, arrived,
            mover_free=core.semaphore(f"mover of {name} free", TILES_ON_THEIR_WAY, is_slot=True),
            mover_full=core.semaphore(f"{name} from the DRAM", 1),
            begin=core.semaphore(f"{name} {level} slot free to write", slots, is_slot=True),
            written=core.semaphore(f"{name} written"),
        )  # fmt: skip

    def _fetch(self, at: int, fetch: Any, stage: Stage, *, begins: bool, run: Any) -> None:
        """Bring a tile from the DRAM into its level."""
        core, label, signals = self.core, f"fetch {stage.operand}", [stage.full]
        waits = [stage.free] if begins else []
        if not self.is_filled:
            core.move(FETCH + at, fetch, self.n_served, waits=waits, signals=signals, label=label, run=run)
            return
        assert stage.level is not None
        core.move(
            FETCH + at, fetch, self.n_served,
            waits=[*waits, stage.mover_free], signals=[*signals, stage.mover_full], label=label, run=run,
        )  # fmt: skip
        core.move(
            (SEND if self.is_sent else FETCH) + 2 + at, core.costs.fill(stage.level, fetch), self.n_served,
            waits=[stage.mover_full, *([stage.begin] if begins else [])], signals=[stage.mover_free, stage.written],
            label=f"write {stage.operand} to {stage.level}", run=None,
        )  # fmt: skip

    def load(self, operand: str, step: Any, pool: Pool, n_elements: int, run: Sequence[Any]) -> None:
        """Bring the tile of ``step`` into ``pool``: from its level, where it is fetched at its first use."""
        core, costs, stage = self.core, self.core.costs, self.stages[operand]
        bits = costs.key_bits if operand == "k" else costs.value_bits
        home = core.layer.homes.k if operand == "k" else core.layer.homes.v
        at, name = OPERANDS.index(operand), stage.operand
        waits, signals = [pool.free], [pool.full]
        if stage.level is not None:
            home = stage.level
            if step.is_new:
                fetch = costs.fetch(stage.level, 1, n_elements, bits)
                self._fetch(at, fetch, stage, begins=step.first, run=(f"fetch_{operand}", stage, *run))
                waits += [stage.full, stage.written] if self.is_filled else [stage.full]
            if step.release and step.last:
                signals += [stage.free, stage.begin] if self.is_filled else [stage.free]
        if not self.is_sent:
            work = costs.load(1, n_elements, bits, home=home)
            core.load(
                work, waits=waits, signals=signals, label=f"load {name}", run=(f"load_{operand}_staged", stage, *run)
            )
            return
        link = costs.machine.links
        assert link is not None
        bring = costs.bring(1, n_elements, bits, home=home)
        core.move(
            BRING + at, bring, self.n_sharing, waits=waits, signals=[stage.arrived],
            label=f"load {name} for {self.n_sharing} cores", run=(f"bring_{operand}", stage, *run),
        )  # fmt: skip
        core.move(
            SEND + at, costs.send(n_elements, bits, self.n_sharing), 1 if of_each_core(link) else self.n_sharing,
            waits=[stage.arrived], signals=signals, label=f"send {name}", run=(f"load_{operand}_sent", stage, *run),
        )  # fmt: skip


def _far(layer: AttentionLayer, machine: MachineSpec) -> tuple[int, ...]:
    if layer.mask == "banded" or (layer.homes.k, layer.homes.v) != (DRAM, DRAM):
        return (0,)
    return tuple(range(len(levels_of(machine)) + 1))


FAR = Parameter(
    name="far",
    meaning="the level behind the working buffer that holds a head's K and V, 1 for the nearest; 0 for none",
    candidates=_far,
    smallest=0,
    largest=lambda layer: 0 if layer.mask == "banded" else 8,
    least=lambda layer, machine: 0,
)

SHARED = Parameter(
    name="shared",
    meaning="1 brings what several cores need once, to one of them, from which it is sent to all",
    candidates=lambda layer, machine: (1, 0) if sends(layer, machine, {"shared": 1}) else (0,),
    smallest=0,
    largest=lambda layer: 1,
)


def legal(layer: AttentionLayer, tiling: Tiling) -> bool:
    """As for any dataflow; what stays in the working buffer is not read again from a level."""
    return parts.legal(layer, tiling) and not (tiling["far"] and tiling["resident"])


def is_distinct(layer: AttentionLayer, tiling: Tiling) -> bool:
    """Whether it stages or sends at all: else it is as without."""
    return bool(tiling["far"] or tiling["shared"])


def no_staging(layer: AttentionLayer, machine: MachineSpec) -> str:
    """Why nothing can be staged on ``machine``; empty where it can."""
    if levels_of(machine) or multicasts(machine):
        return ""
    return (
        "needs a buffer behind the working one with both bandwidths given, or a link with multicast, neither of which "
        f"{machine.name} has"
    )
