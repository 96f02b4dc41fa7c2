"""The command line."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command ``tilewright``."""
    print("tilewright: the command line is not there yet")
