"""A pipeline drawn as SVG: the first images through the stages over time, and how busy each stage then is."""

from __future__ import annotations

from html import escape

from tilewright.errors import visible
from tilewright.reports.quantity import cycles_text, percent_text, seconds_text
from tilewright.sim.pipeline_result import PipelineResult

__all__ = ["draw_pipeline"]

_ROW, _BAR, _TOP, _LEFT, _TIME, _SIDE, _MARGIN = 40, 26, 86, 220, 620, 230, 16
_COLOURS = ("#3b6fd4", "#23804a", "#a85a08", "#a3478f", "#1f766c", "#776309")  # white figures can be read on all
_LETTER = 8
_TICKS = 5
# The drawing stands in a page and alone as a file; in both it follows the reader's light or dark setting.
_STYLE = """<style>
.pipeline { --back: #fff; --ink: #1c222b; --soft: #5c6675; --box: #eef1f5; --edge: #c9d0d9; }
@media (prefers-color-scheme: dark) {
  .pipeline { --back: #1b2027; --ink: #e7eaef; --soft: #9aa5b5; --box: #2a313b; --edge: #3b4452; }
}
@media print { .pipeline { --back: #fff; --ink: #1c222b; --soft: #444; --box: #eee; --edge: #bbb; } }
.pipeline { font: 12px system-ui, sans-serif; background: var(--back); }
.pipeline text { fill: var(--ink); }
.pipeline .soft { fill: var(--soft); }
.pipeline .number { fill: #fff; font-weight: 600; text-anchor: middle; }
.pipeline .box { fill: var(--box); }
.pipeline .edge { stroke: var(--edge); }
</style>
"""


def draw_pipeline(result: PipelineResult) -> str:
    """One SVG image: a row per stage with the first images in it, from the start of the batch; an image has one colour
    in all stages. At the right the share of the steady state in which the stage works, and the longest stage's mark.
    """
    n = len(result.stages)
    height = _TOP + n * _ROW + 54
    width = _MARGIN + _LEFT + _TIME + _SIDE
    end = max((span.end for span in result.spans), default=1)
    rows = [_row(result, stage, end) for stage in range(n)]
    label = escape(visible(f"{result.network} as a pipeline of {n} stages"), quote=True)
    head = [
        _text(_MARGIN, 26, f"{result.network} as a pipeline", "font-size:17px;font-weight:600"),
        _text(_MARGIN, 48, _summary(result), "font-size:13px", soft=True),
        _text(_MARGIN + _LEFT, _TOP - 12, "the first images, numbered", soft=True),
        _text(_MARGIN + _LEFT + _TIME + 20, _TOP - 12, "busy in the steady state", soft=True),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{label}" class="pipeline" style="'
        f'max-width:100%;min-width:{width * 4 // 5}px;height:auto">\n'
        + _STYLE
        + "\n".join([*head, *_axis(result, end, n), *rows])
        + "\n</svg>\n"
    )


def _summary(result: PipelineResult) -> str:
    interval = float(result.interval_cycles)
    return (
        f"{len(result.stages)} stages on {result.machine}: an image every {cycles_text(round(interval))} cycles "
        f"({result.throughput_per_s:,.0f} a second), the first after {cycles_text(result.fill_cycles)}"
    )


def _x(cycle: float, end: int) -> float:
    return round(_MARGIN + _LEFT + _TIME * cycle / end, 2)


def _row(result: PipelineResult, stage: int, end: int) -> str:
    y = _TOP + stage * _ROW
    own = result.stages[stage]
    mark = ", the longest" if stage == result.bottleneck else ""
    parts = [
        f'<svg x="{_MARGIN}" y="{y}" width="{_LEFT - 10}" height="{_ROW}">'
        + _text(0, 12, f"{stage + 1}  {own.units}{mark}", "font-weight:600")
        + _text(0, 27, _short(f"{own.first} to {own.last}" if own.n_jobs > 1 else own.first), soft=True)
        + "</svg>",
        f'<rect x="{_MARGIN + _LEFT}" y="{y}" width="{_TIME}" height="{_BAR}" class="box"/>',
    ]
    parts += [_span(span.image, span.start, span.end, y, end) for span in result.spans if span.stage == stage]
    busy = min(1.0, result.busy(stage))
    left, room = _MARGIN + _LEFT + _TIME + 20, _SIDE - 80
    parts += [
        f'<rect x="{left}" y="{y}" width="{room}" height="{_BAR}" class="box"/>',
        f'<rect x="{left}" y="{y}" width="{round(room * busy, 2)}" height="{_BAR}" fill="#3b6fd4"/>',
        _text(left + room + 6, y + 17, percent_text(busy)),
    ]
    return "".join(parts)


def _span(image: int, start: int, finish: int, y: int, end: int) -> str:
    x, width = _x(start, end), round(max(0.5, _TIME * (finish - start) / end - 1), 2)
    number = str(image + 1)
    tip = f"image {number}: cycles {start:,} to {finish:,}"
    text = (
        f'<text x="{round(x + width / 2, 2)}" y="{y + 17}" class="number on">{number}</text>'
        if width > _LETTER * len(number) + 4
        else ""
    )
    colour = _COLOURS[image % len(_COLOURS)]
    return (
        f'<g><title>{escape(tip)}</title><rect x="{x}" y="{y}" width="{width}" height="{_BAR}" rx="2" fill="{colour}"/>'
        f"{text}</g>"
    )


def _axis(result: PipelineResult, end: int, n_stages: int) -> list[str]:
    bottom = _TOP + n_stages * _ROW
    parts = []
    for tick in range(_TICKS + 1):
        cycle = end * tick // _TICKS
        x = _x(cycle, end)
        anchor = "start" if tick == 0 else "end" if tick == _TICKS else "middle"
        parts += [
            f'<path d="M{x} {_TOP - 4}V{bottom}" class="edge"/>',
            _text(x, bottom + 14, cycles_text(cycle), f"text-anchor:{anchor}"),
            _text(x, bottom + 29, seconds_text(cycle * result.seconds_of_a_cycle), f"text-anchor:{anchor}", soft=True),
        ]
    return parts


def _short(name: str) -> str:
    return name if len(name) <= 34 else name[:16] + "..." + name[-15:]


def _text(x: float, y: float, text: str, style: str = "", *, soft: bool = False) -> str:
    look = (' class="soft"' if soft else "") + (f' style="{style}"' if style else "")
    return f'<text x="{x}" y="{y}"{look}>{escape(visible(text))}</text>'
