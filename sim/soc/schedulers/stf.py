"""Shortest time first: the first element with the least run time, whether it is free or not."""

from __future__ import annotations

from tilewright.sim.soc.board import SCHEDULERS, Board, Ready

__all__ = ["shortest_time"]


def shortest_time(ready: list[Ready], board: Board) -> list[Ready]:
    """Nothing is balanced: equal elements beside the first one stay idle."""
    for task in ready:
        element, ticks = min(task.candidates, key=lambda each: each[1])
        task.assign(element, ticks)
    return ready


SCHEDULERS.register("stf", shortest_time, rank=40)
