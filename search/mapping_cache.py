"""Best mappings kept in files, so that a network is searched once.

One small JSON file per question (operator, machine, dataflow, objective and the code that answers), named by
the hash of its content. Files appear whole (written aside, then renamed), so two processes may share a folder; a
damaged file counts as absent and is written anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tilewright import plugins
from tilewright.hw_models.spec import MachineSpec
from tilewright.workloads.masks.lists import BlockMask

__all__ = ["ForgetfulCache", "MappingCache", "cache_folder", "code_digest"]


def cache_folder() -> Path:
    """``TILEWRIGHT_CACHE``, or ``tilewright`` in the user's cache folder."""
    given = os.environ.get("TILEWRIGHT_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    if not base:
        try:
            base = str(Path.home() / ".cache")
        except RuntimeError:  # nobody's home: nothing can be kept
            base = os.devnull
    return Path(base) / "tilewright"


_SHARED = ("counted_work", "phase_table", "phase_work", "shared_search")  # what sweeps search with


def code_digest() -> str:
    """A hash that changes whenever code that decides about mappings changes, a plug-in's too; part of content keys."""
    added = plugins.digest()
    return hashlib.sha256((_house_digest() + added).encode()).hexdigest() if added else _house_digest()


@lru_cache(maxsize=1)
def _house_digest() -> str:
    from tilewright import formats, hw_models, sim, units, workloads
    from tilewright.search import objective, paces, tiling

    paths = [Path(str(module.__file__)) for module in (formats, units, objective, paces, tiling)]
    paths += [Path(__file__).parent / f"{name}.py" for name in ("best_mapping", "workload")]
    paths += [Path(__file__).parent / "shared" / f"{name}.py" for name in _SHARED]
    for package, pattern in ((sim, "**/*.py"), (hw_models, "**/*.py"), (workloads, "*.py")):
        paths += [path for folder in package.__path__ for path in sorted(Path(folder).glob(pattern))]
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.parent.name}/{path.name}".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Data that JSON writes the same way every time."""
    if isinstance(value, BlockMask):
        return value.fingerprint
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


class MappingCache:
    """Tilings by content. A folder that cannot be written is used for reading only, without complaint."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or cache_folder()) / "mappings"
        self.hits = 0
        self.misses = 0
        self._machine: tuple[MachineSpec, str] | None = None

    def key(self, *parts: Any) -> str:
        """The hash that stands for a question."""
        text = f"[{', '.join([json.dumps(code_digest()), *map(self._text, parts)])}]"
        return hashlib.sha256(text.encode()).hexdigest()

    def _text(self, part: Any) -> str:
        """``part`` as text; that of the machine of the last question is known, for it is much, and often the same."""
        if not isinstance(part, MachineSpec):
            return json.dumps(_plain(part), sort_keys=True)
        if self._machine is None or self._machine[0] is not part:
            self._machine = part, json.dumps(_plain(part), sort_keys=True)
        return self._machine[1]

    def get(self, key: str) -> dict[str, Any] | None:
        """What was kept under ``key``, or None."""
        try:
            found = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and found.get("key") == key and isinstance(found.get("value"), dict):
            self.hits += 1
            value: dict[str, Any] = found["value"]
            return value
        self.misses += 1
        return None

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Keep ``value`` under ``key``; the file appears whole or not at all."""
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, aside = tempfile.mkstemp(dir=path.parent, suffix=".part")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump({"key": key, "value": value}, file)
                os.replace(aside, path)
            except BaseException:
                Path(aside).unlink(missing_ok=True)
                raise
        except OSError:
            return

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


class ForgetfulCache(MappingCache):
    """Knows nothing and keeps nothing: every mapping is searched."""

    def get(self, key: str) -> dict[str, Any] | None:
        self.misses += 1
        return None

    def put(self, key: str, value: dict[str, Any]) -> None:
        return
