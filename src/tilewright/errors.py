"""Errors that reach a user as one clear sentence.

Every error a user can cause derives from :class:`TilewrightError`; the command line prints its text
on one line and exits with :attr:`TilewrightError.exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "MappingError", "ProgramError", "TilewrightError", "did_you_mean", "unknown", "visible"]


def visible(text: str) -> str:
    """``text`` on one line with everything that does not print shown as an escape: a name out of a file must not move
    the cursor, colour the terminal or turn the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


class TilewrightError(Exception):
    """Base of all errors with a text meant for the user: one line for each of ``lines``, made :func:`visible`."""

    exit_code = 1

    def __init__(self, *lines: str) -> None:
        super().__init__(*map(visible, lines))  # kept apart, so that a copy from another process is the same

    def __str__(self) -> str:
        return "\n".join(self.args)


class InputError(TilewrightError):
    """Something given by the user (file, field, name, option) is not acceptable."""

    exit_code = 2


class MappingError(InputError):
    """A mapping cannot run on the machine: a resource is too small for what it asks."""

    def __init__(self, *, resource: str, demand: int, limit: int, unit: str, levers: str) -> None:
        self.resource = resource
        self.demand = demand
        self.limit = limit
        self.unit = unit
        self.levers = levers
        super().__init__(f"the mapping needs {demand:,} {unit} of {resource}, which has {limit:,} {unit}; {levers}")


class ProgramError(TilewrightError):
    """A program for the simulator is malformed or cannot finish (deadlock)."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return ``' (did you mean "x"?)'`` for the nearest allowed name, or an empty string."""
    names = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(given.lower(), list(names), n=1, cutoff=0.5)
    return f' (did you mean "{names[near[0]]}"?)' if near else ""


def unknown(what: str, given: str, allowed: Iterable[str], *, shown: str = "") -> InputError:
    """The error for a name that is none of ``allowed``: says them (or ``shown`` in their place) and the nearest one."""
    names = tuple(allowed)
    listed = shown or ", ".join(names) or "none"
    return InputError(f'{what}: unknown name; given "{given}"; allowed {listed}{did_you_mean(str(given), names)}')
