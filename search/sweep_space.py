"""The designs of a sweep, one after another: never all of them in memory."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from tilewright.search.conditions import Condition, Value
from tilewright.search.counted_work import effort_of_change
from tilewright.search.design_figures import DESIGN_FIGURES, area_mm2, base_values, peak_tops
from tilewright.search.mapping_cache import ForgetfulCache
from tilewright.search.sweep_spec import Axis, Sweep

__all__ = ["Design", "SweepPoint", "count_points", "design_values", "designs", "points"]

_BLOCK = 1024

Design = dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One row of the store: ``design`` (dotted path -> value), which layer, which dataflow, and the content key."""

    key: str
    design: Design
    layer: int
    dataflow: str


def designs(sweep: Sweep) -> Iterator[Design]:
    """The designs that fulfil the conditions, and the limits that need no run, in a fixed order."""
    early = (*sweep.conditions, *(limit for limit in sweep.limits if _needs_no_run(limit)))
    base = base_values(sweep.machine)
    for design in _grid(sweep) if sweep.sampling.method == "grid" else _sobol(sweep):
        if early:
            values = design_values(sweep, base, design)
            if not all(condition.holds(values) for condition in early):
                continue
        yield design


def design_values(sweep: Sweep, base: dict[str, Any], design: Design) -> dict[str, Any]:
    """All figures of a design by name, area and peak rate among them; ``base`` are those of the base machine."""
    values = base | design
    return values | {"area_mm2": area_mm2(sweep.area, values), "peak_tops": peak_tops(values)}


def points(sweep: Sweep) -> Iterator[SweepPoint]:
    """Every design with every workload and dataflow, with its content key."""
    # Changes with the code that decides about results, and with everything that a design does not say itself.
    cache = ForgetfulCache()
    machine = asdict(sweep.machine)
    for words in ("description", "assumptions", "sources"):
        del machine[words]
    if sweep.area is not None:  # what it leaks is part of the energy
        machine["leakage"] = asdict(sweep.area)
    fixed = [
        [cache.key("sweep point", machine, layer, dataflow, sweep.objective) for dataflow in sweep.dataflows]
        for layer in sweep.layers
    ]
    for design in designs(sweep):
        text = json.dumps(design, sort_keys=True)
        for layer, keys in enumerate(fixed):
            for dataflow, key in zip(sweep.dataflows, keys, strict=True):
                content = hashlib.sha256(f"{key}{text}".encode()).hexdigest()
                yield SweepPoint(key=content, design=design, layer=layer, dataflow=dataflow)


def count_points(sweep: Sweep) -> int:
    """How many points the sweep has."""
    per_design = len(sweep.layers) * len(sweep.dataflows)
    if sweep.sampling.method == "grid" and not sweep.conditions and not any(map(_needs_no_run, sweep.limits)):
        n = per_design
        for axis in sweep.axes:
            n *= len(axis.settings)
        return n
    return per_design * sum(1 for _ in designs(sweep))


def _needs_no_run(limit: Condition) -> bool:
    return all(name in DESIGN_FIGURES for name in limit.names)


def _grid(sweep: Sweep) -> Iterator[Design]:
    # What takes least effort to change varies fastest.
    axes = sorted(sweep.axes, key=lambda axis: -max(map(effort_of_change, axis.paths), default=0))
    paths = [path for axis in axes for path in axis.paths]
    for settings in product(*(axis.settings for axis in axes)):
        yield dict(zip(paths, (value for setting in settings for value in setting), strict=True))


def _sobol(sweep: Sweep) -> Iterator[Design]:
    """Points of a scrambled Sobol sequence (Owen), each share taken to the value of the axis that it falls on."""
    n = sweep.sampling.n or 0
    if not sweep.axes:
        yield {}
        return
    from scipy.stats import qmc

    sequence = qmc.Sobol(d=len(sweep.axes), scramble=True, seed=sweep.sampling.seed)
    paths = sweep.paths
    seen: set[tuple[Value, ...]] = set()
    for start in range(0, n, _BLOCK):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            block = sequence.random(_BLOCK)
        for shares in block[: n - start].tolist():
            values = tuple(v for axis, share in zip(sweep.axes, shares, strict=True) for v in _taken(axis, share))
            if values not in seen:
                seen.add(values)
                yield dict(zip(paths, values, strict=True))


def _taken(axis: Axis, share: float) -> tuple[Value, ...]:
    if axis.interval is not None:
        return (axis.interval.at(share),)
    return axis.settings[min(int(share * len(axis.settings)), len(axis.settings) - 1)]
