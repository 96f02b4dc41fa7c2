"""What a step of a server is made of, and who says what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Batch", "StepCost", "StepCosts"]


@dataclass(slots=True)
class Batch:
    """A step: ``decodes`` requests make a token each, behind ``context`` cached tokens in all; of prompts ``new``
    tokens are read, with ``looks`` pairs of a new token and one that it looks at; ``sampled`` rows give logits.

    ``prompts`` and ``prompt_context``: requests that read, and what is cached of them before. The prompts go through
    the ``group``-th of ``groups`` parts of the layers.
    """

    decodes: int = 0
    context: int = 0
    new: int = 0
    looks: int = 0
    prompts: int = 0
    prompt_context: int = 0
    sampled: int = 0
    groups: int = 1
    group: int = 0

    @property
    def tokens(self) -> int:
        """In the layers that the prompts go through."""
        return self.decodes + self.new


@dataclass(slots=True)
class StepCost:
    """Of a step on one device: ``seconds`` (``link_s`` of them on the link), bytes, multiply-adds, bytes of experts."""

    seconds: float
    link_s: float = 0.0
    n_bytes: float = 0.0
    macs: float = 0.0
    expert_bytes: float = 0.0


class StepCosts(Protocol):
    """Exact for each step: asked once for every one, so what repeats is worked out once. ``told``: in words."""

    told: str

    def step(self, batch: Batch, *, beside: int = 0) -> StepCost:
        """Of ``batch``; ``beside``: tokens of other engines that the experts are shared with."""
        ...
