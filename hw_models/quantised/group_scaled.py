"""Low-bit products first, scales once per group after them: MixPE, and FP4DiT with online activation scales."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, Self

from tilewright.errors import InputError
from tilewright.formats import element_format, tensor_format
from tilewright.hw_models.quantised.demand import (
    ElementWork,
    PairedFormats,
    ProductWork,
    Step,
    check_shape,
    fitting_format,
    moved_bytes,
    n_groups,
)

__all__ = ["MixPE", "OnlineScales"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MixPE(PairedFormats):
    """Shift-and-add multipliers for narrow weights; a group's sum is dequantised once, after its product.

    ``multiply_format`` names the machine's rate of these PEs, and ``slots`` says how many multiplier slots one
    multiply-add takes there (1/4: four share a PE). The scale of a group costs a multiplication and an addition for
    each result and group (with a zero point a subtraction more), on the "vector" unit or on the "array" (as in the
    authors' simulator, where it is one more multiply-add of the array).
    """

    name: str = "mixpe"
    weights: str = "int4-g128"
    activations: str = "int8-token"
    results: str = "fp16"
    multiply_format: str = "int8"
    slots: Fraction = Fraction(1)
    where: Literal["vector", "array"] = "vector"
    source: str = "Zhang et al., MixPE, arXiv 2411.16158"
    assumptions: tuple[str, ...] = ("the scale of a token is applied with that of the last group",)

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        check_shape(m, k, n)
        groups = n_groups(k, _group(self.weights, self.name))
        products = [ProductWork(m=m, k=k, n=n, number_format=self.multiply_format, times=self.slots)]
        elements: tuple[ElementWork, ...] = ()
        if self.where == "array":
            products.append(ProductWork(m=m, k=groups, n=n, number_format=self.multiply_format))
        else:
            elements = _group_scales(self.weights, m, n, groups)
        return (
            Step(
                name="multiply, then scale groups",
                products=tuple(products),
                elements=elements,
                n_sums=groups if elements else 1,
                read_bytes=moved_bytes(self.weights, k, n, axis=0) + moved_bytes(self.activations, m, k),
                write_bytes=moved_bytes(self.results, m, n),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineScales(PairedFormats):
    """Narrow floats with activations quantised while the model runs: FP4DiT.

    Weights in fp4 with a scale for 128 of them, activations in fp8 (E3M4) or fp6 (E2M3) with a scale a token that is
    found online: per activation a maximum, a multiplication and the cast, then the product, then scales of groups and
    of tokens. ``fused``: the quantisation is the end of the operator before, without a pass of its own through memory.
    """

    name: str = "fp4dit"
    weights: str = "fp4_e2m1-g128"
    activations: str = "fp8_e3m4-token"
    inputs: str = "fp16"
    results: str = "fp16"
    multiply_format: str = "fp8_e4m3"
    fused: bool = False
    source: str = "Chen et al., FP4DiT, TMLR 2025, arXiv 2503.15465"
    assumptions: tuple[str, ...] = (
        "no kernel is published: quantisation reads its input twice on chip, once from memory",
        "fp4 by fp8 multiplies at the rate of fp8, as in Blackwell's f8f6f4 instructions",
    )

    @property
    def pair(self) -> str:
        return f"{element_format(self.weights)} x {element_format(self.activations if self.fused else self.inputs)}"

    def for_product(self, weights: str, activations: str, m: int, k: int, n: int) -> Self | None:
        if self.fused:  # what is stored is quantised already
            return PairedFormats.for_product(self, weights, activations, m, k, n)
        narrow = fitting_format(self.weights, weights)
        return replace(self, weights=narrow) if narrow and activations == self.inputs else None

    def steps(self, m: int, k: int, n: int) -> tuple[Step, ...]:
        check_shape(m, k, n)
        groups = n_groups(k, _group(self.weights, self.name))
        narrow = moved_bytes(self.activations, m, k)
        online = (
            ElementWork(kind="max", n_elements=m * k, why="largest of a token", at="activations"),
            ElementWork(kind="mul", n_elements=m * k, why="scale and cast of activations", at="activations"),
        )
        after = (
            *_group_scales(self.weights, m, n, groups),
            ElementWork(kind="mul", n_elements=m * n, why="scale of tokens"),
        )
        multiply = Step(
            name="multiply, then scale groups",
            products=(ProductWork(m=m, k=k, n=n, number_format=self.multiply_format),),
            elements=(*online, *after) if self.fused else after,
            read_bytes=moved_bytes(self.weights, k, n, axis=0) + narrow,
            write_bytes=moved_bytes(self.results, m, n),
            n_sums=groups,
        )
        if self.fused:
            return (multiply,)
        read = moved_bytes(self.inputs, m, k)
        return Step(name="quantise", elements=online, read_bytes=read, write_bytes=narrow, multiplies=False), multiply


def _group_scales(weights: str, m: int, n: int, groups: int) -> tuple[ElementWork, ...]:
    scale = tensor_format(weights).scale
    n_elements = m * n * groups
    works = [
        ElementWork(kind="mul", n_elements=n_elements, why="scale of a group", at="sums"),
        ElementWork(kind="add", n_elements=n_elements, why="sum over groups", at="sums"),
    ]
    if scale is not None and scale.zero_point_bits:
        works.append(ElementWork(kind="sub", n_elements=n_elements, why="zero point of a group", at="sums"))
    return tuple(works)


def _group(weights: str, name: str) -> int:
    scale = tensor_format(weights).scale
    if scale is None or scale.group is None:
        raise InputError(f'{name}: weights need groups; given "{weights}"; allowed formats such as int4-g128')
    return scale.group
