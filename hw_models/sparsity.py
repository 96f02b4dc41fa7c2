"""Multiply-adds with a weight of 0 that a matrix unit leaves out: how much faster it goes, and what it stores.

With a structure (Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv 2104.08378): of every ``of``
neighbours along the sum at most ``kept`` differ from 0; only these are stored, each with an index, and the sum is
of/kept times as short. Weights of a higher density do not have the structure and are dense. Without one, each zero is
left out (as Parashar et al., SCNN, ISCA 2017, do for weights and activations): the sum is 1/density times as short, up
to what the unit can keep up with. Where the indices would take more room than the zeros, weights are stored as they
are.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from tilewright.hw_models.spec import SparsitySpec
from tilewright.units import exact

__all__ = ["Skipping", "skipping"]


class Skipping(NamedTuple):
    """``speed``: how many times as fast products are; ``bits``: bits stored for each weight of the matrix, also a 0."""

    speed: Fraction
    bits: int | Fraction


def skipping(spec: SparsitySpec | None, density: float, bits: int | Fraction) -> Skipping:
    """What becomes of weights of ``bits`` each, of which the share ``density`` is not 0."""
    share = exact(density)
    if spec is None or share == 1:
        return Skipping(Fraction(1), bits)
    index = exact(spec.index_bits)
    if spec.of > 1:
        kept = Fraction(spec.kept, spec.of)
        return Skipping(1 / kept, kept * (bits + index)) if share <= kept else Skipping(Fraction(1), bits)
    return Skipping(min(1 / share, exact(spec.most_speedup)), min(bits, share * (bits + index)))
