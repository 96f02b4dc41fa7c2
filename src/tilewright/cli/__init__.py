"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the command ``tilewright``: run it and exit with its code.

    0: done; 1: something failed; 2: something given is not acceptable; 130: interrupted.
    ``arguments`` are those of the command line when None.
    """
    try:
        from tilewright.cli.run import run

        code = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        print("tilewright: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
