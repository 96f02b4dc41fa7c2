"""Multiply-accumulates and parameters of a PyTorch module, counted while it runs, without anything of Tilewright."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["counted_macs", "counted_parameters"]

_HIDDEN = -1e4


def counted_parameters(module: torch.nn.Module) -> int:
    """Trained numbers of a module, shared ones once."""
    return sum(one.numel() for one in module.parameters())


def counted_macs(
    module: torch.nn.Module, inputs: Sequence[Any], keywords: Mapping[str, Any], head_dim: int = 0
) -> tuple[int, int]:
    """Multiply-accumulates of products, convolutions and attentions in a run on the processor.

    The second number leaves out the scores that masks hide, of whole attentions and of those that a model writes out as
    products and a softmax, whose heads are ``head_dim`` wide.
    """
    products, attentions = _Products(), _Attentions()
    attentions.products, products.attentions = products, attentions
    torch.backends.mha.set_fastpath_enabled(False)  # whose one operator for a whole layer would hide its products
    try:
        with torch.no_grad(), products, attentions:
            module(*inputs, **keywords)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    hidden = 2 * head_dim * attentions.hidden
    return products.macs + attentions.in_full, products.macs + attentions.visible - hidden


class _Products(TorchDispatchMode):
    """Counts the products that operators become."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0
        self.pauses = 0
        self.attentions: Any = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).partition(".")[2].partition(".")[0]
        if not self.pauses and name.startswith("_scaled_dot_product") and self.attentions is not None:
            self.attentions.count(*args, **(kwargs or {}))  # of a layer of PyTorch's own
        elif not self.pauses:
            self.macs += _macs_of(name, args, result)
        return result


def _macs_of(name: str, args: Any, result: Any) -> int:
    if name in ("mm", "bmm", "mv", "dot", "_grouped_mm", "grouped_mm_fallback"):
        return int(math.prod(result.shape) * args[0].shape[-1])
    if name in ("addmm", "baddbmm", "addmv"):
        return int(math.prod(result.shape) * args[1].shape[-1])
    if name in ("convolution", "mkldnn_convolution", "_convolution"):
        x, weight, transposed = args[0], args[1], args[6] if name == "convolution" else False
        points = math.prod(x.shape) if transposed else math.prod(result.shape)
        return int(points * math.prod(weight.shape[1:]))
    return 0


class _Attentions(TorchFunctionMode):
    """Counts attentions as a whole, in full and as far as their masks let keys be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Any = None
        self.in_full = self.visible = self.hidden = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "softmax" and not self.products.pauses:
            self.hidden += int((args[0] <= _HIDDEN).sum())
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        self.count(*args, **kwargs)
        self.products.pauses += 1
        try:
            return func(*args, **kwargs)
        finally:
            self.products.pauses -= 1

    def count(
        self,
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        *others: Any,
        **named: Any,
    ) -> None:
        """Note the scores of one attention."""
        if isinstance(attn_mask, int | float):  # below the whole operator, where a chance of dropping out is third
            attn_mask, others = named.get("attn_mask"), (dropout_p,)
        is_causal = named.get("is_causal", others[0] if others else False)
        shape = (*query.shape[:-1], key.shape[-2])
        each = query.shape[-1] + value.shape[-1]
        self.products.pauses += 1
        if is_causal:
            seen = torch.ones(shape, dtype=torch.bool).tril()
        elif attn_mask is None:
            seen = torch.ones(shape, dtype=torch.bool)
        else:
            seen = (attn_mask if attn_mask.dtype == torch.bool else attn_mask > _HIDDEN).expand(shape)
        self.visible += int(seen.sum()) * each
        self.products.pauses -= 1
        self.in_full += math.prod(shape) * each
