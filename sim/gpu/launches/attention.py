"""The kernels of an attention: a fused one, or products with a softmax between, all scores written and read."""

from __future__ import annotations

from tilewright.errors import InputError
from tilewright.formats import element_format, format_bits
from tilewright.sim.gpu.launches.launch import AttentionShape, Launch, ProductShape, Use
from tilewright.units import bits_to_bytes
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.vector_work import SOFTMAX

__all__ = ["attention_shape", "fused_attention", "module_attention", "unfused_attention", "written_attention"]

_NARROW_BITS = 8  # keys of at most so many lie in the cache as fp8


def attention_shape(layer: AttentionLayer) -> AttentionShape:
    """What a fused kernel is asked for: a band on the right but the causal one is masked tile by tile, at full cost."""
    if layer.blocks is not None and not layer.blocks.is_full:
        raise InputError(
            f"{layer.name}: mask: no kernel is known for lists of key blocks; given {layer.blocks.text}; allowed none, "
            "causal, banded on a GPU"
        )
    if layer.takes_cached:
        raise InputError(
            f"{layer.name}: residual_format: no kernel is known that adds what an earlier step left; given "
            f"{layer.residual_format or 'ratios'}; allowed none on a GPU"
        )
    layer = layer.with_plain_mask() if layer.blocks is not None else layer
    causal = layer.mask == "causal" or (layer.mask == "banded" and layer.window_right == 0)
    window = layer.window_left or 0 if causal else 0
    return AttentionShape(
        layer.batch,
        layer.query_len,
        layer.key_len,
        layer.query_heads,
        layer.kv_heads,
        layer.head_dim,
        window,
        causal and layer.query_len > 1,
        8 if format_bits(element_format(layer.key_format)) <= _NARROW_BITS else 16,
    )


def fused_attention(layer: AttentionLayer, name: str, reads: tuple[Use, ...], writes: tuple[Use, ...]) -> Launch:
    """One kernel of the operator ``name``."""
    return Launch(
        kernel="attention",
        operators=(name,),
        reads=reads,
        writes=writes,
        attention=attention_shape(layer),
        macs=layer.macs,
    )


def unfused_attention(
    layer: AttentionLayer, name: str, reads: tuple[Use, ...], writes: tuple[Use, ...]
) -> tuple[Launch, ...]:
    """S = Q K^T, P = softmax(S), O = P V as three kernels; ``reads``: queries, keys, values, and a bias with P."""
    heads = layer.batch * layer.query_heads
    group = layer.query_heads // layer.kv_heads
    n_scores = heads * layer.query_len * layer.key_len
    scores = Use(f"{name} scores", bits_to_bytes(n_scores * layer.score_bits))
    weights = Use(f"{name} probabilities", scores.n_bytes)
    queries, keys, values, *others = reads

    def product(reads: tuple[Use, ...], writes: tuple[Use, ...], n: int, k: int, formats: tuple[str, str]) -> Launch:
        shape = ProductShape(heads // group, group * layer.query_len, n, k, *formats, k)
        macs = heads * layer.query_len * n * k
        return Launch(kernel="matmul", operators=(name,), reads=reads, writes=writes, product=shape, macs=macs)

    softmax = Launch(
        kernel="softmax",
        operators=(name,),
        reads=(scores, *others),
        writes=(weights,),
        rows=(heads * layer.query_len, layer.key_len),
        operations=tuple((kind, n_scores * n) for kind, n in SOFTMAX.items()),
    )
    return (
        product((queries, keys), (scores,), layer.key_len, layer.head_dim, (layer.qkv_format, layer.key_format)),
        softmax,
        product(
            (weights, values), writes, layer.value_dim, layer.key_len, (layer.probability_format, layer.value_format)
        ),
    )


def module_attention(
    layer: AttentionLayer, name: str, reads: tuple[Use, ...], writes: tuple[Use, ...]
) -> tuple[Launch, ...]:
    """PyTorch's ``nn.MultiheadAttention`` at inference where the fused choice is cuDNN's, which its own path leaves out
    (``native_multi_head_attention`` takes FlashAttention or memory-efficient kernels alone): heads are copied apart,
    products and a softmax follow, and the results are copied together.
    """
    parted = tuple(Use(f"{use.tensor} by heads", use.n_bytes) for use in reads[:3])
    (result,) = writes
    mixed = Use(f"{result.tensor} by heads", result.n_bytes)
    into = Launch(reads=reads[:3], writes=parted, kernel="copy", operators=(name,))
    back = Launch(reads=(mixed,), writes=(result,), kernel="copy", operators=(name,))
    return (into, *unfused_attention(layer, name, (*parted, *reads[3:]), (mixed,)), back)


def written_attention(
    layer: AttentionLayer, name: str, reads: tuple[Use, ...], writes: tuple[Use, ...], n_steps: int
) -> tuple[Launch, ...]:
    """An attention of ``n_steps`` steps in its model: what is beside products and softmax goes over the scores."""
    first, softmax, last = unfused_attention(layer, name, reads, writes)
    scores = first.writes
    over = Launch(kernel="elementwise", operators=(name,), reads=scores, writes=scores)
    return (first, *(over,) * max(0, n_steps - 3), softmax, last)
