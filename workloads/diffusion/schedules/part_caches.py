"""Schedules that keep the results of parts of blocks: FORA, TaylorSeer, T-GATE, learning-to-cache, BAC."""

from __future__ import annotations

from pathlib import Path

from tilewright.errors import InputError
from tilewright.workloads.diffusion.blocks import PARTS
from tilewright.workloads.diffusion.from_file import read_rows
from tilewright.workloads.diffusion.kind import Asked, ScheduleKind, register_schedule
from tilewright.workloads.diffusion.step import Cell, Step, cells

_ROUTER = ("timestep_index", "layer", "attention_computed", "mlp_computed")


def _all_parts(asked: Asked) -> frozenset[Cell]:
    """Every part of every block; blocks without parts as a whole."""
    return frozenset(
        cell
        for block in asked.network.blocks
        for cell in ([(block.name, part) for part in PARTS if block.parts.get(part)] or [(block.name, "")])
    )


def _every(asked: Asked) -> set[int]:
    """The first ``first`` steps, and every N-th behind the last of them."""
    n, first = asked.count("N", least=1), asked.count("first", least=1)
    return set(range(first)) | set(range(first - 1, asked.n_steps, n))


def _fora(asked: Asked) -> list[Step]:
    full, cached = _every(asked), Step(cached=_all_parts(asked))
    return [Step() if at in full else cached for at in range(asked.n_steps)]


def _taylorseer(asked: Asked) -> list[Step]:
    full, order = _every(asked), asked.count("O", least=1, most=9)
    cached = Step(cached=_all_parts(asked), how="taylor", order=order)
    return [Step() if at in full else cached for at in range(asked.n_steps)]


def _broadcast(asked: Asked) -> list[Step]:
    """Each part at every so-manieth step between two steps, at every step outside."""
    first, last = asked.count("first", least=1, most=asked.n_steps, what="steps"), asked.count("last") or asked.n_steps
    every = {part: asked.count(key) for part, key in zip(PARTS, ("attention", "cross", "mlp"), strict=True)}
    steps = []
    for at in range(asked.n_steps):
        found: frozenset[Cell] = frozenset()
        for part, interval in every.items():
            if interval and first <= at < last and (at - first + 1) % interval:
                found |= cells((block.name for block in asked.network.with_part(part)), (part,))
        steps.append(Step(cached=found))
    return steps


def _tgate(asked: Asked) -> list[Step]:
    gate, every, later = asked.count("gate", least=1), asked.count("sp", least=1), asked.count("fi", least=1)
    warm, guided = asked.count("warmup"), asked.count("guidance", least=1)
    crossed = [block.name for block in asked.network.with_part("cross_attention")]
    if not crossed:
        raise InputError(f"{asked.text}: {asked.network.stream.name} has no cross-attention that could be kept")
    cross = cells(crossed, ("cross_attention",))
    own = cells((block.name for block in asked.network.with_part("attention")), ("attention",))
    steps = []
    for at in range(asked.n_steps):
        if at < gate - 1:
            steps.append(Step(cached=own if at > warm and at % every else frozenset(), forwards=guided))
        elif at == gate - 1:
            steps.append(Step(forwards=guided))
        else:
            steps.append(Step(cached=cross | (own if at % later else frozenset())))
    return steps


def _learned(asked: Asked) -> list[Step]:
    """The router's file: for each step and layer, whether its attention and its perceptron are computed."""
    if not asked.given("router"):
        raise InputError(f"{asked.text}: router: missing; allowed router=FILE.csv ({', '.join(_ROUTER)})")
    path = Path(asked.given("router"))
    rows = read_rows(path, what="router", needed=_ROUTER)
    if rows and "steps" in rows[0]:
        rows = [row for row in rows if row["steps"] == str(asked.n_steps)]
    names, cached = asked.network.names, [set[Cell]() for _ in range(asked.n_steps)]
    seen = set()
    for row in rows:
        step, layer = (_index(path, row, key, n) for key, n in ((_ROUTER[0], asked.n_steps), (_ROUTER[1], len(names))))
        seen.add((step, layer))
        for key, part in ((_ROUTER[2], "attention"), (_ROUTER[3], "mlp")):
            if row[key] not in ("0", "1"):
                raise InputError(f'{path}: {key}: given "{row[key]}"; allowed 0, 1')
            if row[key] == "0":
                cached[step].add((names[layer], part))
    wanted = asked.n_steps * len(names)
    if len(seen) != wanted:
        raise InputError(
            f"{path}: has {len(seen)} rows for {asked.n_steps} steps; allowed {wanted}, one for each step and block"
        )
    return [Step(cached=frozenset(own)) for own in cached]


def _index(path: Path, row: dict[str, str], key: str, n: int) -> int:
    value = int(row[key]) if row[key].isdecimal() else -1
    if not 0 <= value < n:
        raise InputError(f'{path}: {key}: given "{row[key]}"; allowed 0 to {n - 1}')
    return value


_OF_INTERVALS = {"N": 3, "first": 1}

register_schedule(
    ScheduleKind(
        name="fora",
        summary="attention and perceptron of every block at the `first` steps and every N-th behind, else their last "
        "results",
        source="arXiv 2407.01425",
        options=_OF_INTERVALS,
        make=_fora,
    ),
    rank=4,
)
register_schedule(
    ScheduleKind(
        name="taylorseer",
        summary="as fora, their results extrapolated by a Taylor series of order O",
        source="arXiv 2503.06923",
        options={"N": 5, "first": 3, "O": 2},
        make=_taylorseer,
    ),
    rank=5,
)
register_schedule(
    ScheduleKind(
        name="pab",
        summary="from the step `first` to before `last`, attention, cross-attention and perceptrons only at every "
        "so-manieth step (0: at every one), else their last results",
        source="arXiv 2408.12588",
        options={"attention": 2, "cross": 6, "mlp": 0, "first": 1, "last": 0},
        make=_broadcast,
    ),
    rank=9,
)
register_schedule(
    ScheduleKind(
        name="tgate",
        summary="cross-attention frozen from the step `gate` on, without guidance there; before it, self-attention "
        "behind `warmup` only every sp-th step (behind it every fi-th)",
        source="arXiv 2404.02747 and HaozheLiu-ST/T-GATE",
        options={"gate": 10, "sp": 5, "fi": 1, "warmup": 2, "guidance": 2},
        make=_tgate,
    ),
    rank=6,
)
register_schedule(
    ScheduleKind(
        name="learning_to_cache",
        summary="which attention and perceptron runs at which step, from a router's file",
        source="arXiv 2406.01733",
        options={"router": ""},
        make=_learned,
    ),
    rank=7,
)
