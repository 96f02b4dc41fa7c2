"""Two precisions within one product: by blocks of the sum (COMET) or by output channels (MixLLM)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from tilewright.errors import InputError
from tilewright.hw_models.quantised.demand import ElementWork, ProductWork, Step, check_shape, moved_bytes, n_groups

__all__ = ["MixedBlocks", "MixedChannels"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedBlocks:
    """W4Ax: activations with outliers in blocks of 8 bits, all others and the weights in 4 bits: COMET.

    Channels are permuted so that outliers gather in ``share_high`` of the blocks of ``block`` channels. Those blocks
    multiply at the rate of int8, after their weights were widened with two operations each; the rest at int4's. A
    block's sum is scaled by a multiplication and added.
    """

    name: str = "comet"
    share_high: Fraction = Fraction(1, 4)
    block: int = 128
    results: str = "fp16"
    source: str = "Liu et al., COMET, ASPLOS 2025, arXiv 2410.12168"
    assumptions: tuple[str, ...] = (
        "blocks of both kinds share the multipliers evenly, as the published schedule arranges it",
    )

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        check_shape(m, k, n)
        _check_share(self.name, self.share_high)
        blocks = n_groups(k, self.block)
        high = min(round(self.share_high * blocks) * self.block, k)
        low = k - high
        products = tuple(
            ProductWork(m=m, k=extent, n=n, number_format=number_format)
            for extent, number_format in ((low, "int4"), (high, "int8"))
            if extent
        )
        scaled = f"g{self.block}"
        read = moved_bytes(f"int4-{scaled}", k, n, axis=0)
        read += moved_bytes(f"int4-{scaled}", m, low) + moved_bytes(f"int8-{scaled}", m, high)
        return (
            Step(
                name="multiply blocks",
                products=products,
                elements=(
                    ElementWork(kind="add", n_elements=2 * high * n, why="4-bit weights widened"),
                    ElementWork(kind="mul", n_elements=m * n * blocks, why="scale of a block"),
                    ElementWork(kind="add", n_elements=m * n * blocks, why="sum over blocks"),
                ),
                read_bytes=read,
                write_bytes=moved_bytes(self.results, m, n),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedChannels:
    """W4.4A8: ``share_high`` of the output channels with 8-bit weights, the others with 4 bits and zero points: MixLLM.

    All products are int8 by int8 in groups of ``group``; 4-bit weights are unpacked with one operation. A group's sum
    becomes a float by its start value (no operation), is multiplied by the two scales and added.
    """

    name: str = "mixllm"
    share_high: Fraction = Fraction(1, 10)
    group: int = 128
    results: str = "fp16"
    source: str = "Zheng et al., MixLLM, MLSys 2026, arXiv 2412.14590"
    assumptions: tuple[str, ...] = ("the product of a weight's and an activation's scale costs a multiplication",)

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        check_shape(m, k, n)
        _check_share(self.name, self.share_high)
        high = round(self.share_high * n)
        low = n - high
        groups = n_groups(k, self.group)
        read = moved_bytes(f"int8-g{self.group}", m, k)
        if high:
            read += moved_bytes(f"int8-g{self.group}", k, high, axis=0)
        if low:
            read += moved_bytes(f"int4-g{self.group}-asym", k, low, axis=0)
        return (
            Step(
                name="multiply channels",
                products=tuple(
                    ProductWork(m=m, k=k, n=extent, number_format="int8") for extent in (low, high) if extent
                ),
                elements=(
                    ElementWork(kind="sub", n_elements=k * low, why="4-bit weights unpacked, zero point"),
                    ElementWork(kind="mul", n_elements=2 * m * n * groups, why="scales of a group"),
                    ElementWork(kind="add", n_elements=m * n * groups, why="sum over groups"),
                ),
                read_bytes=read,
                write_bytes=moved_bytes(self.results, m, n),
            ),
        )


def _check_share(name: str, share: Fraction) -> None:
    if not 0 <= share <= 1:
        raise InputError(f"{name}: share_high out of range; given {share}; allowed 0 to 1")
