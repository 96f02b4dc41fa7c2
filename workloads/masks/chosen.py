"""Lists that are chosen while the network runs: the best blocks or tokens of a row, or all above a threshold.

Which they are is unknown before a run: they are drawn by a seed, with the numbers of entries that the rule leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.units import ceil_div
from tilewright.workloads.masks.family import MaskFamily, Option, Site, register_mask
from tilewright.workloads.masks.lists import BlockMask, RowLists, Selection

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    IntArray = npt.NDArray[np.int64]

SEED = Option(name="seed", meaning="draws the lists", kind="number", default=0)
CAUSAL = Option(name="causal", meaning="rows see no key behind their own", kind="flag", default=False)


def _drawn(random: np.random.Generator, counts: IntArray, limits: IntArray) -> RowLists:
    """``counts`` blocks of the first ``limits`` of each row, the last of them (the row's own) always."""
    import numpy as np

    parts = []
    for count, limit in zip(counts.tolist(), limits.tolist(), strict=True):
        if count == limit:
            parts.append(np.arange(limit))
        elif count:
            parts.append(np.sort(np.append(random.choice(limit - 1, size=count - 1, replace=False), limit - 1)))
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    indices = np.concatenate(parts) if parts else np.zeros(0)
    return RowLists(pointers=pointers, indices=indices.astype(np.int64))


def _limits(site: Site, rows: int, keys: int, *, causal: bool) -> IntArray:
    """Key blocks that each row of blocks may see."""
    import numpy as np

    n_rows, n_keys = ceil_div(site.query_len, rows), ceil_div(site.key_len, keys)
    if not causal:
        return np.full(n_rows, n_keys)
    last = np.minimum((np.arange(n_rows) + 1) * rows, site.query_len) - 1
    limits: IntArray = np.minimum(n_keys, (last + site.key_len - site.query_len) // keys + 1)
    return limits


def _check_causal(text: str, site: Site, values: Mapping[str, Any]) -> None:
    if values["causal"] and site.key_len < site.query_len:
        raise InputError(
            f"mask {text}: causal: given {site.query_len} queries and {site.key_len} keys; allowed as many keys or more"
        )


def pooled(site: Site, rows: int, keys: int) -> Selection:
    """Scores of pooled rows and keys, and the choice among them."""
    n_scores = site.heads * ceil_div(site.query_len, rows) * ceil_div(site.key_len, keys)
    return Selection(
        what="scores of pooled blocks, and the choice among them",
        macs=n_scores * site.head_dim, n_exponentials=n_scores, n_comparisons=n_scores,
        n_additions=(site.heads * site.query_len + site.kv_heads * site.key_len) * site.head_dim,
    )  # fmt: skip


# --- the best blocks of each row --------------------------------------------------------------------------------------


def _top_blocks(text: str, site: Site, values: Mapping[str, Any]) -> BlockMask:
    import numpy as np

    _check_causal(text, site, values)
    rows, keys = values["block"], values["keys"] or values["block"]
    limits = _limits(site, rows, keys, causal=values["causal"])
    keep = values["keep"]
    if "density" in values and values["density"] is not _UNSET:
        if keep:
            raise InputError(f"mask {text}: keep: says what density says; given both; allowed one of them")
        counts = np.maximum(1, np.round(limits * values["density"])).astype(np.int64)
    elif not keep:
        raise InputError(f"mask {text}: keep: missing; allowed blocks that each row keeps, or density=")
    elif keep > ceil_div(site.key_len, keys):
        raise InputError(f"mask {text}: keep: given {keep}; allowed 1 to {ceil_div(site.key_len, keys)} blocks of keys")
    else:
        counts = np.minimum(limits, keep)
    shared = site.heads // site.kv_heads if values["by"] == "group" else 1
    if values["by"] not in ("head", "group", "layer"):
        raise InputError(f'mask {text}: by: given "{values["by"]}"; allowed head, group, layer')
    shared = site.heads if values["by"] == "layer" else shared
    random = np.random.default_rng(values["seed"])
    patterns = tuple(_drawn(random, counts, limits) for _ in range(site.heads // shared))
    return BlockMask(
        text=text, query_len=site.query_len, key_len=site.key_len, block_rows=rows, block_keys=keys,
        patterns=patterns, of_head=tuple(head // shared for head in range(site.heads)), causal=values["causal"],
        selection=pooled(site, rows, keys),
    )  # fmt: skip


_UNSET = ""

register_mask(
    MaskFamily(
        name="top_blocks",
        summary="as many key blocks in every row, chosen by pooled scores; lists by head, or one for a group or all",
        source="AdaSpa, arXiv 2502.21079; VSA, arXiv 2505.13389; MoBA, arXiv 2502.13189; NSA, arXiv 2502.11089",
        options=(
            Option(name="keep", meaning="blocks that each row keeps", kind="number", default=0),
            Option(name="density", meaning="share of the blocks that each row keeps", kind="share", default=_UNSET),
            Option(name="block", meaning="rows of a block, and keys where no others are given", default=64),
            Option(name="keys", meaning="keys of a block", kind="number", default=0),
            Option(name="by", meaning="which heads share a list: head, group, layer", kind="text", default="head"),
            CAUSAL,
            SEED,
        ),
        make=_top_blocks,
    ),
    rank=8,
)

# --- all above a threshold --------------------------------------------------------------------------------------------


def _threshold(text: str, site: Site, values: Mapping[str, Any]) -> BlockMask:
    import numpy as np

    _check_causal(text, site, values)
    rows, keys = values["block"], values["keys"]
    limits = _limits(site, rows, keys, causal=values["causal"])
    random = np.random.default_rng(values["seed"])
    spread = values["spread"] / 100
    patterns = []
    for _ in range(site.heads):
        shares = values["density"] * np.exp(spread * random.standard_normal(len(limits)) - spread**2 / 2)
        counts = np.clip(np.round(limits * shares), 0 if values["empty"] else 1, limits).astype(np.int64)
        patterns.append(_drawn(random, counts, limits))
    return BlockMask(
        text=text, query_len=site.query_len, key_len=site.key_len, block_rows=rows, block_keys=keys,
        patterns=tuple(patterns), of_head=tuple(range(site.heads)), causal=values["causal"],
        selection=pooled(site, rows, keys),
    )  # fmt: skip


register_mask(
    MaskFamily(
        name="threshold",
        summary="all blocks above a threshold: rows keep different numbers (log-normal around the density, by a seed)",
        source="SpargeAttn, arXiv 2502.18137; XAttention, arXiv 2503.16428; the distribution is assumed",
        options=(
            Option(name="density", meaning="mean share of the blocks that rows keep", kind="share"),
            Option(name="spread", meaning="hundredths: the deviation of the logarithm", kind="number", default=50),
            Option(name="block", meaning="rows of a block", default=128),
            Option(name="keys", meaning="keys of a block", default=64),
            Option(name="empty", meaning="rows may keep nothing", kind="flag", default=False),
            CAUSAL,
            SEED,
        ),
        make=_threshold,
    ),
    rank=9,
)

# --- the best tokens of each query ------------------------------------------------------------------------------------

_MOST_ENTRIES = 2**26


def _top_tokens(text: str, site: Site, values: Mapping[str, Any]) -> BlockMask:
    import numpy as np

    _check_causal(text, site, values)
    limits = _limits(site, 1, 1, causal=values["causal"])
    counts = np.minimum(limits, values["keep"])
    if values["keep"] > site.key_len:
        raise InputError(f"mask {text}: keep: given {values['keep']}; allowed 1 to {site.key_len} keys")
    if int(counts.sum()) > _MOST_ENTRIES:
        raise InputError(f"mask {text}: keep: makes lists of {int(counts.sum())} entries; allowed {_MOST_ENTRIES}")
    return BlockMask(
        text=text, query_len=site.query_len, key_len=site.key_len, block_rows=1, block_keys=1,
        patterns=(_drawn(np.random.default_rng(values["seed"]), counts, limits),), of_head=(0,) * site.heads,
        causal=values["causal"],
        selection=indexer(
            int(limits.sum()), values["index_heads"], values["index_dim"], site.query_len, site.key_len
        ),
    )  # fmt: skip


def indexer(n_pairs: int, heads: int, width: int, n_rows: int, n_keys: int) -> Selection:
    """An indexer in fp8 that scores ``n_pairs`` in all its ``heads`` of ``width``, adds up and takes the best."""
    return Selection(
        what="an indexer's scores, and the choice of the best",
        macs=n_pairs * heads * width, n_additions=n_pairs * heads, n_comparisons=n_pairs, macs_format="fp8_e4m3",
        n_bytes=(n_rows * heads + n_keys) * width, reads_operands=False, depth=width, columns=n_keys,
    )  # fmt: skip


def top_token_pairs(n_new: int, n_before: int, keep: int) -> tuple[int, int]:
    """Pairs that an indexer scores and pairs that are kept, of ``n_new`` causal queries behind ``n_before`` tokens."""
    scored = n_new * n_before + n_new * (n_new + 1) // 2
    free = max(0, min(n_new, keep - n_before))  # queries that see fewer than keep
    kept = free * n_before + free * (free + 1) // 2 + (n_new - free) * keep
    return scored, kept


register_mask(
    MaskFamily(
        name="top_tokens",
        summary="the best single keys of every query, chosen by an indexer; one list for all heads",
        source="DeepSeek Sparse Attention, arXiv 2512.02556",
        options=(
            Option(name="keep", meaning="keys that each query keeps"),
            Option(name="index_heads", meaning="heads of the indexer", default=64),
            Option(name="index_dim", meaning="width of an indexer's head", default=128),
            CAUSAL,
            SEED,
        ),
        make=_top_tokens,
    ),
    rank=10,
)
