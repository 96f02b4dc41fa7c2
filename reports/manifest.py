"""What reports wrote into a folder, so that the next one takes away what is no longer part of it, and nothing else.

A file is taken away only when the list has it and it is still, byte by byte, what a report wrote: a user's own file,
and one that a user changed, stay. The list is the hidden file ``.tilewright-report.json``; one that cannot be read
counts as empty, so that nothing is taken away.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

__all__ = ["MANIFEST", "remove_stale", "updated_manifest"]

MANIFEST = ".tilewright-report.json"
_SCHEMA = "tilewright-report-1"

Digests = dict[str, str]  # by name, with / between folders


def updated_manifest(folder: Path, stage: Path, kind: str) -> tuple[str, Digests]:
    """The text of ``folder``'s list once ``stage`` has been moved there, and what of ``kind`` is no longer part of it.

    ``kind``: the list keeps what different commands write into one folder (a page, figures) apart.
    """
    known = _read(folder / MANIFEST)
    files = sorted(path for path in stage.rglob("*") if path.is_file())
    new = {path.relative_to(stage).as_posix(): _digest(path) for path in files}
    others = {name for other, listed in known.items() if other != kind for name in listed}
    stale = {name: digest for name, digest in known.get(kind, {}).items() if name not in new and name not in others}
    text = json.dumps({"schema": _SCHEMA, "files": {**known, kind: new}}, indent=1)
    return text + "\n", stale


def remove_stale(folder: Path, stale: Mapping[str, str]) -> None:
    """Take away the files that are still what was written, and folders that are empty then."""
    for name, digest in stale.items():
        path = folder / name
        with contextlib.suppress(OSError):
            if not _is_inside(name) or path.is_symlink() or not path.is_file() or _digest(path) != digest:
                continue
            path.unlink()
            for parent in list(path.relative_to(folder).parents)[:-1]:
                (folder / parent).rmdir()


def _read(path: Path) -> dict[str, Digests]:
    """The list in ``path`` by kind; empty where there is none that can be understood."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    files = data.get("files") if isinstance(data, dict) and data.get("schema") == _SCHEMA else None
    if not isinstance(files, dict):
        return {}
    return {
        kind: {name: digest for name, digest in listed.items() if isinstance(digest, str)}
        for kind, listed in files.items()
        if isinstance(listed, dict)
    }


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name and ":" not in name


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
