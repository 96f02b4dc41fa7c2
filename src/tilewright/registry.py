"""Things that are known by name: one door for what comes with the package and for what plug-ins add."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from tilewright import plugins
from tilewright.errors import InputError, unknown

__all__ = ["LAST", "Registry", "modules_of"]

Item = TypeVar("Item")
#: The rank of what does not say any.
LAST = 1 << 20


def modules_of(room: str) -> tuple[str, ...]:
    """The modules of the package ``room`` and of the packages in it, by name, folder by folder; of a module, itself."""
    folders = getattr(importlib.import_module(room), "__path__", None)
    if folders is None:
        return (room,)
    return tuple(found.name for found in pkgutil.walk_packages(folders, prefix=f"{room}."))


class Registry(Generic[Item]):
    """Items of one kind by name, in the order in which lists show them.

    ``what`` they are, in the words of error texts. ``rooms``: packages whose modules, down to the last folder, register
    theirs when they are imported; a new file there needs no other mention. This happens when somebody first asks, and
    before a plug-in's first item, so that a plug-in cannot take a built-in name.
    """

    def __init__(self, what: str, *, rooms: Iterable[str] = ()) -> None:
        self.what = what
        self._rooms = tuple(rooms)
        self._items: dict[str, Item] = {}
        self._ranks: dict[str, int] = {}
        self._in_order: tuple[tuple[str, Item], ...] | None = None  # None: to be put in order
        self._usual = ""
        self._has_built_in = False
        self._loading = False

    def register(self, name: str, item: Item, *, rank: int = LAST, usual: bool = False) -> Item:
        """Make ``item`` known as ``name``. Raises InputError for a name that is taken.

        ``rank``: its place in lists, whatever was imported when; those of one rank stand in the order of their coming.
        ``usual``: it is meant where none is named.
        """
        if plugins.is_loading():
            self._load_built_in()
        if name in self._items:
            raise InputError(f'{self.what}: registered already; given "{name}"; allowed a name that is not taken')
        self._items[name] = item
        self._ranks[name] = rank
        self._in_order = None
        if usual:
            self._usual = name
        return item

    def names(self) -> tuple[str, ...]:
        """All names: those with a rank first, by their ranks."""
        return tuple(name for name, _ in self.items())

    def usual(self) -> str:
        """The name of the item that is meant where none is named."""
        self._load_built_in()
        return self._usual

    def items(self) -> tuple[tuple[str, Item], ...]:
        """Names with their items."""
        self._load()
        if self._in_order is None:
            self._in_order = tuple(
                (name, self._items[name]) for name in sorted(self._items, key=self._ranks.__getitem__)
            )
        return self._in_order

    def values(self) -> tuple[Item, ...]:
        """The items alone."""
        return tuple(item for _, item in self.items())

    def get(self, name: str, *, among: Iterable[str] | None = None, place: str = "") -> Item:
        """The item called ``name``; ``among``: the names that are allowed here, where not all are; ``place``: who asks.

        Raises InputError with the nearest name.
        """
        if among is None and name in self._items:  # without loading anything: built-in ones ask each other
            return self._items[name]
        allowed = self.names() if among is None else tuple(among)
        if name not in allowed:
            raise unknown(self.what, name, allowed, place=place)
        return self._items[name]

    def find(self, name: str) -> Item | None:
        """The item called ``name``, or None: for what has a usual item where none was registered."""
        if name not in self._items:
            self._load()
        return self._items.get(name)

    @contextmanager
    def only_for_now(self) -> Iterator[None]:
        """What is registered inside is forgotten afterwards (for tests)."""
        self._load()
        kept = dict(self._items)
        try:
            yield
        finally:
            self._items, self._in_order = kept, None

    def _load(self) -> None:
        self._load_built_in()
        plugins.load()

    def _load_built_in(self) -> None:
        if self._has_built_in or self._loading:
            return
        self._loading = True
        try:
            for room in self._rooms:
                for module in modules_of(room):
                    importlib.import_module(module)
            self._has_built_in = True
        finally:
            self._loading = False
