"""Ways to quantise a weight tensor: each gives the values that come back, and the bits that they take.

Weights are (out channels, …); all but the first axis are one, along which groups lie. All methods are deterministic.

* ``uniform``: symmetric integers, one scale a channel, the clip of least squared error among 80.
* ``kmeans``: a codebook of 2^bits values a channel; ``kmeans_all``: one for the whole tensor (Qua2SeDiMo).
* ``float``: a small floating-point format in groups of 128 with a real-valued bias; the largest value that the group's
  grid reaches is searched for least squared error (FP4DiT's grid; all codes are numbers, subnormals included).
* ``log``: a sign and magnitudes in equal steps of the logarithm, with the span of least squared error a channel (in the
  manner of LRQ-DiT's twin-log; its exact intervals were not available).
* ``block``: a format with group scales as it is defined (MXFP4, NVFP4, …); ``block_hadamard`` turns each group of 32 by
  a Hadamard matrix first and back afterwards, as if the activations were turned too (MR-GPTQ).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tilewright.errors import InputError
from tilewright.formats import element_format, format_bits, number_format, tensor_format
from tilewright.registry import Registry

__all__ = ["METHODS", "QuantisedWeights", "default_method", "float_grid", "hadamard", "quantise_weights"]

Tensor = Any  # torch.Tensor; torch is optional

_CLIPS = 80
_GROUP = 128
_SCALE_BITS = 16
_HADAMARD = 32


@dataclass(frozen=True, slots=True)
class QuantisedWeights:
    """``values``: what the stored weights stand for, in their shape and type; ``n_bits``: with scales and tables."""

    values: Tensor
    n_bits: int


def quantise_weights(weights: Tensor, number_format: str, method: str = "") -> QuantisedWeights:
    """``weights`` (out, …) in ``number_format`` by ``method`` (empty: :func:`default_method`).

    Raises InputError for an unknown format or method and for a method that does not have the format.
    """
    name = method or default_method(number_format)
    quantised = METHODS.get(name)
    rows = weights.detach().reshape(weights.shape[0], -1)
    found = quantised(rows.double(), number_format)
    return QuantisedWeights(found.values.reshape(weights.shape).to(weights.dtype), found.n_bits)


def default_method(name: str) -> str:
    """``uniform`` for integers, ``float`` for small floats, ``block`` for formats that say how they are scaled."""
    if tensor_format(name).scale is not None:
        return "block"
    if number_format(name).kind == "integer":
        return "uniform"
    return "float" if format_bits(name) < 8 else "block"


def _uniform(rows: Tensor, name: str) -> QuantisedWeights:
    import torch

    largest = 2 ** (_integer_bits(name, "uniform") - 1) - 1
    best, least = rows, None
    reach = rows.abs().amax(1, keepdim=True).clamp_min(1e-30)
    for share in torch.linspace(1.0, 0.2, _CLIPS, dtype=rows.dtype):
        scale = reach * share / max(largest, 0.5)
        values = (rows / scale).round().clamp(-largest - 1, largest) * scale
        best, least = _better(rows, values, best, least)
    return QuantisedWeights(best, rows.numel() * format_bits(name) + rows.shape[0] * _SCALE_BITS)


def _kmeans(rows: Tensor, name: str) -> QuantisedWeights:
    n_codes = 2 ** _integer_bits(name, "kmeans")
    values = _lloyd(rows, n_codes)
    table_bits = rows.shape[0] * min(n_codes, rows.shape[1]) * _SCALE_BITS
    return QuantisedWeights(values, rows.numel() * format_bits(name) + table_bits)


def _kmeans_all(rows: Tensor, name: str) -> QuantisedWeights:
    n_codes = 2 ** _integer_bits(name, "kmeans_all")
    values = _lloyd(rows.reshape(1, -1), n_codes).reshape(rows.shape)
    return QuantisedWeights(values, rows.numel() * format_bits(name) + n_codes * _SCALE_BITS)


def _lloyd(rows: Tensor, n_codes: int, n_rounds: int = 30) -> Tensor:
    """Each row's values by the nearest of its ``n_codes`` means; it begins with quantiles, so it is repeatable."""
    import torch

    ordered = rows.sort(1).values
    at = ((torch.arange(n_codes, dtype=rows.dtype) + 0.5) / n_codes * rows.shape[1]).long()
    codes = ordered[:, at.clamp(max=rows.shape[1] - 1)].contiguous()
    nearest = torch.zeros_like(rows, dtype=torch.long)
    for _ in range(n_rounds):
        borders = ((codes[:, 1:] + codes[:, :-1]) / 2).contiguous()
        nearest = torch.searchsorted(borders, rows.contiguous())
        total = torch.zeros_like(codes).scatter_add_(1, nearest, rows)
        count = torch.zeros_like(codes).scatter_add_(1, nearest, torch.ones_like(rows))
        codes = torch.where(count > 0, total / count.clamp_min(1), codes).sort(1).values
    borders = ((codes[:, 1:] + codes[:, :-1]) / 2).contiguous()
    return codes.gather(1, torch.searchsorted(borders, rows.contiguous()))


def _float(rows: Tensor, name: str) -> QuantisedWeights:
    import torch

    element = number_format(element_format(name))
    if element.kind != "float":
        raise InputError(f'weight method float: given "{name}"; allowed a floating-point format, as fp4_e2m1')
    groups, n_kept = _in_groups(rows, _GROUP)
    reach = groups.abs().amax(1, keepdim=True).clamp_min(1e-30)
    best, least = groups, None
    for share in torch.linspace(1.2, 0.5, _CLIPS // 2, dtype=rows.dtype):
        values = float_grid(groups, reach * share, element.exponent_bits, element.mantissa_bits)
        best, least = _better(groups, values, best, least)
    n_bits = rows.numel() * element.bits + groups.shape[0] * _SCALE_BITS
    return QuantisedWeights(best.reshape(rows.shape[0], -1)[:, :n_kept], n_bits)


def float_grid(values: Tensor, largest: Tensor, exponent_bits: int, mantissa_bits: int) -> Tensor:
    """``values`` on the grid of a small float whose largest magnitude is ``largest``; FP4DiT, arXiv 2503.15465.

    bias = 2^E - log2(largest) + log2(2 - 2^-M) - 1; the step at x is 2^(max(1, floor(log2 |x| + bias)) - M - bias).
    """
    import torch

    bias = 2**exponent_bits - torch.log2(largest) + math.log2(2 - 2**-mantissa_bits) - 1
    clipped = values.clamp(-largest, largest)
    exponent = (torch.log2(clipped.abs().clamp_min(1e-300)) + bias).floor().clamp_min(1)
    step = torch.exp2(exponent - mantissa_bits - bias)
    return ((clipped / step).round() * step).clamp(-largest, largest)


def _log(rows: Tensor, name: str) -> QuantisedWeights:
    import torch

    n_levels = 2 ** (_integer_bits(name, "log") - 1)
    reach = rows.abs().amax(1, keepdim=True).clamp_min(1e-30)
    depth = torch.log2((rows.abs() / reach).clamp_min(1e-30))
    best, least = rows, None
    for span in torch.linspace(1.0, 8.0, _CLIPS // 2, dtype=rows.dtype):  # powers of two between largest and least
        step = span / max(1, n_levels - 1)
        level = (depth / -step).round().clamp(0, n_levels - 1)
        best, least = _better(rows, rows.sign() * reach * torch.exp2(-level * step), best, least)
    return QuantisedWeights(best, rows.numel() * format_bits(name) + 2 * rows.shape[0] * _SCALE_BITS)


def _block(rows: Tensor, name: str) -> QuantisedWeights:
    import torch

    from tilewright.hw_models.quantise import dequantise, quantise

    tensor = quantise(rows.numpy(), name)
    return QuantisedWeights(torch.from_numpy(dequantise(tensor)), tensor.n_bits)


def _block_hadamard(rows: Tensor, name: str) -> QuantisedWeights:
    groups, n_kept = _in_groups(rows, _HADAMARD)
    turn = hadamard(_HADAMARD).to(rows.dtype)
    turned = _block((groups @ turn).reshape(rows.shape[0], -1), name)
    back = (turned.values.reshape(-1, _HADAMARD) @ turn.T).reshape(rows.shape[0], -1)[:, :n_kept]
    return QuantisedWeights(back, turned.n_bits)


def hadamard(size: int) -> Tensor:
    """The orthogonal Hadamard matrix of ``size``, a power of two (Sylvester's construction)."""
    import torch

    matrix = torch.ones(1, 1, dtype=torch.float64)
    while matrix.shape[0] < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return matrix / math.sqrt(size)


#: ``method(rows, name of the format)`` by name.
METHODS: Registry[Callable[[Tensor, str], QuantisedWeights]] = Registry("weight method")

for _method in (_uniform, _kmeans, _kmeans_all, _float, _log, _block, _block_hadamard):
    METHODS.register(_method.__name__.removeprefix("_"), _method)


def _integer_bits(name: str, method: str) -> int:
    if tensor_format(name).scale is not None or number_format(name).kind != "integer":
        raise InputError(f'weight method {method}: given "{name}"; allowed int1 to int16')
    return format_bits(name)


def _in_groups(rows: Tensor, size: int) -> tuple[Tensor, int]:
    """``rows`` in groups of ``size`` (a short last one filled with zeros), and the length of a row before."""
    import torch

    extent = rows.shape[1]
    padded = torch.nn.functional.pad(rows, (0, -extent % size))
    return padded.reshape(-1, size), extent


def _better(wanted: Tensor, values: Tensor, best: Tensor, least: Tensor | None) -> tuple[Tensor, Tensor]:
    """Row by row the candidate of less squared error."""
    import torch

    error = (values - wanted).square().sum(1, keepdim=True)
    if least is None:
        return values, error
    return torch.where(error < least, values, best), torch.minimum(error, least)
