"""Two precisions within one product: by blocks of the sum (COMET) or by output channels (MixLLM)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Self

from tilewright.errors import InputError
from tilewright.formats import tensor_bits
from tilewright.hw_models.quantised.demand import (
    ElementWork,
    ProductWork,
    Step,
    check_shape,
    fitting_format,
    moved_bytes,
    n_groups,
)
from tilewright.units import bits_to_bytes

__all__ = ["MixedBlocks", "MixedChannels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedBlocks:
    """W4Ax: activations with outliers in blocks of 8 bits, all others and the weights in 4 bits: COMET.

    Channels are permuted so that outliers gather in ``share_high`` of the blocks of ``block`` channels. Those blocks
    multiply at the rate of int8, after their weights were widened with two operations each; the rest at int4's. A
    block's sum is scaled by a multiplication and added. ``spread``: the wide blocks lie evenly along k, any part of
    the product has its share of them; else they are counted whole.
    """

    name: str = "comet"
    share_high: Fraction = Fraction(1, 4)
    block: int = 128
    results: str = "fp16"
    spread: bool = False
    source: str = "Liu et al., COMET, ASPLOS 2025, arXiv 2410.12168"
    assumptions: tuple[str, ...] = (
        "blocks of both kinds share the multipliers evenly, as the published schedule arranges it",
    )

    @property
    def pair(self) -> str:
        return "int4 x int4"

    @property
    def group(self) -> int:
        return self.block

    @property
    def prepared_bits(self) -> tuple[int | None, int | None]:
        return (8 if self.share_high else None), None

    def for_product(self, weights: str, activations: str, m: int, k: int, n: int) -> Self | None:
        own = f"int4-g{self.block}"
        if any(fitting_format(own, given) != own for given in (weights, activations)):
            return None
        return replace(self, share_high=Fraction(self._high(k), k), spread=True)

    def stored_bits(self, m: int, k: int, n: int) -> tuple[int, int]:
        own = f"int4-g{self.block}"
        activations = tensor_bits(own, (m, k)) + 4 * m * self._high(k)
        return tensor_bits(own, (k, n), axis=0), ceil(activations)

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        check_shape(m, k, n)
        _check_share(self.name, self.share_high)
        blocks, high = n_groups(k, self.block), self._high(k)
        return (
            Step(
                name="multiply blocks",
                products=self._products(m, k, n),
                elements=(
                    ElementWork(kind="add", n_elements=ceil(2 * high * n), why="4-bit weights widened", at="weights"),
                    ElementWork(kind="mul", n_elements=m * n * blocks, why="scale of a block", at="sums"),
                    ElementWork(kind="add", n_elements=m * n * blocks, why="sum over blocks", at="sums"),
                ),
                read_bytes=sum(map(bits_to_bytes, self.stored_bits(m, k, n))),
                write_bytes=moved_bytes(self.results, m, n),
                n_sums=blocks,
            ),
        )

    def _high(self, k: int) -> int | Fraction:
        """Channels of 8 bits: whole blocks, but where they are spread."""
        if self.spread:
            return self.share_high * k
        return min(round(self.share_high * n_groups(k, self.block)) * self.block, k)

    def _products(self, m: int, k: int, n: int) -> tuple[ProductWork, ...]:
        if self.spread:
            return _parts(m, k, n, (("int4", 1 - self.share_high), ("int8", self.share_high)))
        high = int(self._high(k))
        return tuple(
            ProductWork(m=m, k=extent, n=n, number_format=number_format)
            for extent, number_format in ((k - high, "int4"), (high, "int8"))
            if extent
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedChannels:
    """W4.4A8: ``share_high`` of the output channels with 8-bit weights, the others with 4 bits and zero points: MixLLM.

    All products are int8 by int8 in groups of ``group``; 4-bit weights are unpacked with one operation. A group's sum
    becomes a float by its start value (no operation), is multiplied by the two scales and added. ``spread``: any part
    of the product has its share of both; else wide channels are counted whole.
    """

    name: str = "mixllm"
    share_high: Fraction = Fraction(1, 10)
    group: int = 128
    results: str = "fp16"
    spread: bool = False
    source: str = "Zheng et al., MixLLM, MLSys 2026, arXiv 2412.14590"
    assumptions: tuple[str, ...] = ("the product of a weight's and an activation's scale costs a multiplication",)

    @property
    def pair(self) -> str:
        return "int4 x int8"

    @property
    def prepared_bits(self) -> tuple[int | None, int | None]:
        return 8, None

    def for_product(self, weights: str, activations: str, m: int, k: int, n: int) -> Self | None:
        narrow, wide = self._narrow, f"int8-g{self.group}"
        if fitting_format(narrow, weights) != narrow or fitting_format(wide, activations) != wide:
            return None
        return replace(self, share_high=Fraction(self._high(n), n), spread=True)

    def stored_bits(self, m: int, k: int, n: int) -> tuple[int, int]:
        high = self._high(n)
        narrow, wide = (tensor_bits(name, (k, 1), axis=0) for name in (self._narrow, f"int8-g{self.group}"))
        return ceil(narrow * (n - high) + wide * high), tensor_bits(f"int8-g{self.group}", (m, k))

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        check_shape(m, k, n)
        _check_share(self.name, self.share_high)
        groups, low = n_groups(k, self.group), n - self._high(n)
        return (
            Step(
                name="multiply channels",
                products=self._products(m, k, n),
                elements=(
                    ElementWork(
                        kind="sub", n_elements=ceil(k * low), why="4-bit weights unpacked, zero point", at="weights"
                    ),
                    ElementWork(kind="mul", n_elements=2 * m * n * groups, why="scales of a group", at="sums"),
                    ElementWork(kind="add", n_elements=m * n * groups, why="sum over groups", at="sums"),
                ),
                read_bytes=sum(map(bits_to_bytes, self.stored_bits(m, k, n))),
                write_bytes=moved_bytes(self.results, m, n),
                n_sums=groups,
            ),
        )

    @property
    def _narrow(self) -> str:
        return f"int4-g{self.group}-asym"

    def _high(self, n: int) -> int | Fraction:
        """Channels with weights of 8 bits: whole ones, but where they are spread."""
        return self.share_high * n if self.spread else round(self.share_high * n)

    def _products(self, m: int, k: int, n: int) -> tuple[ProductWork, ...]:
        if self.spread:
            return (ProductWork(m=m, k=k, n=n, number_format="int8"),)
        high = int(self._high(n))
        return tuple(ProductWork(m=m, k=k, n=extent, number_format="int8") for extent in (n - high, high) if extent)


def _parts(m: int, k: int, n: int, parts: tuple[tuple[str, Fraction], ...]) -> tuple[ProductWork, ...]:
    return tuple(ProductWork(m=m, k=k, n=n, number_format=name, part=part) for name, part in parts if part)


def _check_share(name: str, share: Fraction) -> None:
    if not 0 <= share <= 1:
        raise InputError(f"{name}: share_high out of range; given {share}; allowed 0 to 1")
