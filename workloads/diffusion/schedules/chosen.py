"""Schedules whose steps a dynamic program chooses from similarities: block-wise adaptive caching, CacheQuant."""

from __future__ import annotations

import numpy as np

from tilewright.errors import InputError
from tilewright.workloads.diffusion.kind import Asked, ScheduleKind, register_schedule
from tilewright.workloads.diffusion.schedules.u_nets import deep_cells, is_u_net
from tilewright.workloads.diffusion.similarity import Similarities, load_similarities
from tilewright.workloads.diffusion.step import Cell, Step, cells
from tilewright.workloads.diffusion.updates import best_updates, grouped, joined


def _table(asked: Asked) -> Similarities:
    table = load_similarities(asked.given("similarity"), asked.n_steps)
    if table.n_steps != asked.n_steps:
        raise InputError(
            f"{asked.text}: similarity: is of {table.n_steps} steps; allowed {asked.n_steps}, as the run has"
        )
    return table


def _adaptive(asked: Asked) -> list[Step]:
    if not asked.given("similarity"):
        raise InputError(
            f"{asked.text}: similarity: missing; allowed similarity=FILE (docs/diffusion.md says what is in it)"
        )
    table = _table(asked)
    n = asked.count("updates", least=1, most=asked.n_steps, what="steps")
    own = table.cells(asked.network)
    steps: dict[Cell, set[int]] = {
        cell: set(best_updates(unit.gains()[0])[n][1]) for unit, cell in zip(table.units, own, strict=True)
    }
    if asked.count("join", most=1):
        steps = joined(steps, asked.network.names)
    return [
        Step(cached=frozenset(cell for cell, computed in steps.items() if at not in computed))
        for at in range(asked.n_steps)
    ]


def _grouped(asked: Asked) -> list[Step]:
    length = asked.count("N", least=1)
    names = asked.network.names
    if is_u_net(asked.network):
        kept = Step(cached=deep_cells(asked))
    else:
        n_kept = asked.count("blocks", most=len(names), what="blocks") or len(names) // 2
        kept = Step(cached=cells(names[len(names) - n_kept :]), how="residual")
    if asked.given("similarity"):
        gains = np.sum([unit.gains()[0] for unit in _table(asked).units], axis=0)
        _, steps = grouped(gains, length)
    else:
        steps = tuple(range(0, asked.n_steps, length))
    return [Step() if at in steps else kept for at in range(asked.n_steps)]


register_schedule(
    ScheduleKind(
        name="bac",
        summary="each unit of a table of similarities computed `updates` times, at the best steps; blocks before "
        "others join theirs (join=0: not)",
        source="arXiv 2506.13456",
        options={"updates": 10, "similarity": "", "join": 1},
        make=_adaptive,
    ),
    rank=10,
)
register_schedule(
    ScheduleKind(
        name="cachequant",
        summary="groups of N steps (with a table of similarities: the best, of N/2 to 2N), each with one full step; "
        "the others keep a U-Net's deep part, or half of a transformer's blocks",
        source="arXiv 2503.01323",
        options={"N": 5, "similarity": "", "branch": 0, "blocks": 0},
        make=_grouped,
    ),
    rank=11,
)
