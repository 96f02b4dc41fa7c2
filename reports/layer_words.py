"""A layer in words: what kind it is, how large, and where the whole network of the same name is."""

from __future__ import annotations

from typing import Any

from tilewright.reports.quantity import count_text
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.low_rank import LowRankAttentionLayer
from tilewright.workloads.scan import ScanLayer

__all__ = ["layer_words", "network_words", "plural"]


def layer_words(layer: Any) -> str:
    """``attention layer: 12 heads, 512 queries and keys, width 64``; empty for what is no layer known here."""
    if isinstance(layer, AttentionLayer):
        return f"attention layer: {', '.join(_attention_parts(layer.whole or layer))}"
    if isinstance(layer, GemmLayer):
        whole = layer.before_cut
        kind = "convolution as a product" if layer.window is not None else "matrix product"
        groups, k = whole.groups, layer.k
        if layer.split is not None:
            groups, k = groups // layer.split.n_parts, layer.split.k
        times = f"{groups:,} times " if groups > 1 else ""
        sizes = f"{whole.m:,} x {k:,} by {k:,} x {whole.n:,}"
        return f"{kind}: {times}{sizes}, {count_text(layer.macs)} multiply-adds"
    if isinstance(layer, VectorLayer):
        rows = layer.groups * layer.rows
        return f"vector work: {rows:,} rows, of each {layer.read_bytes:,} bytes in and {layer.write_bytes:,} out"
    if isinstance(layer, LowRankAttentionLayer):
        n_heads = layer.groups * layer.heads if layer.whole is None else layer.whole.groups * layer.whole.heads
        n_queries = layer.query_len if layer.whole is None else layer.whole.query_len
        sizes = f"{n_heads:,} heads, {n_queries:,} queries, {layer.key_len:,} keys"
        return f"attention of rank {layer.rank:,}: {sizes}, width {layer.head_dim:,}"
    if isinstance(layer, ScanLayer):
        one = layer.whole or layer
        heads = f"{one.groups * one.heads:,} heads, states of {one.key_dim:,} x {one.value_dim:,}"
        return f"scan: {one.n_tokens:,} tokens, {heads}, {count_text(layer.macs)} multiply-adds with the state"
    return ""


def _attention_parts(layer: AttentionLayer) -> list[str]:
    heads = f"{layer.query_heads:,} heads" if layer.query_heads > 1 else "1 head"
    if layer.kv_heads != layer.query_heads:
        heads += f" on {layer.kv_heads:,} of keys and values"
    if layer.query_len == layer.key_len:
        length = f"{layer.query_len:,} queries and keys"
    else:
        length = f"{layer.query_len:,} queries, {layer.key_len:,} keys"
    width = f"width {layer.head_dim:,}"
    if layer.value_dim != layer.head_dim:
        width += f" (values {layer.value_dim:,})"
    parts = [f"batch {layer.batch:,}"] if layer.batch > 1 else []
    parts += [heads, length, width]
    if layer.blocks is not None:
        parts.append(f"mask {layer.blocks.text} ({layer.blocks.density:.1%} of the blocks)")
    elif layer.mask != "none":
        windows = {"left": layer.window_left, "right": layer.window_right}
        sides = ", ".join(f"{side} {n:,}" for side, n in windows.items() if n is not None)
        parts.append(f"{layer.mask} mask ({sides})" if sides else f"{layer.mask} mask")
    joined = {"bias": layer.bias_heads, "sinks": layer.sinks, "soft cap": layer.soft_cap}
    joined |= {"lists chosen": layer.choosing, f"tokens reordered ({layer.reorder})": bool(layer.reorder)}
    joined |= {f"residual in {layer.residual_format}": bool(layer.residual_format), "ratios of rows": layer.ratios}
    return [*parts, *(name for name, has in joined.items() if has)]


def network_words(name: str) -> str:
    """Where the whole network is whose layer is called ``name`` (``bert-base`` or ``bert-base:seq=64``), or nothing."""
    from tilewright.workloads.network import network_names

    base = name.partition(":")[0]
    return f"the whole network is network:{base}" if base in network_names() else ""


def plural(names: list[Any]) -> str:
    """What ``names``, layers of a comparison, are together: ``layers`` if all are attention, else ``workloads``."""
    return "layers" if all(isinstance(layer, AttentionLayer) or layer is None for layer in names) else "workloads"
