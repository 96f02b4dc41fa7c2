"""Tables of a server for the terminal: latencies by percentile, a row for each point of a sweep."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tilewright.reports.columns import Column
from tilewright.reports.quantity import percent_text, seconds_text
from tilewright.reports.table import fitted_table
from tilewright.sim.serving.result import ServeResult

__all__ = ["serve_columns", "serve_table"]

_LATENCIES = (("ttft_s", "TTFT"), ("tpot_s", "TPOT"), ("latency_s", "latency"))


def serve_table(console: Console, result: ServeResult) -> Table:
    """A row for each point: what was set, rates, latencies, the cache."""
    return fitted_table(console, f"{result.name} on {result.machine}, by point", serve_columns(result))


def serve_columns(result: ServeResult) -> list[Column]:
    """The same as columns."""
    points = result.points
    columns = [
        Column(header=path.rsplit(".", 1)[-1], cells=[str(point.values[path]) for point in points])
        for path in points[0].values
    ]
    columns += [
        Column(header="requests/s", cells=[f"{point.figures['requests_per_s']:.3g}" for point in points]),
        Column(header="tokens/s", cells=[f"{point.figures['tokens_per_s']:,.0f}" for point in points]),
    ]
    for name, label in _LATENCIES:
        for rank, which in ((2, "mean"), (3, "p50"), (4, "p90"), (1, "p99")):
            cells = [seconds_text(point.figures[f"{name}_{which}"]) for point in points]
            columns.append(Column(header=f"{label} {which}", cells=cells, rank=rank))
    columns += [
        Column(header="cache", cells=[percent_text(point.figures["cache_share"]) for point in points], rank=5),
        Column(header="preempted", cells=[f"{point.figures['preemptions']:,.0f}" for point in points], rank=6),
        Column(header="J/token", cells=[f"{point.figures['joules_per_token']:.3g}" for point in points], rank=7),
    ]
    return columns
