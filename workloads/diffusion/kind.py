"""Methods that make schedules, known by name: ``dbcache:F=1,B=0,W=8,I=4,MC=10``, or a file of steps and blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilewright.errors import InputError, unknown
from tilewright.registry import LAST, Registry
from tilewright.workloads.diffusion.blocks import NetworkBlocks
from tilewright.workloads.diffusion.step import Schedule, Step

__all__ = ["SCHEDULES", "Asked", "ScheduleKind", "make_schedule", "register_schedule"]

_FILES = (".csv", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a method is asked for: a schedule of ``n_steps`` steps of ``network``, with ``options`` as a person wrote
    them; ``text`` is all of it, for errors.
    """

    text: str
    network: NetworkBlocks
    n_steps: int
    options: Mapping[str, str] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)

    def given(self, key: str) -> str:
        """The option as it was written, empty where it was not given."""
        return self.options.get(key, "")

    def count(self, key: str, *, least: int = 0, most: int | None = None, what: str = "") -> int:
        """A whole number from ``least`` to ``most``; ``what`` there are so many of."""
        text = self.options.get(key, str(self.usual[key]))
        allowed = f"a whole number of at least {least}" if most is None else f"{least} to {most}"
        value = int(text) if text.isdecimal() and len(text) < 19 else -1
        if value < least or (most is not None and value > most):
            more = f" ({what})" if what else ""
            raise InputError(f'{self.text}: {key}: given "{text}"; allowed {allowed}{more}')
        return value

    def number(self, key: str, *, least: float = 0.0) -> float:
        """A number of at least ``least``."""
        text = self.options.get(key, str(self.usual[key]))
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not least <= value < float("inf"):
            raise InputError(f'{self.text}: {key}: given "{text}"; allowed a number of at least {least:g}')
        return value

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        """One of ``allowed``."""
        text = self.options.get(key, str(self.usual[key]))
        if text not in allowed:
            raise unknown("choice", text, allowed, place=f"{self.text}: {key}")
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleKind:
    """A method: ``options`` with their usual values, ``source``: where its rules are from, ``make``: its steps."""

    name: str
    summary: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    make: Callable[[Asked], Schedule | list[Step]]


SCHEDULES: Registry[ScheduleKind] = Registry("schedule", rooms=("tilewright.workloads.diffusion.schedules",))


def register_schedule(kind: ScheduleKind, *, rank: int = LAST) -> ScheduleKind:
    """Make ``kind`` known by its name. Raises InputError for a name that is taken."""
    return SCHEDULES.register(kind.name, kind, rank=rank)


def make_schedule(text: str, network: NetworkBlocks, n_steps: int) -> Schedule:
    """The schedule ``text`` (METHOD:key=value,..., or a .csv or .json file) of ``network`` in ``n_steps`` steps.

    Raises InputError for an unknown method or option, with the nearest name, and for what does not fit the network.
    """
    from tilewright.workloads.diffusion.from_file import read_schedule
    from tilewright.workloads.network import parse_options

    name, _, options_text = text.strip().partition(":")
    if name not in SCHEDULES.names():
        if text.strip().endswith(_FILES):
            return read_schedule(Path(text.strip()), network, n_steps)
        raise unknown(
            "schedule", name, SCHEDULES.names(), shown=f"{', '.join(SCHEDULES.names())}, or a .csv or .json file"
        )
    kind = SCHEDULES.get(name)
    options = parse_options(text, options_text)
    for key in options:
        if key not in kind.options:
            raise unknown("option", key, kind.options, place=text)
    asked = Asked(text=text, network=network, n_steps=n_steps, options=options, usual=kind.options)
    made = kind.make(asked)
    return made if isinstance(made, Schedule) else Schedule(method=text, steps=tuple(made))
