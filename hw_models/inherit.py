"""``base: other-machine``: a file that gives only what differs from another one.

Mappings are merged, lists of named things (buffers) by name, and ``null`` removes; ``assumptions`` and ``sources`` are
added to those of the base, unless they begin with ``null``. What differs is listed as an assumption; a figure that
differs has the source that the file gives for it, or says what it was changed from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tilewright.document_yaml import Document, FieldPath, Place, dotted
from tilewright.errors import InputError, nearest, unknown
from tilewright.hw_models.energy_table import left_to_tables

__all__ = ["BASE", "Described", "NoBaseError", "inherited", "refuse_misspelt_base"]

BASE = "base"
_OWN = ("name", "description")  # what one machine says of itself
_ASSUMPTIONS, _SOURCES = "assumptions", "sources"
_MOST_SHOWN = 3
_MOST_LISTED = 12


class NoBaseError(InputError):
    """There is nothing of the name that a file gives as its base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A description as it was read: ``file`` for messages; ``identity`` is the same for two ways to name one file."""

    document: Document
    file: str
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """One value that a file gives otherwise than its base; None where there is none."""

    path: str
    old: Any
    new: Any

    @property
    def text(self) -> str:
        if self.new is None:
            return f"no {self.path}"
        before = f" instead of {_text(self.old)}" if _is_plain(self.old) else ""
        return f"{self.path} {_text(self.new)}{before}" if _is_plain(self.new) else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class _At:
    """One place in the result, in the base and in the file, and its path in words (things of a list by name)."""

    to: FieldPath = ()
    old: FieldPath = ()
    new: FieldPath = ()
    words: FieldPath = ()

    def below(self, key: str) -> _At:
        return _At(to=(*self.to, key), old=(*self.old, key), new=(*self.new, key), words=(*self.words, key))

    def entry(self, name: str, to: int, old: str | int | None, new: str | int | None) -> _At:
        return _At(
            to=(*self.to, to),
            old=self.old if old is None else (*self.old, old),
            new=self.new if new is None else (*self.new, new),
            words=(*self.words, name),
        )


@dataclass(slots=True, kw_only=True)
class _Merger:
    """Puts the file ``new`` over its base ``old``: the data, the place of each value, and what differs."""

    old: Described
    new: Described
    data: dict[str, Any] = field(default_factory=dict)
    places: dict[FieldPath, Place] = field(default_factory=dict)
    differences: list[_Difference] = field(default_factory=list)

    def merge(self, old: Any, new: Any, at: _At) -> Any:
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            self._place(self.new, at.new, at.to)
            return self._mapping(old, new, at)
        names = _steps_by_name(old)
        if names and _steps_by_name(new):
            self._place(self.new, at.new, at.to)
            return self._list(old, names, new, at)
        self._differs(at, old, new)
        return self._copied(self.new, new, at.new, at.to)

    def _mapping(self, old: Mapping[str, Any], new: Mapping[str, Any], at: _At) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key in dict.fromkeys([*old, *new]):
            here = at.below(key)
            if key not in new:
                found[key] = self._copied(self.old, old[key], here.old, here.to)
            elif key not in old:
                self._differs(here, None, new[key])
                found[key] = self._copied(self.new, new[key], here.new, here.to)
            elif new[key] is None:
                self._differs(here, old[key], None)
            else:
                found[key] = self.merge(old[key], new[key], here)
        return found

    def _list(self, old: Any, names: Mapping[str, str | int], new: Any, at: _At) -> list[Any]:
        """Things by name: in the order of ``new`` where it is a list of all that stay, else those of the base first."""
        given = _steps_by_name(new)
        removed = {name for name, step in given.items() if new[step] is None}
        kept = [name for name in names if name not in removed]
        own = [name for name in given if name not in removed]
        order = own if isinstance(new, list) and set(kept) <= set(own) else list(dict.fromkeys([*kept, *own]))
        found: list[Any] = []
        for name in order:
            here = at.entry(name, len(found), names.get(name), given.get(name))
            if name not in given:
                found.append(self._copied(self.old, old[here.old[-1]], here.old, here.to))
                continue
            value = new[given[name]]
            value = {"name": name, **value} if isinstance(value, Mapping) else value
            if name in names:
                found.append(self.merge(old[here.old[-1]], value, here))
            else:
                self._differs(here, None, value)
                found.append(self._copied(self.new, value, here.new, here.to))
        for name in given:
            if name in removed:
                gone = old[names[name]] if name in names else None
                self._differs(at.entry(name, 0, None, None), gone, None)
        return found

    def list_of_both(self, key: str, said: list[Any], *, own_first: bool) -> None:
        """The entries of the list ``key`` in both files, with ``said`` behind the first; a first ``null`` in the file's
        own leaves out the base's. What is no list is left to the check of fields.
        """
        old, new = self.old.document.data.get(key), self.new.document.data.get(key)
        if not isinstance(new, list | None) or not isinstance(old, list | None):
            of = self.old if isinstance(new, list | None) else self.new
            self.data[key] = self._copied(of, of.document.data[key], (key,), (key,))
            return
        own = [(self.new, step, entry) for step, entry in enumerate(new or []) if entry is not None or step]
        base = [(self.old, step, left) for step, entry in enumerate(old or []) if (left := self._still_there(entry))]
        if new and new[0] is None:
            base = []
        first, last = (own, base) if own_first else (base, own)
        self._place(self.new if new else self.old, (key,), (key,))
        parts = [*first, *((None, 0, entry) for entry in said), *last]
        self.data[key] = [
            entry if of is None else self._copied(of, entry, (key, step), (key, to))
            for to, (of, step, entry) in enumerate(parts)
        ]

    def _still_there(self, entry: Any) -> Any:
        """An entry of the base without paths of what the file removes; None where nothing is left of it."""
        paths = entry.get("fields") if isinstance(entry, Mapping) else None
        if not isinstance(paths, list):
            return entry
        energies = self.new.document.data.get("energy")
        gone = [one.path for one in self.differences if one.new is None]
        gone += [f"energy.{name}" for name in (left_to_tables(energies) if isinstance(energies, Mapping) else ())]
        left = [path for path in paths if not any(path == one or f"{path}".startswith(f"{one}.") for one in gone)]
        return {**entry, "fields": left} if left or not paths else None

    def _copied(self, of: Described, value: Any, at: FieldPath, to: FieldPath) -> Any:
        self._place(of, at, to)
        if isinstance(value, Mapping):
            return {key: self._copied(of, item, (*at, key), (*to, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._copied(of, item, (*at, step), (*to, step)) for step, item in enumerate(value)]
        return value

    def _place(self, of: Described, at: FieldPath, to: FieldPath) -> None:
        place = of.document.places.get(at)
        if place is not None:
            self.places[to] = place if of is self.new else replace(place, file=place.file or of.file)

    def _differs(self, at: _At, old: Any, new: Any) -> None:
        if old != new:
            self.differences.append(_Difference(path=dotted(at.words), old=old, new=new))


def inherited(
    described: Described,
    base_of: Callable[[str, str], Described],
    *,
    what: str,
    arranged: Callable[[Document, str, Document | None], Document] | None = None,
    line: tuple[Described, ...] = (),
) -> Document:
    """The document of ``described`` with all that it inherits, place by place; its own where it names no base.

    ``base_of(name, file)`` reads the base that ``file`` calls ``name``, and raises :class:`NoBaseError` where there is
    none; ``arranged`` brings a document into the form of its base. Raises :class:`InputError` for that, for a base that
    is no text, and for one that inherits from this file.
    """
    data = described.document.data
    if not isinstance(data, Mapping) or BASE not in data:
        return described.document
    name = data[BASE]
    if not isinstance(name, str):
        place = described.document.places[BASE,]
        allowed = f"the name of a {what}, or a path from this file's folder"
        raise _fault(described, f"not text; given {place.given}; allowed {allowed}")
    try:
        base = base_of(name, described.file)
    except NoBaseError as error:
        raise _fault(described, str(error)) from None
    line = (*line, described)
    if base.identity in [one.identity for one in line]:
        way = " -> ".join(one.file for one in (*line, base))
        raise _fault(described, f"a circle; given {way}; allowed a {what} that does not inherit from this one")
    whole = inherited(base, base_of, what=what, arranged=arranged, line=line)
    if arranged is not None:
        described = replace(described, document=arranged(described.document, described.file, whole))
    return _merged(described, replace(base, document=whole))


def refuse_misspelt_base(described: Described, fields: Sequence[str]) -> None:
    """Raise :class:`InputError` for a key that must be meant to be ``base``: all that it would bring is missing."""
    data = described.document.data
    for key in data if isinstance(data, Mapping) and BASE not in data else ():
        if key not in fields and nearest(key, [*fields, BASE]) == BASE:
            place = described.document.places[key,]
            where = f"{described.file}:{place.key_line}:{place.key_column}"
            raise unknown("field", key, [BASE, *fields], place=f"{where}: {key}")


def _merged(new: Described, old: Described) -> Document:
    theirs, own = old.document.data, new.document.data
    if not isinstance(theirs, Mapping):
        return old.document
    theirs = _without_old_node(theirs, own)
    merger = _Merger(old=old, new=new)
    apart = (*_OWN, _ASSUMPTIONS, _SOURCES, BASE)
    merger.data = merger.merge(_without(theirs, apart), _without(own, apart), _At())
    differences, base = tuple(merger.differences), str(theirs.get("name", old.file))
    for key in _OWN:
        if key in own:
            merger.data[key] = merger.merge(None, own[key], _At().below(key))
    merger.data.setdefault("description", _description(base, differences))
    merger.list_of_both(_ASSUMPTIONS, [_assumption(base, differences)], own_first=False)
    merger.list_of_both(_SOURCES, [_note(base, one) for one in differences if one.new is not None], own_first=True)
    return Document(data=merger.data, places=merger.places)


def _description(base: str, differences: tuple[_Difference, ...]) -> str:
    if not differences:
        return f"as {base}"
    if len(differences) > _MOST_SHOWN or not all(_is_plain(one.new) for one in differences):
        return f"{base} with {len(differences)} figure{'s' if len(differences) > 1 else ''} changed"
    return f"{base} with {', '.join(f'{one.path}={one.new}' for one in differences)}"


def _assumption(base: str, differences: tuple[_Difference, ...]) -> str:
    if not differences:
        return f"inherits all of {base}"
    listed = [one.text for one in differences[:_MOST_LISTED]]
    more = [f"{len(differences) - _MOST_LISTED} more"] if len(differences) > _MOST_LISTED else []
    return f"inherits {base}, but for {', '.join([*listed, *more])}"


def _note(base: str, difference: _Difference) -> dict[str, Any]:
    """The source of a figure that differs, for where the file names none."""
    old = difference.old
    said = (
        f"changed from {_text(old)}, which {base} has" if _is_plain(old) else f"beside what {base} has; no source given"
    )
    path = difference.path if _is_plain(difference.new) else f"{difference.path}.*"
    return {"fields": [path], "kind": "assumed", "source": said}


def _fault(described: Described, message: str) -> InputError:
    place = described.document.places.get((BASE,))
    where = described.file if place is None else f"{described.file}:{place.line}:{place.column}"
    return InputError(f"{where}: {BASE}: {message}")


def _without_old_node(theirs: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """The base's data; where the file names a technology or a kind of DRAM, without what those of the base cost."""
    energies, given = theirs.get("energy"), own.get("energy")
    if not isinstance(energies, Mapping) or not isinstance(given, Mapping):
        return theirs
    return {**theirs, "energy": _without(energies, left_to_tables(given))}


def _without(data: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in keys}


def _steps_by_name(things: Any) -> dict[str, str | int]:
    """Where each thing of a list of named ones stands, by name; of a mapping, its keys. Empty for anything else."""
    if isinstance(things, Mapping):
        return {key: key for key in things}
    if not isinstance(things, list):
        return {}
    names = [thing.get("name") if isinstance(thing, Mapping) else None for thing in things]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return {}
    return {str(name): step for step, name in enumerate(names)}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)
