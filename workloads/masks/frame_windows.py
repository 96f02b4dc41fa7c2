"""Windows inside frames, at the same positions of every so many-th frame, and text that all see (Re-ttention).

Steps that leave out so much add what they left out at the last whole step: a tensor as large as the result, which is
read (``cached``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilewright.errors import InputError
from tilewright.workloads.masks.bands import BLOCK, FRAMES, TEXT, beside_text, of_intervals, tokens_of_frame
from tilewright.workloads.masks.family import MaskFamily, Option, Site, register_mask
from tilewright.workloads.masks.lists import BlockMask, Selection

_RATIO_BYTES = 4  # by which a row's softmax is multiplied: one for each row and head


def _make(text: str, site: Site, values: Mapping[str, Any]) -> BlockMask:
    import numpy as np

    frames, window, every, block = (values[name] for name in ("frames", "window", "every", "block"))
    size = tokens_of_frame(text, site, frames, values["text"])
    if window > size:
        raise InputError(f"mask {text}: window: given {window}; allowed 1 to the {size} tokens of a frame")
    frame, position = np.divmod(np.arange(site.query_len), size)
    begins = np.clip(position - window // 2, 0, size - window)  # moved inside the frame at its edges
    intervals = []
    for other in range(frames):
        seen = (frame - other) % every == 0
        first, stop = other * size + begins, other * size + begins + window
        intervals.append((np.where(seen, first, 0), np.where(seen, stop, 0)))
    lists, pairs = of_intervals(site, block, beside_text(site, values["text"], intervals))
    return BlockMask(
        text=text, query_len=site.query_len, key_len=site.key_len, block_rows=block, block_keys=block,
        patterns=(lists,), of_head=(0,) * site.heads, n_rule_pairs=site.heads * pairs,
        selection=_cached(site, values["cached"]) if values["cached"] else None,
    )  # fmt: skip


def _cached(site: Site, n_element_bytes: int) -> Selection:
    values = site.heads * site.query_len * site.head_dim
    return Selection(
        what="what a whole step left: a residual that is added, a ratio for each row",
        n_additions=2 * values,
        n_bytes=values * n_element_bytes + site.heads * site.query_len * _RATIO_BYTES,
        reads_operands=False,
    )


register_mask(
    MaskFamily(
        name="frame_windows",
        summary="a window of positions in every so many-th frame, the own among them, and text behind the video, which "
        "sees all and is seen by all",
        source="Re-ttention, arXiv 2505.22918",
        options=(
            FRAMES,
            Option(name="window", meaning="positions of each frame that a token sees"),
            Option(name="every", meaning="of how many frames one is seen", default=2),
            TEXT,
            Option(
                name="cached",
                meaning="bytes of one value of the residual that each step reads and adds (0: none)",
                kind="number",
                default=0,
            ),
            BLOCK,
        ),
        make=_make,
    ),
    rank=5,
)
