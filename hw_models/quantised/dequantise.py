"""Operands are brought to one wide format before they are multiplied, element by element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tilewright.formats import format_bits, tensor_format
from tilewright.hw_models.quantised.demand import (
    At,
    ElementWork,
    PairedFormats,
    ProductWork,
    Step,
    check_shape,
    moved_bytes,
)

__all__ = ["DequantiseFirst", "Plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain(PairedFormats):
    """Both operands multiplied as they are: the baseline, such as FP16 or W8A8 with one scale a channel.

    ``multiply_format`` names the machine's rate. A scale of channels, tokens or the tensor costs one multiplication of
    each result.
    """

    name: str = "plain"
    weights: str = "fp16"
    activations: str = "fp16"
    results: str = "fp16"
    multiply_format: str = "fp16"
    source: str = "definition of the product"
    assumptions: tuple[str, ...] = ("every operand and result is moved once",)

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        check_shape(m, k, n)
        scaled = [name for name in (self.weights, self.activations) if tensor_format(name).scale is not None]
        return (
            Step(
                name="multiply",
                products=(ProductWork(m=m, k=k, n=n, number_format=self.multiply_format),),
                elements=(ElementWork(kind="mul", n_elements=m * n, why="scale of the results"),) if scaled else (),
                read_bytes=moved_bytes(self.weights, k, n, axis=0) + moved_bytes(self.activations, m, k),
                write_bytes=moved_bytes(self.results, m, n),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DequantiseFirst(PairedFormats):
    """Every weight is turned into ``multiply_format`` before it is multiplied (W4A16 as it runs on GPUs and NPUs).

    Per weight one subtraction, which also makes a float of the code (the exponent trick of Kim et al., "Who says
    elephants can't run", arXiv 2211.10017; with a zero point in the same step) and one multiplication by the scale;
    activations in a scaled format likewise. ``where``: on the "vector" unit, or on the matrix "array" itself, whose
    multipliers then do one product of each weight, as MixPE's study has its baselines. ``weight_passes``: how often a
    weight is dequantised, where a tile of it does not stay on chip for all rows.
    """

    name: str = "w4a16"
    weights: str = "int4-g128-asym"
    activations: str = "fp16"
    results: str = "fp16"
    multiply_format: str = "fp16"
    where: Literal["vector", "array"] = "vector"
    weight_passes: int = 1
    source: str = (
        "Frantar et al., MARLIN, PPoPP 2025, arXiv 2408.11743; Zhang et al., MixPE, arXiv 2411.16158, section 3"
    )
    assumptions: tuple[str, ...] = (
        "two operations for each element: subtract (conversion and zero point), multiply (scale)",
    )

    @property
    def prepared_bits(self) -> tuple[int | None, int | None]:
        bits = format_bits(self.multiply_format)
        return bits, bits if tensor_format(self.activations).scale is not None else None

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        check_shape(m, k, n)
        products = [ProductWork(m=m, k=k, n=n, number_format=self.multiply_format)]
        elements: list[ElementWork] = []
        if self.where == "array":
            scales = ProductWork(m=self.weight_passes, k=k, n=n, number_format=self.multiply_format, at="weights")
            products.append(scales)
        else:
            elements += _dequantised(k * n * self.weight_passes, "weights")
            if tensor_format(self.activations).scale is not None:
                elements += _dequantised(m * k, "activations")
        return (
            Step(
                name="dequantise and multiply",
                products=tuple(products),
                elements=tuple(elements),
                read_bytes=moved_bytes(self.weights, k, n, axis=0) + moved_bytes(self.activations, m, k),
                write_bytes=moved_bytes(self.results, m, n),
            ),
        )


def _dequantised(n_elements: int, at: At) -> tuple[ElementWork, ElementWork]:
    return (
        ElementWork(kind="sub", n_elements=n_elements, why="conversion and zero point", at=at),
        ElementWork(kind="mul", n_elements=n_elements, why="scale of each element", at=at),
    )
