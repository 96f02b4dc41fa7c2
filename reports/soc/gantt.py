"""A schedule drawn as SVG: a row per element, a bar per task in its application's colour."""

from __future__ import annotations

from html import escape

from tilewright.errors import visible
from tilewright.reports.soc.table import micros_text
from tilewright.sim.soc.result import JobsResult, Span

__all__ = ["draw_gantt"]

_ROW, _BAR, _TOP, _LEFT, _TIME, _MARGIN = 30, 22, 84, 130, 820, 16
_COLOURS = ("#3b6fd4", "#23804a", "#a85a08", "#a3478f", "#1f766c", "#776309")  # white letters can be read on all
_LETTER, _TICKS, _MOST_BARS = 7, 6, 4000
_STYLE = """<style>
.gantt { --back: #fff; --ink: #1c222b; --soft: #5c6675; --box: #eef1f5; --edge: #c9d0d9; }
@media (prefers-color-scheme: dark) {
  .gantt { --back: #1b2027; --ink: #e7eaef; --soft: #9aa5b5; --box: #2a313b; --edge: #3b4452; }
}
@media print { .gantt { --back: #fff; --ink: #1c222b; --soft: #444; --box: #eee; --edge: #bbb; } }
.gantt { font: 12px system-ui, sans-serif; background: var(--back); }
.gantt text { fill: var(--ink); }
.gantt .soft { fill: var(--soft); }
.gantt .on { fill: #fff; font-size: 11px; text-anchor: middle; }
.gantt .box { fill: var(--box); }
.gantt .edge { stroke: var(--edge); }
</style>
"""


def draw_gantt(result: JobsResult) -> str:
    """One SVG image; of long runs the first tasks, as many as can be seen."""
    spans = sorted(result.exact_spans or result.spans, key=lambda span: span.start_us)[:_MOST_BARS]
    end = max((span.finish_us for span in spans), default=1.0) or 1.0
    rows = sorted({span.element for span in spans})
    names = [one.name for one in result.applications]
    height, width = _TOP + len(rows) * _ROW + 46, _MARGIN + _LEFT + _TIME + 30
    kind = "as it ran" if result.exact_spans else "by tables"
    label = escape(visible(f"schedule of {result.name} on {result.soc}"), quote=True)
    parts = [
        _text(_MARGIN, 26, f"{result.name} on {result.soc}", "font-size:17px;font-weight:600"),
        _text(_MARGIN, 46, f"{result.scheduler}, {kind}; a bar is a task, its number that of the job", soft=True),
        *_legend(names),
    ]
    parts += _axis(end, len(rows))
    for place, element in enumerate(rows):
        y = _TOP + place * _ROW
        parts.append(_text(_MARGIN, y + 16, f"{element}  {result.elements[element]}"))
        parts.append(f'<rect x="{_MARGIN + _LEFT}" y="{y}" width="{_TIME}" height="{_BAR}" class="box"/>')
        parts += [_bar(span, y, end, names.index(span.application)) for span in spans if span.element == element]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{label}" class="gantt" style="'
        f'max-width:100%;min-width:{width * 3 // 5}px;height:auto">\n' + _STYLE + "\n".join(parts) + "\n</svg>\n"
    )


def _legend(names: list[str]) -> list[str]:
    parts, x = [], _MARGIN + _LEFT
    for at, name in enumerate(names):
        parts.append(f'<rect x="{x}" y="58" width="12" height="12" rx="2" fill="{_COLOURS[at % len(_COLOURS)]}"/>')
        parts.append(_text(x + 18, 68, name))
        x += 40 + _LETTER * len(name)
    return parts


def _axis(end: float, n_rows: int) -> list[str]:
    bottom, parts = _TOP + n_rows * _ROW, []
    for at in range(_TICKS + 1):
        x = _x(end * at / _TICKS, end)
        parts.append(f'<line x1="{x}" y1="{_TOP - 4}" x2="{x}" y2="{bottom}" class="edge"/>')
        parts.append(_text(x, bottom + 18, micros_text(end * at / _TICKS), "text-anchor:middle", soft=True))
    return parts


def _bar(span: Span, y: int, end: float, colour: int) -> str:
    x, width = _x(span.start_us, end), round(max(1.0, _TIME * (span.finish_us - span.start_us) / end - 0.5), 2)
    number = str(span.job)
    tip = f"job {number}, {span.task}: {span.start_us:,.1f} to {span.finish_us:,.1f} us"
    text = ""
    if width > _LETTER * len(number) + 2:
        text = f'<text x="{round(x + width / 2, 2)}" y="{y + 15}" class="on">{number}</text>'
    return (
        f'<g><title>{escape(visible(tip))}</title><rect x="{x}" y="{y}" width="{width}" height="{_BAR}" rx="2" '
        f'fill="{_COLOURS[colour % len(_COLOURS)]}"/>{text}</g>'
    )


def _x(us: float, end: float) -> float:
    return round(_MARGIN + _LEFT + _TIME * us / end, 2)


def _text(x: float, y: float, text: str, style: str = "", *, soft: bool = False) -> str:
    kind = ' class="soft"' if soft else ""
    return f'<text x="{x}" y="{y}"{kind} style="{style}">{escape(visible(text))}</text>'
