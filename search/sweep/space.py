"""The designs of a sweep, one after another: never all of them in memory."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from tilewright.errors import InputError
from tilewright.search.mapping_cache import ForgetfulCache
from tilewright.search.shared.counted_work import effort_of_change
from tilewright.search.sweep.conditions import Condition, Value
from tilewright.search.sweep.design_figures import DESIGN_FIGURES, area_mm2, base_values, peak_tops
from tilewright.search.sweep.spec import Axis, Sweep, SweptWorkload
from tilewright.workloads.stream.file import stream_to_json
from tilewright.workloads.stream.graph import OperatorStream

__all__ = [
    "Design",
    "DesignSpace",
    "Position",
    "SweepPoint",
    "count_points",
    "design_values",
    "designs",
    "points",
    "points_of",
]

_BLOCK = 1024
_TEXT = json.JSONEncoder(sort_keys=True)

Design = dict[str, Value]
#: A share (0 to 1) of the way on each axis.
Position = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPoint:
    """One row of the store: ``design`` (dotted path -> value), which layer, which dataflow, and the content key."""

    key: str
    design: Design
    layer: int
    dataflow: str


class DesignSpace:
    """What the axes of a sweep span, and the conditions (limits that need no run among them) on its designs."""

    def __init__(self, sweep: Sweep) -> None:
        self.axes = sweep.axes
        self._sweep = sweep
        self._paths = sweep.paths
        self._early = (*sweep.conditions, *(limit for limit in sweep.limits if _needs_no_run(limit)))
        self._base = base_values(sweep.machine)

    def n_broken_conditions(self, design: Design) -> int:
        """How many conditions ``design`` does not fulfil."""
        if not self._early:
            return 0
        values = design_values(self._sweep, self._base, design)
        return sum(not condition.holds(values) for condition in self._early)

    def design(self, position: Sequence[float]) -> Design:
        """The design at ``position``."""
        values = (v for axis, share in zip(self.axes, position, strict=True) for v in _taken(axis, share))
        return dict(zip(self._paths, values, strict=True))

    def snapped(self, position: Sequence[float]) -> Position:
        """``position`` in the middle of what stands for the same value, on axes that are lists."""
        return tuple(
            share if axis.interval is not None else (_place(axis, share) + 0.5) / len(axis.settings)
            for axis, share in zip(self.axes, position, strict=True)
        )

    def by_effort(self, position: Position) -> Position:
        """A key to sort by, so that neighbours differ in what takes least effort to change."""
        return tuple(position[at] for at in _by_effort(self.axes))

    def spread(self, n: int, seed: int) -> Any:
        """``n`` positions of a scrambled Sobol sequence (Owen), an array (n, axes)."""
        return next(_sobol(len(self.axes), seed, n))


def designs(sweep: Sweep) -> Iterator[Design]:
    """The designs that fulfil the conditions, and the limits that need no run, in a fixed order.

    Those of an adaptive search are not known beforehand: see :func:`tilewright.search.sweep.plan.planned_points`.
    """
    space = DesignSpace(sweep)
    match sweep.sampling.method:
        case "grid":
            found = _grid(sweep)
        case "sobol":
            found = _sampled(sweep, space)
        case "nsga2":
            raise InputError(
                "sampling: method: the designs of nsga2 follow from the results of a run and cannot be listed before; "
                "allowed here: grid, sobol"
            )
    return (design for design in found if not space.n_broken_conditions(design))


def design_values(sweep: Sweep, base: dict[str, Any], design: Design) -> dict[str, Any]:
    """All figures of a design by name, area and peak rate among them; ``base`` are those of the base machine."""
    values = base | design
    return values | {"area_mm2": area_mm2(sweep.area, values), "peak_tops": peak_tops(values)}


def points(sweep: Sweep) -> Iterator[SweepPoint]:
    """Every design of :func:`designs` with every workload and dataflow, with its content key."""
    return points_of(sweep, designs(sweep))


def points_of(sweep: Sweep, some: Iterable[Design]) -> Iterator[SweepPoint]:
    """``some`` designs, each with every workload and dataflow, with their content keys."""
    # Changes with the code that decides about results, and with everything that a design does not say itself.
    cache = ForgetfulCache()
    machine = asdict(sweep.machine)
    for words in ("description", "assumptions", "sources"):
        del machine[words]
    if sweep.area is not None:  # what it leaks is part of the energy
        machine["leakage"] = asdict(sweep.area)
    fixed = [
        [cache.key("sweep point", machine, question, dataflow, sweep.objective) for dataflow in sweep.dataflows]
        for question in map(_question, sweep.layers)
    ]
    for design in some:
        text = _TEXT.encode(design)
        for layer, keys in enumerate(fixed):
            for dataflow, key in zip(sweep.dataflows, keys, strict=True):
                content = hashlib.sha256(f"{key}{text}".encode()).hexdigest()
                yield SweepPoint(key=content, design=design, layer=layer, dataflow=dataflow)


def count_points(sweep: Sweep) -> int:
    """How many points the sweep has; of an adaptive search the most that it may have."""
    per_design = len(sweep.layers) * len(sweep.dataflows)
    if sweep.sampling.is_adaptive:
        return per_design * (sweep.sampling.n or 0)
    if sweep.sampling.method == "grid" and not sweep.conditions and not any(map(_needs_no_run, sweep.limits)):
        n = per_design
        for axis in sweep.axes:
            n *= len(axis.settings)
        return n
    return per_design * sum(1 for _ in designs(sweep))


def _needs_no_run(limit: Condition) -> bool:
    return all(name in DESIGN_FIGURES for name in limit.names)


def _by_effort(axes: Sequence[Axis]) -> list[int]:
    """The axes by number; what takes least effort to change comes last."""
    return sorted(range(len(axes)), key=lambda at: -max(map(effort_of_change, axes[at].paths), default=0))


def _grid(sweep: Sweep) -> Iterator[Design]:
    axes = [sweep.axes[at] for at in _by_effort(sweep.axes)]
    paths = [path for axis in axes for path in axis.paths]
    for settings in product(*(axis.settings for axis in axes)):  # the last varies fastest
        yield dict(zip(paths, (value for setting in settings for value in setting), strict=True))


def _sampled(sweep: Sweep, space: DesignSpace) -> Iterator[Design]:
    """Points of a Sobol sequence, each share taken to the value of the axis that it falls on."""
    n = sweep.sampling.n or 0
    if not sweep.axes:
        yield {}
        return
    blocks = _sobol(len(sweep.axes), sweep.sampling.seed, _BLOCK)
    seen: set[tuple[Value, ...]] = set()
    for start in range(0, n, _BLOCK):
        for shares in next(blocks)[: n - start].tolist():
            design = space.design(shares)
            values = tuple(design.values())
            if values not in seen:
                seen.add(values)
                yield design


def _sobol(n_axes: int, seed: int, n: int) -> Iterator[Any]:
    """Blocks of ``n`` points of a scrambled Sobol sequence, each an array (n, axes) of numbers from 0 to 1."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(d=n_axes, scramble=True, seed=seed)
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about numbers of points that are no power of two
            yield sequence.random(n)


def _place(axis: Axis, share: float) -> int:
    return min(int(share * len(axis.settings)), len(axis.settings) - 1)


def _taken(axis: Axis, share: float) -> tuple[Value, ...]:
    if axis.interval is not None:
        return (axis.interval.at(share),)
    return axis.settings[_place(axis, share)]


def _question(workload: SweptWorkload) -> Any:
    """What a workload is, for the content key; a network is answered by more code than a layer."""
    if not isinstance(workload, OperatorStream):
        return workload
    from tilewright.search import network

    code = hashlib.sha256(Path(network.__file__).read_bytes()).hexdigest()
    return ["network", stream_to_json(workload), code]
