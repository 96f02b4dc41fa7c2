"""Rates of decoding for a system and a model as a table names them."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.errors import InputError
from tilewright.hw_models.systems.catalogue import System, system_named
from tilewright.kernels.reading.systems import SystemRow
from tilewright.sim.decoding.time import StepTime, step_time
from tilewright.sim.decoding.work import step_work
from tilewright.workloads.language.catalogue import language_model
from tilewright.workloads.language.model import LanguageModel
from tilewright.workloads.language.runtimes import Runtime, runtime_named
from tilewright.workloads.language.stored import Storage, storage_of

__all__ = ["DecodeCase", "case_of_row", "decode_step"]

#: Tokens behind which a token is made where a table does not say: a short question and half of its answer.
USUAL_CONTEXT = 256
_USUAL_RUNTIME = "llama.cpp"
_STORED = {
    "int4 awq": "awq",
    "w4a16": "awq",
    "int4 gptq": "gptq",
    "gptq int4": "gptq",
    "nvfp4": "nvfp4",
    "q4_k_m": "q4_k_m",
    "4-bit": "q4_0",
    "fp16": "fp16",
    "fp8": "fp8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeCase:
    """What is predicted: ``model``, ``storage`` of its weights, ``runtime``, ``system``, ``batch`` and ``context``."""

    model: LanguageModel
    storage: Storage
    runtime: Runtime
    system: System
    batch: int
    context: int
    cache_format: str = "fp16"


def case_of_row(row: SystemRow) -> DecodeCase:
    """The case of a row of a table; raises InputError with the reason where it cannot be described."""
    system = system_named(row.system, row.part)
    model = language_model(row.model)
    runtime = runtime_named(row.runtime or _USUAL_RUNTIME)
    return DecodeCase(
        model=model,
        storage=_storage(row.precision, runtime, model),
        runtime=runtime,
        system=system,
        batch=row.batch or 1,
        # A row's prompt is that of the whole batch.
        context=max(row.prompt // (row.batch or 1), USUAL_CONTEXT),
    )


def _storage(precision: str, runtime: Runtime, model: LanguageModel) -> Storage:
    stored = _STORED.get(precision.lower(), "")
    if precision.lower() == "int4" or not stored:
        stored = runtime.storage if not precision or precision.lower() == "int4" else stored
    if not stored:
        raise InputError(f"precision {precision}: not described; allowed {', '.join(sorted(_STORED))}")
    # gpt-oss is published in MXFP4 and kept so (llama.cpp's own files: 11.27 GiB for 20.91 billion weights).
    return storage_of("mxfp4-q8_0" if model.name.startswith("gpt-oss") and stored == "q4_k_m" else stored)


def decode_step(case: DecodeCase) -> StepTime:
    """One step of the case."""
    work = step_work(case.model, case.storage, batch=case.batch, context=case.context, cache_format=case.cache_format)
    narrow = case.cache_format != "fp16"
    launches = case.runtime.launches(case.model, narrow_cache=narrow)
    return step_time(work, case.system.machine, case.runtime, launches=launches, host_w=case.system.host_w)
