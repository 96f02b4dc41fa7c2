"""Errors that reach a user as one clear sentence.

Every error a user can cause derives from :class:`TilewrightError`; the command line prints its text
on one line and exits with :attr:`TilewrightError.exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "InputError",
    "MappingError",
    "ProgramError",
    "TilewrightError",
    "did_you_mean",
    "nearest",
    "unknown",
    "visible",
]


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


#: Longer lists of names are cut in error texts.
_MOST_NAMES = 60
_LONGEST_GIVEN = 80


def nearest(given: str, allowed: Iterable[str]) -> str:
    """The allowed name that looks most like ``given``; empty where none does."""
    names = {name.lower(): name for name in allowed}
    near = difflib.get_close_matches(given.lower(), list(names), n=1, cutoff=0.5)
    return names[near[0]] if near else ""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return ``' (did you mean "x"?)'`` for the nearest allowed name, or an empty string."""
    near = nearest(given, allowed)
    return f' (did you mean "{near}"?)' if near else ""


def unknown(
    what: str, given: object, allowed: Iterable[str], *, place: str = "", fault: str = "", shown: str = ""
) -> InputError:
    """The error for a name that is none of ``allowed``, in the one form that all of them have.

    ``PLACE: unknown WHAT; given "X"; allowed A, B, C (did you mean "B"?)``, where ``fault`` stands for "unknown WHAT"
    when the name exists elsewhere but not here, and ``shown`` for the list when that says little or is too long.
    A class that checks its own fields raises ``ValueError(str(unknown(...)))``: the reader of files adds the place.
    """
    names = tuple(allowed)
    listed = shown or ", ".join(names[:_MOST_NAMES]) or "none"
    if not shown and len(names) > _MOST_NAMES:
        listed += f" and {len(names) - _MOST_NAMES} more"
    text = str(given)
    near = did_you_mean(text.partition(":")[0], names) or did_you_mean(text, names)  # NAME, or NAME:key=value,...
    where = f"{place}: " if place else ""
    cut = text if len(text) <= _LONGEST_GIVEN else f"{text[:_LONGEST_GIVEN]}..."
    return InputError(f'{where}{fault or f"unknown {what}"}; given "{cut}"; allowed {listed}{near}')
