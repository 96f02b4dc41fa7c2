"""Masks of lists of key blocks: every count is what enumeration of single pairs gives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.attention_reference import reference_attention
from tilewright.workloads.load import load_workload
from tilewright.workloads.masks.family import FAMILIES, lists_of
from tilewright.workloads.masks.lists import INDEX_BYTES, BlockMask

Rule = Callable[[int, int], bool]


def _layer(text: str, n: int, heads: int = 2) -> AttentionLayer:
    return load_workload(f"attention:heads={heads},seq={n},head_dim=8,mask={text}")


def _blocks_of(rule: Rule, n: int, block: int, *, causal: bool = False) -> npt.NDArray[np.bool_]:
    """Pairs of the blocks that hold a pair of the rule."""
    size = -(-n // block)
    kept = np.zeros((size, size), dtype=bool)
    for i, j in itertools.product(range(n), repeat=2):
        if rule(i, j):
            kept[i // block, j // block] = True
    pairs = kept.repeat(block, axis=0)[:n].repeat(block, axis=1)[:, :n]
    return pairs & (np.tri(n, dtype=bool) if causal else True)


def _radial(size: int) -> Rule:
    def kept(i: int, j: int) -> bool:
        distance = abs(i // size - j // size)
        apart = abs(i % size - j % size)
        if distance <= 1:
            return True
        times = int(math.log2(distance))
        if size >= 2**times:
            return apart <= size // 2**times // 2
        return apart == 0 and distance % (2**times // size) == 0

    return kept


def _frame_windows(frames: int, size: int, window: int, every: int) -> Rule:
    def kept(i: int, j: int) -> bool:
        if i >= frames * size or j >= frames * size:
            return True
        begins = min(max(i % size - window // 2, 0), size - window)
        return (i // size - j // size) % every == 0 and begins <= j % size < begins + window

    return kept


def _beside_text(video: int, rule: Rule) -> Rule:
    """Text behind the video, which sees all and is seen by all."""
    return lambda i, j: i >= video or j >= video or rule(i, j)


# (text, tokens, rule of head 0, rule of the last head, block, causal)
RULES: list[tuple[str, int, Rule, Rule, int, bool]] = [
    (
        "spatial_temporal:frames=6,spatial=1,near=1,beside=1,block=5",
        54,
        lambda i, j: abs(i // 9 - j // 9) <= 1,
        lambda i, j: abs(i // 6 - j // 6) <= 1,
        5,
        False,
    ),
    ("radial:frames=12,block=3", 48, _radial(4), _radial(4), 3, False),
    ("radial:frames=20,block=4", 40, _radial(2), _radial(2), 4, False),
    (
        "spatial_temporal:frames=6,spatial=1,near=1,beside=1,text=7,block=5",
        61,
        _beside_text(54, lambda i, j: abs(i // 9 - j // 9) <= 1),
        _beside_text(54, lambda i, j: abs(i // 6 - j // 6) <= 1),
        5,
        False,
    ),
    ("radial:frames=12,text=5,block=3", 53, *[_beside_text(48, _radial(4))] * 2, 3, False),
    ("band:density=0.2,text=3,block=4", 40, *[_beside_text(37, lambda i, j: abs(i - j) <= 4)] * 2, 4, False),
    *(
        (f"frame_windows:frames=5,window={w},every={e},text={t},block=4", 35 + t, rule, rule, 4, False)
        for w, e, t in ((3, 2, 4), (7, 3, 0), (1, 1, 1))
        for rule in [_frame_windows(5, 7, w, e)]
    ),
    *(
        (f"band:density={d},block=4", 37, rule, rule, 4, False)
        for d in (0.2, 0.9)
        for rule in [lambda i, j, d=d: abs(i - j) <= round(37 * (1 - (1 - d) ** 0.5))]
    ),
    (
        "sink_window:first=3,window=5,dense=1,block=4",
        30,
        lambda i, j: j <= i,
        lambda i, j: j <= i and (j < 3 or i - j < 5),
        4,
        True,
    ),
]


@pytest.mark.parametrize("case", RULES, ids=lambda case: case[0])
def test_lists_of_rules_hold_every_block_with_a_kept_pair_and_count_both(
    case: tuple[str, int, Rule, Rule, int, bool],
) -> None:
    text, n, first, last, block, causal = case
    mask = _layer(text, n).blocks
    assert mask is not None
    for head, rule in enumerate((first, last)):
        assert (mask.visible(head) == _blocks_of(rule, n, block, causal=causal)).all()
    both = sum(rule(i, j) for rule in (first, last) for i in range(n) for j in range(n))
    assert mask.n_rule_pairs == both
    assert mask.n_padded_pairs == mask.n_computed_pairs - both >= 0


@given(st.integers(2, 40), st.integers(1, 12), st.integers(1, 12), st.integers(1, 9), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_columns_and_diagonals(n: int, columns: int, diagonals: int, block: int, seed: int) -> None:
    columns, diagonals = min(n, columns), min(n, diagonals)
    mask = _layer(f"vertical_slash:vertical={columns},slash={diagonals},seed={seed},block={block}", n).blocks
    assert mask is not None
    random = np.random.default_rng(seed)
    drawn = [{0, *(1 + random.choice(n - 1, size=k - 1, replace=False)).tolist()} if k > 1 else {0} for k in
             (columns, diagonals)]  # fmt: skip

    def rule(i: int, j: int) -> bool:
        return j <= i and (j in drawn[0] or i - j in drawn[1])

    assert (mask.visible(0) == _blocks_of(rule, n, block, causal=True)).all()
    assert mask.n_rule_pairs == 2 * sum(rule(i, j) for i in range(n) for j in range(n))


def test_text_behind_tiles_sees_all_and_is_seen_by_all() -> None:
    tiles = "canvas=2x4x4,tile=1x2x2,window=1x2x2"
    own, beside = (_layer(f"sliding_tile:{tiles}{text}", n).blocks for text, n in (("", 32), (",text=6", 38)))
    assert own is not None and beside is not None
    for head in range(2):
        assert (beside.visible(head)[:32, :32] == own.visible(head)).all()
        assert beside.visible(head)[32:].all() and beside.visible(head)[:, 32:].all()


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_sliding_tiles_keep_the_product_of_the_shares(data: st.DataObject) -> None:
    tile = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
    n_tiles = data.draw(st.tuples(*[st.integers(1, 4)] * 3))
    kept = tuple(data.draw(st.integers(1, n)) for n in n_tiles)
    canvas, window = (tuple(a * b for a, b in zip(tile, n, strict=True)) for n in (n_tiles, kept))
    words = ["x".join(map(str, extents)) for extents in (canvas, tile, window)]
    mask = _layer(f"sliding_tile:canvas={words[0]},tile={words[1]},window={words[2]}", math.prod(canvas)).blocks
    assert mask is not None and mask.n_padded_pairs == 0
    assert mask.n_pairs == 2 * math.prod(canvas) * math.prod(window)
    for row, lists in enumerate(np.ndindex(*n_tiles)):
        seen = {tuple(map(int, np.unravel_index(i, n_tiles))) for i in mask.patterns[0].of_row(row)}
        first = [min(max(0, at - k // 2), n - k) for at, k, n in zip(lists, kept, n_tiles, strict=True)]
        assert seen == set(itertools.product(*(range(f, f + k) for f, k in zip(first, kept, strict=True))))


def _random_mask(random: np.random.Generator) -> BlockMask:
    rows, keys = (int(x) for x in random.integers(1, 30, size=2))
    causal = bool(random.integers(2))
    keys = max(rows, keys) if causal else keys
    block_rows, block_keys = (int(x) for x in random.integers(1, 9, size=2))
    heads = int(random.integers(1, 4)) * 2
    shape = -(-rows // block_rows), -(-keys // block_keys)
    allowed = np.ones(shape, dtype=bool)
    if causal:
        last = np.minimum((np.arange(shape[0]) + 1) * block_rows, rows) - 1 + keys - rows
        allowed = np.arange(shape[1])[None] * block_keys <= last[:, None]
    patterns = tuple(lists_of((random.random(shape) < random.random()) & allowed) for _ in range(2))
    of_head = tuple(int(i) for i in random.integers(0, 2, size=heads))
    return BlockMask(
        text="random", query_len=rows, key_len=keys, block_rows=block_rows, block_keys=block_keys, patterns=patterns,
        of_head=of_head, causal=causal,
    )  # fmt: skip


def test_counts_of_a_thousand_random_masks_are_those_of_their_pairs() -> None:
    random = np.random.default_rng(15)
    for _ in range(1000):
        mask = _random_mask(random)
        seen = np.stack([mask.visible(head) for head in range(mask.n_heads)])
        layer = _with(mask)
        assert layer.n_scores == 2 * seen.sum()
        assert layer.macs == 2 * seen.sum() * (3 + 5)
        assert layer.n_rows == 2 * seen.any(axis=2).sum()
        assert layer.n_divisions == 2 * np.minimum(seen.sum(axis=2), 5).sum()
        of_kv = seen.reshape(layer.kv_heads, 2, mask.query_len, mask.key_len).any(axis=(1, 2))
        assert layer.key_bytes == 2 * of_kv.sum() * 3 * 2
        assert layer.value_bytes == 2 * of_kv.sum() * 5 * 2
        assert layer.query_bytes == 2 * seen.any(axis=2).sum() * 3 * 2
        assert mask.list_bytes == INDEX_BYTES * sum(p.n_listed + p.n_rows + 1 for p in mask.patterns)
        whole = np.ones_like(seen) if not mask.causal else np.broadcast_to(
            np.tri(mask.query_len, mask.key_len, mask.key_len - mask.query_len, dtype=bool), seen.shape
        )  # fmt: skip
        assert mask.is_full == bool((seen == whole).all())
        assert mask.n_computed_pairs >= mask.n_pairs == seen.sum()


def _with(mask: BlockMask) -> AttentionLayer:
    return AttentionLayer(
        name="random", batch=2, query_heads=mask.n_heads, kv_heads=mask.n_heads // 2, query_len=mask.query_len,
        key_len=mask.key_len, head_dim=3, value_dim=5, mask="blocks", blocks=mask,
    )  # fmt: skip


@given(st.sampled_from(["", ",causal=true"]), st.sampled_from([16, 17, 40]), st.sampled_from([1, 4, 7]))
@settings(max_examples=20, deadline=None)
def test_lists_of_all_are_no_mask(more: str, n: int, block: int) -> None:
    lists = load_workload(f"attention:heads=4,seq={n},head_dim=8,mask=top_blocks:density=1,block={block}{more}")
    plain = load_workload(f"attention:heads=4,seq={n},head_dim=8" + (",mask=causal" if more else ""))
    assert lists.n_scores == plain.n_scores and lists.macs == plain.macs
    assert lists.compulsory_bytes == plain.compulsory_bytes
    found = lists.with_plain_mask()
    assert (found.mask, found.blocks) == (plain.mask, None)


def test_a_row_that_sees_nothing_is_zero() -> None:
    mask = BlockMask(
        text="one", query_len=4, key_len=4, block_rows=2, block_keys=2, of_head=(0, 0),
        patterns=(lists_of(np.array([[False, False], [True, False]])),),
    )  # fmt: skip
    random = np.random.default_rng(0)
    layer = _with(mask)
    q, k, v = (random.standard_normal((2, heads, 4, width)) for heads, width in ((2, 3), (1, 3), (1, 5)))
    result = reference_attention(layer, q, k, v)
    assert not np.isnan(result).any()
    assert (result[:, :, :2] == 0).all() and (result[:, :, 2:] != 0).all()


@pytest.mark.parametrize("name", [name for name, _ in FAMILIES.items()])
def test_every_family_is_in_the_tests(name: str) -> None:
    elsewhere = {"sliding_tile", "vertical_slash", "top_blocks", "threshold", "top_tokens", "file"}
    assert name in elsewhere | {text.partition(":")[0] for text, *_ in RULES}


@pytest.mark.parametrize("more", ["", ",causal=true"])
@pytest.mark.parametrize(
    "text", ["top_blocks:keep=3,block=4", "top_blocks:keep=2,block=3,by=group", "top_tokens:keep=5"]
)
def test_the_best_keep_as_many_in_every_row(text: str, more: str) -> None:
    mask = load_workload(f"attention:heads=4,kv_heads=2,seq=31,head_dim=8,mask={text}{more}").blocks
    assert mask is not None
    keep = int(text.partition("keep=")[2].partition(",")[0])
    assert len(mask.patterns) == (4 if "by" not in text and "blocks" in text else 2 if "by" in text else 1)
    for lists in mask.patterns:
        counts = np.diff(lists.pointers)
        blocks = np.arange(lists.n_rows) + 1 if more else np.full(lists.n_rows, mask.n_block_keys)
        assert (counts == np.minimum(keep, blocks)).all()


def test_thresholds_keep_about_the_density_and_differ_by_row() -> None:
    mask = _layer("threshold:density=0.2,spread=60,seed=3,block=8,keys=4", 2048, heads=4).blocks
    assert mask is not None and len(mask.patterns) == 4
    assert mask.density == pytest.approx(0.2, rel=0.05)
    assert len({int(n) for lists in mask.patterns for n in np.diff(lists.pointers)}) > 50
