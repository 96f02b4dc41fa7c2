"""Earliest task first: again and again the pair of task and element that is expected to be done first."""

from __future__ import annotations

from tilewright.sim.soc.board import SCHEDULERS, Board, Ready

__all__ = ["earliest_task_first"]


def earliest_task_first(ready: list[Ready], board: Board) -> list[Ready]:
    """Ties go to the task that became ready first, then to the lowest element. Each task that is taken changes places
    with the first one in the list that is not.
    """
    waits = list(ready)
    best = {id(task): _best(task, board) for task in waits}
    left = list(ready)
    for place in range(len(waits)):
        task = min(left, key=lambda each: best[id(each)][0])
        finish, element, ticks = best[id(task)]
        task.assign(element, ticks)
        board.available_at[element] = finish
        left.remove(task)
        for other in left:  # only this element has become later
            if best[id(other)][1] == element:
                best[id(other)] = _best(other, board)
        at = waits.index(task, place)
        waits[place], waits[at] = waits[at], waits[place]
    return waits


def _best(task: Ready, board: Board) -> tuple[int, int, int]:
    return min((board.expected_finish(task, element, ticks), element, ticks) for element, ticks in task.candidates)


SCHEDULERS.register("etf", earliest_task_first, rank=10, usual=True)
