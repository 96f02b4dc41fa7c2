"""Are the steps of a schedule the network? On numbers: where every step gets the same inputs, nothing that is kept,
added to or extrapolated may change the result, whatever blocks and parts are left out.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.sim.fusion.reference import FloatArray, network_on_numbers, random_values
from tilewright.sim.kinds.elementwise import FUNCTIONS
from tilewright.workloads.diffusion.blocks import NetworkBlocks, network_blocks
from tilewright.workloads.diffusion.features import StepPlan, plan_steps
from tilewright.workloads.diffusion.step import Schedule, Step
from tilewright.workloads.diffusion.streams import step_stream
from tilewright.workloads.zoo.layers import Layers

N_BLOCKS, ROWS, WIDTH = 4, 6, 8
CELLS = [(f"blocks.{index}", part) for index in range(N_BLOCKS) for part in ("attention", "mlp", "")]


@lru_cache
def network() -> NetworkBlocks:
    """Blocks of attention and a perceptron with residuals, an embedding before and a product behind."""
    b = Layers("small")
    x = b.linear(b.input("latent", (1, ROWS, 4)), WIDTH, "embed")
    for index in range(N_BLOCKS):
        with b.scope("blocks", index):
            y = b.norm(x, "norm1", function="rms", affine=False)
            with b.scope("attention"):
                q, k, v = (b.linear(y, WIDTH, part) for part in ("query", "key", "value"))
                y = b.linear(b.attention(q, k, v, "sdpa", head_dim=WIDTH), WIDTH, "output")
            x = b.elementwise("add", y, x, name="add1")
            with b.scope("mlp"):
                y = b.elementwise("relu", b.linear(b.norm(x, "norm", function="rms", affine=False), 2 * WIDTH, "up"))
                y = b.linear(y, WIDTH, "down")
            x = b.elementwise("add", y, x, name="add2")
    return network_blocks(b.finish([b.linear(x, 4, "last")]))


class Kept:
    """What lies between steps: of each tensor its value or change, then its differences."""

    def __init__(self, values: dict[str, FloatArray]) -> None:
        self.values, self.kept = values, dict[str, list[FloatArray]]()

    def run(self, plan: StepPlan) -> FloatArray:
        """A step: its result, and what it leaves."""
        stream = step_stream(network().stream, plan).stream
        assert stream is not None
        given = dict(self.values)
        for name in stream.inputs:
            tensor, _, what = name.rpartition(".")
            if what.startswith("kept"):
                given[name] = self.kept[tensor][int(what[4:])]
            elif what.startswith("before"):
                given[name] = self.kept[tensor][int(what[6:]) - 1]
            elif name in self.kept:
                given[name] = self.kept[name][0]
        found = network_on_numbers(stream, given)
        for one in plan.leaves:
            value = found[f"{one.tensor}.change"] if one.beside else found[one.tensor]
            self.kept[one.tensor] = [value, *(found[f"{one.tensor}.difference{k + 1}"] for k in range(one.order))]
        return found[stream.outputs[0]]


def full_then(how: str, order: int, cached: list[list[int]]) -> Schedule:
    steps = [Step()]
    for chosen in cached:
        cells = {CELLS[at] for at in chosen}
        whole = {block for block, part in cells if not part}
        kept = frozenset(cell for cell in cells if not cell[1] or cell[0] not in whole)
        steps.append(Step(cached=kept, how=how if kept else "value", order=order if kept else 0))  # type: ignore[arg-type]
    return Schedule(method="random", steps=tuple(steps))


@settings(max_examples=60)
@given(
    how=st.sampled_from([("value", 0), ("residual", 0), ("taylor", 1), ("taylor", 2)]),
    cached=st.lists(st.lists(st.integers(0, len(CELLS) - 1), max_size=5), min_size=1, max_size=5),
)
def test_with_the_same_inputs_every_step_gives_the_network_s_result(
    how: tuple[str, int], cached: list[list[int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FUNCTIONS, "modulate", lambda x, y: x + y)  # type: ignore[arg-type]
        values = random_values(network().stream, 1)
        wanted = network_on_numbers(network().stream, values)[network().stream.outputs[0]]
        kept = Kept(values)
        for plan in plan_steps(network(), full_then(*how, cached)):
            np.testing.assert_allclose(kept.run(plan), wanted, rtol=1e-9, atol=1e-9)


@settings(max_examples=60)
@given(cached=st.lists(st.lists(st.integers(0, len(CELLS) - 1), max_size=5), min_size=1, max_size=6))
def test_what_is_kept_is_what_is_still_to_be_read(cached: list[list[int]]) -> None:
    """Walked step by step: a tensor is kept while the last step that made it, or an earlier one, is still read."""
    plans = plan_steps(network(), full_then("value", 0, cached))
    for plan in plans:
        n_bytes = 0
        for tensor in {one.tensor for earlier in plans for one in earlier.leaves}:
            made = [p.at for p in plans if any(one.tensor == tensor for one in p.leaves)]
            read = [p.at for p in plans if any(one.tensor == tensor for one in p.takes)]
            last = max((at for at in made if at <= plan.at), default=None)
            if last is not None:
                until = min((at for at in made if at > last), default=len(plans))
                is_kept = any(plan.at <= at < until for at in read if at > last)
                n_bytes += network().stream.tensor(tensor).n_bytes * is_kept
        assert plan.kept_bytes == n_bytes
