"""Code of others that registers dataflows, schemes, methods and the like with Tilewright.

A plug-in is a Python file (``--plugin FILE`` on the command line, or ``TILEWRIGHT_PLUGINS``, a list of paths that child
processes inherit) or an installed package with an entry point in the group ``tilewright.plugins``. It is imported once,
when a registry is first asked; what it registers is then found by name everywhere.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tilewright.errors import InputError, TilewrightError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["ENTRY_POINTS", "VARIABLE", "add_file", "digest", "is_loading", "load"]

ENTRY_POINTS = "tilewright.plugins"
VARIABLE = "TILEWRIGHT_PLUGINS"

_loaded: dict[str, str] = {}  # path or entry point, and the hash of its code
_state = {"loading": False, "running": False, "installed": False}


def add_file(path: str | Path) -> None:
    """Load the plug-in ``path`` here and in every process that is started from here.

    Raises InputError when there is no such file, or when it does not load.
    """
    resolved = str(Path(path).resolve())
    if os.pathsep in resolved:
        raise InputError(f'plug-in: its path cannot be passed on; given "{path}"; allowed paths without "{os.pathsep}"')
    _load_file(resolved)
    known = [entry for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry]
    if resolved not in known:
        os.environ[VARIABLE] = os.pathsep.join([*known, resolved])


def load() -> None:
    """Load what :data:`VARIABLE` names and what is installed; each once."""
    if _state["loading"]:
        return
    _state["loading"] = True
    try:
        for path in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
            _load_file(path)
        if not _state["installed"]:
            from importlib.metadata import entry_points  # 25 ms, which --help does not need

            for entry in entry_points(group=ENTRY_POINTS):
                _load_installed(entry)
            _state["installed"] = True
    finally:
        _state["loading"] = False


def is_loading() -> bool:
    """Whether the code of a plug-in runs just now."""
    return _state["running"]


def digest() -> str:
    """A hash of the plug-ins in use, empty without any: kept results of theirs are not those of others."""
    load()
    return hashlib.sha256("".join(sorted(_loaded.values())).encode()).hexdigest() if _loaded else ""


def _load_file(path: str) -> None:
    if path in _loaded:
        return
    file = Path(path)
    if file.suffix != ".py" or not file.is_file():
        problem = "no such file" if not file.is_file() else "not a Python file"
        raise InputError(f'plug-in: {problem}; given "{path}"; allowed a file that ends in .py')
    code = hashlib.sha256(file.read_bytes()).hexdigest()
    name = f"tilewright_plugin_{file.stem}_{code[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    _loaded[path] = code  # before it runs: what it registers may ask for what is registered
    try:
        _state["running"] = True
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name], _loaded[path]
        if not isinstance(error, Exception):
            raise
        raise InputError(f"plug-in {file.name}{_line_of(error, path)}: {_said(error)}") from error
    finally:
        _state["running"] = False


def _load_installed(entry: EntryPoint) -> None:
    version = entry.dist.version if entry.dist is not None else ""
    try:
        _state["running"] = True
        entry.load()
    except Exception as error:
        raise InputError(f"plug-in {entry.name} ({entry.value}): {_said(error)}") from error
    finally:
        _state["running"] = False
    _loaded[entry.value] = f"{entry.value} {version}"


def _said(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, TilewrightError) else f"does not load; {type(error).__name__}: {first}"


def _line_of(error: BaseException, path: str) -> str:
    """Where in the plug-in's own file it went wrong."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f":{line}" if line else ""
