"""A run over time drawn as SVG: its phases, how long steps take, and what lies in memory meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from tilewright.errors import visible
from tilewright.reports.quantity import bytes_text, seconds_text
from tilewright.sim.runs.result import RunPhase, RunResult

__all__ = ["draw_run"]

_LEFT, _RIGHT, _TOP, _WIDTH, _MARGIN = 120, 40, 92, 800, 16
_BAR, _PANEL, _GAP = 26, 130, 44
_PHASES = ("#3b6fd4", "#23804a", "#a85a08", "#a3478f", "#1f766c", "#776309")  # white words can be read on all
_PARTS = (("weights", "#5b7fb8"), ("cache", "#e08a1e"), ("activations", "#2a9d8f"))
_LETTER, _TICKS = 8, 5
# The drawing stands in a page and alone as a file; in both it follows the reader's light or dark setting.
_STYLE = """<style>
.run { --back: #fff; --ink: #1c222b; --soft: #5c6675; --box: #f1f3f6; --edge: #c9d0d9; }
@media (prefers-color-scheme: dark) {
  .run { --back: #1b2027; --ink: #e7eaef; --soft: #9aa5b5; --box: #242a33; --edge: #3b4452; }
}
@media print { .run { --back: #fff; --ink: #1c222b; --soft: #444; --box: #eee; --edge: #bbb; } }
.run { font: 12px system-ui, sans-serif; background: var(--back); }
.run text { fill: var(--ink); }
.run .soft { fill: var(--soft); }
.run .word { fill: #fff; font-weight: 600; text-anchor: middle; }
.run .box { fill: var(--box); }
.run .edge { stroke: var(--edge); }
.run .right { text-anchor: end; }
.run .middle { text-anchor: middle; }
</style>
"""


def draw_run(result: RunResult) -> str:
    """One SVG image over the time of the run: a bar a phase, the time of each step (a logarithmic axis where steps
    differ much), and the bytes in memory, one part on the other.
    """
    end = result.seconds or 1.0
    steps_top = _TOP + _BAR + _GAP
    memory_top = steps_top + _PANEL + _GAP
    height = (memory_top + _PANEL if result.memory else steps_top + _PANEL) + 40
    width = _MARGIN + _LEFT + _WIDTH + _RIGHT
    label = escape(visible(f"{result.name} on {result.machine} over time"), quote=True)
    parts = [
        _text(_MARGIN, 26, _short(f"{result.name} on {result.machine}", 100), "font-size:17px;font-weight:600"),
        _text(_MARGIN, 48, f"{seconds_text(result.seconds)} in all", "font-size:13px", soft=True),
        *(one for at, phase in enumerate(result.phases) for one in _phase(phase, at, end)),
        _text(_x(0, end), steps_top - 10, "time of a step"),
        *_steps(result.phases, steps_top, end),
    ]
    if result.memory:
        parts += [*_legend(memory_top - 10), *_memory(result, memory_top, end)]
    parts += _axis(end, height - 22)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{label}" class="run" style="max-width:100%;min-width:{width * 4 // 5}px;'
        'height:auto">\n' + _STYLE + "\n".join(parts) + "\n</svg>\n"
    )


def _x(seconds: float, end: float) -> float:
    return _MARGIN + _LEFT + _WIDTH * seconds / end


def _phase(phase: RunPhase, at: int, end: float) -> list[str]:
    x, width = _x(phase.start_seconds, end), max(0.5, _WIDTH * phase.seconds / end)
    colour = _PHASES[at % len(_PHASES)]
    told = escape(visible(f"{phase.name}: {phase.n_steps:,} steps, {seconds_text(phase.seconds)}"))
    bar = (
        f'<rect x="{x:.2f}" y="{_TOP}" width="{width:.2f}" height="{_BAR}" fill="{colour}"><title>{told}</title></rect>'
    )
    if len(phase.name) * _LETTER > width:
        return [bar]
    middle = x + width / 2
    return [bar, f'<text x="{middle:.1f}" y="{_TOP + 17}" class="word">{escape(visible(phase.name))}</text>']


def _steps(phases: Sequence[RunPhase], top: float, end: float) -> list[str]:
    points = [(point, at) for at, phase in enumerate(phases) for point in phase.points]
    if not points:
        return []
    most = max(point.seconds for point, _ in points)
    decodes = [point.seconds for phase in phases if phase.n_steps > 1 for point in phase.points]
    scale = 1.15 * (max(decodes) if decodes else most)
    found = [_frame(top), *_levels(top, scale, seconds_text)]
    for at, phase in enumerate(phases):
        colour = _PHASES[at % len(_PHASES)]
        places = [(_x(p.start_seconds, end), _y(min(p.seconds, scale), top, scale)) for p in phase.points]
        if phase.n_steps > 1:
            line = " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
            found.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            continue
        for (x, y), point in zip(places, phase.points, strict=True):
            width = max(1.0, _WIDTH * point.seconds / end)
            told = f"{phase.name}: {seconds_text(point.seconds)}"
            found.append(
                f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{top + _PANEL - y:.2f}" fill="{colour}" '
                f'fill-opacity="0.25"><title>{escape(visible(told))}</title></rect>'
            )
            beyond = f"{seconds_text(point.seconds)}, beyond"
            if point.seconds > scale and width > 7 * len(beyond):
                found.append(_text(x + 4, top + 14, beyond, soft=True))
    return found


def _memory(result: RunResult, top: float, end: float) -> list[str]:
    most = max(result.peak_bytes, result.capacity_bytes or 0)
    scale = 1.08 * (most if most < 4 * result.peak_bytes else result.peak_bytes)
    found = [_frame(top), *_levels(top, scale, bytes_text)]
    points = [*result.memory]
    starts = [_x(point.seconds, end) for point in points]
    ends = [*starts[1:], _x(end, end)]
    below = [0.0] * len(points)
    for (name, colour), part in zip(_PARTS, ("weight_bytes", "cache_bytes", "activation_bytes"), strict=True):
        above = [low + getattr(point, part) for low, point in zip(below, points, strict=True)]
        over = [
            (x, _y(n, top, scale)) for begin, stop, n in zip(starts, ends, above, strict=True) for x in (begin, stop)
        ]
        under = [
            (x, _y(n, top, scale)) for begin, stop, n in zip(starts, ends, below, strict=True) for x in (begin, stop)
        ]
        line = " ".join(f"{x:.2f},{y:.2f}" for x, y in [*over, *reversed(under)])
        found.append(f'<polygon points="{line}" fill="{colour}"><title>{name}</title></polygon>')
        below = above
    if result.capacity_bytes is not None and result.capacity_bytes <= scale:
        y = _y(result.capacity_bytes, top, scale)
        right = _MARGIN + _LEFT + _WIDTH
        found.append(
            f'<line x1="{_MARGIN + _LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#c0392b" '
            f'stroke-dasharray="6 4"><title>memory: {bytes_text(result.capacity_bytes)}</title></line>'
        )
    return found


def _frame(top: float) -> str:
    return f'<rect x="{_MARGIN + _LEFT}" y="{top}" width="{_WIDTH}" height="{_PANEL}" class="box"/>'


def _y(value: float, top: float, scale: float) -> float:
    return top + _PANEL * (1 - value / scale)


def _levels(top: float, scale: float, words: Callable[[float], str]) -> list[str]:
    found = []
    for share in (0.0, 0.5, 1.0):
        y = _y(scale * share, top, scale)
        found.append(
            f'<line x1="{_MARGIN + _LEFT}" x2="{_MARGIN + _LEFT + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}" class="edge"/>'
        )
        found.append(
            f'<text x="{_MARGIN + _LEFT - 8}" y="{y + 4:.1f}" class="soft right">{words(scale * share)}</text>'
        )
    return found


def _legend(y: float) -> list[str]:
    found = [_text(_x(0, 1), y, "in memory")]
    x = _x(0, 1) + 90
    for name, colour in _PARTS:
        found.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        found.append(_text(x + 18, y, name))
        x += 40 + _LETTER * len(name)
    return found


def _axis(end: float, y: float) -> list[str]:
    return [
        f'<text x="{_x(end * tick / _TICKS, end):.1f}" y="{y}" class="soft middle">'
        f"{seconds_text(end * tick / _TICKS) if tick else 0}</text>"
        for tick in range(_TICKS + 1)
    ]


def _text(x: float, y: float, text: str, style: str = "", *, soft: bool = False) -> str:
    kind = ' class="soft"' if soft else ""
    look = f' style="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{kind}{look}>{escape(visible(text))}</text>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
