"""FlashSVD's attention executed on numbers: the lowering of :mod:`.lower`, as in
:mod:`tilewright.sim.numbers.interpreter`. What tiles hold is found in the slots that the lowering reserved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.low_rank.costs import LowRankCosts
from tilewright.sim.dataflows.low_rank.lower import FLASH_SVD, At, LowRankCore
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.mapping import Tiling, check_tiling
from tilewright.sim.numbers.hazards import Execution, FloatArray, HazardError, Place, Store
from tilewright.sim.numbers.interpreter import interpret, operation
from tilewright.workloads.low_rank import LowRankAttentionLayer

__all__ = ["run_low_rank_on_numbers"]

_POOLS = {"q": "rows of queries", "k": "rows of keys", "v": "rows of values"}


def run_low_rank_on_numbers(
    layer: LowRankAttentionLayer,
    machine: MachineSpec,
    tiling: Tiling,
    rows: Mapping[str, FloatArray],
    factors: Mapping[str, FloatArray],
    biases: Mapping[str, FloatArray],
) -> FloatArray:
    """The result (groups, heads, query_len, value_dim), as the commands of ``tiling`` compute it on one core.

    By "q", "k" and "v": ``rows`` P (groups, length, rank), ``factors`` U (groups, heads, width, rank), ``biases``
    (groups, heads, width), zeros where the layer has none. Raises HazardError when a command uses data that is not
    there.
    """
    check_tiling(FLASH_SVD, layer, tiling)
    costs = LowRankCosts(layer, machine)
    (phase,) = FLASH_SVD.phases
    builder = ProgramBuilder(TileCore.engines(1), LowRankCore.channels(costs, tiling), unroll=True)
    core = LowRankCore(costs, n_groups=layer.groups, builder=builder)
    phase.lower(core, tiling)
    chip = _Chip(core, layer, rows, factors, biases, kept=bool(tiling["kept"]))
    interpret(builder.build(), chip)
    if np.isnan(chip.y).any():
        raise HazardError("a result was never stored to DRAM")
    return chip.y


class _Chip:
    """DRAM arrays and the pools."""

    def __init__(
        self,
        core: LowRankCore,
        layer: LowRankAttentionLayer,
        rows: Mapping[str, FloatArray],
        factors: Mapping[str, FloatArray],
        biases: Mapping[str, FloatArray],
        *,
        kept: bool,
    ) -> None:
        self.kept = kept
        self.layer, self.rows, self.factors, self.biases = layer, rows, factors, biases
        self.y = np.full((layer.groups, layer.heads, layer.query_len, layer.value_dim), np.nan)
        self.stores = {pool.name: Store(pool.name, pool.slots) for pool in core.pools.values()}
        self.stores["row maxima and sums"] = Store("row maxima and sums", 2)

    def place(self, pool: str, tag: str) -> Place:
        return Place(self.stores[pool], tag)

    def p(self, at: At, what: str) -> Place:
        """Rows of P: of a block of queries, or of a tile of keys; kept ones serve all heads and blocks, others one."""
        span = at.query if what == "q" else at.key
        user = f"group {at.group}" if self.kept else self.block(at)
        return self.place(_POOLS[what], f"rows {span.start} of {user}")

    def head(self, at: At) -> str:
        return f"head {at.head.start} of group {at.group}"

    def block(self, at: At) -> str:
        return f"queries {at.query.start} of {self.head(at)}"

    def tile(self, at: At) -> str:
        return f"keys {at.key.start} of {self.block(at)}"

    def made(self, at: At, what: str) -> Place:
        return self.place(what.upper(), self.block(at) if what == "q" else self.tile(at))


def _range(span: Span) -> slice:
    return slice(span.start, span.start + span.size)


@operation("svd_u")
def _load_factors(chip: _Chip, run: Execution, at: At) -> None:
    where = (at.group, at.head.start)
    joined = [np.column_stack([chip.factors[one][where], chip.biases[one][where]]) for one in "qkv"]
    run.write(chip.place("factors", chip.head(at)), "U", np.concatenate(joined), opens=True)


@operation("svd_rows")
def _load_rows(chip: _Chip, run: Execution, at: At, what: str) -> None:
    span = at.query if what == "q" else at.key
    run.write(chip.p(at, what), "P", chip.rows[what][at.group, _range(span)], opens=True)


@operation("svd_make")
def _make(chip: _Chip, run: Execution, at: At, what: str) -> None:
    width = chip.layer.head_dim
    first = {"q": 0, "k": width, "v": 2 * width}[what]
    u = run.read(chip.place("factors", chip.head(at)), "U")[first : None if what == "v" else first + width]
    made = run.read(chip.p(at, what), "P") @ u[:, :-1].T + u[:, -1]
    run.write(chip.made(at, what), "made", made, opens=True)


@operation("svd_scores")
def _scores(chip: _Chip, run: Execution, at: At) -> None:
    q, k = (run.read(chip.made(at, what), "made") for what in "qk")
    run.write(chip.place("S/P", chip.tile(at)), "S", q @ k.T / math.sqrt(chip.layer.head_dim), opens=True)


@operation("svd_softmax")
def _softmax(chip: _Chip, run: Execution, at: At) -> None:
    s = run.read(chip.place("S/P", chip.tile(at)), "S")
    kept, summed = chip.place("row maxima and sums", chip.block(at)), chip.place("O", chip.block(at))
    highest = s.max(axis=1, keepdims=True)
    total = np.zeros_like(highest)
    if not at.key.first:
        before, total = np.split(run.read(kept, "rows"), 2, axis=1)
        highest = np.maximum(highest, before)
        smaller = np.exp(before - highest)
        total = total * smaller
        run.write(summed, f"to key {at.key.start}", run.read(summed, f"with key {at.key.start}") * smaller)
    powers = np.exp(s - highest)
    total = total + powers.sum(axis=1, keepdims=True)
    run.write(kept, "rows", np.concatenate([highest, total], axis=1), opens=at.key.first)
    run.write(chip.place("S/P", chip.tile(at)), "P", powers)


@operation("svd_values")
def _values(chip: _Chip, run: Execution, at: At) -> None:
    place = chip.place("O", chip.block(at))
    o = run.read(chip.place("S/P", chip.tile(at)), "P") @ run.read(chip.made(at, "v"), "made")
    if not at.key.first:
        o = o + run.read(place, f"to key {at.key.start}")
    run.write(place, f"with key {at.key.start + at.key.size}", o, opens=at.key.first)


@operation("svd_normalise")
def _normalise(chip: _Chip, run: Execution, at: At) -> None:
    place = chip.place("O", chip.block(at))
    total = run.read(chip.place("row maxima and sums", chip.block(at)), "rows")[:, 1:]
    run.write(place, "O", run.read(place, f"with key {chip.layer.key_len}") / total)


@operation("svd_store")
def _store(chip: _Chip, run: Execution, at: At) -> None:
    where = (at.group, at.head.start, _range(at.query))
    run.store(chip.y, where, run.read(chip.place("O", chip.block(at)), "O"))
