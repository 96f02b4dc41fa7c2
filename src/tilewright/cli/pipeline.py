"""A network as a pipeline over the chip: what ``simulate --pipeline`` and ``search --over pipeline`` do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tilewright.cli.outputs import Outputs, note
from tilewright.cli.progress import ProgressBar, announce_compilation, patience
from tilewright.errors import InputError, unknown
from tilewright.sim.pipeline_result import HAND_OVERS

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["PipelineRun", "count_of", "hand_over_of", "show_pipeline", "stages_of"]

AUTO = "auto"
USUAL_IMAGES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineRun:
    """What is asked for; ``stages`` None: as many as are best."""

    machine: MachineSpec
    stages: int | None
    images: int
    prefetch: bool = True
    fuse: bool = True
    residency: bool | None = None
    beside: tuple[MachineSpec, ...] = ()
    hand_over: str = "maps"
    keep_mappings: bool = True
    dataflow: str | None = None
    command: str = ""


def stages_of(text: str | None, *, option: str) -> int | None:
    """A number of stages, or None for ``auto``; raises InputError."""
    return (
        None if text in (None, AUTO) else count_of(text, option=option, allowed="a whole number of at least 1, or auto")
    )


def hand_over_of(text: str | None) -> str:
    """How maps pass from stage to stage; raises InputError."""
    given = HAND_OVERS[0] if text is None else text.strip()
    if given not in HAND_OVERS:
        raise unknown("hand-over", given, HAND_OVERS, place="--hand-over")
    return given


def count_of(text: str | None, *, option: str, allowed: str = "a whole number of at least 1") -> int:
    """A whole number of at least 1; raises InputError."""
    given = (text or "").strip()
    if not given.isdecimal() or not 1 <= len(given) <= 18 or int(given) < 1:
        raise InputError(f'{option}: not a count; given "{text}"; allowed {allowed}')
    return int(given)


def show_pipeline(outputs: Outputs, run: PipelineRun, stream: OperatorStream) -> None:
    """Simulate, show and write what ``outputs`` asks for; raises InputError."""
    announce_compilation()

    import tilewright.search.api as api
    from tilewright.reports.origin import Origin, network_facts
    from tilewright.reports.pipeline_table import pipeline_table, stages_table

    with ProgressBar() as progress:
        result = api.simulate_pipeline(
            stream,
            run.machine,
            run.stages,
            run.images,
            prefetch=run.prefetch,
            fuse=run.fuse,
            residency=run.residency,
            beside=run.beside,
            hand_over=run.hand_over,
            keep_mappings=run.keep_mappings,
            attention_dataflows=api.ATTENTION_DATAFLOWS if run.dataflow is None else (run.dataflow,),
            progress=progress,
        )
    if outputs.speaks:
        outputs.show(stages_table(outputs.console(), result), pipeline_table(result))
    facts = {"stages": len(result.stages), "images": result.n_images}
    origin = Origin(machines=(run.machine, *run.beside), workloads=(network_facts(stream),), facts=facts)
    outputs.write_json(result.to_dict(), origin)
    outputs.write_csv(result.rows(), origin)
    if outputs.report is not None:
        from tilewright.reports.pipeline_page import write_pipeline_report

        with patience(f"page of {result.network}"):
            path = write_pipeline_report(outputs.report, result, command=run.command)
        note(f"wrote {path}")
