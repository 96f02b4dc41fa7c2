"""Earliest finish time: each task, in the order in which they became ready, where it is expected to be done first."""

from __future__ import annotations

from tilewright.sim.soc.board import SCHEDULERS, Board, Ready

__all__ = ["earliest_finish"]


def earliest_finish(ready: list[Ready], board: Board) -> list[Ready]:
    """Ties go to the element with the lowest number."""
    for task in ready:
        finish, element, ticks = min(
            (board.expected_finish(task, element, ticks), element, ticks) for element, ticks in task.candidates
        )
        task.assign(element, ticks)
        board.available_at[element] = finish
    return ready


SCHEDULERS.register("eft", earliest_finish, rank=20)
