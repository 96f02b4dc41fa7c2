"""``tilewright decode``: tokens a second and joules a token of a language model on machines, in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.cli.inputs import machine_of
from tilewright.cli.options import CsvOption, JsonOption, MachinesOption, SetOption
from tilewright.cli.outputs import Outputs
from tilewright.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tilewright.search.systems.steps import DecodedStep

__all__ = ["decode"]

_MOST = 1_048_576


def decode(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="llama-3.2-3b, qwen3-30b-a3b, gpt-oss-20b, ...: see tilewright list models.",
            show_default=False,
        ),
    ],
    machine: MachinesOption,
    runtime: Annotated[
        str, typer.Option("--runtime", metavar="NAME", help="Whose kernels: llama.cpp, mlc, vllm, tensorrt-edge-llm.")
    ] = "llama.cpp",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="STORAGE",
            help="How weights are stored: q4_k_m, q4_0, q8_0, mxfp4-q8_0, awq, gptq, nvfp4, q4f16_1, fp16, or a number "
            "format for all.",
            show_default="the runtime's usual one",
        ),
    ] = None,
    kv_cache: Annotated[
        str, typer.Option("--kv-cache", metavar="FORMAT", help="Number format of keys and values, as int8-g32.")
    ] = "fp16",
    batch: Annotated[
        str, typer.Option("--batch", metavar="N[,N...]", help="Sequences at once; several stand below each other.")
    ] = "1",
    context: Annotated[
        int, typer.Option("--context", metavar="N", min=0, max=100_000_000, help="Tokens in each cache.")
    ] = 256,
    routing: Annotated[
        str,
        typer.Option(
            "--routing",
            metavar="HOW|FILE",
            help="How tokens fall on experts: balanced, uniform, skew=1.28, or counts (CSV with expert and count, JSON "
            "list).",
        ),
    ] = "uniform",
    set_: SetOption = None,
    json: JsonOption = None,
    csv: CsvOption = None,
) -> None:
    """Tokens a second and joules a token of a language model, one token for each sequence of a batch.

    In closed form from the machine's figures and the model's matrices as a runtime stores them; experts that the memory
    does not hold come from flash where the machine has one. See docs/systems.md.
    """
    from tilewright.formats import tensor_format
    from tilewright.reports.origin import Origin
    from tilewright.search.systems.steps import DecodeQuestion, decoded_step
    from tilewright.workloads.language.catalogue import language_model
    from tilewright.workloads.language.routing import routing_of
    from tilewright.workloads.language.runtimes import runtime_named
    from tilewright.workloads.language.stored import storage_of

    outputs = Outputs(json=json, csv=csv)
    outputs.check(*machine, routing)
    described, program = language_model(model), runtime_named(runtime)
    tensor_format(kv_cache)
    if not described.experts and routing != "uniform":
        raise InputError(f"--routing: {described.name} has no experts; allowed without")
    spread = routing_of(routing, described.experts)
    specs = [machine_of(text, set_, for_engine=False) for text in machine]
    found = [
        decoded_step(
            DecodeQuestion(
                model=described,
                storage=storage_of(weights or program.storage),
                runtime=program,
                routing=spread,
                batch=size,
                context=context,
                cache_format=kv_cache,
            ),
            spec,
        )
        for spec in specs
        for size in _sizes(batch)
    ]
    outputs.show(*_tables(outputs.console(), found))
    origin = Origin(machines=tuple(specs))
    rows = [step.to_dict() for step in found]
    outputs.write_json({"steps": rows, "assumptions": _assumptions(found)}, origin)
    outputs.write_csv(rows, origin)


def _sizes(text: str) -> list[int]:
    found = []
    for part in text.split(","):
        word = part.strip()
        if not word.isdigit() or not 1 <= int(word) <= _MOST:
            raise InputError(
                f"--batch: given {word or 'nothing'}; allowed whole numbers from 1 to {_MOST:,}, with commas"
            )
        found.append(int(word))
    return found


def _assumptions(found: list[DecodedStep]) -> list[str]:
    return list(dict.fromkeys(text for step in found for text in step.assumptions))


def _tables(console: Console, found: list[DecodedStep]) -> list[Table]:
    from tilewright.reports.quantity import bytes_text, energy_text, percent_text, seconds_text
    from tilewright.reports.table import Column, catalogue_table, fitted_table

    times = [step.time for step in found]
    columns = [
        Column(header="machine", cells=[step.machine for step in found], right=False, fold=28),
        Column(header="batch", cells=[str(time.batch) for time in times]),
        Column(header="tokens/s", cells=[f"{time.tokens_per_s:,.4g}" for time in times]),
        Column(header="step", cells=[seconds_text(time.seconds) for time in times], rank=2),
        Column(header="J/token", cells=[energy_text(time.joules_per_token * 1e12) for time in times]),
        Column(header="W", cells=[f"{time.watts:,.3g}" for time in times], rank=3),
        Column(header="limited by", cells=[time.limited_by for time in times], right=False, rank=1),
        Column(header="weights read", cells=[bytes_text(round(step.work.weight_bytes)) for step in found], rank=4),
        Column(header="cache", cells=[bytes_text(round(step.work.cache_read)) for step in found], rank=5),
    ]
    if any(step.experts for step in found):
        columns.append(Column(header="experts used", cells=[f"{step.experts:.3g}" for step in found], rank=3))
    if any(step.kept is not None for step in found):
        kept = ["" if step.kept is None else str(step.kept) for step in found]
        hits = ["" if step.hits is None else percent_text(step.hits) for step in found]
        columns += [Column(header="kept", cells=kept, rank=2), Column(header="hits", cells=hits, rank=2)]
    title = f"{found[0].question.model.name}: a token for each sequence"
    assumed = catalogue_table("assumptions", ["assumption"], [[text] for text in _assumptions(found)])
    return [fitted_table(console, title, columns), assumed]
