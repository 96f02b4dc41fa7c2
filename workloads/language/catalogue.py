"""Language models by name: those of ``models.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from tilewright.document import STRICT_FIELDS, parse_document
from tilewright.errors import unknown
from tilewright.workloads.language.model import LanguageModel

__all__ = ["language_model", "language_model_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Models:
    __pydantic_config__ = STRICT_FIELDS

    models: tuple[LanguageModel, ...]


@cache
def _known() -> dict[str, LanguageModel]:
    text = files(__package__).joinpath("models.yaml").read_text(encoding="utf-8")
    return {model.name: model for model in parse_document(text, _Models, what="models", name="models.yaml").models}


@cache
def _by_name() -> dict[str, LanguageModel]:
    return {name: model for model in _known().values() for name in (model.name, *model.names)}


def language_model_names() -> tuple[str, ...]:
    """Names of all models."""
    return tuple(_known())


def language_model(name: str) -> LanguageModel:
    """The model called ``name``, or as a table calls it; raises InputError for one that is not known."""
    found = _by_name().get(name.strip().lower())
    if found is None:
        raise unknown("language model", name, _known())
    return found
