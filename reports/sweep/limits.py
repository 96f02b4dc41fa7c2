"""What an option of a report may be: how many points a page carries, so that it stays small and quick."""

from __future__ import annotations

__all__ = ["DEFAULT_POINTS", "FEWEST_POINTS", "MOST_POINTS", "STANDARD_OUTPUT"]

DEFAULT_POINTS = 4000
FEWEST_POINTS = 100
MOST_POINTS = 50_000
STANDARD_OUTPUT = "-"
