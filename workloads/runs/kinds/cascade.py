"""``cascade``: networks and runs one after the other, each as often as is said: a detector, then a model for what it
found; an encoder of images, then a decoder of text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from tilewright.document import STRICT_FIELDS
from tilewright.workloads.runs.kind import RunKind, register_run

__all__ = ["CascadeRun", "CascadeStage"]

Text = Annotated[str, MinLen(1)]
Count = Annotated[int, Ge(1), Le(2**31 - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeStage:
    """One stage: a ``network`` (a name, a file, or a name with the options of a run) and how often it is run.

    ``weights`` and ``activations``: number formats of a network (None: as it has them).
    """

    __pydantic_config__ = STRICT_FIELDS

    network: Text
    times: Count = 1
    weights: Text | None = None
    activations: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeRun:
    """The ``stages`` in order. ``name``: what results call it (left out: its networks)."""

    __pydantic_config__ = STRICT_FIELDS

    run: Literal["cascade"] = "cascade"
    stages: Annotated[tuple[CascadeStage, ...], MinLen(1)]
    name: str = ""

    @property
    def title(self) -> str:
        """What results call it."""
        return self.name or ", then ".join(stage.network for stage in self.stages)


register_run(
    RunKind(name="cascade", summary="networks and runs one after the other", description=CascadeRun),
    rank=3,
)
