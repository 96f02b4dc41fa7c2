"""A request on its way through a server."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Request"]


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """``prompt`` tokens in, ``answer`` tokens out, there from ``arrival_s`` on; ``hit`` tokens of the prompt lie in the
    cache already. ``first_s``, ``last_s``: when its first and last token were there. ``preemptions``: how often it lost
    its blocks.

    What a server notes: ``to_read`` tokens of it (prompt, and answer so far where it was begun before), ``read`` of
    them; ``made`` tokens; ``blocks`` that it holds where it does not make tokens, else worked out from ``behind``,
    tokens cached when it began to make them at step ``since``.
    """

    number: int
    arrival_s: float
    prompt: int
    answer: int
    hit: int = 0
    first_s: float = -1.0
    last_s: float = -1.0
    admitted_s: float = -1.0
    preemptions: int = 0
    to_read: int = 0
    read: int = 0
    made: int = 0
    behind: int = 0
    since: int = -1

    @property
    def is_making(self) -> bool:
        """Whether it makes tokens, one a step."""
        return self.since >= 0

    @property
    def ttft_s(self) -> float:
        """Time to the first token."""
        return self.first_s - self.arrival_s

    @property
    def tpot_s(self) -> float:
        """Time per token behind the first (0 for one token)."""
        return (self.last_s - self.first_s) / (self.answer - 1) if self.answer > 1 else 0.0

    @property
    def latency_s(self) -> float:
        """From its arrival to its last token."""
        return self.last_s - self.arrival_s
