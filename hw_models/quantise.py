"""Tensors in a scaled format: quantise and dequantise numpy arrays.

How a scale is found:

* power of two (MX, block floating point): 2^(floor(log2 of the largest magnitude) - largest exponent of the element
  format), as the OCP microscaling specification 1.0 has it (section 6.3); E8M0 of ml_dtypes would round to the nearest;
* NVFP4: the tensor's scale maps its largest magnitude to 448 x 6 and is kept in fp32, a group's scale maps its largest
  to 6 and is kept in E4M3 (NVIDIA, "Pretraining large language models with NVFP4", arXiv 2509.25149);
* otherwise: largest magnitude / largest element, or with a zero point the range (0 included) / (2^bits - 1), rounded to
  the scale's format before the elements are divided by it.

Elements are rounded to nearest, ties to even, and saturate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tilewright.errors import InputError
from tilewright.formats import ScaleScheme, TensorFormat, tensor_format
from tilewright.hw_models.number_values import Floats, decode, encode, largest_exponent, largest_value, round_to

__all__ = ["QuantisedTensor", "dequantise", "quantise", "round_trip"]

_LEAST_EXPONENT, _LARGEST_EXPONENT, _E8M0_BIAS = -127, 127, 127


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedTensor:
    """A tensor as it is stored.

    ``codes``: bit patterns of the elements, in the tensor's shape. ``scales``: values of the scales, in the tensor's
    shape with ``axis`` moved to the end and cut into groups, or (1,) for the whole tensor; None for an element format.
    ``zero_points``: whole numbers, as ``scales``. ``tensor_scale``: the one scale of a tensor that also has groups.
    """

    number_format: TensorFormat
    codes: NDArray[np.unsignedinteger[Any]]
    axis: int
    scales: Floats | None = None
    zero_points: Floats | None = None
    tensor_scale: float = 1.0

    @property
    def n_bits(self) -> int:
        """Bits that the tensor takes, scales included."""
        return self.number_format.bits(self.codes.shape, self.axis)

    @property
    def scale_codes(self) -> NDArray[np.unsignedinteger[Any]]:
        """Bit patterns of the scales; raises InputError for an element format, which has none."""
        scheme = self.number_format.scale
        if scheme is None or self.scales is None:
            raise InputError(f'number format "{self.number_format.name}" has no scales; allowed one that is scaled')
        if scheme.scale_format != "e8m0":
            return encode(self.scales, scheme.scale_format)
        _, exponents = np.frexp(self.scales)
        return (exponents - 1 + _E8M0_BIAS).astype(np.uint8)


def quantise(values: ArrayLike, name: str, *, axis: int = -1) -> QuantisedTensor:
    """``values`` (any shape) in tensor format ``name``; ``axis`` is the one that a product sums over.

    Groups lie along ``axis``; a scale per channel or token covers the whole of it. Raises InputError for an unknown
    format, and for NaN or infinity in a scaled one.
    """
    found = tensor_format(name)
    exact = np.asarray(values, dtype=np.float64)
    scheme = found.scale
    if scheme is None:
        return QuantisedTensor(number_format=found, codes=encode(exact, name), axis=axis)
    if not bool(np.isfinite(exact).all()):
        raise InputError(f'number format "{name}": a scale needs numbers; given NaN or infinity; allowed finite values')
    blocks = _blocks(exact, scheme, axis)
    if scheme.zero_point_bits:
        return _asymmetric(found, scheme, exact, blocks, axis)
    tensor_scale = _tensor_scale(found, scheme, exact)
    scales = _scales(found, scheme, np.abs(blocks).max(axis=-1, initial=0.0), tensor_scale)
    steps = _spread(scales, exact, scheme, axis) * tensor_scale * 2.0**scheme.element_exponent
    elements = np.divide(exact, steps, out=np.zeros_like(exact), where=steps > 0)
    largest = largest_value(found.element.name)
    codes = encode(np.clip(elements, -largest, largest), found.element.name)
    return QuantisedTensor(number_format=found, codes=codes, axis=axis, scales=scales, tensor_scale=tensor_scale)


def dequantise(tensor: QuantisedTensor) -> Floats:
    """The values that ``tensor`` stands for, as float64 in its shape: (element - zero point) x scale(s)."""
    scheme, element = tensor.number_format.scale, tensor.number_format.element.name
    if scheme is None or tensor.scales is None:
        return decode(tensor.codes, element)
    if tensor.zero_points is not None:
        elements = tensor.codes.astype(np.float64)
        elements = elements - _spread(tensor.zero_points, elements, scheme, tensor.axis)
    else:
        elements = decode(tensor.codes, element)
    steps = _spread(tensor.scales, elements, scheme, tensor.axis) * tensor.tensor_scale * 2.0**scheme.element_exponent
    return np.asarray(elements * steps)


def round_trip(values: ArrayLike, name: str, *, axis: int = -1) -> Floats:
    """``values`` as they come back from tensor format ``name``."""
    return dequantise(quantise(values, name, axis=axis))


def _asymmetric(found: TensorFormat, scheme: ScaleScheme, exact: Floats, blocks: Floats, axis: int) -> QuantisedTensor:
    n_steps = float(2**found.element.bits - 1)
    low, high = blocks.min(axis=-1, initial=0.0), blocks.max(axis=-1, initial=0.0)
    scales = round_to((high - low) / n_steps, scheme.scale_format)
    zeros = np.divide(-low, scales, out=np.zeros_like(low), where=scales > 0)
    zeros = np.clip(np.rint(zeros), 0.0, n_steps)
    steps = _spread(scales, exact, scheme, axis)
    elements = np.divide(exact, steps, out=np.zeros_like(exact), where=steps > 0)
    elements = np.clip(np.rint(elements) + _spread(zeros, exact, scheme, axis), 0.0, n_steps)
    codes = elements.astype(f"u{1 if found.element.bits <= 8 else 2 if found.element.bits <= 16 else 4}")
    return QuantisedTensor(number_format=found, codes=codes, axis=axis, scales=scales, zero_points=zeros)


def _tensor_scale(found: TensorFormat, scheme: ScaleScheme, exact: Floats) -> float:
    """fp32 scale that brings the largest magnitude to largest scale x largest element; 1 where there is none."""
    if not scheme.tensor_scale_bits:
        return 1.0
    reach = largest_value(scheme.scale_format) * largest_value(found.element.name)
    scale = float(np.float32(np.abs(exact).max(initial=0.0) / reach))
    return scale if scale > 0 else 1.0


def _scales(found: TensorFormat, scheme: ScaleScheme, magnitudes: Floats, tensor_scale: float) -> Floats:
    element = found.element.name
    if scheme.scale_format != "e8m0":
        return round_to(magnitudes / (largest_value(element) * tensor_scale), scheme.scale_format)
    _, exponents = np.frexp(magnitudes)
    exponents = np.where(magnitudes > 0, exponents - 1 - largest_exponent(element) - scheme.element_exponent, -1024)
    ones: Floats = np.ones_like(magnitudes)
    return np.asarray(np.ldexp(ones, np.clip(exponents, _LEAST_EXPONENT, _LARGEST_EXPONENT)))


def _blocks(values: Floats, scheme: ScaleScheme, axis: int) -> Floats:
    """``values`` as (..., values that share a scale); a last group that is short is filled with zeros."""
    if scheme.shared_by == "tensor" or values.ndim == 0:
        return values.reshape(1, -1)
    last = np.moveaxis(values, axis, -1)
    extent = last.shape[-1]
    group = extent if scheme.group is None else scheme.group
    n_groups = -(-extent // group) if group else 1
    padded = np.zeros((*last.shape[:-1], n_groups * group))
    padded[..., :extent] = last
    return padded.reshape(*last.shape[:-1], n_groups, group)


def _spread(scales: Floats, values: Floats, scheme: ScaleScheme, axis: int) -> Floats:
    """The scale of every value, in the shape of ``values``."""
    if scheme.shared_by == "tensor" or values.ndim == 0:
        return np.broadcast_to(scales.reshape(()), values.shape)
    extent = values.shape[axis]
    if scheme.group is None:
        return np.moveaxis(np.broadcast_to(scales, (*scales.shape[:-1], extent)), -1, axis)
    return np.moveaxis(np.repeat(scales, scheme.group, axis=-1)[..., :extent], -1, axis)
