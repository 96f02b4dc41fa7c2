"""HEFT at run time: ready tasks by falling upward rank, each where it is expected to be done first."""

from __future__ import annotations

from tilewright.sim.soc.board import SCHEDULERS, Board, Ready
from tilewright.sim.soc.heft import upward_ranks
from tilewright.sim.soc.schedulers.eft import earliest_finish

__all__ = ["highest_rank_first"]


def highest_rank_first(ready: list[Ready], board: Board) -> list[Ready]:
    """Ranks are of each task's own job (``heft.py``); ties stay in the order in which tasks became ready."""
    for task in ready:
        graph = board.jobs[task.job].graph
        if graph.name not in board.ranks:
            board.ranks[graph.name] = upward_ranks(graph, board.soc)
    ranked = sorted(ready, key=lambda task: -board.ranks[board.jobs[task.job].graph.name][task.task])
    return earliest_finish(ranked, board)


SCHEDULERS.register("heft-rt", highest_rank_first, rank=25)
