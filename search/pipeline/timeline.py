"""The steady state of a pipeline, watched exactly: the period after which all is as it was, and images inside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tilewright.sim.engine.joint import Joint, Mark
from tilewright.sim.engine.run import _run, simulate
from tilewright.sim.engine.trace import Recording
from tilewright.sim.pipeline_result import StageSpan

__all__ = ["FEWEST", "Steady", "steady_state"]

IMAGES = "images"
MOST_COMMANDS = 6_000_000  # that are recorded at a time
MOST_JUMPS = 65_536
FAR_IN = 2000  # the image from which on one that repeats is looked at
FEWEST = 24  # images in which a period is looked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """``interval_cycles`` between images that leave, the mean over ``period_images`` (None: no period was seen);
    ``work_cycles`` and ``stay_cycles`` of each stage and the latency of an image there. ``spans`` of the first images.
    """

    interval_cycles: Fraction
    period_images: int | None
    work_cycles: tuple[float, ...]
    stay_cycles: tuple[float, ...]
    latency_cycles: float
    spans: tuple[StageSpan, ...]


class _Period(NamedTuple):
    n_images: int
    cycles: int


class _Image(NamedTuple):
    """One image: by stage when its first task began, its last one ended, and the cycles of its tasks."""

    starts: list[int]
    ends: list[int]
    work: list[int]


def steady_state(
    make: Callable[[int], Joint], tasks: Sequence[Sequence[str]], n_commands: int, *, waits_inside: bool = False
) -> Steady:
    """Watch ``make(n images)``, of ``n_commands`` an image; the first groups are the stages, with ``tasks`` by name.

    ``waits_inside``: tasks wait for rows on their way, so that a stage is at work when one of its engines is.
    """
    n_stages = len(tasks)
    most = MOST_COMMANDS // max(1, n_commands)
    n_watched = min(max(FEWEST, 2 * n_stages + 8), most)
    period = _period(make(n_watched), n_watched, n_commands, tasks) if n_watched > n_stages else None
    few = min(n_stages + 4, most)
    first = _images(make(few), 0, few, n_commands, tasks, waits_inside=waits_inside)
    if period is not None and period.n_images <= most:
        joint = make(FAR_IN + period.n_images + n_stages + 4)
        steady = _images(joint, FAR_IN, period.n_images, n_commands, tasks, waits_inside=waits_inside)
        interval = Fraction(period.cycles, period.n_images)
    else:
        before, after = n_watched - n_watched // 2, n_watched // 2
        ends = [simulate(make(n).program).cycles for n in (before, n_watched)] if after else [0, 0]
        interval = Fraction(ends[1] - ends[0], after) if after else Fraction(simulate(make(1).program).cycles)
        steady = first[-1:]
    spans = tuple(
        StageSpan(stage, number, image.starts[stage], image.ends[stage])
        for number, image in enumerate(first)
        for stage in range(n_stages)
    )
    if not steady:
        return Steady(
            interval_cycles=interval,
            period_images=None,
            work_cycles=(0.0,) * n_stages,
            stay_cycles=(0.0,) * n_stages,
            latency_cycles=0.0,
            spans=(),
        )
    return Steady(
        interval_cycles=interval,
        period_images=None if period is None else period.n_images,
        work_cycles=tuple(_mean([image.work[stage] for image in steady]) for stage in range(n_stages)),
        stay_cycles=tuple(_mean([image.ends[s] - image.starts[s] for image in steady]) for s in range(n_stages)),
        latency_cycles=_mean([image.ends[-1] - image.starts[0] for image in steady]),
        spans=spans,
    )


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def _period(joint: Joint, n_images: int, n_commands: int, tasks: Sequence[Sequence[str]]) -> _Period | None:
    """The first images after which the whole machine is in the state that it was in before, and the cycles between.

    The engine jumps over what repeats: of each task as many are not run as there are images in the periods jumped over.
    """
    from tilewright.sim.engine import kernel

    program = joint.program
    recording = Recording(len(program.engines), n_images * n_commands + 1, (-1, -1))
    width = kernel.JUMP_FIXED_FIELDS + 3 * len(program.engines)
    recording.jumps = np.empty((MOST_JUMPS, width), dtype=np.int64)
    _run(program, skip=True, recording=recording)
    if recording.overflow:
        return None
    fixed = kernel.JUMP_FIXED_FIELDS
    jumps = [row for row in recording.jumps.tolist() if any(row[fixed + 3 * control] for control in joint.controls)]
    if not jumps:
        return None
    last = len(tasks) - 1
    seen = sum(
        _is_begin(recording, command, last, tasks[last][0])
        for engine, command, before in recording.events[
            :, [kernel.EV_ENGINE, kernel.EV_COMMAND, kernel.EV_PREDECESSOR]
        ].tolist()
        if engine == joint.controls[last] and before > -2
    )
    n_periods = sum(row[0] for row in jumps)
    skipped = n_images - seen
    if skipped <= 0 or skipped % n_periods or len({row[1] for row in jumps}) > 1:
        return None
    return _Period(skipped // n_periods, jumps[0][1])


def _is_begin(recording: Recording, command: int, stage: int, task: str) -> bool:
    text = recording.commands[command]
    mark = text.cost
    return isinstance(mark, Mark) and mark == Mark(stage, task, ends=False) and text.label.endswith("begins")


def _images(
    joint: Joint, first: int, n: int, n_commands: int, tasks: Sequence[Sequence[str]], *, waits_inside: bool
) -> list[_Image]:
    """Images ``first`` to ``first + n - 1`` as they went through the stages."""
    from tilewright.sim.engine import kernel

    program = joint.program
    loop = program.loop_names.index(IMAGES)
    recording = Recording(len(program.engines), n * n_commands + 1, (first, first + n), loop)
    _run(program, skip=True, recording=recording)
    found = [_Image([0] * len(tasks), [0] * len(tasks), [0] * len(tasks)) for _ in range(n)]
    stages = {engine: stage for stage, engine in enumerate(joint.controls[: len(tasks)])}
    at, begun = [0] * len(tasks), [0] * len(tasks)
    columns = [kernel.EV_ENGINE, kernel.EV_COMMAND, kernel.EV_START, kernel.EV_END]
    for engine, command, start, end in recording.events[:, columns].tolist():
        stage = stages.get(engine)
        mark = recording.commands[command].cost
        if stage is None or not isinstance(mark, Mark) or at[stage] >= n:
            continue
        image = found[at[stage]]
        if _is_begin(recording, command, stage, tasks[stage][0]):
            image.starts[stage] = start
        if recording.commands[command].label.endswith("begins"):
            begun[stage] = start
        if mark.ends:
            image.work[stage] += end - begun[stage]
            if mark.task == tasks[stage][-1]:
                image.ends[stage] = end
                at[stage] += 1
    whole = min(at)
    if waits_inside:
        spans = recording.events[:, [kernel.EV_ENGINE, kernel.EV_START, kernel.EV_END]]
        for stage, (control, engines) in enumerate(zip(joint.controls, joint.engines, strict=True)):
            if stage < len(tasks):
                own = spans[np.isin(spans[:, 0], (control, *engines))]
                for image in found[:whole]:
                    image.work[stage] = _busy(own, image.starts[stage], image.ends[stage])
    return found[:whole]


def _busy(spans: npt.NDArray[np.int64], start: int, end: int) -> int:
    """Cycles of [start, end) in which one of ``spans`` (engine, start, end) is under way."""
    starts, ends = np.clip(spans[:, 1], start, end), np.clip(spans[:, 2], start, end)
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    if not len(starts):
        return 0
    begins = np.maximum(starts, np.concatenate(([start], ends[:-1])))
    return int(np.maximum(0, ends - begins).sum())
