"""Groups and what stays on chip between them, drawn as one SVG: time from left to right, addresses from below."""

from __future__ import annotations

from html import escape
from itertools import accumulate

from tilewright.errors import visible
from tilewright.reports.quantity import bytes_text, cycles_text, energy_text, percent_text
from tilewright.search.fusion.kept.outcome import KeptGroup, KeptOutcome

__all__ = ["draw_kept"]

_WIDTH, _LEFT, _RIGHT, _TOP = 1100, 92, 16, 76
_STRIP, _GAP, _HEIGHT, _FOOT = 40, 34, 340, 62
_MAP, _WEIGHT, _TILES, _FUSED, _ALONE = "#3b6fd4", "#c46f0c", "#a9b2bf", "#2f7d46", "#66717f"
_TICKS = 4
_LETTER = 7
# The drawing stands in a page and alone as a file; in both it follows the reader's light or dark setting.
_STYLE = """<style>
.kept { --back: #fff; --ink: #1c222b; --soft: #5c6675; --box: #eef1f5; --edge: #c9d0d9; }
@media (prefers-color-scheme: dark) {
  .kept { --back: #1b2027; --ink: #e7eaef; --soft: #9aa5b5; --box: #2a313b; --edge: #3b4452; }
}
@media print { .kept { --back: #fff; --ink: #1c222b; --soft: #444; --box: #eee; --edge: #bbb; } }
.kept { font: 12px system-ui, sans-serif; background: var(--back); }
.kept text { fill: var(--ink); }
.kept .soft { fill: var(--soft); }
.kept .number { fill: #fff; font-weight: 600; text-anchor: middle; }
.kept .box { fill: var(--box); }
.kept .edge { stroke: var(--edge); }
.kept .block { stroke: var(--back); stroke-width: .6; }
</style>
"""


def draw_kept(outcome: KeptOutcome) -> str:
    """One SVG image. Above, the groups in the order in which they run, as wide as what they cost; below, the memory:
    maps and weights that are kept, at their addresses and as long as they live, and the room of each group's tiles.
    """
    ends = list(accumulate(group.cost for group in outcome.groups))
    edges = [0, *ends]
    total = max(1, ends[-1])
    top = max(1, outcome.top_address)
    bottom = _TOP + _STRIP + _GAP + _HEIGHT

    def x(number: int) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * edges[number] / total, 2)

    def block(first: int, last: int, address: int, n_bytes: int, colour: str, tip: str) -> str:
        height = _HEIGHT * n_bytes / top
        y = bottom - _HEIGHT * address / top - height
        width = max(0.4, x(last + 1) - x(first))
        return (
            f'<rect x="{x(first)}" y="{round(y, 2)}" width="{round(width, 2)}" height="{round(max(0.4, height), 2)}" '
            f'class="block" fill="{colour}"><title>{escape(visible(tip))}</title></rect>'
        )

    parts = [_strip(outcome, at, group, x(at), x(at + 1)) for at, group in enumerate(outcome.groups)]
    parts.append(
        f'<rect x="{_LEFT}" y="{bottom - _HEIGHT}" width="{x(len(edges) - 1) - _LEFT}" height="{_HEIGHT}" class="box"/>'
    )
    parts += [
        block(
            at,
            at,
            group.tile_address,
            group.tile_bytes,
            _TILES,
            f"tiles of {_named(at, group)}: {bytes_text(group.tile_bytes)}",
        )
        for at, group in enumerate(outcome.groups)
        if group.tile_bytes
    ]
    for one in outcome.tensors:
        stays = "stays between inferences" if one.is_weight else f"groups {one.first + 1} to {one.last + 1}"
        tip = f"{one.name}: {bytes_text(one.n_bytes)} at {one.address:,}, {stays}"
        parts.append(block(one.first, one.last, one.address, one.n_bytes, _WEIGHT if one.is_weight else _MAP, tip))
    height = bottom + _FOOT
    label = escape(visible(f"{outcome.network}: groups and what stays in {outcome.memory}"), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="{label}" class="kept" style="'
        f'max-width:100%;min-width:{_WIDTH * 4 // 5}px;height:auto">\n'
        + _STYLE
        + "\n".join([*_head(outcome), *parts, *_axes(outcome, total, top, bottom), *_legend(height - 12)])
        + "\n</svg>\n"
    )


def _head(outcome: KeptOutcome) -> list[str]:
    proof = "proven best" if outcome.proven else f"at most {percent_text(outcome.gap)} from the best"
    used = (
        f"{bytes_text(outcome.peak_bytes)} of {bytes_text(outcome.capacity_bytes)} of {outcome.memory} in use at most"
    )
    return [
        _text(16, 24, f"{outcome.network} on {outcome.machine}", "font-size:17px;font-weight:600"),
        _text(
            16,
            45,
            f"{len(outcome.groups):,} groups, {cost_text(outcome, outcome.cost)}, {proof}; {used}",
            "font-size:13px",
            soft=True,
        ),
        _text(16, _TOP + _STRIP // 2 + 4, "groups", soft=True),
        _text(16, _TOP + _STRIP + _GAP - 8, outcome.memory, soft=True),
    ]


def cost_text(outcome: KeptOutcome, value: int) -> str:
    """A cost with its unit."""
    return energy_text(value) if outcome.objective == "energy" else f"{cycles_text(value)} cycles"


def _named(at: int, group: KeptGroup) -> str:
    ends = dict.fromkeys((group.operators[0], group.operators[-1]))
    return f"group {at + 1} ({' to '.join(ends)})"


def _strip(outcome: KeptOutcome, at: int, group: KeptGroup, left: float, right: float) -> str:
    width = round(max(0.5, right - left - 0.8), 2)
    is_fused = group.how == "fused" and len(group.operators) > 1
    tip = f"{_named(at, group)}: {len(group.operators)} operators, {cost_text(outcome, group.cost)}"
    number = str(at + 1)
    text = ""
    if width > _LETTER * len(number) + 4:
        text = f'<text x="{round(left + width / 2, 2)}" y="{_TOP + _STRIP // 2 + 4}" class="on number">{number}</text>'
    colour = _FUSED if is_fused else _ALONE
    return (
        f'<g><title>{escape(visible(tip))}</title><rect x="{left}" y="{_TOP}" width="{width}" height="{_STRIP}" rx="2" '
        f'fill="{colour}"/>{text}</g>'
    )


def _axes(outcome: KeptOutcome, total: int, top: int, bottom: int) -> list[str]:
    parts = []
    for tick in range(_TICKS + 1):
        share = tick / _TICKS
        across = round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * share, 2)
        anchor = "start" if tick == 0 else "end" if tick == _TICKS else "middle"
        parts.append(_text(across, bottom + 16, cost_text(outcome, round(total * share)), f"text-anchor:{anchor}"))
        up = round(bottom - _HEIGHT * share, 2)
        parts.append(f'<path d="M{_LEFT - 4} {up}H{_LEFT}" class="edge"/>')
        parts.append(_text(_LEFT - 8, up + 4, bytes_text(round(top * share)), "text-anchor:end", soft=True))
    return parts


def _legend(y: int) -> list[str]:
    parts, left = [], _LEFT
    for colour, name in (
        (_FUSED, "fused group"),
        (_ALONE, "one operator"),
        (_MAP, "map kept"),
        (_WEIGHT, "weights kept between inferences"),
        (_TILES, "room of the group's own tiles"),
    ):
        parts.append(f'<rect x="{left}" y="{y - 10}" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(_text(left + 18, y, name))
        left += 44 + 7 * len(name)
    return parts


def _text(x: float, y: float, text: str, style: str = "", *, soft: bool = False) -> str:
    look = (' class="soft"' if soft else "") + (f' style="{style}"' if style else "")
    return f'<text x="{x}" y="{y}"{look}>{escape(visible(text))}</text>'
