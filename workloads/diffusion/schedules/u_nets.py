"""Schedules of U-Nets: DeepCache, with and without T-GATE, and CacheQuant's groups."""

from __future__ import annotations

from tilewright.errors import InputError
from tilewright.workloads.diffusion.kind import Asked, ScheduleKind, register_schedule
from tilewright.workloads.diffusion.step import Cell, Step, cells


def _deep(asked: Asked) -> frozenset[Cell]:
    """The blocks between a shallow way down and the way up from the same depth.

    The way down keeps its first ``branch`` + 1 blocks (residual blocks with the transformer behind them, and changes of
    size); up, the blocks that read their results and everything behind.
    """
    names = asked.network.names
    down = [name for name in names if name.lower().startswith("down")]
    up = [name for name in names if name.lower().startswith("up")]
    if not down or not up:
        raise InputError(f"{asked.text}: {asked.network.stream.name} is no U-Net: it has no blocks down.* and up.*")
    lengths = _lengths(down)
    branch = asked.count("branch", most=len(lengths) - 1, what="blocks on the way down")
    runs = set(down[: sum(lengths[: branch + 1])])
    # results in front of the deepest that is kept, the first convolution's among them, each read by one block up
    blocks_up = [name for name in up if "concat" in name]
    first = up.index(blocks_up[len(blocks_up) - branch - 2])
    runs |= set(up[first:])
    return cells(name for name in names if name not in runs)


def _lengths(down: list[str]) -> list[int]:
    """How many blocks belong to each result that the way up reads."""
    found: list[int] = []
    for name in down:
        if "att" in name.rpartition(".")[2]:
            found[-1] += 1
        else:
            found.append(1)
    return found


def _deepcache(asked: Asked) -> list[Step]:
    cached, every = Step(cached=_deep(asked)), asked.count("N", least=1)
    return [Step() if at % every == 0 else cached for at in range(asked.n_steps)]


register_schedule(
    ScheduleKind(
        name="deepcache",
        summary="every N-th step full, else the U-Net down to the skip connection `branch` and back from there",
        source="arXiv 2312.00858",
        options={"N": 3, "branch": 0},
        make=_deepcache,
    ),
    rank=8,
)
