"""An operator stream drawn as SVG: operators from top to bottom, repeated blocks once, edges that skip at the side."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tilewright.workloads.stream.table import repeated_blocks, size_text

if TYPE_CHECKING:
    from tilewright.workloads.operators import Operator
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["draw_stream"]

_ROW, _GAP, _BOX, _LEFT, _TOP = 26, 10, 560, 70, 64
_LANE, _N_LANES = 9, 6
_MOST_ROWS = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """The operators that are drawn, by index; where each stands; and the frames around repeated blocks."""

    y: dict[int, int]
    frames: tuple[tuple[int, int, int], ...]  # top, bottom, count
    height: int
    n_left_out: int


def draw_stream(stream: OperatorStream) -> str:
    """One SVG image of ``stream``: a row per operator with its kind, size and place; a frame with "x 32" around a block
    that repeats, drawn once; arcs at the left for results that are read further down than the next row.
    """
    placed = _place(stream)
    parts = [
        _text(_LEFT, 24, stream.name, "font-size:16px;font-weight:600"),
        _text(_LEFT, 44, _summary(stream), "fill:#555"),
    ]
    for top, bottom, count in placed.frames:
        parts.append(
            f'<rect x="{_LEFT - 6}" y="{top - 6}" width="{_BOX + 64}" height="{bottom - top + 12}" rx="6" '
            'fill="#f3f5f8" stroke="#b9c3cf"/>'
        )
        parts.append(_text(_LEFT + _BOX + 12, (top + bottom) // 2 + 5, f"x {count}", "font-weight:600"))
    parts += _edges(stream, placed)
    parts += [_box(stream.operators[index], y) for index, y in placed.y.items()]
    if placed.n_left_out:
        parts.append(_text(_LEFT, placed.height - 12, f"{placed.n_left_out} more operators are not drawn", "fill:#555"))
    width = _LEFT + _BOX + 80
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {placed.height}" width="{width}" '
        f'height="{placed.height}" role="img" aria-label="{escape(stream.name, quote=True)}" '
        'style="font:12px system-ui,sans-serif">\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _place(stream: OperatorStream) -> _Placed:
    y_of: dict[int, int] = {}
    frames: list[tuple[int, int, int]] = []
    y, n_left_out = _TOP, 0
    for block in repeated_blocks(stream):
        if len(y_of) + block.n_operators > _MOST_ROWS:
            n_left_out += block.n_operators * block.count
            continue
        y += _GAP if block.count > 1 else 0
        top = y
        for index in range(block.first, block.first + block.n_operators):
            y_of[index] = y
            y += _ROW
        if block.count > 1:
            frames.append((top, y - 4, block.count))
            y += _GAP
    return _Placed(y=y_of, frames=tuple(frames), height=y + 24 + (20 if n_left_out else 0), n_left_out=n_left_out)


def _summary(stream: OperatorStream) -> str:
    n_distinct = len(stream.distinct())
    steps = f", {stream.n_steps} steps" if stream.n_steps > 1 else ""
    return (
        f"{len(stream.operators):,} operators, {n_distinct:,} distinct; {stream.macs / 1e9:,.2f} GMAC, "
        f"{stream.n_weights / 1e6:,.1f} M weights{steps}"
    )


def _edges(stream: OperatorStream, placed: _Placed) -> list[str]:
    index_of = {operator.name: index for index, operator in enumerate(stream.operators)}
    rows = {index: row for row, index in enumerate(placed.y)}
    busy_until = [-1] * _N_LANES
    parts = []
    for index in placed.y:
        operator = stream.operators[index]
        for maker in stream.predecessors(operator):
            start = index_of[maker.name]
            if start not in rows or rows[index] - rows[start] <= 1:
                continue
            free = [lane for lane in range(_N_LANES) if busy_until[lane] <= rows[start]]
            lane = free[0] if free else _N_LANES - 1
            busy_until[lane] = max(busy_until[lane], rows[index])
            y0, y1 = placed.y[start] + 14, placed.y[index] + 8
            x = _LEFT - 10 - _LANE * (lane + 1)
            parts.append(f'<path d="M{_LEFT} {y0}H{x}V{y1}H{_LEFT}" fill="none" stroke="#9aa5b1"/>')
    return parts


def _box(operator: Operator, y: int) -> str:
    colour = operator.of_kind.colour
    function = operator.text("function")
    label = operator.kind + (f" {function}" if function else "")
    title = f"{operator.name} {operator.path}".strip()
    return (
        f"<g><title>{escape(title)}</title>"
        f'<rect x="{_LEFT}" y="{y}" width="{_BOX}" height="{_ROW - 4}" rx="3" fill="#fff" stroke="{colour}"/>'
        f'<rect x="{_LEFT}" y="{y}" width="5" height="{_ROW - 4}" fill="{colour}"/>'
        + _text(_LEFT + 12, y + 15, label, "font-weight:600")
        + _text(_LEFT + 150, y + 15, size_text(operator), "")
        + _text(_LEFT + _BOX - 8, y + 15, _short(operator.path), "fill:#777;text-anchor:end;font-size:10px")
        + "</g>"
    )


def _short(path: str) -> str:
    return path if len(path) <= 30 else "..." + path[-27:].lstrip(".")


def _text(x: int, y: int, text: str, style: str) -> str:
    return f'<text x="{x}" y="{y}"' + (f' style="{style}"' if style else "") + f">{escape(text)}</text>"
