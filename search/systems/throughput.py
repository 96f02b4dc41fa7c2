"""Most tokens a second that a card makes of requests of one shape: batch by memory, prompts, then steps of decoding.

All sequences of a batch go in step: their prompts first, then a token each until the last. Products are the calibrated
library kernels; attention of a step is bound by the bytes of the cache or by what its numbers take of the lanes (a
server's kernel converts and multiplies them there, for each query head), of which the shorter is hidden but for
the calibrated share. Nothing is fitted to such tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log2

import numpy as np
from numpy.typing import NDArray

from tilewright.errors import InputError
from tilewright.formats import bits_per_element
from tilewright.hw_models.gpu.calibration import load_calibration
from tilewright.hw_models.gpu.parameters import GemmParameters
from tilewright.hw_models.gpu.power import measured_board
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.hw_models.systems.cards import CardSpec
from tilewright.search.gpu.predict import kernel_seconds, kernel_times, one_kernel, predict_with, ready
from tilewright.sim.decoding.time import GPU_SHARE_FROM, gpu_share
from tilewright.sim.gpu.power import kernel_power
from tilewright.workloads.language.model import LanguageModel
from tilewright.workloads.language.served import ServedPrecision
from tilewright.workloads.language.stored import storage_of

__all__ = ["Throughput", "largest_batch", "product_times", "throughput"]

_MEMORY_USED = 0.9  # of the card's, as servers are told by default
_RUNTIME_BYTES = 1_500_000_000  # of the driver's context and the libraries' own buffers
_MOST_SEQUENCES = 256  # that engines are built for
_CHUNK = 16_384  # tokens of prompts in one product
_ALU_LANES = 64  # of a multiprocessor, for integers and conversions
_SMALL_KERNELS = 6  # of a layer beside products and attention
_LEAST_ROWS = 64  # that a tile of int8 products has
_W4A8 = "w4a8"
_BOARD = "h100"  # whose energies stand in for those of a card that was not measured
_NO_LIMIT_W = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """``tokens_per_s`` of a batch, ``prompt_s`` and ``step_s``; of a step what products, cache and lanes take.

    ``fits``: sequences that the memory holds.
    """

    tokens_per_s: float
    batch: int
    fits: int
    prompt_s: float
    step_s: float
    products_s: float
    cache_s: float
    lanes_s: float
    host_s: float

    @property
    def limited_by(self) -> str:
        """What of a step takes longest."""
        parts = {"products": self.products_s, "cache": self.cache_s, "lanes": self.lanes_s, "host": self.host_s}
        return max(parts, key=lambda name: parts[name])


def largest_batch(
    model: LanguageModel, precision: ServedPrecision, card: CardSpec, *, prompt: int, generate: int
) -> int:
    """Sequences of ``prompt`` and ``generate`` tokens that the card's memory holds; below 1: not one.

    In 0.9 of the memory, as servers are told by default; where not one fits there, in all of it.
    """
    storage = storage_of(precision.storage)
    weights = float(storage.n_bytes(model))
    if not model.tied:
        # The table of embeddings stays in 16 bits.
        weights = sum(float(storage.bits(model, one)) / 8 * one.n * one.copies for one in model.weights())
        weights += 2.0 * model.vocabulary * model.hidden
    kept = model.cache_values * model.n_cached_layers * float(bits_per_element(precision.cache)) / 8
    live = 2 * model.intermediate + 3 * model.hidden
    each = kept * (prompt + generate) + prompt * live * precision.workspace_bits / 8
    free = card.memory_bytes - weights - _RUNTIME_BYTES
    usual = int((free - card.memory_bytes * (1 - _MEMORY_USED)) // each)
    return usual if usual >= 1 else min(1, int(free // each))


def throughput(
    model: LanguageModel,
    precision: ServedPrecision,
    card: CardSpec,
    *,
    prompt: int,
    generate: int,
    batch: int = 0,
) -> Throughput:
    """Tokens a second of requests of ``prompt`` and ``generate`` tokens; ``batch`` 0: the largest power of 2 that fits.

    Raises InputError where not one sequence fits.
    """
    if model.experts or model.latent is not None or model.linear is not None:
        raise InputError(f"{model.name}: throughput is told of dense models with keys and values")
    fits = largest_batch(model, precision, card, prompt=prompt, generate=generate)
    if fits < 1:
        raise InputError(f"{model.name} in {precision.name} on {card.machine}: out of memory; allowed {fits} sequences")
    n = batch or min(2 ** int(log2(fits)), _MOST_SEQUENCES)
    prompt_s = _prompts(model, precision, card, n, prompt)
    products = _products(model, precision.products, card.machine, n) + _head(model, card.machine, n)
    cache, lanes = _attention(model, precision, card, n, prompt + generate / 2)
    gpu = card.spec.gpu
    assert gpu is not None
    small = model.layers * _SMALL_KERNELS * gpu.launch_us * 1e-6
    host = n * precision.host_us * 1e-6
    step = products + max(cache, lanes) + _overlap_loss() * min(cache, lanes) + small + host
    return Throughput(
        tokens_per_s=n * generate / (prompt_s + generate * step),
        batch=n,
        fits=fits,
        prompt_s=prompt_s,
        step_s=step,
        products_s=products,
        cache_s=cache,
        lanes_s=lanes,
        host_s=host,
    )


def _overlap_loss() -> float:
    """What compute and memory do not hide of each other: of bf16 products on an A100, as calibrated."""
    return load_calibration(GPU_SHARE_FROM).family("gemm", "bf16").parameters["overlap_loss"]


def _prompts(model: LanguageModel, precision: ServedPrecision, card: CardSpec, n: int, prompt: int) -> float:
    chunks = n * prompt / _CHUNK
    whole = _products(model, precision.products, card.machine, _CHUNK) * chunks
    attention = kernel_seconds(
        card.spec,
        "attention",
        "fa2_prefill",
        batch=max(1, _CHUNK // prompt),
        queries=prompt,
        keys=prompt,
        heads=model.heads,
        kv_heads=model.kv_heads,
        head_dim=model.head_dim,
    )
    return whole + model.layers * attention * n / max(1, _CHUNK // prompt)


def _attention(
    model: LanguageModel, precision: ServedPrecision, card: CardSpec, n: int, context: float
) -> tuple[float, float]:
    """Seconds of the cache's bytes, and of its numbers on the lanes."""
    machine = card.spec
    numbers = n * context * model.cache_values * model.n_cached_layers
    n_bytes = numbers * float(bits_per_element(precision.cache)) / 8
    bandwidth = machine.dram.bandwidth_gb_per_s * 1e9 * gpu_share() * card.memory_share
    slots = machine.n_cores * _ALU_LANES * machine.clock_ghz * 1e9
    looked_at = numbers * (model.heads // model.kv_heads)
    return n_bytes / bandwidth, looked_at * precision.cache_slots / slots


def _products(model: LanguageModel, family: str, machine: str, m: int) -> float:
    """Of all layers, for ``m`` rows."""
    hidden, queries = model.hidden, model.heads * model.head_dim
    keys = model.kv_heads * model.head_dim
    shapes = (
        (queries + 2 * keys, hidden),
        (hidden, queries),
        ((2 if model.gated else 1) * model.intermediate, hidden),
        (hidden, model.intermediate),
    )
    return model.layers * sum(_product(machine, family, m, n, k) for n, k in shapes)


def _product(machine: str, family: str, m: int, n: int, k: int) -> float:
    if family != _W4A8:
        return _kernel(machine, family, m, n, k)
    # The bytes of half as many int8 weights, or the multiply-adds of all at the rate of a long product.
    most = _kernel(machine, "int8_sq", _CHUNK, n, k) * max(m, _LEAST_ROWS) / _CHUNK
    return max(_kernel(machine, "int8_sq", m, n, k // 2), most)


def _head(model: LanguageModel, machine: str, m: int) -> float:
    return _kernel(machine, "bf16", m, model.vocabulary, model.hidden)


@lru_cache(maxsize=4096)
def _kernel(machine: str, family: str, m: int, n: int, k: int) -> float:
    return float(product_times(load_machine(machine), family, [m], n, k)[0])


def product_times(
    spec: MachineSpec, family: str, m: Sequence[int], n: int, k: int, *, memory_share: float = 0.0
) -> NDArray[np.float64]:
    """A library's products of ``m`` rows each, on a card that stands on another's calibration at the clock that its
    own limit leaves. ``memory_share``: of the data sheet's bandwidth (0: the calibration's).
    """
    columns = {"m": m, "n": [n] * len(m), "k": [k] * len(m)}
    seconds = kernel_times(spec, "gemm", family, columns, memory_share=memory_share)
    assert spec.gpu is not None
    if spec.gpu.calibrated_as is None:
        return seconds
    return np.maximum(seconds, _under_own_limit(spec, family, columns, memory_share))


def _under_own_limit(
    spec: MachineSpec, family: str, columns: Mapping[str, Sequence[int]], memory_share: float
) -> NDArray[np.float64]:
    """Seconds of products at the clock that the card's own limit leaves, with all that it draws.

    A calibration that is carried over from another card tells the share of the rate that multiply-adds alone leave;
    here bytes from L2 and DRAM count too, each as an H100's energy counter says (the same process).
    """
    device, parameters, _ = ready(spec, "gemm", family)
    assert isinstance(parameters, GemmParameters)
    if memory_share:
        parameters = replace(parameters, memory_share=memory_share)
    one = one_kernel(spec, "gemm", family, {name: int(values[0]) for name, values in columns.items()})
    rows = {name: np.asarray(values) for name, values in columns.items()}
    found = predict_with(device, parameters, replace(one, columns=rows, seconds=np.ones(len(rows["m"]))))
    board = measured_board(_BOARD)
    assert board is not None and found.activity is not None
    law = replace(board.parameters, static_w=device.power.parameters.static_w)
    unheld = replace(board, parameters=law, limit_w=_NO_LIMIT_W)
    core_bound = found.bound == 1
    at_full_clock = np.where(core_bound, found.seconds * parameters.sustained_share, found.seconds)
    held = kernel_power(unheld, found.activity, at_full_clock, limit_w=device.power_limit_w, core_bound=core_bound)
    return held.seconds
