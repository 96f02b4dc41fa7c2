"""Minimum execution time: the least run time, an idle element where there is one."""

from __future__ import annotations

from collections.abc import Callable

from tilewright.sim.soc.board import SCHEDULERS, Board, Ready

__all__ = ["minimum_execution_time", "minimum_execution_time_as_released"]


def minimum_execution_time(ready: list[Ready], board: Board) -> list[Ready]:
    """Of the elements with the least run time the idle ones; of these the one with the fewest tasks of this round."""
    return _assign(ready, board, _idle)


def minimum_execution_time_as_released(ready: list[Ready], board: Board) -> list[Ready]:
    """As DS3's released program does it: for every busy element it drops the one at the place of the first busy one, so
    idle ones are lost too. Only for comparisons with its published figures.
    """
    return _assign(ready, board, _left_over)


def _assign(ready: list[Ready], board: Board, choose: Callable[[list[int], Board], list[int]]) -> list[Ready]:
    n_assigned = [0] * board.soc.n_elements
    for task in ready:
        least = min(ticks for _, ticks in task.candidates)
        quickest = [element for element, ticks in task.candidates if ticks == least]
        among = choose(quickest, board) or quickest
        element = min(among, key=lambda each: (n_assigned[each], each))
        n_assigned[element] += 1
        task.assign(element, least)
    return ready


def _idle(elements: list[int], board: Board) -> list[int]:
    return [element for element in elements if board.free_at[element] <= board.now]


def _left_over(elements: list[int], board: Board) -> list[int]:
    left = list(elements)
    busy = [place for place, element in enumerate(elements) if board.free_at[element] > board.now]
    for _ in busy:
        if busy[0] < len(left):
            left.pop(busy[0])
    return left


SCHEDULERS.register("met", minimum_execution_time, rank=30)
SCHEDULERS.register("met-as-released", minimum_execution_time_as_released, rank=50)
