"""A trace window as Chrome trace JSON, which https://ui.perfetto.dev opens.

The format ("Trace Event Format"): complete events (``ph`` = ``X``) with ``ts`` and ``dur`` in microseconds,
metadata events (``ph`` = ``M``) that name the process and the threads. One thread per engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilewright.sim.engine.trace import TraceWindow

__all__ = ["chrome_trace", "chrome_trace_json"]

_PROCESS_ID = 1


def chrome_trace(
    trace: TraceWindow,
    *,
    title: str,
    facts: Mapping[str, object] | None = None,
    tracks: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The trace as the dictionary that the format wants.

    ``title`` names the process. Times are ``cycles / (1000 clock_ghz)`` microseconds; the exact cycles
    stand in each event's ``args``. ``facts`` goes into ``otherData``; ``tracks`` are further events, as they are.
    """
    cycles_per_us = trace.clock_ghz * 1000.0
    events: list[dict[str, Any]] = [_metadata("process_name", 0, {"name": title})]
    for thread, engine in enumerate(trace.engines, start=1):
        events.append(_metadata("thread_name", thread, {"name": engine}))
        events.append(_metadata("thread_sort_index", thread, {"sort_index": thread}))
    for command in trace.commands:
        args: dict[str, int] = {
            "start_cycle": command.start,
            "end_cycle": command.end,
            "cycles": command.end - command.start,
        }
        if command.n_bytes:
            args["bytes"] = command.n_bytes
        events.append(
            {
                "name": command.label,
                "cat": command.kind,
                "ph": "X",
                "ts": command.start / cycles_per_us,
                "dur": (command.end - command.start) / cycles_per_us,
                "pid": _PROCESS_ID,
                "tid": command.engine + 1,
                "args": args,
            }
        )
    other = {"total_cycles": trace.total_cycles, "complete": trace.complete, "clock_ghz": trace.clock_ghz}
    return {"traceEvents": [*events, *tracks], "displayTimeUnit": "ns", "otherData": {**other, **(facts or {})}}


def chrome_trace_json(
    trace: TraceWindow,
    *,
    title: str,
    facts: Mapping[str, object] | None = None,
    tracks: Sequence[Mapping[str, Any]] = (),
) -> str:
    """:func:`chrome_trace` as compact JSON text."""
    return json.dumps(
        chrome_trace(trace, title=title, facts=facts, tracks=tracks), separators=(",", ":"), allow_nan=False
    )


def _metadata(name: str, thread: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": _PROCESS_ID, "tid": thread, "args": args}
