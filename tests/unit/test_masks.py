"""Masks as data: what text and files may say, published counts, and windows that are no full mask."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.workloads.load import load_workload
from tilewright.workloads.masks.chosen import top_token_pairs
from tilewright.workloads.masks.lists import BlockMask

CLOSED_FORMS = Path(__file__).parents[3] / "shared" / "sparse_ssm" / "closed_forms.csv"
CANVAS = "canvas=30x48x80,tile=6x8x8"


def _mask(text: str, n: int, heads: int = 1, width: int = 128) -> BlockMask:
    mask = load_workload(f"attention:heads={heads},seq={n},head_dim={width},mask={text}").blocks
    assert mask is not None
    return mask


@pytest.mark.parametrize(("window", "tiles"), [("18x24x24", 8100), ("30x24x40", 22500), ("30x40x40", 37500)])
def test_sliding_tiles_of_the_published_study(window: str, tiles: int) -> None:
    mask = _mask(f"sliding_tile:{CANVAS},window={window}", 115_200)
    assert mask.n_listed == tiles and mask.most_listed == 90_000
    assert (np.diff(mask.patterns[0].pointers) == tiles // 300).all()


def test_closed_forms_that_others_published() -> None:
    assert pytest.approx(14.763, abs=1e-3) == 164.03 * 27 / 300
    mask = _mask("top_blocks:keep=1", 64)  # one block of 64 x 64 at width 128
    assert 2 * 2 * mask.n_pairs * 128 * 136_464 * 7 / 1e12 == pytest.approx(2.0033, abs=1e-4)
    scored, kept = top_token_pairs(16_384, 186_368, 2048)
    assert kept * 64 * (576 + 512) * 2 / 1e12 == pytest.approx(4.673, abs=1e-3)
    assert scored * 64 * 128 * 2 / 1e12 == pytest.approx(52.23, abs=1e-2)
    for n in (2048, 8192):  # half of the heads dense, half with one sink block and two of their own
        mask = _mask("sink_window:first=128,window=129,dense=1,block=128", n, heads=2)
        blocks = n // 128
        dense = blocks * (blocks + 1) / 2
        assert mask.n_listed == dense + sum(min(3, i) for i in range(1, blocks + 1))


@pytest.mark.skipif(not CLOSED_FORMS.exists(), reason="the shared reference figures are not here")
def test_sliding_tiles_are_those_of_the_shared_table() -> None:
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(CLOSED_FORMS.read_text()))}
    for window in ("18x24x24", "30x24x40", "30x40x40"):
        mask = _mask(f"sliding_tile:{CANVAS},window={window}", 115_200)
        assert rows[f"STA-{window}"]["value"] == f"{mask.n_listed} of {mask.most_listed} = {mask.density:.4f}"


def test_top_tokens_as_counted() -> None:
    mask = _mask("top_tokens:keep=20,causal=true", 50)
    assert mask.selection is not None
    assert (mask.selection.n_comparisons, mask.n_pairs) == top_token_pairs(50, 0, 20)
    assert mask.selection.macs == top_token_pairs(50, 0, 20)[0] * 64 * 128


def test_the_same_text_is_the_same_mask() -> None:
    texts = [f"attention:heads=4,seq=512,head_dim=64,mask=threshold:density=0.2,seed={seed}" for seed in (1, 1, 2)]
    one, same, other = (load_workload(text) for text in texts)
    assert one == same and hash(one) == hash(same) and one != other


def test_a_long_window_is_no_full_mask() -> None:
    window = load_workload("attention:heads=1,seq=4096,head_dim=64,mask=banded,window_left=4094,window_right=0")
    causal = load_workload("attention:heads=1,seq=4096,head_dim=64,mask=causal")
    assert window.with_plain_mask() is window and window.n_scores == causal.n_scores - 1
    longer = load_workload("attention:heads=1,seq=4096,head_dim=64,mask=banded,window_left=4095,window_right=0")
    assert longer.with_plain_mask().mask == "causal"  # the last row sees the first key
    lists = load_workload("attention:heads=1,seq=4096,head_dim=64,mask=sink_window:first=0,window=4032")
    assert lists.blocks is not None and lists.blocks.n_listed == lists.blocks.most_listed - 0
    assert lists.blocks.n_padded_pairs > 0  # whole blocks, of which the rule asks for less
    shorter = load_workload("attention:heads=1,seq=4096,head_dim=64,mask=sink_window:first=0,window=3968")
    assert shorter.blocks is not None and not shorter.blocks.is_full
    assert shorter.with_plain_mask() is shorter


def test_masks_of_files(tmp_path: Path) -> None:
    blocks = np.random.default_rng(1).random((2, 4, 4)) < 0.5
    np.save(tmp_path / "m.npy", blocks)
    mask = _mask(f"file:path={tmp_path}/m.npy,block=8", 30, heads=2)
    assert mask.n_listed == blocks.sum()
    pointers = np.array([[*lists.pointers] for lists in mask.patterns])
    pointers[1] += pointers[0, -1]
    indices = np.concatenate([lists.indices for lists in mask.patterns])
    np.savez(tmp_path / "m.npz", pointers=pointers, indices=indices)
    again = _mask(f"file:path={tmp_path}/m.npz,block=8", 30, heads=2)
    assert again.patterns == mask.patterns
    np.save(tmp_path / "one.npy", blocks[0])
    assert _mask(f"file:path={tmp_path}/one.npy,block=8", 30, heads=3).of_head == (0, 0, 0)


BAD = [
    ("sliding_tile:canvas=30x48x80,tile=7x8x8,window=14x24x24", "does not divide the canvas"),
    ("sliding_tile:canvas=30x48x80,tile=6x8x8,window=20x24x24", "multiples of the tile's 6"),
    ("sliding_tile:canvas=30x48,tile=6x8x8,window=18x24", "2 extents"),
    ("sliding_tile:canvas=30x48x80,tile=6x8x8,window=18x24x24", "115200 tokens"),
    ("sliding_tile:canvas=30x48x80,tile=6x8x8", "window: missing"),
    ("band:density=1.5", "density: given"),
    ("band:density=0", "density: given"),
    ("top_blocks:keep=17", "allowed 1 to 16"),
    ("top_blocks:block=8", "keep: missing"),
    ("top_blocks:keep=2,density=0.5", "given both"),
    ("top_blocks:keep=2,by=row", "allowed head, group, layer"),
    ("top_tokens:keep=2000", "allowed 1 to 1024"),
    ("spatial_temporal:frames=7,spatial=1", "divisors of the tokens"),
    ("spatial_temporal:frames=8,spatial=5", "allowed 0 to 2"),
    ("frame_windows:frames=7,window=2", "divisors of the tokens"),
    ("frame_windows:frames=8,window=999", "allowed 1 to the"),
    ("vertical_slash:vertical=2000,slash=1", "vertical: given 2000"),
    ("sink_window:first=1,window=8,dense=3", "allowed 0 to 2"),
    ("sliding_tiles:canvas=2", 'did you mean "sliding_tile"'),
    ("band:density=0.1,blok=4", "unknown key"),
    ("band:density=0.1,density=0.2", "given twice"),
    ("file:path=/nowhere/at/all.npy", "cannot read"),
]


@pytest.mark.parametrize(("text", "says"), BAD, ids=lambda text: text)
def test_bad_masks_say_what_is_wrong_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        load_workload(f"attention:heads=2,seq=1024,head_dim=64,mask={text}")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_files_that_fit_no_layer(tmp_path: Path) -> None:
    def refused(says: str, name: str = "m.npz", more: str = "", **arrays: object) -> None:
        if name == "m.npz":
            np.savez(tmp_path / name, **arrays)  # type: ignore[arg-type]
        else:
            np.save(tmp_path / name, arrays["blocks"])  # type: ignore[arg-type]
        with pytest.raises(InputError, match=says):
            _mask(f"file:path={tmp_path}/{name},block=8{more}", 16)

    refused("outside the keys", pointers=[0, 1, 2], indices=[0, 2])
    refused("outside the keys", pointers=[0, 1, 2], indices=[0, -1])
    refused("must ascend", pointers=[0, 2, 2], indices=[1, 0])
    refused("each once", pointers=[0, 2, 2], indices=[1, 1])
    refused("run through all", pointers=[0, 1, 1], indices=[0, 1])
    refused("rows of blocks", pointers=[0, 2], indices=[0, 1])
    refused("row pointers must ascend", pointers=[0, 3, 2], indices=[0, 1])
    refused("holds", lists=[0])
    refused("whole numbers", pointers=[0.0, 1.0], indices=[0.0])
    refused("causal mask hides", more=",causal=true", pointers=[0, 2, 3], indices=[0, 1, 1])
    refused("shape", name="m.npy", blocks=np.ones((3, 2)) > 0)
    refused("2 heads", name="m.npy", blocks=np.ones((2, 2, 2)) > 0)


def test_lists_go_with_the_layer_they_are_for() -> None:
    from dataclasses import replace

    layer = load_workload("attention:heads=2,seq=1024,head_dim=64,mask=band:density=0.1")
    for change in ({"query_heads": 4, "kv_heads": 4}, {"mask": "none"}, {"key_len": 2048}, {"blocks": None}):
        with pytest.raises(InputError):
            replace(layer, **change)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="bias"):
        load_workload("attention:heads=2,seq=1024,head_dim=64,mask=band:density=0.1,bias=shared")


def test_windows_of_frames_with_what_a_whole_step_left() -> None:
    """Re-ttention on CogVideoX-2B: 3.1 % of a video token's pairs; L x D values of 2 bytes, a ratio a row and head."""
    text = "frame_windows:frames=13,window=50,text=226,cached=2,block=128"
    mask = load_workload(f"attention:heads=30,seq=17776,head_dim=64,mask={text}").blocks
    assert mask is not None and mask.n_rule_pairs is not None and mask.selection is not None
    video = mask.n_rule_pairs // 30 - 226 * 17_776
    assert video / (17_550 * 17_776) == pytest.approx(0.031, abs=2e-4)
    assert mask.selection.n_bytes == 17_776 * 1_920 * 2 + 30 * 17_776 * 4
    assert mask.selection.macs == 0
