"""Schedules of U-Nets: DeepCache, with and without T-GATE."""

from __future__ import annotations

from tilewright.errors import InputError
from tilewright.workloads.diffusion.blocks import NetworkBlocks
from tilewright.workloads.diffusion.kind import Asked, ScheduleKind, register_schedule
from tilewright.workloads.diffusion.step import Cell, Step, cells

__all__ = ["deep_cells", "is_u_net"]


def is_u_net(network: NetworkBlocks) -> bool:
    """Whether there are blocks on a way down and on one up."""
    starts = {name[:2].lower() for name in network.names}
    return {"do", "up"} <= starts


def deep_cells(asked: Asked) -> frozenset[Cell]:
    """The blocks between a shallow way down and the way up from the same depth.

    The way down keeps its first ``branch`` + 1 blocks (residual blocks with the transformer behind them, and changes of
    size); up, the blocks that read their results and everything behind.
    """
    names = asked.network.names
    down = [name for name in names if name.lower().startswith("down")]
    up = [name for name in names if name.lower().startswith("up")]
    if not is_u_net(asked.network):
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
    every, gate, guided = (asked.count(key, least=least) for key, least in (("N", 1), ("gate", 0), ("guidance", 1)))
    deep = deep_cells(asked)
    crossed = cells((block.name for block in asked.network.with_part("cross_attention")), ("cross_attention",))
    later = crossed - {(block, "cross_attention") for block, _ in deep}
    steps = []
    for at in range(asked.n_steps):
        begin = (
            gate if gate and at >= gate else gate - 1 if gate and at == gate - 1 else 0
        )  # counting begins anew there
        is_full = (at - begin) % every == 0
        if gate and at >= gate:
            steps.append(Step(cached=crossed if is_full else deep | later))
        else:
            steps.append(Step(cached=frozenset() if is_full else deep, forwards=guided))
    return steps


register_schedule(
    ScheduleKind(
        name="deepcache",
        summary="every N-th step full, else the U-Net down to the skip connection `branch` and back from there; with "
        "T-GATE from the step `gate` on",
        source="arXiv 2312.00858, and HaozheLiu-ST/T-GATE",
        options={"N": 3, "branch": 0, "gate": 0, "guidance": 1},
        make=_deepcache,
    ),
    rank=8,
)
