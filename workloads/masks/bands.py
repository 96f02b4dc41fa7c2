"""Rules finer than blocks: bands in space and time, radial bands, columns and diagonals, sinks with a window.

Each keeps the pairs of its rule; lists hold every block that has one. Pairs are counted row by row, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.workloads.masks.family import MaskFamily, Option, Site, lists_of, register_mask
from tilewright.workloads.masks.lists import BlockMask, RowLists, Selection, TokenOrder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]
    #: First key and key after the last of each row, a pair of arrays (query_len) for each interval that rows see.
    Intervals = Sequence[tuple[IntArray, IntArray]]

BLOCK = Option(name="block", meaning="rows and keys of a block", default=64)
FRAMES = Option(name="frames", meaning="frames of the video, which divide the tokens")
TEXT = Option(
    name="text", meaning="tokens of text behind the video, which see all and are seen by all", kind="number", default=0
)


def of_intervals(site: Site, block: int, intervals: Intervals) -> tuple[RowLists, int]:
    """Lists of the blocks that hold a kept pair, and how many pairs are kept; a row's intervals do not overlap."""
    import numpy as np

    n_rows, n_keys = -(-site.query_len // block), -(-site.key_len // block)
    edges = np.zeros((n_rows, n_keys + 1), dtype=np.int64)  # +1 where an interval's blocks begin, -1 behind them
    of_row = np.arange(site.query_len) // block
    pairs = 0
    for first, stop in intervals:
        first, stop = np.maximum(first, 0), np.minimum(stop, site.key_len)
        some = stop > first
        pairs += int((stop - first)[some].sum())
        np.add.at(edges, (of_row[some], first[some] // block), 1)
        np.add.at(edges, (of_row[some], (stop[some] - 1) // block + 1), -1)
    return lists_of(edges.cumsum(axis=1)[:, :n_keys] > 0), pairs


def beside_text(site: Site, n_text: int, intervals: Intervals) -> Intervals:
    """``intervals`` of the video's rows, which see the ``n_text`` tokens behind it, too; these see all."""
    import numpy as np

    if not n_text:
        return intervals
    video = site.query_len - n_text
    is_text = np.arange(site.query_len) >= video
    own = [(np.where(is_text, 0, first), np.where(is_text, 0, np.minimum(stop, video))) for first, stop in intervals]
    whole = (np.where(is_text, 0, video), np.full(site.query_len, site.key_len))
    return [*own, whole]


def _mask(
    text: str, site: Site, block: int, patterns: Sequence[tuple[RowLists, int]], of_head: Sequence[int], **more: Any
) -> BlockMask:
    return BlockMask(
        text=text, query_len=site.query_len, key_len=site.key_len, block_rows=block, block_keys=block,
        patterns=tuple(lists for lists, _ in patterns), of_head=tuple(of_head),
        n_rule_pairs=sum(patterns[i][1] for i in of_head), **more,
    )  # fmt: skip


# --- Sparse VideoGen --------------------------------------------------------------------------------------------------


def _spatial_temporal(text: str, site: Site, values: Mapping[str, Any]) -> BlockMask:
    frames, near, heads = values["frames"], values["near"], values["spatial"]
    n_text = values["text"]
    n_tokens = tokens_of_frame(text, site, frames, n_text)
    if heads > site.heads:
        raise InputError(f"mask {text}: spatial: given {heads} heads; allowed 0 to {site.heads}")
    own = [
        of_intervals(site, values["block"], beside_text(site, n_text, _groups(site, size, reach)))
        for size, reach in ((n_tokens, near), (frames, values["beside"]))  # frame by frame, position by position
    ]
    of_head = [0] * heads + [1] * (site.heads - heads)
    used = sorted(set(of_head))
    sampled = -(-site.query_len * values["sampled"] // 1000)  # rows on which both are tried
    pairs = 2 * site.heads * sampled * site.key_len
    selection = Selection(
        what="both patterns on a sample of the rows",
        macs=2 * pairs * site.head_dim,
        n_exponentials=pairs,
        columns=site.key_len,
    )
    return _mask(
        text, site, values["block"], [own[i] for i in used], [used.index(i) for i in of_head],
        selection=selection if sampled else None, order=TokenOrder(1, n_tokens) if heads < site.heads else None,
    )  # fmt: skip


def _groups(site: Site, size: int, near: int) -> Intervals:
    """Groups of ``size`` neighbouring tokens see those up to ``near`` groups away."""
    import numpy as np

    group = np.arange(site.query_len) // size
    return [((group - near) * size, (group + near + 1) * size)]


def tokens_of_frame(text: str, site: Site, frames: int, n_text: int) -> int:
    """Tokens of one of ``frames`` in a layer's, of which the last ``n_text`` are text."""
    if site.query_len != site.key_len or n_text >= site.query_len or (site.query_len - n_text) % frames:
        raise InputError(
            f"mask {text}: frames: given {frames}, text: {n_text}, for {site.query_len} queries and {site.key_len} "
            "keys; allowed divisors of the tokens without text, as many queries as keys"
        )
    return (site.query_len - n_text) // frames


register_mask(
    MaskFamily(
        name="spatial_temporal",
        summary="spatial heads see frames near their own; temporal ones, their tokens put position by position, "
        "the same positions in all frames",
        source="Sparse VideoGen, arXiv 2502.01776",
        options=(
            FRAMES,
            Option(name="spatial", meaning="how many heads are spatial; the others are temporal", kind="number"),
            Option(name="near", meaning="frames on each side that spatial heads see", kind="number", default=1),
            Option(name="beside", meaning="positions on each side that temporal heads see", kind="number", default=0),
            Option(
                name="sampled", meaning="thousandths of the rows on which both are tried", kind="number", default=10
            ),
            TEXT,
            BLOCK,
        ),
        make=_spatial_temporal,
    ),
    rank=2,
)

# --- a band, radial ---------------------------------------------------------------------------------------------------


def _band(text: str, site: Site, values: Mapping[str, Any]) -> BlockMask:
    import numpy as np

    if site.query_len != site.key_len:
        raise InputError(
            f"mask {text}: given {site.query_len} queries and {site.key_len} keys; allowed as many of both"
        )
    n_text = values["text"]
    if n_text >= site.query_len:
        raise InputError(f"mask {text}: text: given {n_text} of {site.query_len} tokens; allowed fewer")
    half = round((site.query_len - n_text) * (1 - (1 - values["density"]) ** 0.5))
    row = np.arange(site.query_len)
    own = of_intervals(site, values["block"], beside_text(site, n_text, [(row - half, row + half + 1)]))
    return _mask(text, site, values["block"], [own], [0] * site.heads)


register_mask(
    MaskFamily(
        name="band",
        summary="a band around the diagonal that keeps a share of all pairs: half-width L (1 - sqrt(1 - density))",
        source="the share of a band of a square",
        options=(Option(name="density", meaning="share of the pairs that is kept", kind="share"), TEXT, BLOCK),
        make=_band,
    ),
    rank=3,
)


def _radial(text: str, site: Site, values: Mapping[str, Any]) -> BlockMask:
    import numpy as np

    frames, block = values["frames"], values["block"]
    size = tokens_of_frame(text, site, frames, values["text"])
    frame, position = np.divmod(np.arange(site.query_len), size)
    intervals = []
    for distance in range(-(frames - 1), frames):
        kept = _half_width(abs(distance), size)
        if kept < 0:
            continue
        other = frame + distance
        there = (other >= 0) & (other < frames)
        first = other * size + np.maximum(position - kept, 0)
        stop = other * size + np.minimum(position + kept + 1, size)
        intervals.append((np.where(there, first, 0), np.where(there, stop, 0)))
    own = of_intervals(site, block, beside_text(site, values["text"], intervals))
    return _mask(text, site, block, [own], [0] * site.heads)


def _half_width(distance: int, size: int) -> int:
    """Positions on each side that are kept between frames so far apart; -1 where the frames do not meet.

    All within a frame and between neighbours; then the width is halved whenever the distance doubles, and where less
    than one position would be left, only each so many-th frame keeps the same position.
    """
    if distance <= 1:
        return size - 1
    halvings = distance.bit_length() - 1
    if size >> halvings:
        return (size >> halvings) // 2
    every = 2**halvings // size
    return 0 if distance % every == 0 else -1


register_mask(
    MaskFamily(
        name="radial",
        summary="all of the own and the next frame; the width is halved whenever the distance of frames doubles",
        source="Radial Attention, arXiv 2506.19852",
        options=(FRAMES, TEXT, BLOCK),
        make=_radial,
    ),
    rank=4,
)

# --- columns and diagonals, sinks and a window ------------------------------------------------------------------------


def _vertical_slash(text: str, site: Site, values: Mapping[str, Any]) -> BlockMask:
    import numpy as np

    rows, keys, block = site.query_len, site.key_len, values["block"]
    if rows != keys:
        raise InputError(f"mask {text}: given {rows} queries and {keys} keys; allowed as many of both")
    random = np.random.default_rng(values["seed"])
    columns, diagonals = (_some(random, text, name, values[name], keys) for name in ("vertical", "slash"))
    n_blocks = -(-keys // block)
    row, key = np.indices((n_blocks, n_blocks)) * block  # first row and key of each block
    # The diagonals that meet a block: from its upper right to its lower left corner.
    most = np.minimum(row + block, rows) - 1 - key
    least = row - (np.minimum(key + block, keys) - 1)
    seen = np.searchsorted(diagonals, most, side="right") > np.searchsorted(diagonals, least, side="left")
    seen[:, np.unique(columns // block)] = True
    seen &= key <= row + block - 1
    met = columns[:, None] + diagonals[None, :]
    pairs = int((keys - columns).sum() + (keys - diagonals).sum() - (met < rows).sum())
    last = min(64, rows)
    sampled = site.heads * last * keys
    selection = Selection(
        what="the last 64 queries against all keys, sums along columns and diagonals",
        macs=sampled * site.head_dim, n_exponentials=sampled, n_comparisons=2 * site.heads * keys,
    )  # fmt: skip
    own = [(lists_of(seen), pairs)]
    return _mask(text, site, block, own, [0] * site.heads, causal=True, selection=selection)


def _some(random: np.random.Generator, text: str, name: str, count: int, keys: int) -> IntArray:
    """The first and ``count`` - 1 others of ``keys``, ascending."""
    import numpy as np

    if count > keys:
        raise InputError(f"mask {text}: {name}: given {count}; allowed 1 to {keys}")
    others = 1 + random.choice(keys - 1, size=count - 1, replace=False) if count > 1 else np.zeros(0, dtype=np.int64)
    return np.sort(np.concatenate([[0], others])).astype(np.int64)


register_mask(
    MaskFamily(
        name="vertical_slash",
        summary="so many whole columns and diagonals of a causal mask, drawn by a seed (the first of each is in them)",
        source="MInference, arXiv 2407.02490",
        options=(
            Option(name="vertical", meaning="columns"),
            Option(name="slash", meaning="diagonals"),
            Option(name="seed", meaning="draws them", kind="number", default=0),
            BLOCK,
        ),
        make=_vertical_slash,
    ),
    rank=6,
)


def _sink_window(text: str, site: Site, values: Mapping[str, Any]) -> BlockMask:
    import numpy as np

    if site.key_len < site.query_len:
        raise InputError(
            f"mask {text}: given {site.query_len} queries and {site.key_len} keys; allowed as many keys or more"
        )
    own = np.arange(site.query_len) + site.key_len - site.query_len
    begins = np.maximum(0, own - values["window"] + 1)
    sinks = np.minimum(values["first"], begins)  # those that the window does not hold
    block = values["block"]
    patterns = [of_intervals(site, block, [(np.zeros_like(own), sinks), (begins, own + 1)])]
    of_head = [0] * site.heads
    whole = values["dense"]
    if whole > site.heads:
        raise InputError(f"mask {text}: dense: given {whole} heads; allowed 0 to {site.heads}")
    if whole:
        patterns.append(of_intervals(site, block, [(np.zeros_like(own), own + 1)]))
        of_head = [1] * whole + [0] * (site.heads - whole)
        if whole == site.heads:
            patterns, of_head = patterns[1:], [0] * whole
    return _mask(text, site, block, patterns, of_head, causal=True)


register_mask(
    MaskFamily(
        name="sink_window",
        summary="the first keys and a window up to the own position (streaming heads); some heads may be dense",
        source="StreamingLLM, arXiv 2309.17453; Block-Sparse-Attention",
        options=(
            Option(name="first", meaning="keys at the beginning that all rows see", kind="number"),
            Option(name="window", meaning="keys up to the own position"),
            Option(name="dense", meaning="heads that see all keys up to the own position", kind="number", default=0),
            BLOCK,
        ),
        make=_sink_window,
    ),
    rank=7,
)
