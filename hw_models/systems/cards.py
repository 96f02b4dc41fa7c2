"""Cards that serve language models, by what a table calls them: those of ``cards.yaml``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated

from annotated_types import Ge, Gt, Le, MinLen

from tilewright.document import STRICT_FIELDS, parse_document
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec

__all__ = ["CardSpec", "card_named", "card_of_machine"]

_Text = Annotated[str, MinLen(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSpec:
    """``named`` so in tables (a regular expression); ``machine`` of that name; ``memory_mib`` that its driver shows;
    ``memory_share`` of the bandwidth that check bits leave; ``weights_share`` of it at which weights come in a
    server (0: as the calibration of products says).
    """

    __pydantic_config__ = STRICT_FIELDS

    named: _Text
    machine: _Text
    memory_mib: Annotated[int, Gt(0)]
    memory_share: Annotated[float, Gt(0), Le(1)]
    weights_share: Annotated[float, Ge(0), Le(1)] = 0.0
    source: _Text

    @property
    def spec(self) -> MachineSpec:
        """The machine."""
        return load_machine(self.machine)

    @property
    def memory_bytes(self) -> int:
        """Of the card's memory."""
        return self.memory_mib * 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cards:
    __pydantic_config__ = STRICT_FIELDS

    cards: tuple[CardSpec, ...]


@cache
def _known() -> tuple[CardSpec, ...]:
    text = files(__package__).joinpath("cards.yaml").read_text(encoding="utf-8")
    return parse_document(text, _Cards, what="cards", name="cards.yaml").cards


@cache
def card_named(name: str) -> CardSpec:
    """The card that a table calls ``name``; raises InputError for one that is not described."""
    found = next((card for card in _known() if re.search(card.named, name)), None)
    if found is None:
        raise InputError(f"{name}: not described: no data sheet of this card is in cards.yaml")
    return found


def card_of_machine(machine: str) -> CardSpec | None:
    """The card that is described as ``machine``, changed or not (None: there is none)."""
    base = machine.partition(" with ")[0]
    return next((card for card in _known() if card.machine == base), None)
