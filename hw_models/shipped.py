"""Descriptions that come with Tilewright: YAML files in a folder of this package, by the name of the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Generic, TypeVar

from tilewright.document import validate_document
from tilewright.document_text import read_text
from tilewright.document_yaml import Document, read_yaml
from tilewright.errors import unknown
from tilewright.hw_models.inherit import Described, NoBaseError, inherited, refuse_misspelt_base

__all__ = ["Shipped"]

T = TypeVar("T")


class Shipped(Generic[T]):
    """The files of ``folder`` (below ``hw_models``) as a ``model``; ``what`` is the word for one in error texts.

    A file may give only what differs from another one (``base: NAME``, or a path from its folder), which
    :mod:`tilewright.hw_models.inherit` explains. ``arranged``: puts what a file may say in two ways into one, given its
    name and, where it has a base, what that is like (None before that is known).
    """

    def __init__(
        self,
        folder: str,
        model: type[T],
        *,
        what: str,
        arranged: Callable[[Document, str, Document | None], Document] | None = None,
    ) -> None:
        self._folder, self._model, self._what, self._arranged = folder, model, what, arranged
        self.names = cache(self._names)
        self.named = cache(self._named)

    def load(self, name_or_path: str | Path) -> T:
        """The one called so, or described in the YAML file at that path.

        Text that ends in ``.yaml`` or ``.yml`` or holds a path separator is a path. Raises :class:`InputError`: an
        unknown name with the nearest one, or every fault of the file with its line.
        """
        text = str(name_or_path)
        if isinstance(name_or_path, Path) or is_path(text):
            return self._checked(self._at_path(text))
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
        return self._checked(self._of_ours(name))

    def _checked(self, described: Described) -> T:
        refuse_misspelt_base(described, [entry.name for entry in fields(self._model)])  # type: ignore[arg-type]
        whole = inherited(described, self._base, what=self._what, arranged=self._arranged)
        return validate_document(whole, self._model, what=self._what, name=described.file)

    def _at_path(self, path: str) -> Described:
        text = read_text(path, what=self._what, allowed=f"the path of a {self._what} file in YAML")
        return self._described(text, path, os.path.realpath(path))

    def _of_ours(self, name: str) -> Described:
        return self._described(self.text(name), f"{name}.yaml", f"{self._folder}: {name}")

    def _described(self, text: str, file: str, identity: str) -> Described:
        document = read_yaml(text, self._what, file)
        if self._arranged is not None:
            document = self._arranged(document, file, None)
        return Described(document=document, file=file, identity=identity)

    def _base(self, name: str, file: str) -> Described:
        """What ``file`` calls its base: one of ours, or a file by its path from there."""
        if is_path(name):
            path = os.path.normpath(os.path.join(os.path.dirname(file), name))
            if not os.path.exists(path):
                allowed = f"the path of a {self._what} file from this one's folder"
                raise NoBaseError(f'no such file; given "{name}"; allowed {allowed}')
            return self._at_path(path)
        names = self.names()
        if name not in names:
            raise NoBaseError(str(unknown(self._what, name, names, shown=f"{', '.join(names)}, or a path")))
        return self._of_ours(name)


def is_path(text: str) -> bool:
    """Whether ``text`` is the path of a file rather than a name."""
    return text.endswith((".yaml", ".yml")) or "/" in text or "\\" in text
