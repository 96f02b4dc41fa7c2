"""OR-Tools' CP-SAT as the searches of this house use it: one worker, repeatable, and Ctrl-C ends it at once.

The solver's own handler of SIGINT would end a search gracefully and then leave Python's behind: the next Ctrl-C would
kill the process without a word. So it is off, and the solver runs in a thread that the caller waits for.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpModel, CpSolver

__all__ = ["has_answer", "new_solver"]


def new_solver(
    *,
    seed: int = 0,
    is_linear: bool = False,
    seconds: float | None = None,
    deterministic_seconds: float | None = None,
    relative_gap: float = 0.0,
) -> CpSolver:
    """A solver for :func:`has_answer`. ``is_linear``: the model is nearly a linear program, whose relaxation then
    bounds it. ``seconds`` of the clock, or, where the answer must be the same every time, the solver's own
    ``deterministic_seconds``; None: no limit. ``relative_gap``: of answer and bound, at which it ends;
    to simplify the model first is then not worth its time.
    """
    from ortools.sat.python import cp_model

    solver: CpSolver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.catch_sigint_signal = False
    solver.parameters.random_seed = seed % 2**31
    if is_linear:
        solver.parameters.linearization_level = 2
    if seconds is not None:
        solver.parameters.max_time_in_seconds = seconds
    if relative_gap > 0:
        solver.parameters.relative_gap_limit = relative_gap
        solver.parameters.cp_model_presolve = False
    if deterministic_seconds is not None:
        solver.parameters.max_deterministic_time = deterministic_seconds
    return solver


def has_answer(solver: CpSolver, model: CpModel) -> bool:
    """Solve ``model``; whether there is an answer, the best one or the best so far. Ctrl-C is raised at once."""
    from ortools.sat.python import cp_model

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(solver.solve, model)
        try:
            status = running.result()
        except KeyboardInterrupt:
            solver.stop_search()
            raise
    return status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
