"""The steps of FlashAttention-2, up to the division of rows by their sums or without it; no dataflow by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilewright.sim.dataflows.attention import online
from tilewright.sim.dataflows.attention.core import AttentionCore
from tilewright.sim.dataflows.attention.joins import Joins
from tilewright.sim.lowering.mapping import Tiling

__all__ = ["StoreRows", "lower_steps"]

StoreRows = Callable[[AttentionCore, online.OnlineData, online.Step, Sequence[int]], None]


def lower_steps(core: AttentionCore, tiling: Tiling, store_sums: StoreRows | None = None) -> None:
    """Scores of the new step, softmax and values of the middle one, division of the old one.

    With ``store_sums`` rows are not divided: that stores them with their maxima and sums, and signals what it is given
    when these are free.
    """
    costs, width = core.costs, core.layer.value_dim
    data = online.OnlineData(core, tiling, scores_in_buffer=True)
    made = core.semaphore("S tile ready")
    p_ready = core.semaphore("P tile ready")
    added = core.semaphore("O updated")
    sums_free = [core.semaphore("maxima and sums free", data.o.slots, is_slot=True)] if store_sums is not None else []
    for new, middle, old in core.distinct_windows(online.steps(core, tiling, data.sub), 3):
        if new is not None:
            online.load_for_scores(core, data, new)
            online.score_command(core, data, new, signals=[made])
        if middle is not None:
            _softmax(core, middle, data.joins, made, added, p_ready, sums_free)
            online.load_for_values(core, data, middle)
            made_o = data.o.full if sums_free and middle.last else added
            core.matrix(
                costs.values(middle.rows, middle.keys, add_to=not middle.first),
                waits=[
                    p_ready,
                    *((data.v.full,) if data.loads(middle) else ()),
                    *((data.o.free,) if middle.first else ()),
                ],
                signals=[
                    data.s.free,
                    made_o,
                    *((data.v.free,) if data.gives_back(middle) else ()),
                ],
                label="P V",
                run=("add_values_rows", middle),
            )
        if old is not None and old.last and store_sums is not None:
            store_sums(core, data, old, sums_free)
        elif old is not None and old.last:
            bits = old.rows * width * costs.accumulator_bits
            core.vector(
                costs.vector(
                    (("div", old.rows * width), *data.cached.operations(old.rows * width)),
                    reads_bits=bits + data.cached.reads_bits(core, old.rows),
                    writes_bits=bits,
                ),
                waits=[added, *data.cached.waits],
                signals=[data.o.full, *data.cached.signals],
                label="divide by row sum",
                run=("divide_rows", old),
            )
            online.store_rows(core, data, old, data.o)
    if store_sums is None:
        online.store_empty(core, data, tiling)


def _softmax(
    core: AttentionCore,
    step: online.Step,
    joins: Joins,
    made: int,
    added: int,
    p_ready: int,
    first_waits: Sequence[int],
) -> None:
    costs, width = core.costs, core.layer.value_dim
    n, rows = step.rows * step.keys, step.rows
    bits = n * costs.score_bits
    joining = costs.joining(n)
    operations = [*joining.operations, ("max", n), ("sub", n), ("exp", n), ("add", n)]
    if step.first and core.layer.sinks:
        # Maximum and sum begin with the sink's logit and 1.
        operations += [("max", rows), ("sub", rows), ("exp", rows), ("add", rows)]
    if not step.first:
        # New maximum against the old one, the correction factor, the running sum.
        operations += [("max", rows), ("sub", rows), ("exp", rows), ("mul", rows), ("add", rows)]
    core.vector(
        costs.vector(
            tuple(operations),
            reads_bits=2 * bits + joining.reads_bits,
            writes_bits=bits + joining.writes_bits,
            reduces=True,
        ),
        waits=[made, *joins.waits, *(first_waits if step.first else ())],
        signals=[*joins.signals, *((p_ready,) if step.first else ())],
        label="online softmax",
        run=("online_softmax_rows", step),
    )
    if not step.first:
        o_bits = rows * width * costs.accumulator_bits
        core.vector(
            costs.vector((("mul", rows * width),), reads_bits=o_bits, writes_bits=o_bits),
            waits=[added],
            signals=[p_ready],
            label="rescale O",
            run=("rescale_rows", step),
        )
