"""Video diffusion transformers whose attention is sparse in most steps: layers, schedules, FLOP and time on a GPU.

A layer is what the published models share: hidden width h, products of 12 h^2 multiply-adds a token (query, key, value,
output, and two of a perceptron four times as wide), whether text and video have weights of their own or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from tilewright.hw_models.load import load_machine
from tilewright.search.gpu.predict import kernel_seconds
from tilewright.search.network import simulate_stream
from tilewright.workloads.masks.family import Site, make_mask
from tilewright.workloads.zoo.layers import Layers

BLOCK = 128
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTransformer:
    """``frames`` of ``per_frame`` tokens behind or before ``text``; ``passes`` of the network a step (2: guidance)."""

    name: str
    layers: int
    heads: int
    head_dim: int
    frames: int
    per_frame: int
    text: int
    passes: int = 1
    steps: int = 50

    @property
    def tokens(self) -> int:
        """Of video and text."""
        return self.frames * self.per_frame + self.text

    @property
    def runs(self) -> int:
        """Layers of a whole generation."""
        return self.layers * self.passes * self.steps

    @property
    def attention_flop(self) -> int:
        """Of one dense layer."""
        return 4 * self.heads * self.head_dim * self.tokens**2

    @property
    def product_flop(self) -> int:
        """Of one layer."""
        return 24 * (self.heads * self.head_dim) ** 2 * self.tokens


COGVIDEOX_2B = VideoTransformer(
    name="CogVideoX-2B", layers=30, heads=30, head_dim=64, frames=13, per_frame=1350, text=226, passes=2
)
COGVIDEOX_15 = VideoTransformer(
    name="CogVideoX-v1.5", layers=42, heads=48, head_dim=64, frames=11, per_frame=4080, text=226, passes=2
)
HUNYUAN = VideoTransformer(name="HunyuanVideo", layers=60, heads=24, head_dim=128, frames=33, per_frame=3600, text=256)
HUNYUAN_117 = VideoTransformer(
    name="HunyuanVideo, 117 frames", layers=60, heads=24, head_dim=128, frames=30, per_frame=3840, text=256
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Of all layers in all steps, the share that is dense; the others compute ``kept`` of the pairs by lists of blocks.

    ``search``: what choosing the lists costs, in dense attention layers of a whole generation, as a share of all.
    ``residual``: sparse layers read a cached tensor as large as the attention's result and add it.
    ``tiled``: whole tiles, so that the kernel is the dense one with fewer keys; else lists of blocks.
    """

    dense: float
    seen: BoolArray | None = None
    search: float = 0.0
    residual: bool = False
    tiled: float = 0.0

    @property
    def kept(self) -> float:
        """Share of a sparse layer's pairs that its kernel computes."""
        return self.tiled if self.seen is None else float(self.seen.mean())

    @property
    def attention_share(self) -> float:
        """Of the attention FLOP of all dense steps."""
        return self.dense + (1 - self.dense) * self.kept + self.search


def banded(model: VideoTransformer, kept: float) -> BoolArray:
    """Blocks of Sparse VideoGen: a band so wide that with all text ``kept`` of the pairs are left."""
    n = model.tokens
    site = Site(1, 1, n, n, model.head_dim)
    mask = make_mask(f"band:density={kept - 2 * model.text / n},block={BLOCK}", site, what=model.name)
    return with_text(model, _blocks(mask.patterns[0].rows, mask.patterns[0].indices, n))


def radial(model: VideoTransformer) -> BoolArray:
    """Blocks of radial attention, on the tokens of the video, with all text."""
    n = model.frames * model.per_frame
    mask = make_mask(f"radial:frames={model.frames},block={BLOCK}", Site(1, 1, n, n, model.head_dim), what=model.name)
    return with_text(model, _blocks(mask.patterns[0].rows, mask.patterns[0].indices, model.tokens))


def windows(model: VideoTransformer, window: int) -> tuple[BoolArray, float]:
    """Blocks of Re-ttention, and the share of pairs that its rule keeps: a window of positions in each second frame."""
    n = model.tokens
    text = f"frame_windows:frames={model.frames},window={window},text={model.text},block={BLOCK}"
    mask = make_mask(text, Site(1, 1, n, n, model.head_dim), what=model.name)
    assert mask.n_rule_pairs is not None
    video = n - model.text
    share = (mask.n_rule_pairs - model.text * n) / (video * n)  # of a row of the video
    return _blocks(mask.patterns[0].rows, mask.patterns[0].indices, n), share


def with_text(model: VideoTransformer, seen: BoolArray) -> BoolArray:
    """All see the text, which stands behind the video, and it sees all."""
    first = model.frames * model.per_frame // BLOCK
    seen[first:, :] = True
    seen[:, first:] = True
    return seen


def _blocks(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], tokens: int) -> BoolArray:
    seen = np.zeros((-(-tokens // BLOCK),) * 2, dtype=bool)
    seen[rows, columns] = True
    return seen


# --- time -------------------------------------------------------------------------------------------------------------


@cache
def rest_seconds(model: VideoTransformer, machine: str) -> float:
    """One layer without its attention: norms, modulation, products, rotation, gates, by library kernels."""
    width = model.heads * model.head_dim
    b = Layers("layer", activations="bf16", weights="bf16")
    x = b.input("x", (1, model.tokens, width))
    rows = [b.input(f"modulation{i}", (1, 1, width)) for i in range(6)]
    y = b.elementwise("modulate", b.norm(x, "norm1", affine=False), rows[0], rows[1], name="modulate1")
    q, k, v = (b.linear(y, width, name) for name in ("query", "key", "value"))
    q, k = (b.elementwise("mul", b.norm(one, f"norm.{one}", function="rms"), name=f"rotate.{one}") for one in (q, k))
    y = b.linear(b.attention(q, k, v, "sdpa", head_dim=model.head_dim), width, "output")
    x = b.elementwise("add", b.elementwise("mul", y, rows[2], name="gate1"), x, name="add1")
    y = b.elementwise("modulate", b.norm(x, "norm2", affine=False), rows[3], rows[4], name="modulate2")
    y = b.linear(b.elementwise("gelu_tanh", b.linear(y, 4 * width, "up")), width, "down")
    x = b.elementwise("add", b.elementwise("mul", y, rows[5], name="gate2"), x, name="add2")
    spec = load_machine(machine)
    result = simulate_stream(b.finish([x]), spec)
    attention = sum(one.figures.cycles for one in result.operators if one.kind == "attention")
    return result.seconds * (1 - attention / result.cycles)


def dense_seconds(model: VideoTransformer, machine: str, kernel: str, kept: float = 1.0) -> float:
    """One dense attention, to a share of the keys; ``fa2_prefill`` is causal, so that all pairs take twice as long."""
    shape = {"batch": 1, "queries": model.tokens, "heads": model.heads, "kv_heads": model.heads}
    keys = round(model.tokens * kept)
    spec = load_machine(machine)
    seconds = kernel_seconds(spec, "attention", kernel, **shape, keys=keys, head_dim=model.head_dim)
    return 2 * seconds if kernel == "fa2_prefill" else seconds


def sparse_seconds(model: VideoTransformer, schedule: Schedule, machine: str, lists: str, dense: str) -> float:
    """One sparse attention, its cached residual included."""
    if schedule.seen is None:
        return dense_seconds(model, machine, dense, schedule.tiled)
    spec, length = load_machine(machine), schedule.seen.sum(axis=1)
    shape = {"batch": 1, "heads": model.heads, "queries": model.tokens, "head_dim": model.head_dim}
    mean = {"mean_milli": round(float(length.mean()) * 1000), "longest": int(length.max())}
    seconds = kernel_seconds(spec, "block_lists", lists, **shape, row_tokens=BLOCK, block=BLOCK, **mean)
    if schedule.residual:  # an addition reads two tensors where an activation, which is timed, reads one
        width = model.heads * model.head_dim
        seconds += 1.5 * kernel_seconds(spec, "rowwise", "gelu_graph", m=model.tokens, n=width)
    return seconds


def generation_seconds(
    model: VideoTransformer,
    schedule: Schedule | None,
    machine: str,
    *,
    dense: str,
    lists: str = "flex_blocks",
) -> float:
    """All steps; without a schedule dense."""
    rest, whole = rest_seconds(model, machine), dense_seconds(model, machine, dense)
    if schedule is None:
        return model.runs * (rest + whole)
    sparse = sparse_seconds(model, schedule, machine, lists, dense)
    attention = (schedule.dense + schedule.search) * whole + (1 - schedule.dense) * sparse
    return model.runs * (rest + attention)


def petaflop(model: VideoTransformer, schedule: Schedule | None = None) -> float:
    """Of all steps: products and attention."""
    share = 1.0 if schedule is None else schedule.attention_share
    return model.runs * (model.product_flop + share * model.attention_flop) / 1e15
