"""The work of one step of decoding: every matrix once, every sequence's cache, what unpacking narrow numbers takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from tilewright.formats import bits_per_element
from tilewright.workloads.language.model import LanguageModel
from tilewright.workloads.language.stored import Storage

__all__ = ["Part", "StepWork", "cache_bytes", "distinct_experts", "step_work"]

#: Experts that a batch uses at least once, of so many, each token taking so many: (experts, top_k, tokens) -> number.
Distinct = Callable[[int, int, int], float]

_STATE_BYTES = 4  # of a number of a state, read and written
_KEPT_BITS = 16  # of activations


def distinct_experts(n_experts: int, top_k: int, n_tokens: int) -> float:
    """Expected experts that at least one of ``n_tokens`` goes to, all choices alike: E (1 - (1 - k/E)^n)."""
    return n_experts * (1 - (1 - top_k / n_experts) ** n_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Products of one kind in a step. ``n_weights``: read, experts that are used counted once; ``n_bytes`` of them;
    ``macs``; ``narrow``: whether they are stored in fewer bits than are multiplied.
    """

    role: str
    n_weights: float
    n_bytes: float
    macs: float
    narrow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """One step of a batch. ``parts``: products with weights; ``cache_read``, ``cache_written``: bytes of caches and
    states; ``cache_values``: numbers of caches that are read; ``attention_macs``: of the products with them, over all
    query heads; ``logits_bytes``: of the results that the host reads. ``element``: what narrow weights are.
    """

    batch: int
    parts: tuple[Part, ...]
    cache_read: float
    cache_written: float
    cache_values: float
    cache_narrow: bool
    attention_macs: float
    logits_bytes: float
    element: str

    @property
    def weight_bytes(self) -> float:
        """Of all products."""
        return sum(part.n_bytes for part in self.parts)

    @property
    def n_bytes(self) -> float:
        """All that passes the memory."""
        return self.weight_bytes + self.cache_read + self.cache_written


def cache_bytes(model: LanguageModel, context: int, cache_format: str = "fp16") -> Fraction:
    """Bytes of one sequence's caches and states behind ``context`` tokens, scales included."""
    bits = bits_per_element(cache_format)
    held = Fraction(0)
    for layer in range(model.layers):
        if model.keeps_cache(layer):
            held += model.visible(layer, context) * model.cache_values * bits / 8
        else:
            held += model.state_values * _STATE_BYTES
    return held


def step_work(
    model: LanguageModel,
    storage: Storage,
    *,
    batch: int = 1,
    context: int = 0,
    cache_format: str = "fp16",
    distinct: Distinct = distinct_experts,
) -> StepWork:
    """Work of one new token for each of ``batch`` sequences behind ``context`` tokens each.

    Matrices are read once a step, of a mixture's experts those that some token of the batch goes to (``distinct``).
    """
    parts = []
    for kind in _kinds(model, storage):
        read = distinct(kind.copies, kind.used, batch) if kind.copies > 1 else 1.0
        parts.append(
            Part(
                role=kind.role,
                n_weights=read * kind.n,
                n_bytes=read * kind.n_bytes,
                macs=float(batch) * kind.used * kind.n,
                narrow=kind.narrow,
            )
        )
    return _with_cache(
        model,
        tuple(parts),
        batch=batch,
        context=context,
        cache_format=cache_format,
        element=storage.element,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """All matrices of a role: weights and bytes of one copy each, of ``copies`` of which a token uses ``used``."""

    role: str
    copies: int
    used: int
    n: int
    n_bytes: float
    narrow: bool


@lru_cache(maxsize=256)
def _kinds(model: LanguageModel, storage: Storage) -> tuple[_Kind, ...]:
    found: dict[tuple[str, int, int], tuple[int, Fraction, bool]] = {}
    for weight in model.weights():
        bits = storage.bits(model, weight)
        key = (weight.role, weight.copies, weight.used)
        n, n_bits, narrow = found.get(key, (0, Fraction(0), False))
        found[key] = (n + weight.n, n_bits + bits * weight.n, narrow or bits < _KEPT_BITS)
    return tuple(
        _Kind(role=role, copies=copies, used=used, n=n, n_bytes=float(n_bits / 8), narrow=narrow)
        for (role, copies, used), (n, n_bits, narrow) in found.items()
    )


def _with_cache(
    model: LanguageModel, parts: tuple[Part, ...], *, batch: int, context: int, cache_format: str, element: str
) -> StepWork:
    bits = float(bits_per_element(cache_format)) / 8
    seen = [model.visible(layer, context) for layer in range(model.layers) if model.keeps_cache(layer)]
    values = batch * sum(seen) * model.cache_values
    states = batch * (model.layers - len(seen)) * model.state_values * _STATE_BYTES
    width = 2 * model.head_dim if model.latent is None else 2 * model.latent.cache_rank + model.latent.rotary
    return StepWork(
        batch=batch,
        parts=parts,
        cache_read=values * bits + states,
        cache_written=batch * len(seen) * model.cache_values * bits + states,
        cache_values=float(values),
        cache_narrow=bits < _KEPT_BITS / 8,
        attention_macs=float(batch * sum(seen) * model.heads * width),
        logits_bytes=4.0 * batch * model.vocabulary,
        element=element,
    )
