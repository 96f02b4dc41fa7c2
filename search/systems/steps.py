"""One step of decoding on a machine of one's own choice: whether it fits, which experts it reads and where from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.decoding.experts import pinned_hits
from tilewright.sim.decoding.time import StepTime, rates_of, step_time
from tilewright.sim.decoding.work import StepWork, cache_bytes, step_work
from tilewright.workloads.language.model import LanguageModel
from tilewright.workloads.language.routing import Routing
from tilewright.workloads.language.runtimes import Runtime
from tilewright.workloads.language.stored import Storage

__all__ = ["DecodeQuestion", "DecodedStep", "decoded_step"]

_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeQuestion:
    """``model`` with weights in ``storage`` under ``runtime``: a token for each of ``batch`` sequences behind
    ``context`` tokens, caches in ``cache_format``; experts by ``routing``.
    """

    model: LanguageModel
    storage: Storage
    runtime: Runtime
    routing: Routing
    batch: int = 1
    context: int = 256
    cache_format: str = "fp16"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedStep:
    """The step on ``machine``: its ``work`` and ``time``; ``held_bytes`` of weights and caches in memory.

    ``experts``: of a layer, that the batch uses on the mean (0: none). ``kept``: experts of a layer that the memory
    holds where the rest lie in flash, ``hits``: the share of a token's experts found there.
    """

    machine: str
    question: DecodeQuestion
    work: StepWork
    time: StepTime
    held_bytes: float
    experts: float = 0.0
    kept: int | None = None
    hits: float | None = None
    assumptions: tuple[str, ...] = field(default=(), hash=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        time, asked = self.time, self.question
        parts: Mapping[str, float] = time.seconds_by_part
        return {
            "machine": self.machine,
            "model": asked.model.name,
            "runtime": asked.runtime.name,
            "weights": asked.storage.name,
            "kv_cache": asked.cache_format,
            "batch": asked.batch,
            "context": asked.context,
            "routing": asked.routing.told if asked.model.experts else None,
            "tokens_per_s": time.tokens_per_s,
            "ms_per_step": time.seconds * 1e3,
            "joules_per_token": time.joules_per_token,
            "watts": time.watts,
            "limited_by": time.limited_by,
            "weight_bytes": self.work.weight_bytes,
            "cache_bytes": self.work.cache_read + self.work.cache_written,
            "held_bytes": self.held_bytes,
            "experts_used": self.experts or None,
            "experts_kept": self.kept,
            "expert_hits": self.hits,
            **{f"{name}_ms": seconds * 1e3 for name, seconds in parts.items()},
            **{f"{name}_mj": joules * 1e3 for name, joules in time.joules_by_part.items()},
        }


def decoded_step(question: DecodeQuestion, machine: MachineSpec) -> DecodedStep:
    """The step on ``machine``.

    Where the machine's file says what its memory holds (``dram.capacity_gib``), weights and caches must fit; of a
    mixture's experts those that do not fit come from ``weights.memory`` (flash) where there is one, the most popular
    are kept. Raises InputError for what does not fit.
    """
    asked = question
    work = step_work(
        asked.model,
        asked.storage,
        batch=asked.batch,
        context=asked.context,
        cache_format=asked.cache_format,
        distinct=asked.routing.distinct,
    )
    narrow = asked.cache_format != "fp16"
    time = step_time(work, machine, asked.runtime, launches=asked.runtime.launches(asked.model, narrow_cache=narrow))
    held = float(asked.storage.n_bytes(asked.model)) + asked.batch * float(
        cache_bytes(asked.model, asked.context, asked.cache_format)
    )
    model = asked.model
    used = asked.routing.distinct(model.experts, model.top_k, asked.batch) if model.experts else 0.0
    found = DecodedStep(
        machine=machine.name,
        question=asked,
        work=work,
        time=time,
        held_bytes=held,
        experts=used,
        assumptions=_assumptions(asked, machine),
    )
    capacity = machine.dram.capacity_gib
    if capacity is None or held <= capacity * _GIB:
        return found
    return _behind_flash(found, machine, capacity * _GIB)


def _behind_flash(found: DecodedStep, machine: MachineSpec, capacity: float) -> DecodedStep:
    """With the experts that do not fit brought from the memory behind."""
    asked, model = found.question, found.question.model
    flash = machine.weights.memory
    matrices = [one for one in model.weights() if one.copies > 1]
    of_all = sum(float(asked.storage.bits(model, one)) / 8 * one.n * one.copies for one in matrices)
    rest = found.held_bytes - of_all
    if flash is None or not matrices or rest >= capacity:
        least = rest if matrices and flash is not None else found.held_bytes
        raise InputError(
            f"{model.name} on {machine.name}: weights in {asked.storage.name} and caches take "
            f"{found.held_bytes / _GIB:.3g} GiB; allowed {capacity / _GIB:g} GiB (dram.capacity_gib)"
            + (f", of which {least / _GIB:.3g} are no experts" if least != found.held_bytes else "")
        )
    kept = int((capacity - rest) / of_all * model.experts)
    hits = pinned_hits(asked.routing, model.experts, model.top_k, kept)
    missed = sum(part.n_bytes for part in found.work.parts if part.role.startswith("expert")) * (1 - hits)
    seconds = {**found.time.seconds_by_part, "flash": missed / (flash.bandwidth_gb_per_s * 1e9)}
    joules = {**found.time.joules_by_part, "flash": missed * flash.read_pj_per_byte * 1e-12}
    joules["static"] *= sum(seconds.values()) / found.time.seconds
    time = replace(
        found.time,
        seconds_by_part=seconds,
        joules_by_part=joules,
        limited_by=max(seconds, key=lambda name: seconds[name]),
    )
    return replace(found, time=time, kept=kept, hits=hits, held_bytes=capacity)


def _assumptions(asked: DecodeQuestion, machine: MachineSpec) -> tuple[str, ...]:
    rates = rates_of(machine)
    told = [
        "every matrix is read once a step; bytes, multiply-adds and unpacking of a product overlap, kernels do not",
        f"{machine.name}: {rates.share:.2g} of the memory's bandwidth, {rates.launch_s * 1e6:.3g} us a kernel",
        f"weights: {asked.storage.told}; kernels of {asked.runtime.name}",
    ]
    if asked.model.experts:
        told.append(f"experts: {asked.routing.told}; those behind flash are not brought ahead")
    return tuple(told)
