"""A run over time as Chrome trace JSON, which https://ui.perfetto.dev opens: phases, steps, and what lies in memory."""

from __future__ import annotations

import json
from typing import Any

from tilewright.sim.runs.result import RunResult

__all__ = ["run_trace", "run_trace_json"]

_PHASES, _STEPS = 1, 2
_US = 1e6


def run_trace(result: RunResult) -> dict[str, Any]:
    """The trace as the dictionary that the format wants: a thread of phases, one of their steps (of many steps those
    that the result keeps), and counters of the memory's parts, of DRAM traffic and of power.
    """
    events: list[dict[str, Any]] = [
        _named("process_name", 0, f"{result.name} on {result.machine}"),
        _named("thread_name", _PHASES, "phases"),
        _named("thread_name", _STEPS, "steps"),
    ]
    for phase in result.phases:
        args = {"steps": phase.n_steps, "made": phase.n_made, "joules": phase.energy_pj * 1e-12}
        events.append(_bar(phase.name, _PHASES, phase.start_seconds, phase.seconds, args))
        for point in phase.points:
            told = {
                "step": point.step,
                "size": point.size,
                "joules": point.energy_pj * 1e-12,
                "bytes": point.dram_bytes,
            }
            events.append(_bar(f"{phase.name} {point.step}", _STEPS, point.start_seconds, point.seconds, told))
            rates = {"GB/s": point.dram_bytes / point.seconds * 1e-9} if point.seconds else {"GB/s": 0.0}
            events.append(_counter("DRAM", point.start_seconds, rates))
            watts = point.energy_pj * 1e-12 / point.seconds if point.seconds else 0.0
            events.append(_counter("power", point.start_seconds, {"W": watts}))
    for place in result.memory:
        parts = {"weights": place.weight_bytes, "cache": place.cache_bytes, "activations": place.activation_bytes}
        events.append(_counter("memory", place.seconds, parts))
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"seconds": result.seconds, "machine": result.machine, "run": result.kind},
    }


def run_trace_json(result: RunResult) -> str:
    """:func:`run_trace` as compact JSON text."""
    return json.dumps(run_trace(result), separators=(",", ":"), allow_nan=False)


def _bar(name: str, thread: int, start: float, seconds: float, args: dict[str, Any]) -> dict[str, Any]:
    at = {"ts": start * _US, "dur": seconds * _US, "pid": 1, "tid": thread}
    return {"name": name, "cat": "run", "ph": "X", **at, "args": args}


def _counter(name: str, seconds: float, values: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "C", "ts": seconds * _US, "pid": 1, "args": values}


def _named(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": 1, "tid": thread, "args": {"name": name}}
