"""Costs of a server's steps on a machine, layer by layer; each number of tokens is worked out once.

A step is the sum over layers of products with its tokens, small kernels, attention of the requests that make tokens
(bytes of their caches) and of prompts (pairs of tokens), exchanges over the link; then the logits. On a GPU with a
calibration these are its library kernels; elsewhere the closed form of decoding (:mod:`tilewright.sim.decoding`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from tilewright.errors import InputError
from tilewright.formats import bits_per_element
from tilewright.hw_models.gpu.calibration import calibration_of
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.gpu.predict import kernel_seconds, kernel_times
from tilewright.search.systems.throughput import product_times
from tilewright.sim.decoding.time import DecodeRates, gpu_share, rates_of, step_time
from tilewright.sim.decoding.work import step_work
from tilewright.sim.serving.costs import Batch, StepCost
from tilewright.workloads.language.model import LanguageModel, Weight
from tilewright.workloads.language.routing import Routing
from tilewright.workloads.language.runtimes import Runtime
from tilewright.workloads.language.stored import Storage
from tilewright.workloads.runs.kinds.serve import ParallelSpec

__all__ = ["ServedModel", "costs_of"]

#: Calibrated products for a way to store weights.
_FAMILIES = {
    "fp16": "bf16",
    "bf16": "bf16",
    "awq": "int4_wo",
    "gptq": "int4_wo",
    "int8": "int8_sq",
    "fp8": "fp8",
}
_WIDE_BYTES = 2
_LONG = 2048  # tokens of a prompt at which attention's rate is asked
_CONTEXT_STEP = 64  # cached tokens between which decoding attention is a line
_PAGE = 256  # numbers of rows that are asked for at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """``model`` in ``storage`` with caches in ``cache_format``, kernels of ``runtime``, experts by ``routing``, over
    devices as ``parallel`` says. ``weights_share``: of the data sheet's bandwidth, at which weights come (0: as the
    kernels' calibration says). ``expert_rows``: for which an expert's weights are loaded once (0: for all of a step).
    """

    model: LanguageModel
    storage: Storage
    cache_format: str
    runtime: Runtime
    routing: Routing
    parallel: ParallelSpec
    weights_share: float = 0.0
    expert_rows: int = 0

    @property
    def expert_bytes(self) -> float:
        """Of one expert of one layer."""
        matrices = [one for one in self.model.weights() if one.copies > 1]
        layers = len({one.layer for one in matrices})
        return sum(float(self.storage.bits(self.model, one)) / 8 * one.n for one in matrices) / max(1, layers)

    @property
    def cache_bytes(self) -> float:
        """Of one token in all layers, on all devices of an engine."""
        bits = float(bits_per_element(self.cache_format))
        return self.model.cache_values * self.model.n_cached_layers * bits / 8

    @property
    def weight_bytes(self) -> float:
        """On one device."""
        whole = float(self.storage.n_bytes(self.model))
        spread = self.parallel.tensor * (self.parallel.engines if self.parallel.experts else 1)
        experts = self.expert_bytes * self.model.experts * self._mixtures
        return (whole - experts) / self.parallel.tensor + experts / spread

    @property
    def _mixtures(self) -> int:
        return sum(self.model.has_experts(layer) for layer in range(self.model.layers))


@dataclass(slots=True)
class _Layers:
    """Of all layers, for a number of tokens."""

    seconds: float
    link_s: float
    n_bytes: float
    macs: float
    expert_bytes: float


class _Costs(ABC):
    """What both ways share: layers by tokens, groups of them, exchanges."""

    told: str = ""

    def __init__(self, served: ServedModel, machine: MachineSpec) -> None:
        self.served, self.machine = served, machine
        self.rates: DecodeRates = rates_of(machine)
        self._known: dict[tuple[int, int], _Layers] = {}
        self._heads: dict[int, float] = {}
        model, parallel = served.model, served.parallel
        self.spread = parallel.tensor * (parallel.engines if parallel.experts else 1)
        self.cache_bytes = served.cache_bytes / parallel.tensor
        head = float(served.storage.bits(model, _head(model))) / 8
        self.head_bytes = head * model.vocabulary * model.hidden / parallel.tensor
        # Both products of attention, of one query with one key, over all layers and the heads of one device.
        self.look_macs = 2.0 * model.n_cached_layers * model.heads * model.head_dim / parallel.tensor
        self.caps_context = bool(model.window)

    def step(self, batch: Batch, *, beside: int = 0) -> StepCost:
        """See :class:`tilewright.sim.serving.costs.StepCosts`."""
        if batch.groups == 1 or not batch.new:
            inside, share = self._layers(batch.tokens, beside), 1.0
            parts: tuple[tuple[_Layers, float], ...] = ((inside, 1.0),)
        else:
            layers = self.served.model.layers
            n = layers // batch.groups + (batch.group < layers % batch.groups)
            share = n / layers
            inside, outside = self._layers(batch.tokens, beside), self._layers(batch.decodes, beside)
            parts = ((inside, share), (outside, 1 - share))
        cost = StepCost(0.0)
        for layers_of, weight in parts:
            cost.seconds += (layers_of.seconds + layers_of.link_s) * weight
            cost.link_s += layers_of.link_s * weight
            cost.n_bytes += layers_of.n_bytes * weight
            cost.macs += layers_of.macs * weight
            cost.expert_bytes += layers_of.expert_bytes * weight
        if batch.decodes:
            cost.seconds += self.decode_attention(batch.decodes, batch.context)
            cost.n_bytes += (batch.context + batch.decodes) * self.cache_bytes
        if batch.new:
            cost.seconds += self.prompt_attention(batch.looks) * share
            cost.n_bytes += (batch.new + batch.prompt_context) * self.cache_bytes * share
        cost.macs += (batch.looks * share + batch.context) * self.look_macs
        if batch.sampled:
            if batch.sampled not in self._heads:
                self._heads[batch.sampled] = self.head(batch.sampled)
            cost.seconds += self._heads[batch.sampled]
            cost.n_bytes += self.head_bytes
            cost.macs += batch.sampled * self.served.model.vocabulary * self.served.model.hidden
        return cost

    def _layers(self, tokens: int, beside: int) -> _Layers:
        key = tokens, beside
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._make(tokens, beside)
        return found

    def _make(self, tokens: int, beside: int) -> _Layers:
        if not tokens and not beside:
            return _Layers(0.0, 0.0, 0.0, 0.0, 0.0)
        seconds, n_bytes, macs = self.products(tokens, beside)
        return _Layers(seconds, self._exchanges(tokens, beside), n_bytes, macs, self._loaded(tokens + beside))

    def _loaded(self, tokens: int) -> float:
        """Bytes of experts that are loaded, of all layers on one device; more than what is read where tiles repeat."""
        served, rows = self.served, self.served.expert_rows
        model = served.model
        if not model.experts:
            return 0.0
        used = self.used_experts(tokens)
        if rows:
            used = served.routing.loads(model.experts, model.top_k, tokens, rows) / self.spread
        return used * served.expert_bytes * sum(model.has_experts(layer) for layer in range(model.layers))

    def _exchanges(self, tokens: int, beside: int) -> float:
        """Seconds of what the layers send: two sums over the devices of an engine, rows to all that hold experts."""
        parallel, model = self.served.parallel, self.served.model
        link = parallel.link
        if link is None:
            return 0.0
        rate, start = link.bandwidth_gb_per_s * 1e9, link.start_us * 1e-6
        row = model.hidden * _WIDE_BYTES
        seconds = 0.0
        if parallel.tensor > 1:
            part = (parallel.tensor - 1) / parallel.tensor
            seconds += 2 * model.layers * (start + 2 * part * tokens * row / rate)
        if parallel.experts:
            mixtures = sum(model.has_experts(layer) for layer in range(model.layers))
            seconds += 2 * mixtures * (start + beside * row / rate)
        return seconds

    def used_experts(self, tokens: int) -> float:
        """Experts of a layer that ``tokens`` go to, on one device."""
        model = self.served.model
        return self.served.routing.distinct(model.experts, model.top_k, tokens) / self.spread

    @abstractmethod
    def products(self, tokens: int, beside: int) -> tuple[float, float, float]:
        """Of all layers: seconds, bytes of weights, multiply-adds."""

    @abstractmethod
    def head(self, rows: int) -> float:
        """Seconds of the logits of ``rows``."""

    @abstractmethod
    def decode_attention(self, n: int, context: int) -> float:
        """Seconds of all layers' attention for ``n`` requests behind ``context`` tokens in all."""

    @abstractmethod
    def prompt_attention(self, looks: int) -> float:
        """Seconds of all layers' attention for ``looks`` pairs of tokens of prompts."""


class _KernelCosts(_Costs):
    """A GPU's library kernels."""

    told = (
        "steps: a GPU's calibrated library kernels for products and attention, one after the other; small kernels as "
        "launches or bytes; attention of prompts by its pairs of tokens at the rate of a prompt of 2,048"
    )

    def __init__(self, served: ServedModel, machine: MachineSpec, family: str) -> None:
        super().__init__(served, machine)
        self.family = family
        gpu = machine.gpu
        assert gpu is not None
        self.launch_s = gpu.launch_us * 1e-6
        self.bandwidth = machine.dram.bandwidth_gb_per_s * 1e9 * gpu_share()
        last = machine.buffers[-1]
        self.l2_bytes = last.capacity_kib * 1024 if last.shared_by_cores else 0
        tensor, model = served.parallel.tensor, served.model
        share = served.weights_share
        self.weights_bandwidth = machine.dram.bandwidth_gb_per_s * 1e9 * (share or gpu_share())
        self.shapes = _shapes(model, tensor)
        self._products = [_Products(machine, family, n, k, share) for n, k in self.shapes]
        self._head = _Products(machine, "bf16", model.vocabulary // tensor, model.hidden, share)
        self.small = _small_bytes(model, tensor)
        hopper = gpu.asynchronous_products
        self.attention = ("fa3_prefill", "fa3_decode") if hopper else ("fa2_prefill", "fa2_decode")
        extents = {"heads": model.heads // tensor, "kv_heads": max(1, model.kv_heads // tensor)}
        self.extents = {**extents, "head_dim": model.head_dim}
        shape = {"batch": 1, "queries": _LONG, "keys": _LONG, **self.extents}
        long = kernel_seconds(machine, "attention", self.attention[0], **shape)
        self.look_s = long * model.n_cached_layers / (_LONG * (_LONG + 1) / 2)
        self.rate = self._expert_rate() if model.experts else 0.0
        self._decoding: dict[int, tuple[float, ...]] = {}

    def _expert_rate(self) -> float:
        """Multiply-adds a second of a long product."""
        n = 4096
        return _LONG * n * n / _Products(self.machine, self.family, n, n, 0.0)(_LONG)

    def products(self, tokens: int, beside: int) -> tuple[float, float, float]:
        model, storage = self.served.model, self.served.storage
        seconds = n_bytes = macs = 0.0
        if tokens:
            seconds = sum(one(tokens) for one in self._products)
            seconds += sum(self._small(tokens * each) for each in self.small)
            weights = sum(n * k for n, k in self.shapes)
            dense = next(one for one in model.weights() if one.role in ("query", "output"))
            n_bytes = weights * float(storage.bits(model, dense)) / 8
            macs = float(tokens) * weights
        if model.experts:
            rows = tokens + beside
            expert_bytes = self.used_experts(rows) * self.served.expert_bytes
            inner = (3 if model.gated else 2) * model.expert_intermediate * model.hidden
            own = rows * model.top_k * inner / self.spread
            seconds += max(expert_bytes / self.weights_bandwidth, own / self.rate) + self._mixture_kernels()
            n_bytes += expert_bytes
            macs += own
        layers = model.layers
        return seconds * layers, n_bytes * layers, macs * layers

    def _mixture_kernels(self) -> float:
        return self.served.runtime.mixture_kernels * self.launch_s

    def _small(self, n_bytes: float) -> float:
        """A kernel that reads and writes ``n_bytes``: a launch, or the memory's time beyond the size of the L2."""
        return self.launch_s if n_bytes <= self.l2_bytes else max(self.launch_s, n_bytes / self.bandwidth)

    def head(self, rows: int) -> float:
        return self._head(rows)

    def decode_attention(self, n: int, context: int) -> float:
        """The kernel at the mean of the caches, between steps of 64 tokens on a line."""
        mean = context / n
        known = self._decoding.get(n, ())
        at = mean / _CONTEXT_STEP
        low = int(at)
        if low + 1 >= len(known):
            known = self._decoding[n] = self._decode_line(n, max(64, 2 * (low + 2)))
        return known[low] + (known[low + 1] - known[low]) * (at - low)

    def _decode_line(self, n: int, size: int) -> tuple[float, ...]:
        keys = [max(1, at * _CONTEXT_STEP) for at in range(size)]
        same = {"batch": n, "queries": 1, **self.extents}
        columns = {"keys": keys, **{name: [value] * size for name, value in same.items()}}
        times = kernel_times(self.machine, "attention", self.attention[1], columns)
        return tuple(float(value) * self.served.model.n_cached_layers for value in times)

    def prompt_attention(self, looks: int) -> float:
        return looks * self.look_s


class _ClosedCosts(_Costs):
    """The closed form of decoding, on any machine."""

    told = (
        "steps: closed form; of each kind of product the longest of bytes, multiply-adds and unpacking, caches by "
        "bytes or lanes, kernels one after the other"
    )

    def products(self, tokens: int, beside: int) -> tuple[float, float, float]:
        served = self.served
        model, tensor = served.model, served.parallel.tensor
        work = step_work(
            model, served.storage, batch=max(1, tokens), cache_format="fp16", distinct=served.routing.distinct
        )
        parts = tuple(part for part in work.parts if part.role != "head")
        own = replace(work, parts=parts, logits_bytes=0.0, cache_read=0.0, cache_written=0.0, cache_values=0.0)
        launches = served.runtime.launches(model)
        timed = step_time(replace(own, attention_macs=0.0), self.machine, served.runtime, launches=launches)
        fixed = timed.seconds_by_part["launches"] + timed.seconds_by_part["step"] + timed.seconds_by_part.get("link", 0)
        seconds = (timed.seconds - fixed) / tensor + fixed
        macs = sum(part.macs for part in parts)
        return seconds, own.weight_bytes / tensor, macs / tensor

    def head(self, rows: int) -> float:
        model, rates = self.served.model, self.rates
        macs = rows * model.vocabulary * model.hidden / self.served.parallel.tensor
        link = 4.0 * rows * model.vocabulary / rates.link_bytes_per_s if rates.link_bytes_per_s else 0.0
        return max(self.head_bytes / rates.bytes_per_s, macs / rates.macs_per_s) + link

    def decode_attention(self, n: int, context: int) -> float:
        slots = 2 * context * self.look_macs / 2
        return max((context + n) * self.cache_bytes / self.rates.bytes_per_s, slots / self.rates.lanes_per_s)

    def prompt_attention(self, looks: int) -> float:
        return looks * self.look_macs / self.rates.macs_per_s


def costs_of(served: ServedModel, machine: MachineSpec) -> _Costs:
    """Library kernels where ``machine`` is a GPU with a calibration that covers the model, else closed forms.

    Raises InputError for devices that the model cannot be shared over.
    """
    model, parallel = served.model, served.parallel
    if model.heads % parallel.tensor or (model.kv_heads % parallel.tensor and parallel.tensor % model.kv_heads):
        raise InputError(
            f"parallel.tensor: given {parallel.tensor} for {model.heads} heads and {model.kv_heads} of the cache; "
            "allowed a divisor of both"
        )
    if parallel.experts and not model.experts:
        raise InputError(f"parallel.experts: {model.name} has no experts; allowed false")
    family = _FAMILIES.get(served.storage.name)
    plain = model.latent is None and model.linear is None and not model.window
    if machine.gpu is not None and family is not None and plain and served.cache_format in ("fp16", "bf16"):
        try:
            calibration_of(machine).family("gemm", family)
            return _KernelCosts(served, machine, family)
        except InputError:
            pass
    if parallel.experts:
        raise InputError("parallel.experts: is told of GPUs with calibrated kernels; allowed false")
    return _ClosedCosts(served, machine)


def _head(model: LanguageModel) -> Weight:
    return next(one for one in model.weights() if one.role == "head")


def _shapes(model: LanguageModel, tensor: int) -> tuple[tuple[int, int], ...]:
    """Columns and depth of the products of a layer on one device, experts left out."""
    queries = model.heads * model.head_dim // tensor
    keys = max(1, model.kv_heads // tensor) * model.head_dim
    shapes = [(queries + 2 * keys, model.hidden), (model.hidden, queries)]
    if model.experts:
        shapes.append((model.experts, model.hidden))
    elif model.intermediate:
        inner = model.intermediate // tensor
        shapes += [((2 if model.gated else 1) * inner, model.hidden), (model.hidden, inner)]
    return tuple(shapes)


def _small_bytes(model: LanguageModel, tensor: int) -> tuple[float, ...]:
    """Bytes for each token of the small kernels of a layer: two norms with sums, rotation, cache, activation."""
    queries, keys = model.heads * model.head_dim // tensor, max(1, model.kv_heads // tensor) * model.head_dim
    inner = (model.top_k * model.expert_intermediate or model.intermediate) // tensor
    numbers = (4 * model.hidden, 4 * model.hidden, 2 * (queries + keys), 4 * keys, 3 * inner)
    return tuple(float(_WIDE_BYTES * one) for one in numbers)


class _Products:
    """Seconds of a product by its rows, 256 numbers of them at a time."""

    def __init__(self, machine: MachineSpec, family: str, n: int, k: int, memory_share: float) -> None:
        self._shape = machine, family, n, k, memory_share
        self._pages: dict[int, list[float]] = {}

    def __call__(self, rows: int) -> float:
        page, at = divmod(rows - 1, _PAGE)
        if page not in self._pages:
            machine, family, n, k, share = self._shape
            m = range(page * _PAGE + 1, (page + 1) * _PAGE + 1)
            self._pages[page] = [float(t) for t in product_times(machine, family, m, n, k, memory_share=share)]
        return self._pages[page][at]
