"""``diffusion``: a network runs step by step, with a schedule that says which of its blocks run at which step.

One image takes the networks of ``before`` (text encoders), the steps, and those of ``after`` (a decoder). Steps may be
in stages, of other resolutions say: each stage has a network, steps and a schedule of its own, and keeps nothing of the
one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from tilewright.document import STRICT_FIELDS
from tilewright.errors import InputError
from tilewright.formats import tensor_format
from tilewright.workloads.runs.kind import RunKind, register_run

__all__ = ["DiffusionRun", "StageSpec"]

_MOST_STEPS = 10_000
_MOST_FORWARDS = 16

Text = Annotated[str, MinLen(1)]
Steps = Annotated[int, Ge(1), Le(_MOST_STEPS)]
Forwards = Annotated[int, Ge(1), Le(_MOST_FORWARDS)]
Milliseconds = Annotated[float, Ge(0), Le(1e9)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """Steps of one network; what is left out is as the run has it."""

    __pydantic_config__ = STRICT_FIELDS

    steps: Steps
    network: Text | None = None
    schedule: Text | None = None
    guidance: Forwards | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionRun:
    """``steps`` steps of ``network`` as ``schedule`` says (METHOD:key=value,..., or a .csv or .json file).

    ``guidance``: how often the network runs at a step, 2 with classifier-free guidance (``guidance_as``: one run behind
    the other, or all in one batch). ``stages``: in place of ``steps``. ``before``, ``after``: networks that run once.
    ``time_tables``: what depends on the step alone is read from tables. ``step_ms``: time of each step beside the
    network, and ``cached_step_ms`` of each that is not full, in which the machine waits. ``weights`` and
    ``activations``: number formats (None: as the network has them).
    """

    __pydantic_config__ = STRICT_FIELDS

    run: Literal["diffusion"] = "diffusion"
    network: Text
    steps: Steps | None = None
    schedule: Text = "full"
    guidance: Forwards = 1
    guidance_as: Literal["turns", "batch"] = "turns"
    stages: tuple[StageSpec, ...] = ()
    before: tuple[Text, ...] = ()
    after: tuple[Text, ...] = ()
    time_tables: bool = False
    step_ms: Milliseconds = 0.0
    cached_step_ms: Milliseconds = 0.0
    weights: Text | None = None
    activations: Text | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (not self.stages):
            given = "both" if self.stages else "neither"
            raise ValueError(f"steps: given {given} of steps and stages; allowed one of the two")
        for name, value in (("weights", self.weights), ("activations", self.activations)):
            if value is not None:
                try:
                    tensor_format(value)
                except InputError as error:
                    raise ValueError(f"{name}: {error}") from None

    @property
    def title(self) -> str:
        """What results call it."""
        return f"{self.network}, {f'{len(self.stages)} stages' if self.stages else self.schedule}"

    @property
    def all_stages(self) -> tuple[StageSpec, ...]:
        """The stages with nothing left out."""
        given = self.stages or (StageSpec(steps=self.steps or 1),)
        return tuple(
            StageSpec(
                steps=one.steps,
                network=one.network or self.network,
                schedule=one.schedule or self.schedule,
                guidance=one.guidance or self.guidance,
            )
            for one in given
        )


_OPTIONS = {
    "schedule": "which blocks run at which step: a method with its options behind slashes (dbcache/F=1/W=8)",
    "steps": "how many steps (50)",
    "guidance": "how often the network runs at a step (1)",
}
_USUAL_STEPS = 50


def _of_options(network: str, options: Mapping[str, str]) -> DiffusionRun:
    steps = _count(network, options, "steps", _USUAL_STEPS, _MOST_STEPS)
    guidance = _count(network, options, "guidance", 1, _MOST_FORWARDS)
    method, _, rest = options["schedule"].partition("/")
    is_file = options["schedule"].endswith((".csv", ".json")) and "=" not in options["schedule"]
    schedule = options["schedule"] if is_file or not rest else f"{method}:{rest.replace('/', ',')}"
    return DiffusionRun(network=network, schedule=schedule, steps=steps, guidance=guidance)


def _count(network: str, options: Mapping[str, str], key: str, usual: int, most: int) -> int:
    text = options.get(key, str(usual))
    count = int(text) if text.isdecimal() and len(text) < 9 else 0
    if not 1 <= count <= most:
        raise InputError(f'{network}: {key}: given "{text}"; allowed 1 to {most}')
    return count


register_run(
    RunKind(
        name="diffusion",
        summary="a network step by step, with blocks that are kept from earlier steps",
        description=DiffusionRun,
        options=_OPTIONS,
        marks=frozenset({"schedule"}),
        of_options=_of_options,
    )
)
