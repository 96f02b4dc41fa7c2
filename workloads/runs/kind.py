"""Kinds of runs over time, known by name: how one is written in a file, and as a network's name with options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tilewright.registry import LAST, Registry

__all__ = ["RUN_KINDS", "RunDescription", "RunKind", "register_run"]


class RunDescription(Protocol):
    """A frozen dataclass that says what runs when. ``run``: the name of its kind."""

    @property
    def run(self) -> str: ...

    @property
    def title(self) -> str:
        """What results call it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunKind:
    """A kind of run.

    ``description``: its class, a frozen dataclass that a file is read into (``STRICT_FIELDS``, with a field ``run``
    whose only value is the kind's name). ``options``: what may stand behind a network's name, with what each means;
    ``marks``: those of them that make it a run of this kind; ``of_options``: from the network's text (name, or name
    with the options that are none of these) and the options given to the description.
    """

    name: str
    summary: str
    description: type[Any]
    options: Mapping[str, str] = field(default_factory=dict)
    marks: frozenset[str] = frozenset()
    of_options: Callable[[str, Mapping[str, str]], RunDescription] | None = None


RUN_KINDS: Registry[RunKind] = Registry("kind of run", rooms=("tilewright.workloads.runs.kinds",))


def register_run(kind: RunKind, *, rank: int = LAST) -> RunKind:
    """Make ``kind`` known by its name. Raises InputError for a name that is taken."""
    return RUN_KINDS.register(kind.name, kind, rank=rank)
