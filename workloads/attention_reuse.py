"""Attention over denoising steps: what a step that computes all of it leaves, and what later steps do with that.

Four ways, by name:

* ``output`` (DiTFastAttn, sharing across steps, arXiv 2406.08552): later steps take the result as it is.
* ``guidance`` (DiTFastAttn, sharing across guidance): of a batch of conditional and unconditional entries half is
  computed, the other half taken from it; nothing stays from step to step.
* ``residual`` (DiTFastAttn, window attention with residuals): a whole step also runs the sparse attention and keeps
  what that leaves out; later steps run the sparse one and add it.
* ``statistics`` (Re-ttention, arXiv 2505.22918): as ``residual``, and the share that the kept keys have of each row's
  softmax denominator stays, too.

A whole step makes its residual with the sparse attention that takes the whole result in place of one: it reads as much,
subtracts where that adds, and stores the difference, so that the layer which says what it costs is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from tilewright.errors import InputError, unknown
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.masks.family import Site, make_mask

__all__ = ["REUSES", "AttentionReuse", "Reuse", "reuse_attention", "reuse_layers"]

Reuse = Literal["output", "guidance", "residual", "statistics"]
REUSES: tuple[str, ...] = get_args(Reuse)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionReuse:
    """The layers of a step that computes all (``whole_step``, which also leaves what later steps need) and of one that
    reuses it (``reused_step``, empty where nothing is computed); ``plain``: the attention without any of this.

    ``cache_bytes`` lie in memory between the steps; a reused step that computes nothing reads them in its place.
    """

    plain: AttentionLayer
    whole_step: tuple[AttentionLayer, ...]
    reused_step: tuple[AttentionLayer, ...]
    cache_bytes: int

    def layers(self, whole_steps: Sequence[bool]) -> tuple[tuple[AttentionLayer, ...], ...]:
        """What each step runs; ``whole_steps``: which compute all. Raises InputError where the first does not."""
        if whole_steps and not whole_steps[0] and self.cache_bytes:
            raise InputError("steps: the first has nothing to reuse; given a reused step; allowed a whole one")
        return tuple(self.whole_step if whole else self.reused_step for whole in whole_steps)

    def macs(self, whole_steps: Sequence[bool]) -> int:
        """Multiply-adds of all the steps."""
        return sum(layer.macs for step in self.layers(whole_steps) for layer in step)

    def saved_macs(self, whole_steps: Sequence[bool]) -> int:
        """Multiply-adds that are not done, against a whole attention in every step (negative where more are)."""
        return len(whole_steps) * self.plain.macs - self.macs(whole_steps)

    def moved_bytes(self, whole_steps: Sequence[bool]) -> int:
        """The fewest bytes from and to memory of all the steps."""
        own = sum(layer.compulsory_bytes for step in self.layers(whole_steps) for layer in step)
        taken = sum(not whole for whole in whole_steps) * self.cache_bytes
        return own + (0 if self.reused_step else taken)


def reuse_attention(
    layer: AttentionLayer, reuse: str, *, mask: str = "", residual_format: str = "fp16"
) -> AttentionReuse:
    """What ``layer`` becomes over steps that reuse it in the way called ``reuse``.

    ``mask``: what the sparse attention of ``residual`` and ``statistics`` sees, as text. Raises InputError for an
    unknown way, a mask that is missing or does not fit, and ``guidance`` of an odd batch.
    """
    if reuse == "output":
        return AttentionReuse(plain=layer, whole_step=(layer,), reused_step=(), cache_bytes=layer.output_bytes)
    if reuse == "guidance":
        if layer.batch % 2:
            raise InputError(
                f"{layer.name}: batch: guidance shares between its halves; given {layer.batch}; allowed even numbers"
            )
        half = replace(layer, batch=layer.batch // 2)
        return AttentionReuse(plain=layer, whole_step=(layer,), reused_step=(half,), cache_bytes=0)
    if reuse == "residual" or reuse == "statistics":
        return _residual(layer, _masked(layer, mask), residual_format, ratios=reuse == "statistics")
    raise unknown("reuse", reuse, REUSES, place=layer.name)


def reuse_layers(layer: AttentionLayer, sparse: AttentionLayer | None = None) -> dict[str, AttentionReuse]:
    """The ways, by name, in which steps can reuse ``layer``; with residuals where there is a ``sparse`` form of it."""
    ways = [name for name in ("output", "guidance") if name == "output" or layer.batch % 2 == 0]
    found = {name: reuse_attention(layer, name) for name in ways}
    if sparse is not None:
        for name in ("residual", "statistics"):
            found[name] = _residual(layer, sparse, layer.output_format, ratios=name == "statistics")
    return found


def _residual(layer: AttentionLayer, sparse: AttentionLayer, residual_format: str, *, ratios: bool) -> AttentionReuse:
    sparse = replace(sparse, residual_format=residual_format, ratios=ratios)
    return AttentionReuse(
        plain=layer, whole_step=(layer, sparse), reused_step=(sparse,), cache_bytes=sparse.cached_bytes
    )


def _masked(layer: AttentionLayer, mask: str) -> AttentionLayer:
    if not mask:
        raise InputError(f"{layer.name}: mask: missing; allowed a family of masks, or window=N for N keys on each side")
    name, _, width = mask.partition("=")
    if name == "window":
        if not width.isdecimal():
            raise InputError(f'{layer.name}: window: given "{width}"; allowed whole numbers from 0')
        return replace(layer.without_lists("none"), mask="banded", window_left=int(width), window_right=int(width))
    site = Site(layer.query_heads, layer.kv_heads, layer.query_len, layer.key_len, layer.head_dim)
    return replace(layer.without_lists("none"), mask="blocks", blocks=make_mask(mask, site, what=layer.name))
