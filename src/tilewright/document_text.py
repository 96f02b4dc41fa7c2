"""Text and JSON out of files that may be anything: a folder, a pipe that nobody writes to, a device without an end,
gigabytes, bytes that are no text, a million brackets. Each ends in one sentence, before it takes time or memory.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from tilewright.errors import InputError

__all__ = ["MOST_BYTES", "check_regular", "parse_json", "read_json", "read_text"]

#: No description, table or stream that people wrote or tools made comes near it.
MOST_BYTES = 256 * 2**20

_OPENED_BEFORE = re.compile(r"/dev/stdin|/dev/fd/\d+|/proc/self/fd/\d+")  # "<(command)" of a shell


def check_regular(path: str | Path, *, allowed: str, most_bytes: int = MOST_BYTES) -> None:
    """Raise InputError unless ``path`` is a file that can be read to an end and has at most ``most_bytes``; ``allowed``
    says what it should be.
    """
    name = str(path)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file; allowed {allowed}") from None
    except (OSError, ValueError) as fault:  # ValueError: a null character in its name
        raise InputError(f"{name}: cannot be read ({_reason(fault)})") from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{name}: is a folder; allowed {allowed}")
    is_given = _OPENED_BEFORE.fullmatch(name) is not None and not stat.S_ISBLK(found.st_mode)
    if not stat.S_ISREG(found.st_mode) and not is_given:
        raise InputError(f"{name}: is a device or a pipe; allowed {allowed}")
    if found.st_size > most_bytes:
        raise InputError(f"{name}: too large; given {found.st_size:,} bytes; allowed at most {most_bytes:,}")


def read_text(path: str | Path, *, what: str, allowed: str) -> str:
    """The text of a file in UTF-8; a byte-order mark is left out.

    ``what`` says what the file describes, ``allowed`` what it should be. Raises InputError where it cannot be read, is
    no regular file, is larger than :data:`MOST_BYTES` or is no text.
    """
    name = str(path)
    check_regular(path, allowed=allowed)
    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as fault:
        raise InputError(f"{name}: cannot be read ({_reason(fault)})") from None
    if len(raw) > MOST_BYTES:
        raise InputError(f"{name}: too large; given a pipe; allowed at most {MOST_BYTES:,} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = raw.count(b"\n", 0, fault.start) + 1
        column = fault.start - (raw.rfind(b"\n", 0, fault.start) + 1) + 1
        given = f"given byte 0x{raw[fault.start]:02x}"
        raise InputError(f"{name}:{line}:{column}: {what}: not UTF-8 text; {given}") from None


def read_json(path: str | Path, *, what: str, allowed: str) -> Any:
    """The data in a JSON file; raises InputError as :func:`read_text` and :func:`parse_json` do."""
    return parse_json(read_text(path, what=what, allowed=allowed), what=what, name=str(path))


def parse_json(text: str, *, what: str, name: str) -> Any:
    """The data in JSON ``text``; ``name`` stands for the file. Raises InputError with the place of a fault, and where
    lists are nested too deeply or a number has too many digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        place = f"{name}:{fault.lineno}:{fault.colno}"
        raise InputError(f"{place}: {what}: not valid JSON ({fault.msg.lower()})") from None
    except RecursionError:
        raise InputError(f"{name}: {what}: not valid JSON (nested too deeply)") from None
    except ValueError:  # the only other one: Python reads no whole number of more than some thousand digits
        raise InputError(f"{name}: {what}: not valid JSON (a number of too many digits)") from None


def _reason(fault: Exception) -> str:
    return (getattr(fault, "strerror", None) or str(fault)).lower()
