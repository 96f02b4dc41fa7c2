"""An attention's lowering executed on numbers, in the order in which its simulated commands finish.

Each phase is lowered without loops, and :mod:`tilewright.sim.numbers.interpreter` runs it. On-chip memory is made of
the slots that the lowering reserved (:mod:`tilewright.sim.numbers.hazards`), DRAM of arrays that hold NaN until
something is stored. The result is softmax(Q K^T / sqrt(E)) V within float64 rounding, or a :class:`HazardError` that
names the command whose synchronisation is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.attention.costs import AttentionCosts
from tilewright.sim.dataflows.attention.numbers import cached, online  # noqa: F401  (what commands do)
from tilewright.sim.dataflows.attention.numbers.chip import Chip, Dram
from tilewright.sim.engine.program import ProgramBuilder
from tilewright.sim.lowering.mapping import Dataflow, Phase, Tiling, check_tiling
from tilewright.sim.numbers.hazards import FloatArray, HazardError
from tilewright.sim.numbers.interpreter import interpret
from tilewright.workloads.attention import AttentionLayer

__all__ = ["HazardError", "run_on_numbers", "run_phase"]


def run_on_numbers(
    dataflow: Dataflow,
    layer: AttentionLayer,
    machine: MachineSpec,
    tiling: Tiling,
    q: npt.ArrayLike,
    k: npt.ArrayLike,
    v: npt.ArrayLike,
    *,
    bias: npt.ArrayLike | None = None,
    sinks: npt.ArrayLike | None = None,
    soft_cap: float | None = None,
    residual: npt.ArrayLike | None = None,
    ratios: npt.ArrayLike | None = None,
) -> FloatArray:
    """The output (batch, query_heads, query_len, value_dim) that ``dataflow`` computes on ``machine``.

    Shapes: ``q`` (batch, query_heads, query_len, head_dim), ``k`` (batch, kv_heads, key_len, head_dim), ``v``
    (batch, kv_heads, key_len, value_dim), finite; ``bias`` (bias_batch, bias_heads, bias_rows, key_len), ``sinks``
    (query_heads), ``soft_cap``, ``residual`` (as the output) and ``ratios`` (batch, query_heads, query_len) for a layer
    that has them. ``tiling`` gives every parameter of the dataflow.

    Raises InputError for a wrong shape or tiling, MappingError when the tiles do not fit the working buffer,
    DeadlockError when the program gets stuck and HazardError when a command uses data that is not there.
    """
    check_tiling(dataflow, layer, tiling)
    missing = [parameter.name for parameter in dataflow.parameters if parameter.name not in tiling]
    if missing:
        raise InputError(f"tile: {dataflow.name} needs every parameter to run on numbers; missing {', '.join(missing)}")
    dram = Dram(layer, q, k, v, bias=bias, sinks=sinks, soft_cap=soft_cap, residual=residual, ratios=ratios)
    if layer.key_parts > 1:
        from tilewright.sim.dataflows.attention.numbers.key_parts import run_key_parts_on_numbers

        return run_key_parts_on_numbers(dataflow, layer, machine, tiling, dram)
    costs = AttentionCosts(layer, machine)
    for phase in dataflow.phases:
        run_phase(phase, costs, tiling, dram)
    return dram.output()


def run_phase(phase: Phase, costs: AttentionCosts, tiling: Tiling, dram: Dram) -> None:
    """One phase on one core, which does all there is."""
    engines, channels = phase.core.engines_for(costs, tiling, 1), phase.core.channels(costs, tiling)
    builder = ProgramBuilder(engines, channels, unroll=True)
    core: Any = phase.core(costs, n_groups=len(dram.k), builder=builder)
    phase.lower(core, tiling)
    program = builder.build()
    if not program.n_commands:  # a merge of parts, where there are none
        return
    (key,) = (p.name for p in phase.parameters if p.name == "key" or p.name.endswith("_key"))
    chip = Chip(dram, core, tiling[key])
    chip.comes_again = core.comes_again(tiling)
    if core.layer.blocks is not None and tiling.get("resident"):
        for name in "KV":
            chip.stores[name].gives_back()
    interpret(program, chip)
