"""What holds a quantised engine: as a part of a machine it does products of odd shapes rightly, as its steps say."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tilewright.hw_models.quantised.demand import Engine

__all__ = ["check_engine"]

_SHAPES = ((1, 1, 1), (3, 8, 5), (16, 256, 24))


def check_engine(engine: Engine, *, n_examples: int = 30) -> None:
    """``engine`` in every tiling of the products of ``gemm``: numbers, one amount of work, bound, room to the byte.

    Its work does not shrink as the product grows, its bytes are those of its operands at least, and one of its steps
    multiplies. Raises AssertionError, or the error of the command that is wrong, with the smallest case found.
    """
    from tilewright.sim.lowering.mapping import get_dataflow
    from tilewright.testing.dataflows import check_dataflow
    from tilewright.testing.products import on_engine

    assert engine.name and engine.source and engine.assumptions, "a name, a source and assumptions"
    for m, k, n in _SHAPES:
        steps = engine.steps(m, k, n)
        assert sum(step.multiplies for step in steps) == 1, f"one step of {engine.name} multiplies"
        assert sum(step.macs for step in steps) > 0
        twice = engine.steps(2 * m, k, n)
        assert sum(step.macs for step in twice) >= sum(step.macs for step in steps)
        assert sum(step.n_elements for step in twice) >= sum(step.n_elements for step in steps)
        main = next(step for step in steps if step.multiplies)
        assert Fraction(sum(engine.stored_bits(m, k, n)), 8) <= main.read_bytes + 2, "the bytes of both operands"
    check_dataflow(get_dataflow("gemm", "gemm"), n_examples=n_examples, layers=on_engine(engine))
