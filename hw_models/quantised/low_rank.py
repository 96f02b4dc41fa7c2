"""4-bit products with a 16-bit side branch of low rank: SVDQuant."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from tilewright.formats import element_format, tensor_bits
from tilewright.hw_models.quantised.demand import (
    ElementWork,
    ProductWork,
    Step,
    check_shape,
    fitting_format,
    moved_bytes,
    n_groups,
)

__all__ = ["LowRankBranch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRankBranch:
    """W4A4 with outliers absorbed by X L1 L2 in 16 bits, L1 of k x rank and L2 of rank x n; ``rank`` 0: no branch.

    Unfused, four kernels follow each other, and the branch reads the inputs and adds to the results in 16 bits once
    more. ``fused`` as in Nunchaku: the down-projection shares the inputs that the quantisation reads, the
    up-projection adds into the results before they leave the 4-bit kernel.
    """

    name: str = "svdquant"
    rank: int = 32
    fused: bool = True
    weights: str = "int4-g64"
    activations: str = "int4-g64"
    wide: str = "fp16"
    multiply_format: str = "int4"
    group: int = 64
    source: str = "Li et al., SVDQuant, ICLR 2025, arXiv 2411.05007"
    assumptions: tuple[str, ...] = (
        "group 64 for int4; smoothing, maximum and scale are three operations for each input",
        "unfused, the up-projection adds into the results in place: read and written once more",
    )

    @property
    def pair(self) -> str:
        return f"{element_format(self.weights)} x {self.wide}"

    @property
    def prepared_bits(self) -> tuple[int | None, int | None]:
        return None, None

    def for_product(self, weights: str, activations: str, m: int, k: int, n: int) -> Self | None:
        narrow = fitting_format(self.weights, weights)
        return replace(self, weights=narrow) if narrow and activations == self.wide else None

    def stored_bits(self, m: int, k: int, n: int) -> tuple[int, int]:
        return tensor_bits(self.weights, (k, n), axis=0), tensor_bits(self.activations, (m, k))

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        check_shape(m, k, n)
        inputs, narrow, results = (
            moved_bytes(self.wide, m, k),
            moved_bytes(self.activations, m, k),
            moved_bytes(self.wide, m, n),
        )
        groups = n_groups(k, self.group)
        quantise = (
            ElementWork(kind="mul", n_elements=2 * m * k, why="smoothing and scale of inputs"),
            ElementWork(kind="max", n_elements=m * k, why="largest of a group"),
        )
        scales = (
            ElementWork(kind="mul", n_elements=m * n * groups, why="scales of a group", at="sums"),
            ElementWork(kind="add", n_elements=m * n * groups, why="sum over groups", at="sums"),
        )
        main = ProductWork(m=m, k=k, n=n, number_format=self.multiply_format)
        weights = moved_bytes(self.weights, k, n, axis=0)
        first = Step(name="quantise", elements=quantise, read_bytes=inputs, write_bytes=narrow, multiplies=False)
        second = Step(
            name="multiply",
            products=(main,),
            elements=scales,
            read_bytes=narrow + weights,
            write_bytes=results,
            n_sums=groups,
        )
        if not self.rank:
            return first, second
        down = ProductWork(m=m, k=k, n=self.rank, number_format=self.wide)
        up = ProductWork(m=m, k=self.rank, n=n, number_format=self.wide, at="results" if self.fused else "sums")
        middle = moved_bytes(self.wide, m, self.rank)
        down_weights, up_weights = moved_bytes(self.wide, k, self.rank), moved_bytes(self.wide, self.rank, n)
        if not self.fused:
            return (
                first,
                second,
                Step(
                    name="down",
                    products=(down,),
                    read_bytes=inputs + down_weights,
                    write_bytes=middle,
                    multiplies=False,
                ),
                Step(
                    name="up",
                    products=(up,),
                    read_bytes=middle + up_weights + results,
                    write_bytes=results,
                    multiplies=False,
                ),
            )
        return (
            Step(
                name="quantise and down",
                products=(down,),
                elements=quantise,
                read_bytes=inputs + down_weights,
                write_bytes=narrow + middle,
                multiplies=False,
            ),
            Step(
                name="multiply and up",
                products=(main, up),
                elements=scales,
                read_bytes=narrow + weights + middle + up_weights,
                write_bytes=results,
                n_sums=groups,
                branch_read_bytes=middle + up_weights,
            ),
        )
