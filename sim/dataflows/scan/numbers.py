"""Scans executed on numbers: the lowering of :mod:`tilewright.sim.dataflows.scan.lower`, as in
:mod:`tilewright.sim.numbers.interpreter`.

Keys, values, states and results are held in the slots that the lowering reserved. A round's numbers appear where its
last command finishes, by the chunked form or token by token.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.scan.costs import ScanCosts
from tilewright.sim.dataflows.scan.lower import SCAN, Round
from tilewright.sim.dataflows.spans import Span
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.mapping import Tiling, check_tiling
from tilewright.sim.numbers.hazards import Execution, FloatArray, HazardError, Place, Store
from tilewright.sim.numbers.interpreter import interpret, operation
from tilewright.workloads.scan import ScanLayer
from tilewright.workloads.scan_numbers import (
    chunked_decay_scan,
    chunked_delta_scan,
    decay_scan,
    delta_scan,
    selective_scan,
)

__all__ = ["run_scan_on_numbers"]


def run_scan_on_numbers(
    layer: ScanLayer, machine: MachineSpec, tiling: Tiling, given: Mapping[str, FloatArray], state: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Results and last states of a scan of one sequence, as the commands of ``tiling`` compute them.

    ``given``: q, k, v, decays, of the delta rule beta, as in :mod:`tilewright.workloads.scan_numbers` (of the selective
    scan C, B, x and steps by these names, and ``a``); ``state`` lies in the DRAM, and is used where the layer reads it.
    Raises HazardError when a command uses data that is not there.
    """
    check_tiling(SCAN, layer, tiling)
    costs = ScanCosts(layer, machine)
    (phase,) = SCAN.phases
    builder = ProgramBuilder(TileCore.engines(1), phase.core.channels(costs, tiling), unroll=True)
    core = phase.core(costs, n_groups=layer.groups, builder=builder)
    phase.lower(core, tiling)
    chip = _ScanChip(core, layer, given, state)
    interpret(builder.build(), chip)
    if np.isnan(chip.y).any():
        raise HazardError("a result was never stored to DRAM")
    return chip.y, chip.states


class _ScanChip:
    """DRAM arrays and the pools."""

    def __init__(
        self, core: TileCore[ScanCosts], layer: ScanLayer, given: Mapping[str, FloatArray], state: FloatArray
    ) -> None:
        self.layer, self.given = layer, given
        self.y, self.states = np.full(given["v"].shape, np.nan), np.array(state)
        self.stores = {pool.name: Store(pool.name, pool.slots) for pool in core.pools.values()}

    def place(self, pool: str, at: Round) -> Place:
        columns = f"heads {at.heads.start} columns {at.values.start} of group {at.group}"
        if pool == "states":
            return Place(self.stores[pool], columns)
        return Place(self.stores[pool], f"tokens {at.tokens.start} of {columns}")

    def keys(self, at: Round) -> Place:
        """Those of the round, or those that all heads of the chunk share."""
        own, shared = self.place("keys", at), self.place("keys", at._replace(heads=_NONE, values=_NONE))
        return own if own.store.find(own.tag) is not None else shared

    def heads(self, at: Round) -> slice:
        start = at.group * self.layer.heads + at.heads.start
        return slice(start, start + at.heads.size)

    def run(self, at: Round, state: FloatArray | None, *, by_chunk: bool) -> tuple[FloatArray, FloatArray]:
        if self.layer.form == "selective":
            return self._selective(at, state)
        tokens, heads, group = _range(at.tokens), self.heads(at), slice(at.group, at.group + 1)
        part = {name: self.given[name][:, tokens, group] for name in ("q", "k")}
        part["v"] = self.given["v"][:, tokens, heads, _range(at.values)]
        part["decays"] = self.given["decays"][:, tokens, heads]
        if self.layer.is_delta:
            part["beta"] = self.given["beta"][:, tokens, heads]
            if by_chunk:
                return chunked_delta_scan(**part, chunk=at.tokens.size, state=state)
            return delta_scan(**part, state=state)
        if by_chunk:
            return chunked_decay_scan(**part, chunk=at.tokens.size, state=state)
        return decay_scan(**part, state=state)

    def _selective(self, at: Round, state: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        tokens, columns, given = _range(at.tokens), _range(at.values), self.given
        x, step = (given[name][:, tokens, 0, columns] for name in ("v", "decays"))
        b, c = (given[name][:, tokens, 0] for name in ("k", "q"))
        before = None if state is None else state[:, 0].transpose(0, 2, 1)
        y, last = selective_scan(x, step, given["a"][columns], b, c, state=before)
        return y[:, :, None], last.transpose(0, 2, 1)[:, None]


_NONE = Span(0, True, True)
_HERE = np.ones(1)


def _range(span: Span) -> slice:
    return slice(span.start, span.start + span.size)


@operation("scan_keys")
def _load_keys(chip: _ScanChip, run: Execution, at: Round) -> None:
    run.write(chip.place("keys", at), "keys", _HERE, opens=True)


@operation("scan_values")
def _load_values(chip: _ScanChip, run: Execution, at: Round) -> None:
    run.write(chip.place("values", at), "values", _HERE, opens=True)


@operation("scan_state")
def _load_state(chip: _ScanChip, run: Execution, at: Round) -> None:
    has_state = chip.layer.reads_state or not at.tokens.first
    state = chip.states[:, chip.heads(at), :, _range(at.values)]
    run.write(chip.place("states", at), "state", state if has_state else np.zeros_like(state), opens=True)


@operation("scan_from_state")
def _from_state(chip: _ScanChip, run: Execution, at: Round, begins: bool) -> None:
    run.read(chip.keys(at), "keys")
    if not begins:
        run.read(chip.place("states", at), "state")
    run.write(chip.place("results", at), "from state", _HERE, opens=True)


@operation("scan_finish")
def _finish(chip: _ScanChip, run: Execution, at: Round, begins: bool, by_chunk: bool) -> None:
    run.read(chip.keys(at), "keys")
    run.read(chip.place("values", at), "values")
    if by_chunk:
        run.read(chip.place("results", at), "from state")
    state = None if begins else run.read(chip.place("states", at), "state")
    y, new = chip.run(at, state, by_chunk=by_chunk)
    run.write(chip.place("results", at), "results", y, opens=not by_chunk)
    run.write(chip.place("states", at), "state", new, opens=begins)


@operation("scan_results")
def _store_results(chip: _ScanChip, run: Execution, at: Round) -> None:
    where = (slice(None), _range(at.tokens), chip.heads(at), _range(at.values))
    run.store(chip.y, where, run.read(chip.place("results", at), "results"))


@operation("scan_kept")
def _store_state(chip: _ScanChip, run: Execution, at: Round) -> None:
    where = (slice(None), chip.heads(at), slice(None), _range(at.values))
    run.store(chip.states, where, run.read(chip.place("states", at), "state"))
