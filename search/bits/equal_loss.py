"""Bits in closed form, where the loss of a part falls by four with every bit that it gets.

BAQ (arXiv 2506.05664) allocates so within a layer; here for any parts. Quick and smooth, but blind to the machine: the
integer program of :mod:`tilewright.search.bits.program` is never worse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilewright.errors import InputError
from tilewright.formats import bits_per_element
from tilewright.search.bits.problem import Assignment, BitProblem, Decision

__all__ = ["equal_loss_assignment", "equal_loss_bits"]


def equal_loss_assignment(problem: BitProblem, mean_bits: float) -> Assignment:
    """Every decision at the option whose weights are nearest to its bits in closed form (of several, the least
    sensitive).

    A decision's loss at 0 bits is the geometric mean of sensitivity x 4^bits over its options. ``mean_bits`` is the
    average over weights before rounding to options. Raises InputError for a mean that no option allows and for options
    without sensitivity or weights.
    """
    coefficients, counts = [], []
    for decision in problem.decisions:
        losses = [math.log(o.sensitivity) + 2 * math.log(2) * _bits(decision, at)
                  for at, o in enumerate(decision.options) if o.sensitivity > 0]  # fmt: skip
        if not losses or decision.options[0].costs["size"] < 1:
            raise InputError(f"{decision.name}: has no sensitivity, or no weights; allowed to be left out of the table")
        coefficients.append(math.exp(sum(losses) / len(losses)))
        counts.append(max(1, round(decision.options[0].costs["size"] / _bits(decision, 0))))
    widths = [_bits(decision, at) for decision in problem.decisions for at in range(len(decision.options))]
    bits = equal_loss_bits(coefficients, mean_bits, counts=counts, lowest=min(widths), highest=max(widths))
    return tuple(_nearest(decision, wanted) for decision, wanted in zip(problem.decisions, bits, strict=True))


def _bits(decision: Decision, at: int) -> float:
    return float(bits_per_element(decision.options[at].weights))


def _nearest(decision: Decision, wanted: float) -> int:
    options = range(len(decision.options))
    return min(options, key=lambda at: (abs(_bits(decision, at) - wanted), decision.options[at].sensitivity))


def equal_loss_bits(
    coefficients: Sequence[float],
    mean_bits: float,
    *,
    counts: Sequence[int] | None = None,
    lowest: float = 0.0,
    highest: float = math.inf,
) -> tuple[float, ...]:
    """Bits R_i that minimise the sum of c_i 2^(-2 R_i) with ``mean_bits`` on average over ``counts`` values.

    BAQ (arXiv 2506.05664): all parts with free bits lose equally much per value, R_i = level + 0.5 log2(c_i / n_i).
    Parts that would leave [``lowest``, ``highest``] are held at the end of the range and the rest is shared anew: the
    optimum by the conditions of Karush, Kuhn and Tucker. ``coefficients``: loss of each part at 0 bits, more than 0.

    Raises InputError for a coefficient that is not more than 0, or a mean outside the range.
    """
    sizes = list(counts) if counts is not None else [1] * len(coefficients)
    if len(sizes) != len(coefficients) or not coefficients:
        raise InputError(f"counts: given {len(sizes)} for {len(coefficients)} coefficients; allowed as many")
    if min(coefficients) <= 0 or min(sizes) <= 0:
        raise InputError("coefficients: given one of 0 or less; allowed more than 0, and counts of 1 or more")
    if not lowest <= mean_bits <= highest:
        raise InputError(f"mean_bits: given {mean_bits:g}; allowed {lowest:g} to {highest:g}")
    own = [0.5 * math.log2(c / n) for c, n in zip(coefficients, sizes, strict=True)]
    total = mean_bits * sum(sizes)

    def used(level: float) -> float:
        return sum(n * min(max(level + bits, lowest), highest) for n, bits in zip(sizes, own, strict=True))

    # used() rises with the level and is linear between the levels at which a part reaches an end of the range.
    bends = sorted({end - bits for bits in own for end in (lowest, highest) if math.isfinite(end)})
    below = max((level for level in bends if used(level) <= total), default=None)
    above = min((level for level in bends if used(level) > total), default=None)
    if below is not None and above is not None:
        level = below + (above - below) * (total - used(below)) / (used(above) - used(below))
    else:  # beyond the bends no part is held
        start = below if below is not None else above if above is not None else 0.0
        level = start if used(start) == total else start + (total - used(start)) / sum(sizes)
    return tuple(min(max(level + bits, lowest), highest) for bits in own)
