"""Calls of the ONNX library that may abort, made in a process of their own that is kept for the next one.

The process starts when the first file is read and ends with this one. It may use 4 GiB and 5 seconds of processor time
for a call (see :mod:`tilewright.workloads.extract.onnx_child`); one that ends is started anew.
"""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
import threading
from typing import IO, Any

from tilewright.errors import InputError
from tilewright.workloads.extract.onnx_child import LENGTH_BYTES

__all__ = ["LibraryEndedError", "LibraryError", "ask", "start"]

_SECONDS_TO_START, _SECONDS_AT_MOST = 120.0, 60.0  # of time on the wall: against a process that sleeps
_MOST_REMEMBERED, _LARGEST_REMEMBERED = 4096, 1 << 13  # requests, and bytes of one


class LibraryError(Exception):
    """The ONNX library refused a request; its first line says why."""


class LibraryEndedError(LibraryError):
    """The ONNX library aborted, or took too much time or memory."""


class _Child:
    """The process and the pipes to it; the process that made it is remembered, since forks share the pipes."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tilewright.workloads.extract.onnx_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self.is_ready = False

    def ask(self, data: bytes) -> bytes:
        """The answer to a request; empty when the process ended, or sleeps."""
        assert self.process.stdin is not None and self.process.stdout is not None
        seconds = _SECONDS_AT_MOST if self.is_ready else _SECONDS_TO_START
        try:
            self.process.stdin.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
            self.process.stdin.flush()
            if not _answers_within(self.process.stdout, seconds):
                return b""
            length = int.from_bytes(self.process.stdout.read(LENGTH_BYTES), "big")
            answer = self.process.stdout.read(length) if length else b""
        except (OSError, ValueError):
            return b""
        self.is_ready = True
        return answer if len(answer) == length else b""

    def end(self) -> None:
        """End the process and close the pipes."""
        self.process.kill()
        self.process.communicate()


def _answers_within(stream: IO[bytes], seconds: float) -> bool:
    """Whether an answer, or the end, comes in time; where a system cannot tell of pipes, it is waited for."""
    try:
        ready, _, _ = select.select([stream], [], [], seconds)
    except (OSError, ValueError):
        return True
    return bool(ready)


_lock = threading.Lock()
_children: list[_Child] = []  # the one that runs, if any
_answers: dict[bytes, tuple[bool, Any]] = {}


def start() -> None:
    """Start the process now, so that it gets ready while the file is read; raises InputError when none can start."""
    with _lock:
        _running()


def _running() -> _Child:
    child = _children[0] if _children else None
    if child is None or child.owner != os.getpid() or child.process.poll() is not None:
        try:
            child = _Child()
        except (OSError, TypeError) as fault:  # no permission, or no interpreter of its own (embedded Python)
            reason = (getattr(fault, "strerror", None) or str(fault)).lower()
            raise InputError(f"reading ONNX files needs a second process, which cannot start ({reason})") from None
        _children[:] = [child]
    return child


def ask(name: str, *arguments: Any, remember: bool = False) -> Any:
    """The result of a request; ``remember``: the same request is made once only.

    Raises LibraryError, or LibraryEndedError when the process ended.
    """
    data = pickle.dumps((name, arguments), protocol=pickle.HIGHEST_PROTOCOL)
    remember = remember and len(data) <= _LARGEST_REMEMBERED
    found = _answers.get(data) if remember else None
    if found is None:
        found = _asked(data)
        if remember:
            if len(_answers) >= _MOST_REMEMBERED:
                _answers.clear()
            _answers[data] = found
    is_fine, result = found
    if not is_fine:
        raise LibraryError(str(result))
    return result


def _asked(data: bytes) -> tuple[bool, Any]:
    with _lock:
        child = _running()
        answer = child.ask(data)
        if not answer:
            child.end()
            raise LibraryEndedError("it aborted, or took too much time or memory")
    found: tuple[bool, Any] = pickle.loads(answer)
    return found
