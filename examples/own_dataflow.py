"""Write a dataflow of your own: attention without overlap of loads and work, as simple as it gets.

A lowering is a loop nest that issues commands; semaphores ("slot free", "tile ready") bind them. Registered, it is
searched, bounded and simulated like the built-in ones, and can be run on numbers. Run with:
python examples/own_dataflow.py
"""

import numpy as np

import tilewright
from tilewright.sim.dataflows.attention import parts
from tilewright.sim.dataflows.attention.numbers.run import run_on_numbers
from tilewright.sim.lowering.mapping import Dataflow, Phase, register
from tilewright.workloads.attention_reference import reference_attention


def lower(core, tiling):
    """Scores, softmax and values of one row block after the other, one row block on chip."""
    data = parts.Operands(core, tiling)
    s, joins = parts.score_pool(core, tiling, slots=1), parts.joins_of(core, tiling)
    made, done = core.semaphore("S ready"), core.semaphore("P ready")
    for (block,) in core.windows(core.row_blocks(tiling["query"], tiling["key"], resident=data.resident), 1):
        parts.scores_stage(core, data, block, first_waits=[s.free], last_signals=[made])
        joins.load_row(core, block)
        parts.softmax_stage(core, block, data.key, joins, first_waits=[made], last_signals=[done])
        parts.values_stage(core, data, block, first_waits=[done], last_signals=[s.free])


simple = register(
    Dataflow(
        name="simple",
        summary="one row block at a time",
        source="this example",
        phases=(Phase(name="attention", parameters=parts.STANDARD, lower=lower, legal=parts.legal),),
    )
)

result = tilewright.simulate("bert-base", "edge-16x16", dataflow="simple")
print(f"simple: {result.cycles:,} cycles, {result.bound_ratio:.2f} times the bound, tiling {result.tiling}")

layer = tilewright.load_workload("attention:heads=2,seq=50,head_dim=8")
machine = tilewright.load_machine("edge-16x16")
q, k, v = np.random.default_rng(0).normal(size=(3, 1, 2, 50, 8))
ours = run_on_numbers(simple, layer, machine, {"query": 16, "key": 16, "depth": 2, "resident": 0}, q, k, v)
print("equals attention:", np.allclose(ours, reference_attention(layer, q, k, v), rtol=1e-12))
