"""Who evaluates which kind of run: from its description and a machine to its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from tilewright.registry import Registry
from tilewright.search.runs.simulator import RunSimulator
from tilewright.sim.runs.result import RunResult
from tilewright.workloads.runs.kind import RUN_KINDS, RunDescription

__all__ = ["RUN_EVALUATORS", "Evaluator", "evaluate_run", "register_evaluator"]

#: From a description of its kind and a machine to the result; raises InputError for what cannot be run there.
Evaluator: TypeAlias = Callable[[Any, RunSimulator], RunResult]

RUN_EVALUATORS: Registry[Evaluator] = Registry("evaluator of a kind of run", rooms=("tilewright.search.runs.kinds",))


def register_evaluator(kind: str, evaluator: Evaluator) -> Evaluator:
    """Runs of ``kind`` are evaluated by ``evaluator``. Raises InputError for a kind that is not known, or has one."""
    RUN_KINDS.get(kind)
    return RUN_EVALUATORS.register(kind, evaluator)


def evaluate_run(run: RunDescription, simulator: RunSimulator) -> RunResult:
    """``run`` on the simulator's machine; raises InputError for what cannot be run there."""
    return RUN_EVALUATORS.get(run.run)(run, simulator)
