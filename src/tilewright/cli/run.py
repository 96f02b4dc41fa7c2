"""Running the command line: every error becomes one clear line and an exit code."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from tilewright.errors import TilewrightError, visible

__all__ = ["DEBUG_VARIABLE", "run"]

DEBUG_VARIABLE = "TILEWRIGHT_DEBUG"

_FAILED = 1
_MISUSED = 2
_INTERRUPTED = 130
_READER_GONE = 141  # as a program ends that does not catch SIGPIPE
_TERMINATED = 143
_BAD_NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS)
_LONGEST_SHOWN = 80
_OUT_OF_ROOM = (errno.ENOSPC, errno.EDQUOT)


def run(arguments: Sequence[str]) -> int:
    """Run the command line with ``arguments`` and give its exit code; nothing is raised but a debugger's wish."""
    import typer

    from tilewright.cli.app import app
    from tilewright.cli.outputs import COMMAND

    _open_standard_streams()
    COMMAND.set(shlex.join(["tilewright", *arguments]))
    _clean_up_when_terminated()
    try:
        code = app(args=_plugins_first(arguments), obj=list(arguments), prog_name="tilewright", standalone_mode=False)
        sys.stdout.flush()  # what was left in it may not find a reader, or room
    except TilewrightError as error:
        _complain(str(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        return _answer_to(error)
    if code == _INTERRUPTED:
        print("tilewright: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _plugins_first(arguments: Sequence[str]) -> list[str]:
    """``--plugin FILE`` may stand anywhere; it is loaded before a command reads its other options."""
    moved: list[str] = []
    others: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--plugin":
            moved += [argument, *(value for value in [next(left, None)] if value is not None)]
        else:
            (moved if argument.startswith("--plugin=") else others).append(argument)
    return moved + others


def _answer_to(error: Exception) -> int:
    """Say what an exception means and give the exit code: misuse of the command line, or a fault of ours."""
    describe = getattr(error, "format_message", None)
    if callable(describe):  # a usage error of the command-line library, whichever version of it
        message = str(describe()).rstrip(".")
        _complain(f"{message[:1].lower()}{message[1:]}; see {_help_command(error)}")
        return int(getattr(error, "exit_code", 2))
    if isinstance(error, BrokenPipeError):  # "tilewright list machines | head -1": nobody reads on
        _drop_standard_output()
        return _READER_GONE
    if isinstance(error, OSError) and error.errno in _OUT_OF_ROOM:
        _drop_standard_output()
        _complain(f"{error.filename or 'what was to be written'}: {(error.strerror or str(error)).lower()}")
        return _FAILED
    if isinstance(error, OSError) and error.errno in _BAD_NAMES:
        _complain(f"{_short(str(error.filename))}: {(error.strerror or str(error)).lower()}")
        return _MISUSED
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exception(error)
    first_line = (str(error).splitlines() or [""])[0]
    hint = "" if os.environ.get(DEBUG_VARIABLE) else f"; set {DEBUG_VARIABLE}=1 to see where"
    _complain(f"unexpected {type(error).__name__}: {first_line}{hint}")
    return _FAILED


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..."


def _help_command(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"{getattr(context, 'command_path', 'tilewright')} --help"


def _complain(message: str) -> None:
    for line in message.split("\n"):
        print(f"tilewright: error: {visible(line)}", file=sys.stderr)


def _open_standard_streams() -> None:
    """Give standard streams that are closed a place to go: a file opened later must not get their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for as long as the program runs)


def _drop_standard_output() -> None:
    """What is still in standard output goes nowhere, or Python would complain about it at the end."""
    try:
        kept = sys.stdout.fileno()
    except (OSError, ValueError):  # a test's stand-in
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, kept)
    os.close(nowhere)


def _clean_up_when_terminated() -> None:
    """Let a polite kill unwind the stack, so that temporary files go away."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(_TERMINATED)

    try:
        signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not in the main thread: somebody else's process
        return
