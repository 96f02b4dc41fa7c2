"""Fusion groups drawn on their graph as SVG: operators in the order in which they run, groups as frames around them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from tilewright.errors import visible
from tilewright.reports.fusion_table import value_text
from tilewright.reports.palette import BASE_COLOUR, operator_colours
from tilewright.reports.quantity import bytes_text, percent_text
from tilewright.search.fusion.outcome import FusionOutcome
from tilewright.sim.fusion.graph.fusion_graph import FusionNode, members

__all__ = ["draw_fusion"]

_ROW, _GAP, _BOX, _TOP, _MARGIN = 23, 10, 280, 80, 16
_LANE, _N_LANES, _NOTE = 8, 5, 224
_ROWS_PER_COLUMN = 36
_LETTER = 7
_COLUMN = _N_LANES * _LANE + _BOX + _NOTE + 34
_STROKES = ("#3b6fd4", "#2f9e57", "#e08a1e", "#b0559e", "#2a9d8f", "#b89b12")
# The drawing stands in a page and alone as a file; in both it follows the reader's light or dark setting.
_STYLE = """<style>
.fusion { --back: #fff; --ink: #1c222b; --soft: #5c6675; --box: #fff; --edge: #7a8594; --far: #aab4c0; }
@media (prefers-color-scheme: dark) {
  .fusion { --back: #1b2027; --ink: #e7eaef; --soft: #9aa5b5; --box: #12151a; --edge: #8793a3; --far: #566170; }
}
@media print {
  .fusion { --back: #fff; --ink: #1c222b; --soft: #444; --box: #fff; --edge: #7a8594; --far: #aab4c0; }
}
.fusion { font: 12px system-ui, sans-serif; background: var(--back); }
.fusion text { fill: var(--ink); }
.fusion .soft { fill: var(--soft); }
.fusion .box { fill: var(--box); }
.fusion .under { fill: var(--back); }
.fusion .edge { fill: none; stroke: var(--edge); }
.fusion .far { fill: none; stroke: var(--far); stroke-dasharray: 3 3; }
</style>
"""
_KINDS = {
    "conv": "conv",
    "depthwise": "conv",
    "dense": "matmul",
    "concat": "reshape",
    "pad": "reshape",
    "upsample": "reshape",
    "move": "reshape",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a node stands: its column, its place in the order, and its box's corner."""

    column: int
    order: int
    x: int
    y: int


def draw_fusion(outcome: FusionOutcome) -> str:
    """One SVG image of the plan.

    A row per operator with its kind, name and result (channels x height x width). Operators of a group of several stand
    in one coloured frame with a bar for the part of the buffer that it uses, its DRAM traffic, and what it saves.
    Results that are read further down than the next row are arcs at the left.
    """
    places, frames, width, height = _placed(outcome)
    parts = [
        _text(_MARGIN, 26, f"{outcome.network}: fusion groups", "font-size:17px;font-weight:600"),
        _text(_MARGIN, 48, _summary(outcome), "font-size:13px", soft=True),
    ]
    between, within = _edges(outcome, places)
    parts += [*between, *frames, *within]
    parts += [_box(outcome.graph.nodes[i], place) for i, place in places.items()]
    label = escape(visible(f"fusion groups of {outcome.network}"), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{label}" class="fusion" style="'
        # On a page that is a little narrower it shrinks; on one that is much narrower it scrolls.
        f'max-width:100%;min-width:{width * 4 // 5}px;height:auto">\n' + _STYLE + "\n".join(parts) + "\n</svg>\n"
    )


def _summary(outcome: FusionOutcome) -> str:
    proof = ", proven optimum of this scheme" if outcome.proven else ""
    return (
        f"{outcome.scheme.name}, buffer {bytes_text(outcome.capacity_bytes)}, {outcome.method}: "
        f"{_what(outcome)}{value_text(outcome, outcome.value)} instead of {value_text(outcome, outcome.unfused_value)} "
        f"({percent_text(outcome.saved)} saved{proof}); {len(outcome.fused_groups)} groups, "
        f"{len(outcome.plan) - len(outcome.fused_groups)} operators alone"
    )


def _what(outcome: FusionOutcome) -> str:
    return "DRAM " if outcome.objective in ("dram", "feature_maps") else ""


def _placed(outcome: FusionOutcome) -> tuple[dict[int, _Place], list[str], int, int]:
    """Boxes by node, the groups' frames, and the picture's size. A group moves to the next column as a whole."""
    places: dict[int, _Place] = {}
    frames: list[str] = []
    column, n_rows, y, lowest = 0, 0, _TOP, _TOP
    n_columns = -(-len(outcome.graph) // _ROWS_PER_COLUMN)
    most_rows = -(-len(outcome.graph) // n_columns)
    n_fused = 0
    for mask, row in zip(outcome.plan, outcome.group_rows(), strict=True):
        nodes = members(mask)
        if n_rows and n_rows + len(nodes) > most_rows + 2:
            column, n_rows, y = column + 1, 0, _TOP
        x = _MARGIN + column * _COLUMN + _N_LANES * _LANE
        is_fused = len(nodes) > 1
        y += _GAP if is_fused else 0
        top = y
        for i in nodes:
            places[i] = _Place(column=column, order=len(places), x=x, y=y)
            y += _ROW
        n_rows += len(nodes)
        if is_fused:
            frames.append(_frame(x, top, y, n_fused, row, outcome.capacity_bytes))
            n_fused += 1
            y += _GAP
        lowest = max(lowest, y)
    return places, frames, _MARGIN + (column + 1) * _COLUMN, lowest + _MARGIN


def _frame(x: int, top: int, bottom: int, at: int, row: dict[str, object], capacity: int) -> str:
    stroke = _STROKES[at % len(_STROKES)]
    need, dram, before = (int(str(row[key])) for key in ("buffer_bytes", "dram_bytes", "unfused_dram_bytes"))
    left, middle = x + _BOX + 12, (top + bottom) // 2
    saved = percent_text(1 - dram / before) if before else ""
    bar = _NOTE - 40
    place = f'x="{x - 5}" y="{top - 5}" width="{_BOX + _NOTE + 4}" height="{bottom - top + 6}" rx="5"'
    return (
        f'<rect {place} class="under"/><rect {place} fill="{stroke}" fill-opacity="0.14" stroke="{stroke}"/>'
        + _text(left, middle - 9, f"DRAM {bytes_text(dram)}, saves {saved}", "font-weight:600")
        + f'<rect x="{left}" y="{middle - 4}" width="{bar}" height="6" class="box" stroke="{stroke}"/>'
        + f'<rect x="{left}" y="{middle - 4}" width="{max(1, bar * need // capacity)}" height="6" fill="{stroke}"/>'
        + _text(left, middle + 14, f"buffer {bytes_text(need)}, {percent_text(need / capacity)}", soft=True)
    )


def _edges(outcome: FusionOutcome, places: dict[int, _Place]) -> tuple[list[str], list[str]]:
    """Curves between columns; and within them, short lines between neighbouring rows and else arcs at the left."""
    busy: dict[int, list[int]] = {}
    between, parts = [], []
    for edge in sorted(outcome.graph.edges, key=lambda e: (places[e.consumer].order, e.producer)):
        if edge.producer < 0:
            continue
        a, b = places[edge.producer], places[edge.consumer]
        y0, y1 = a.y + _ROW - 4, b.y
        if a.column != b.column:
            x0, x1, up, down = a.x + _BOX, b.x - 2, a.y + _ROW // 2 - 2, b.y + _ROW // 2 - 2
            path = f"M{x0} {up}C{x0 + 120} {up} {x1 - 60} {down} {x1} {down}"
            between.append(f'<path d="{path}" class="far"/>')
        elif b.order == a.order + 1:
            parts.append(f'<path d="M{a.x + 14} {y0}V{y1}" class="edge"/>')
        else:
            lanes = busy.setdefault(a.column, [-1] * _N_LANES)
            free = [lane for lane in range(_N_LANES) if lanes[lane] <= a.order]
            lane = free[0] if free else _N_LANES - 1
            lanes[lane] = max(lanes[lane], b.order)
            x = a.x - 3 - _LANE * (lane + 1) + 3
            parts.append(f'<path d="M{a.x} {y0 - 5}H{x}V{y1 + 6}H{a.x}" class="edge"/>')
    return between, parts


def _box(node: FusionNode, place: _Place) -> str:
    colour = operator_colours().get(_KINDS.get(node.kind, node.kind), BASE_COLOUR)
    out = node.output
    size = f"{out.channels}x{out.height}x{out.width}"
    riding = f" +{len(node.operators) - 1}" if len(node.operators) > 1 else ""
    title = (
        f"{' + '.join(node.operators)}: {node.kind} {node.function}, {size}, weights {bytes_text(node.weight_bytes)}"
    )
    return (
        f"<g><title>{escape(visible(title))}</title>"
        f'<rect x="{place.x}" y="{place.y}" width="{_BOX}" height="{_ROW - 4}" rx="3" class="box" stroke="{colour}"/>'
        f'<rect x="{place.x}" y="{place.y}" width="5" height="{_ROW - 4}" fill="{colour}"/>'
        + f'<svg x="{place.x + 10}" y="{place.y}" width="{_BOX - 16 - _LETTER * len(size)}" height="{_ROW - 4}">'
        + _text(0, 14, _short(node.name) + riding)
        + "</svg>"
        + _text(place.x + _BOX - 6, place.y + 14, size, "text-anchor:end;font-size:11px", soft=True)
        + "</g>"
    )


def _short(name: str) -> str:
    return name if len(name) <= 32 else "..." + name[-29:].lstrip(".")


def _text(x: int, y: int, text: str, style: str = "", *, soft: bool = False) -> str:
    look = (' class="soft"' if soft else "") + (f' style="{style}"' if style else "")
    return f'<text x="{x}" y="{y}"{look}>{escape(visible(text))}</text>'
