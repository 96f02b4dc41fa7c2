"""The compiled engine kept in files, so that it is compiled once: whole and of this code, or compiled anew.

Numba's own index is written before the code that it names, and names files of an earlier version of the code again: a
process that is killed in between, or that looks at that moment, runs code that is not its own, and a damaged index ends
in a traceback. Here each compiled function is one file, named by what it was compiled from, with a checksum, that
appears whole or not at all. Where no folder can be written, every process compiles for itself.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba as nb
from numba.core.caching import FunctionCache, IndexDataCacheFile

from tilewright.sim.engine import image, program

__all__ = ["can_be_kept", "compiled", "is_kept"]

_ENDING = ".twc"
_CHECKSUM_BYTES = hashlib.sha256().digest_size


def compiled(function: Callable[..., Any]) -> Any:
    """``function`` compiled when it is first called, or taken from a file."""
    dispatcher = nb.njit(nogil=True)(function)
    if hasattr(dispatcher, "_cache"):  # not so where Numba is switched off
        with suppress(RuntimeError, OSError):  # no folder can be written
            dispatcher._cache = _Cache(function)
    return dispatcher


def can_be_kept(dispatcher: Any) -> bool:
    """Whether there is a folder for its code."""
    return isinstance(getattr(dispatcher, "_cache", None), _Cache)


def is_kept(dispatcher: Any) -> bool:
    """Whether a file has the code of ``dispatcher``."""
    cache = dispatcher._cache
    return isinstance(cache, _Cache) and cache.files.is_kept()


class _Cache(FunctionCache):
    """Numba's cache of a function on the files below; what goes wrong with them is no fault of the run."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self.files = _Files(self._cache_path, self._impl.filename_base, _source_hash(function.__code__.co_filename))
        self._cache_file = self.files

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The compiled code for ``signature``, None where there is none that is whole."""
        try:
            return super().load_overload(signature, target)  # type: ignore[no-untyped-call]
        except Exception:  # whatever a damaged file may lead to
            return None

    def save_overload(self, signature: Any, data: Any) -> None:
        """Keep the code; without a word where that cannot be done."""
        with suppress(OSError):
            super().save_overload(signature, data)  # type: ignore[no-untyped-call]


class _Files(IndexDataCacheFile):
    """One file for each signature: a checksum, then the code."""

    def __init__(self, folder: str, stem: str, source_hash: str) -> None:
        super().__init__(cache_path=folder, filename_base=stem, source_stamp=source_hash)  # type: ignore[no-untyped-call]
        self.folder = Path(folder)
        self.stem = stem
        self.source = hashlib.sha256(f"{source_hash} {nb.__version__}".encode()).hexdigest()[:16]

    def is_kept(self) -> bool:
        """Whether there is a file of this source."""
        return any(self.folder.glob(f"{self.stem}.*.{self.source}{_ENDING}"))

    def save(self, key: Any, data: Any) -> None:
        """Keep ``data``; files of other sources go away."""
        path = self._path(key)
        payload: bytes = self._dump(data)  # type: ignore[no-untyped-call]
        with self._open_for_write(str(path)) as file:
            file.write(hashlib.sha256(payload).digest() + payload)
        for other in self.folder.glob(f"{path.name.removesuffix(f'.{self.source}{_ENDING}')}.*{_ENDING}"):
            if other != path:
                other.unlink(missing_ok=True)

    def load(self, key: Any) -> Any:
        """What was kept; None where there is none, or it is not as it was written."""
        try:
            found = self._path(key).read_bytes()
        except OSError:
            return None
        payload = found[_CHECKSUM_BYTES:]
        if hashlib.sha256(payload).digest() != found[:_CHECKSUM_BYTES]:
            return None
        return pickle.loads(payload)

    def flush(self) -> None:
        """Forget what is kept."""
        for path in self.folder.glob(f"{self.stem}.*.{self.source}{_ENDING}"):
            path.unlink(missing_ok=True)

    def _path(self, key: Any) -> Path:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return self.folder / f"{self.stem}.{digest}.{self.source}{_ENDING}"


@lru_cache(maxsize=4)
def _source_hash(file: str) -> str:
    """Of the module that is compiled, and of those whose constants it takes over."""
    digest = hashlib.sha256()
    for path in (file, str(image.__file__), str(program.__file__), __file__):
        digest.update(os.path.basename(path).encode())
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()
