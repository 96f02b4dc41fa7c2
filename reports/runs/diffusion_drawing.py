"""A run of diffusion steps drawn as SVG: which blocks run at which step, how long each takes, what is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from tilewright.errors import visible
from tilewright.reports.quantity import bytes_text, percent_text, seconds_text
from tilewright.sim.runs.diffusion import DiffusionResult, StepRow

__all__ = ["draw_steps"]

_LEFT, _RIGHT, _TOP, _WIDTH = 190, 90, 84, 760
_BLOCKS, _BARS, _GAP, _MARGIN = 320, 90, 46, 16
_LEAST_CELL, _MOST_CELL = 3.0, 16.0
_LABEL = 14  # pixels between names of blocks
_FULL, _TIME, _KEPT = "#3b6fd4", "#e08a1e", "#b0559e"
_MOST_NUMBERS = 26
# The drawing stands in a page and alone as a file; in both it follows the reader's light or dark setting.
_STYLE = """<style>
.steps { --back: #fff; --ink: #1c222b; --soft: #5c6675; --box: #e6eaf0; --edge: #c9d0d9; }
@media (prefers-color-scheme: dark) {
  .steps { --back: #1b2027; --ink: #e7eaef; --soft: #9aa5b5; --box: #2a313b; --edge: #3b4452; }
}
@media print { .steps { --back: #fff; --ink: #1c222b; --soft: #444; --box: #e6e6e6; --edge: #bbb; } }
.steps { font: 12px system-ui, sans-serif; background: var(--back); }
.steps text { fill: var(--ink); }
.steps .soft { fill: var(--soft); }
.steps .box { fill: var(--box); }
.steps .edge { stroke: var(--edge); }
</style>
"""


def draw_steps(result: DiffusionResult) -> str:
    """One SVG image: a column per step, a row per block of the first stage's network (coloured by the share of its
    multiply-adds that are done), and below it the time of each step and the bytes that are kept while it runs.
    """
    rows, n_blocks = result.steps, max(1, len(result.blocks))
    cell = min(_MOST_CELL, max(_LEAST_CELL, _BLOCKS / n_blocks))
    column = _WIDTH / max(1, len(rows))
    times_top = _TOP + n_blocks * cell + _GAP
    kept_top = times_top + _BARS + _GAP
    kept = any(row.cache_bytes for row in rows)
    height = (kept_top + _BARS if kept else times_top + _BARS) + 40
    width = _MARGIN + _LEFT + _WIDTH + _RIGHT
    label = escape(visible(f"steps of {result.name} on {result.machine}"), quote=True)
    parts = [
        _text(_MARGIN, 26, _short(result.name, 90), "font-size:17px;font-weight:600"),
        _text(_MARGIN, 48, _summary(result), "font-size:13px", soft=True),
        *_legend(),
        *_names(result.blocks, cell),
        *(one for row in rows for one in _column(row, column, cell, result.blocks)),
        *_bars("time", [row.seconds for row in rows], times_top, column, _TIME, seconds_text),
    ]
    if kept:
        parts += _bars("kept", [float(row.cache_bytes) for row in rows], kept_top, column, _KEPT, bytes_text)
    parts += _numbers(len(rows), column, (kept_top if kept else times_top) + _BARS + 16)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:g}" width="{width}" '
        f'height="{height:g}" role="img" aria-label="{label}" class="steps" style="max-width:100%;'
        f'min-width:{width * 4 // 5}px;height:auto">\n' + _STYLE + "\n".join(parts) + "\n</svg>\n"
    )


def _summary(result: DiffusionResult) -> str:
    seconds, flop = result.measure("seconds_per_image"), result.measure("tflop")
    return (
        f"on {result.machine}: {seconds_text(seconds)} and {flop:,.4g} TFLOP an image, "
        f"{result.measure('speedup_steps'):.3g}x as fast as with nothing kept"
    )


def _legend() -> list[str]:
    x, y, parts = _MARGIN + _LEFT, _TOP - 20, []
    for text, look in (
        ("runs", f'fill="{_FULL}"'),
        ("runs in part", f'fill="{_FULL}" fill-opacity="0.45"'),
        ("taken from an earlier step", 'class="box"'),
    ):
        parts += [f'<rect x="{x}" y="{y}" width="11" height="11" {look}/>', _text(x + 16, y + 10, text, soft=True)]
        x += 36 + 7 * len(text)
    return parts


def _names(blocks: Sequence[str], cell: float) -> list[str]:
    """Names of as many blocks as there is room for."""
    every = max(1, math.ceil(_LABEL / cell))
    return [
        _text(_MARGIN + _LEFT - 8, _TOP + at * cell + cell / 2 + 4, _short(name, 26), "text-anchor:end", soft=True)
        for at, name in enumerate(blocks)
        if at % every == 0
    ]


def _column(row: StepRow, column: float, cell: float, blocks: Sequence[str]) -> list[str]:
    """A step's blocks; equal neighbours are one rectangle."""
    x, wide = _MARGIN + _LEFT + row.step * column, max(0.5, column - min(1.0, column / 5))
    shares = row.computed if len(row.computed) == len(blocks) else (float(row.kind == "full"),) * len(blocks)
    parts, first = [], 0
    for at in range(1, len(shares) + 1):
        if at < len(shares) and shares[at] == shares[first]:
            continue
        share = shares[first]
        names = blocks[first] if at - first == 1 else f"{blocks[first]} to {blocks[at - 1]}"
        what = "run" if share == 1 else "taken from an earlier step" if share == 0 else f"{percent_text(share)} run"
        look = 'class="box"' if share == 0 else f'fill="{_FULL}" fill-opacity="{0.2 + 0.8 * share:.2f}"'
        tip = escape(visible(f"step {row.step}, {names}: {what}"))
        parts.append(
            f'<g><title>{tip}</title><rect x="{x:.2f}" y="{_TOP + first * cell:.2f}" width="{wide:.2f}" '
            f'height="{(at - first) * cell:.2f}" {look}/></g>'
        )
        first = at
    return parts


def _bars(
    name: str, values: Sequence[float], top: float, column: float, colour: str, text: Callable[[float], str]
) -> list[str]:
    """A bar per step, on a scale of its own whose top is told."""
    most = max(values) or 1.0
    wide = max(0.5, column - min(1.0, column / 5))
    left = _MARGIN + _LEFT
    parts = [
        _text(left - 8, top + 10, f"{name}, up to", "text-anchor:end", soft=True),
        _text(left - 8, top + 26, text(most), "text-anchor:end"),
        f'<path d="M{left} {top + _BARS}H{left + _WIDTH}" class="edge"/>',
    ]
    for at, value in enumerate(values):
        high = _BARS * value / most
        tip = escape(f"step {at}: {text(value)}")
        parts.append(
            f'<g><title>{tip}</title><rect x="{left + at * column:.2f}" y="{top + _BARS - high:.2f}" '
            f'width="{wide:.2f}" height="{high:.2f}" fill="{colour}"/></g>'
        )
    return parts


def _numbers(n_steps: int, column: float, y: float) -> list[str]:
    every = max(1, -(-n_steps // _MOST_NUMBERS))
    parts = [
        _text(_MARGIN + _LEFT + (at + 0.5) * column, y, str(at), "text-anchor:middle", soft=True)
        for at in range(0, n_steps, every)
    ]
    return [*parts, _text(_MARGIN + _LEFT - 8, y, "step", "text-anchor:end", soft=True)]


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most // 2 - 1] + "..." + name[2 - most // 2 :]


def _text(x: float, y: float, text: str, style: str = "", *, soft: bool = False) -> str:
    look = (' class="soft"' if soft else "") + (f' style="{style}"' if style else "")
    return f'<text x="{x:.2f}" y="{y:.2f}"{look}>{escape(visible(text))}</text>'
