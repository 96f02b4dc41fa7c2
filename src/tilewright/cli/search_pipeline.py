"""``tilewright search --over pipeline``: which layers of a network stand in which stage, on how many cores."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.cli.inputs import WHOLE_LIVES, machine_of, residency_of
from tilewright.cli.once import check_parts
from tilewright.cli.pipeline import USUAL_IMAGES, PipelineRun, count_of, hand_over_of, show_pipeline, stages_of
from tilewright.cli.search_space import SPACES, NetworkOptions, SearchCall, SearchSpace, network_of

__all__ = ["PipelineOptions", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineOptions(NetworkOptions):
    """Options of ``--over pipeline``; None where the search has a usual one."""

    stages: str | None = None
    images: str | None = None
    beside: tuple[str, ...] = ()
    hand_over: str | None = None
    residency: str | None = None
    weights: str | None = None
    activations: str | None = None
    report: str | None = None


def run(call: SearchCall[PipelineOptions]) -> None:
    """Search, run what is found, and show and write it; raises InputError."""
    options = call.options
    machine = machine_of(options.machine, options.set)
    stages = stages_of(options.stages, option="--stages")
    images = USUAL_IMAGES if options.images is None else count_of(options.images, option="--images")
    plan = residency_of(options.residency, allowed=WHOLE_LIVES)
    stream = network_of(call)
    check_parts([stream], {"weights": options.weights, "activations": options.activations})
    stream = stream.with_formats(weights=options.weights, activations=options.activations)
    residency = None if plan is None else plan == "plan"
    asked = PipelineRun(
        machine=machine,
        stages=stages,
        images=images,
        residency=residency,
        beside=tuple(machine_of(one) for one in options.beside),
        hand_over=hand_over_of(options.hand_over),
        command=call.command,
    )
    show_pipeline(call.outputs, asked, stream)


SPACES.register("pipeline", SearchSpace(name="pipeline", options=PipelineOptions, run=run), rank=5)
