"""Which parts of a network cost the most quality per bit, as a table and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilewright.reports.figure import figure_text, new_figure, png_bytes
from tilewright.search.bits.explain import Explanation

if TYPE_CHECKING:
    pass

__all__ = ["ASPECT_TITLES", "explanation_png", "trust_text"]

ASPECT_TITLES = {
    "kind": "kind of operator",
    "place": "place in the network",
    "part": "part of a block",
    "block": "block",
}
_COLOUR = "#3b6fd4"
_MOST_BARS = 14


def trust_text(explanation: Explanation) -> str:
    """The rank correlation on configurations that were held out, in words."""
    return (
        f"rank correlation {explanation.rank_correlation:.3f} on {explanation.n_held_out} configurations held out; "
        f"fitted to {explanation.n_fitted}"
    )


def explanation_png(explanation: Explanation, *, title: str = "") -> bytes:
    """Loss per bit taken from a layer, by kind, place and part of a block."""
    aspects = ("kind", "place", "part")
    groups = [explanation.of(aspect)[:_MOST_BARS] for aspect in aspects]
    figure = new_figure(10.0, 1.2 + 0.26 * max(len(rows) for rows in groups))
    for axes, aspect, rows in zip(figure.subplots(1, len(aspects)), aspects, groups, strict=True):
        names = [f"{figure_text(row.group, 24)} ({len(row.layers)})" for row in rows]
        axes.barh(range(len(rows)), [row.per_bit for row in rows], color=_COLOUR, height=0.7)
        axes.set_yticks(range(len(rows)), names, fontsize=8)
        axes.invert_yaxis()
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_xlabel("loss per bit taken", fontsize=8)
        axes.set_title(ASPECT_TITLES[aspect], fontsize=9, loc="left")
        for side in ("right", "top"):
            axes.spines[side].set_visible(False)
    head = f"{title + ': ' if title else ''}{trust_text(explanation)}"
    figure.suptitle(figure_text(head, 140), fontsize=9, parse_math=False)
    return png_bytes(figure)
