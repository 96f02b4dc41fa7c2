"""Sliding tiles of a video (arXiv 2502.04507): a tile of tokens sees the tiles of a window around it, in three axes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tilewright.errors import InputError
from tilewright.units import ceil_div
from tilewright.workloads.masks.bands import TEXT
from tilewright.workloads.masks.family import (
    MaskFamily,
    Option,
    Site,
    extents_text,
    lists_of,
    need_square,
    one_for_all,
    register_mask,
)
from tilewright.workloads.masks.lists import BlockMask, TokenOrder


def _make(text: str, site: Site, values: Mapping[str, Any]) -> BlockMask:
    import numpy as np

    canvas, tile, window = values["canvas"], values["tile"], values["window"]
    _check(text, canvas, tile, window)
    n_text = values["text"]
    also = f" with {n_text} tokens of text" if n_text else ""
    need_square(text, site, math.prod(canvas) + n_text, f"a canvas of {extents_text(canvas)}{also}")
    seen = np.ones((1, 1), dtype=bool)
    for whole, of_tile, of_window in zip(canvas, tile, window, strict=True):
        n, kept = whole // of_tile, of_window // of_tile
        first = np.clip(np.arange(n) - kept // 2, 0, n - kept)[:, None]  # moved inside the canvas at its edges
        at = np.arange(n)[None, :]
        seen = np.kron(seen, (at >= first) & (at < first + kept))
    block = math.prod(tile)
    if n_text:
        seen = np.pad(seen, (0, ceil_div(n_text, block)), constant_values=True)
    patterns, of_head = one_for_all(lists_of(seen), site.heads)
    return BlockMask(
        text=text, query_len=site.query_len, key_len=site.key_len, block_rows=block, block_keys=block,
        patterns=patterns, of_head=of_head, order=_order(canvas, tile),
    )  # fmt: skip


def _order(canvas: tuple[int, ...], tile: tuple[int, ...]) -> TokenOrder | None:
    """Tokens of a tile that lie side by side where the video is stored row by row; None where all tiles do."""
    run = 1
    for whole, part in zip(reversed(canvas), reversed(tile), strict=True):
        run *= part
        if part < whole:
            return TokenOrder(run, run // part * whole) if run < math.prod(tile) else None
    return None


def _check(text: str, canvas: tuple[int, ...], tile: tuple[int, ...], window: tuple[int, ...]) -> None:
    for name, extents in (("tile", tile), ("window", window)):
        if len(extents) != len(canvas):
            raise InputError(
                f"mask {text}: {name}: given {extents_text(extents)}; allowed {len(canvas)} extents, as of the canvas"
            )
    for axis, (whole, of_tile, of_window) in enumerate(zip(canvas, tile, window, strict=True)):
        if whole % of_tile:
            raise InputError(
                f"mask {text}: tile: does not divide the canvas; given {of_tile} of {whole} on axis {axis + 1}; "
                f"allowed divisors of {whole}"
            )
        if of_window % of_tile or of_window > whole:
            raise InputError(
                f"mask {text}: window: given {of_window} on axis {axis + 1}; allowed multiples of the tile's {of_tile} "
                f"up to {whole}"
            )


register_mask(
    MaskFamily(
        name="sliding_tile",
        summary="a tile of tokens sees the tiles of a window around it, moved inside the canvas; tokens tile by tile",
        source="Sliding Tile Attention, arXiv 2502.04507",
        options=(
            Option(name="canvas", meaning="tokens on each axis (frames, rows, columns)", kind="extents"),
            Option(name="tile", meaning="tokens of a tile on each axis", kind="extents"),
            Option(name="window", meaning="tokens of the window on each axis", kind="extents"),
            TEXT,
        ),
        make=_make,
    ),
    rank=1,
)
