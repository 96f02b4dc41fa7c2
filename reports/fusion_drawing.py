"""Fusion groups drawn on their graph as SVG: operators in the order in which they run, groups as frames around them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from tilewright.reports.fusion_table import value_text
from tilewright.reports.palette import BASE_COLOUR, OPERATOR_COLOURS
from tilewright.reports.quantity import bytes_text, percent_text
from tilewright.search.fusion.outcome import FusionOutcome
from tilewright.sim.fusion.graph import FusionNode, members

__all__ = ["draw_fusion"]

_ROW, _GAP, _BOX, _TOP, _MARGIN = 21, 10, 270, 78, 16
_LANE, _N_LANES, _NOTE = 8, 5, 206
_ROWS_PER_COLUMN = 36
_COLUMN = _N_LANES * _LANE + _BOX + _NOTE + 34
_FILLS = ("#e3ecfa", "#e4f3e8", "#fbeedd", "#f3e5f0", "#e2f1f1", "#f6f0d6")
_STROKES = ("#3b6fd4", "#2f9e57", "#e08a1e", "#b0559e", "#2a9d8f", "#b89b12")
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
        _text(_MARGIN, 48, _summary(outcome), "fill:#555;font-size:13px"),
    ]
    between, within = _edges(outcome, places)
    parts += [*between, *frames, *within]
    parts += [_box(outcome.graph.nodes[i], place) for i, place in places.items()]
    label = escape(f"fusion groups of {outcome.network}", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{label}" style="font:11px system-ui,sans-serif;background:#fff;'
        # On a page that is a little narrower it shrinks; on one that is much narrower it scrolls.
        f'max-width:100%;min-width:{width * 4 // 5}px;height:auto">\n' + "\n".join(parts) + "\n</svg>\n"
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
    fill, stroke = _FILLS[at % len(_FILLS)], _STROKES[at % len(_STROKES)]
    need, dram, before = (int(str(row[key])) for key in ("buffer_bytes", "dram_bytes", "unfused_dram_bytes"))
    left, middle = x + _BOX + 12, (top + bottom) // 2
    saved = percent_text(1 - dram / before) if before else ""
    bar = _NOTE - 24
    return (
        f'<rect x="{x - 5}" y="{top - 5}" width="{_BOX + _NOTE + 4}" height="{bottom - top + 6}" rx="5" '
        f'fill="{fill}" stroke="{stroke}"/>'
        + _text(left, middle - 9, f"DRAM {bytes_text(dram)}, saves {saved}", "font-weight:600")
        + f'<rect x="{left}" y="{middle - 4}" width="{bar}" height="6" fill="#fff" stroke="#9aa5b1"/>'
        + f'<rect x="{left}" y="{middle - 4}" width="{max(1, bar * need // capacity)}" height="6" fill="{stroke}"/>'
        + _text(left, middle + 14, f"buffer {bytes_text(need)}, {percent_text(need / capacity)}", "fill:#444")
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
            between.append(f'<path d="{path}" fill="none" stroke="#c3ccd6" stroke-dasharray="3 3"/>')
        elif b.order == a.order + 1:
            parts.append(f'<path d="M{a.x + 14} {y0}V{y1}" stroke="#7a8594"/>')
        else:
            lanes = busy.setdefault(a.column, [-1] * _N_LANES)
            free = [lane for lane in range(_N_LANES) if lanes[lane] <= a.order]
            lane = free[0] if free else _N_LANES - 1
            lanes[lane] = max(lanes[lane], b.order)
            x = a.x - 3 - _LANE * (lane + 1) + 3
            parts.append(f'<path d="M{a.x} {y0 - 5}H{x}V{y1 + 6}H{a.x}" fill="none" stroke="#7a8594"/>')
    return between, parts


def _box(node: FusionNode, place: _Place) -> str:
    colour = OPERATOR_COLOURS.get(_KINDS.get(node.kind, node.kind), BASE_COLOUR)
    out = node.output
    size = f"{out.channels}x{out.height}x{out.width}"
    riding = f" +{len(node.operators) - 1}" if len(node.operators) > 1 else ""
    title = (
        f"{' + '.join(node.operators)}: {node.kind} {node.function}, {size}, weights {bytes_text(node.weight_bytes)}"
    )
    return (
        f"<g><title>{escape(title)}</title>"
        f'<rect x="{place.x}" y="{place.y}" width="{_BOX}" height="{_ROW - 4}" rx="3" fill="#fff" stroke="{colour}"/>'
        f'<rect x="{place.x}" y="{place.y}" width="5" height="{_ROW - 4}" fill="{colour}"/>'
        + _text(place.x + 10, place.y + 12, _short(node.name) + riding, "")
        + _text(place.x + _BOX - 6, place.y + 12, size, "fill:#666;text-anchor:end;font-size:10px")
        + "</g>"
    )


def _short(name: str) -> str:
    return name if len(name) <= 32 else "..." + name[-29:].lstrip(".")


def _text(x: int, y: int, text: str, style: str) -> str:
    return f'<text x="{x}" y="{y}"' + (f' style="{style}"' if style else "") + f">{escape(text)}</text>"
