"""Runs over time: the question as a function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.progress import Progress
from tilewright.search.gpu.kernel_options import kernel_options
from tilewright.search.mapping_cache import ForgetfulCache, MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS
from tilewright.search.objective import check_objective
from tilewright.search.runs.evaluator import evaluate_run
from tilewright.search.runs.simulator import RunSimulator
from tilewright.sim.runs.result import RunResult
from tilewright.workloads.runs.kind import RunDescription
from tilewright.workloads.runs.load import load_run

__all__ = ["simulate_run", "with_formats"]


def simulate_run(
    run: str | Path | RunDescription,
    machine: str | MachineSpec,
    objective: str = "latency",
    *,
    weights: str | None = None,
    activations: str | None = None,
    kv_cache: str | None = None,
    prefetch: bool = True,
    fuse: bool = True,
    residency: bool | None = None,
    attention_dataflows: Sequence[str] = ATTENTION_DATAFLOWS,
    keep_mappings: bool = True,
    kernels: str | None = None,
    launch: str | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """A run over time: prompts and tokens of a decoder, steps of a diffusion model.

    ``run``: a YAML file, a network's name with the options of a run (``llama-3.2-1b:prompt=512,generate=16``), or a
    description. The other parameters are those of :func:`tilewright.search.api.simulate_network`; formats that are
    given take the place of the run's own. Raises InputError for what is wrong in the file, and for what the machine
    cannot hold or run.
    """
    spec = load_machine(machine) if isinstance(machine, str) else machine
    described = load_run(run) if isinstance(run, str | Path) else run
    described = with_formats(described, weights=weights, activations=activations, kv_cache=kv_cache)
    simulator = RunSimulator(
        machine=spec,
        kernels=kernel_options(spec, kernels, launch),
        objective=check_objective(objective),
        prefetch=prefetch,
        fuse=fuse,
        residency=residency,
        attention_dataflows=attention_dataflows,
        cache=MappingCache() if keep_mappings else ForgetfulCache(),
        progress=progress,
        keep_formats=tuple(name for name in (weights, activations, kv_cache) if name),
    )
    return evaluate_run(described, simulator)


def with_formats(
    run: Any, *, weights: str | None = None, activations: str | None = None, kv_cache: str | None = None
) -> Any:
    """``run`` with other number formats (None: as it has them); raises InputError where its kind has none such."""
    given = {"weights": weights, "activations": activations}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    lacking = [name for name in changes if not hasattr(run, name)]
    if kv_cache is not None:
        if hasattr(run, "cache"):
            own = ("format",) if hasattr(run.cache, "format") else ("keys", "values")
            changes["cache"] = _checked(replace, run.cache, **dict.fromkeys(own, kv_cache))
        else:
            lacking.append("kv_cache")
    if lacking:
        raise InputError(f"{lacking[0]}: means nothing for a run of kind {run.run}; allowed none")
    return _checked(replace, run, **changes) if changes else run


def _checked(make: Any, *given: Any, **changes: Any) -> Any:
    try:
        return make(*given, **changes)
    except ValueError as fault:
        raise InputError(str(fault)) from None
