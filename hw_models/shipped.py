"""Descriptions that come with Tilewright: YAML files in a folder of this package, by the name of the file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Generic, TypeVar

from tilewright.document import load_document, parse_document
from tilewright.errors import unknown

__all__ = ["Shipped"]

T = TypeVar("T")


class Shipped(Generic[T]):
    """The files of ``folder`` (below ``hw_models``) as a ``model``; ``what`` is the word for one in error texts."""

    def __init__(self, folder: str, model: type[T], *, what: str) -> None:
        self._folder, self._model, self._what = folder, model, what
        self.names = cache(self._names)
        self.named = cache(self._named)

    def load(self, name_or_path: str | Path) -> T:
        """The one called so, or described in the YAML file at that path.

        Text that ends in ``.yaml`` or ``.yml`` or holds a path separator is a path. Raises :class:`InputError`: an
        unknown name with the nearest one, or every fault of the file with its line.
        """
        text = str(name_or_path)
        if isinstance(name_or_path, Path) or text.endswith((".yaml", ".yml")) or "/" in text or "\\" in text:
            return load_document(name_or_path, self._model, what=self._what)
        names = self.names()
        if text not in names:
            raise unknown(self._what, text, names, shown=f"{', '.join(names)}, or the path of a YAML file")
        return self.named(text)

    def text(self, name: str) -> str:
        """The YAML text of the one called ``name``, which must be there."""
        return files("tilewright.hw_models").joinpath(self._folder, f"{name}.yaml").read_text(encoding="utf-8")

    def _names(self) -> tuple[str, ...]:
        entries = files("tilewright.hw_models").joinpath(self._folder).iterdir()
        return tuple(sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml")))

    def _named(self, name: str) -> T:
        return parse_document(self.text(name), self._model, what=self._what, name=f"{name}.yaml")
