"""How runtimes store weights: bits of a weight by what its matrix is for, scales and zero points included.

Block formats of llama.cpp (``ggml``): a block of Q4_K is 256 weights in 144 bytes (4.5 bits: 4-bit values, eight 6-bit
scales and minima, two fp16), Q5_K 176 (5.5), Q6_K 210 (6.5625), Q8_0 34 bytes for 32 (8.5), Q4_0 18 for 32 (4.5). The
mix Q4_K_M takes Q6_K for the head, and for values and the perceptron's way down in half of the layers: the first and
last eighth, and every third between. With 8 queries a key head and 80 layers, values that are not in Q6_K are in Q5_K.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from tilewright.errors import InputError, unknown
from tilewright.formats import bits_per_element, element_format
from tilewright.workloads.language.model import LanguageModel, Weight

__all__ = ["STORAGES", "Storage", "storage_of"]

_Q4_K, _Q5_K, _Q6_K, _Q8_0 = (
    Fraction(144 * 8, 256),
    Fraction(176 * 8, 256),
    Fraction(210 * 8, 256),
    Fraction(34 * 8, 32),
)
_MXFP4 = Fraction(17 * 8, 32)
_DENSE = Fraction(16)

Bits = Callable[[LanguageModel, Weight], Fraction]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A way to store weights: ``bits`` of one by its matrix; ``told``: in words. ``element``: what
    the narrow ones are; multipliers that take floating-point ones as they are need not have them turned."""

    name: str
    told: str
    bits: Bits
    element: str = "int4"

    def n_bytes(self, model: LanguageModel) -> Fraction:
        """Bytes of all matrices and of the table of embeddings, where that is not the head."""
        held = sum((self.bits(model, weight) * weight.n * weight.copies for weight in model.weights()), Fraction())
        if not model.tied:
            table = Weight(role="embedding", layer=-1, n_out=model.vocabulary, n_in=model.hidden)
            held += self.bits(model, table) * table.n
        return held / 8


def _more_bits(layer: int, n_layers: int) -> bool:
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def _q4_k_m(model: LanguageModel, weight: Weight) -> Fraction:
    if weight.role == "head":
        return _Q6_K
    if weight.role == "router":
        return Fraction(32)
    if weight.role in ("value", "down", "expert_down") and _more_bits(weight.layer, model.layers):
        return _Q6_K
    if weight.role == "value" and model.layers == 80 and model.heads == 8 * model.kv_heads:
        return _Q5_K
    return _Q4_K


def _mxfp4_experts(rest: Fraction) -> Bits:
    """Experts in MXFP4, all else in ``rest`` bits."""
    return lambda _model, weight: _MXFP4 if weight.role in ("expert_up", "expert_down") else rest


def _layers_in(number_format: str, *, head: str = "fp16", tied_head: str | None = None) -> Bits:
    """Matrices of layers in ``number_format``, the head in ``head`` (in ``tied_head`` where it is the embeddings)."""

    def bits(model: LanguageModel, weight: Weight) -> Fraction:
        if weight.role == "head":
            return bits_per_element(tied_head if tied_head is not None and model.tied else head)
        if weight.role == "router":
            return _DENSE
        if weight.role == "embedding":
            return bits_per_element(number_format) if head == number_format != "nvfp4" else _DENSE
        return bits_per_element(number_format)

    return bits


#: The ways that are known, by name.
STORAGES: dict[str, Storage] = {
    storage.name: storage
    for storage in (
        Storage(name="q4_k_m", told="llama.cpp's Q4_K_M", bits=_q4_k_m),
        Storage(
            name="q4_0", told="llama.cpp's Q4_0, head in Q6_K", bits=lambda m, w: _Q6_K if w.role == "head" else _Q4_K
        ),
        Storage(name="q8_0", told="llama.cpp's Q8_0", bits=lambda _m, _w: _Q8_0),
        Storage(name="mxfp4", told="experts in MXFP4, the rest in 16 bits", bits=_mxfp4_experts(_DENSE)),
        Storage(
            name="mxfp4-q8_0",
            told="llama.cpp's MXFP4 MoE: experts in MXFP4, the rest in Q8_0",
            bits=_mxfp4_experts(_Q8_0),
        ),
        Storage(name="awq", told="int4, groups of 128 with fp16 scale, head fp16", bits=_layers_in("int4-g128")),
        Storage(
            name="gptq",
            told="int4, groups of 128 with scale and zero point, head fp16",
            bits=_layers_in("int4-g128-asym"),
        ),
        Storage(
            name="nvfp4",
            told="NVFP4; a head of its own too, one that is the table of embeddings in fp16",
            bits=_layers_in("nvfp4", head="nvfp4", tied_head="fp16"),
            element="fp4_e2m1",
        ),
        Storage(
            name="q4f16_1",
            told="int4, groups of 32 with fp16 scale, head too",
            bits=_layers_in("int4-g32", head="int4-g32"),
        ),
        Storage(name="w4a8", told="int4 by channel, head fp16", bits=_layers_in("int4")),
        Storage(
            name="w4a8-g128", told="int4, groups of 128 in two levels, head fp16", bits=_layers_in("int4-g128-asym")
        ),
        Storage(name="int8", told="int8 by channel, head fp16", bits=_layers_in("int8")),
        Storage(name="int4", told="int4 by channel, head fp16", bits=_layers_in("int4")),
        Storage(name="fp16", told="fp16", bits=lambda _m, _w: _DENSE),
        Storage(name="fp8", told="fp8, head fp16", bits=_layers_in("fp8_e4m3")),
    )
}


def storage_of(name: str) -> Storage:
    """The storage called ``name``, or all matrices in the number format of that name, head included."""
    if name in STORAGES:
        return STORAGES[name]
    try:
        element_format(name)
    except InputError:
        raise unknown("way to store weights", name, STORAGES) from None
    return Storage(name=name, told=name, bits=_layers_in(name, head=name))
