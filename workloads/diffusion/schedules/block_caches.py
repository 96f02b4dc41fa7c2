"""Schedules that keep what a run of whole blocks changes: DBCache, TeaCache, Delta-DiT, and full steps."""

from __future__ import annotations

from pathlib import Path

from tilewright.errors import InputError
from tilewright.workloads.diffusion.from_file import read_numbers
from tilewright.workloads.diffusion.kind import Asked, ScheduleKind, register_schedule
from tilewright.workloads.diffusion.step import Schedule, Step, cells

_EVENLY = "the full steps that are given as a number are spread evenly over the steps"


def _full(asked: Asked) -> list[Step]:
    return [Step()] * asked.n_steps


def _middle(asked: Asked, first: int, last: int) -> list[str]:
    """The blocks behind the ``first`` and before the ``last`` ones; at least one must be left."""
    names = asked.network.names
    if first + last >= len(names):
        raise InputError(
            f"{asked.text}: F and B: given {first} and {last}, and {asked.network.stream.name} has {len(names)} "
            f"blocks; allowed less than {len(names)} together"
        )
    return list(names[first : len(names) - last])


def _spread(asked: Asked, n_full: int, n_first: int = 1) -> set[int]:
    """``n_full`` full steps, the first ``n_first`` of them at the begin, the others evenly over the rest."""
    n_first = min(n_first, n_full)
    left, rest = n_full - n_first, asked.n_steps - n_first
    return set(range(n_first)) | {n_first + (at + 1) * rest // (left + 1) for at in range(left)}


def _dbcache(asked: Asked) -> Schedule:
    first, last, warm = (asked.count(key) for key in ("F", "B", "W"))
    every, most, order = asked.count("I", least=1), asked.count("MC"), asked.count("T", most=9)
    blocks = _middle(asked, first, last)
    cached = Step(cached=cells(blocks), how="taylor" if order else "residual", order=order)
    assumptions: tuple[str, ...] = ()
    if asked.given("full"):
        full = _spread(asked, asked.count("full", least=1, most=asked.n_steps, what="steps"), warm)
        assumptions = (_EVENLY,)
    else:
        full = _counted(asked.n_steps, warm, every, most, _far(asked))
    steps = tuple(Step() if at in full else cached for at in range(asked.n_steps))
    return Schedule(method=asked.text, steps=steps, assumptions=assumptions)


def _far(asked: Asked) -> set[int]:
    """Steps whose first blocks have changed by the threshold R or more, by a file of distances."""
    if not asked.given("distances"):
        return set()
    distances = read_numbers(Path(asked.given("distances")), asked.n_steps, column="distance")
    limit = asked.number("R")
    return {at for at, distance in enumerate(distances) if distance >= limit}


def _counted(n_steps: int, warm: int, every: int, most: int, far: set[int]) -> set[int]:
    """Full steps: of the warm-up every ``every``-th; then those that are far, and one behind ``most`` cached ones in a
    row (0: any number), of which those at the end of the warm-up count.
    """
    full, in_row = set[int](), 0
    for at in range(n_steps):
        in_warm_up = at < max(warm, 1)
        is_full = at % every == 0 if in_warm_up else at in far or (most and in_row >= most)
        in_row = 0 if is_full else in_row + 1
        if is_full:
            full.add(at)
    return full


def _teacache(asked: Asked) -> Schedule:
    cached = Step(cached=cells(asked.network.names), how="residual")
    if asked.given("distances"):
        distances = read_numbers(Path(asked.given("distances")), asked.n_steps, column="distance")
        full, total, limit = {0, asked.n_steps - 1}, 0.0, asked.number("threshold")
        for at in range(1, asked.n_steps - 1):
            total += distances[at]
            if total >= limit:
                full.add(at)
                total = 0.0
        assumptions: tuple[str, ...] = ()
    elif asked.given("full"):
        full, assumptions = _spread(asked, asked.count("full", least=1, most=asked.n_steps, what="steps")), (_EVENLY,)
    else:
        raise InputError(f"{asked.text}: full: missing; allowed full=N, or distances=FILE.csv with threshold=X")
    steps = tuple(Step() if at in full else cached for at in range(asked.n_steps))
    return Schedule(method=asked.text, steps=steps, assumptions=assumptions)


def _delta_dit(asked: Asked) -> list[Step]:
    names = asked.network.names
    n = len(names)
    every, gate = asked.count("N", least=1), asked.count("gate")
    n_kept = asked.count("blocks", most=n, what="blocks") or n // 2
    begins, ends = cells(names[:n_kept]), cells(names[n - n_kept :])
    # outlines come first: the blocks behind are kept then, those in front later
    return [
        Step() if at % every == 0 else Step(cached=ends if at < (gate or asked.n_steps) else begins, how="residual")
        for at in range(asked.n_steps)
    ]


def _few(asked: Asked) -> list[Step]:
    return [Step()] * asked.n_steps


register_schedule(
    ScheduleKind(name="full", summary="every block at every step", source="", make=_full),
    rank=0,
)
register_schedule(
    ScheduleKind(
        name="dbcache",
        summary="the first F and last B blocks run; in W steps of warm-up every I-th is full, then one behind MC "
        "cached ones (or full=N, or distances=FILE of the first blocks with R); T: order of Taylor series",
        source="vipshop/cache-dit",
        options={"F": 8, "B": 0, "W": 8, "I": 1, "MC": 0, "T": 0, "full": "", "distances": "", "R": 0.08},
        make=_dbcache,
    ),
    rank=1,
)
register_schedule(
    ScheduleKind(
        name="teacache",
        summary="all blocks or none: full=N, or where distances=FILE add up to the threshold",
        source="arXiv 2411.19108",
        options={"full": "", "distances": "", "threshold": 0.1},
        make=_teacache,
    ),
    rank=2,
)
register_schedule(
    ScheduleKind(
        name="delta_dit",
        summary="every N-th step full, else `blocks` of them are kept (half): the last ones before the step `gate`, "
        "the first ones from there on",
        source="arXiv 2406.01125",
        options={"N": 2, "blocks": 0, "gate": 0},
        make=_delta_dit,
    ),
    rank=3,
)
for _name, _source in (("lcm", "arXiv 2310.04378"), ("lightning", "arXiv 2402.13929")):
    register_schedule(
        ScheduleKind(
            name=_name, summary="a distilled model: few steps, all of them full, no guidance", source=_source, make=_few
        ),
        rank=20,
    )
