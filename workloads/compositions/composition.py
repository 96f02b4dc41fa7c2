"""Operators that are compositions of others: by name, with a text as those of a single kind have it."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.registry import LAST, Registry
from tilewright.workloads.kinds.text import OperatorText

__all__ = ["COMPOSITIONS", "Composition", "register_composition"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """Several operators that are written as one: ``word`` says what it is, ``text`` how it is written."""

    name: str
    word: str
    text: OperatorText


COMPOSITIONS: Registry[Composition] = Registry("composition of operators", rooms=("tilewright.workloads.compositions",))


def register_composition(made: Composition, *, rank: int = LAST) -> Composition:
    """Make ``made`` known by its name, which is the word before the colon; ``rank``: its place in lists.

    Raises InputError for a name that is taken.
    """
    return COMPOSITIONS.register(made.name, made, rank=rank)
