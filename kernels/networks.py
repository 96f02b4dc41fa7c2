"""Whole networks as people run them with PyTorch: modules with random weights in half precision, one call a run.

Nothing is fused by a compiler: batch norms, activations and residuals are kernels of their own, all in one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tilewright.errors import InputError, unknown
from tilewright.kernels.calls import Setting

__all__ = ["IMAGE_NETWORKS", "BlockSizes", "decoder_block", "network_module"]

Module = Any
Tensor = Any

#: Networks of torchvision by the name that tilewright has for them.
IMAGE_NETWORKS: Mapping[str, str] = {
    "resnet-18": "resnet18",
    "resnet-50": "resnet50",
    "vgg-16": "vgg16",
    "mobilenet-v2": "mobilenet_v2",
    "mobilenet-v3-large": "mobilenet_v3_large",
    "efficientnet-b0": "efficientnet_b0",
    "densenet-121": "densenet121",
    "squeezenet": "squeezenet1_0",
    "vit-b-16": "vit_b_16",
}
_PIXELS = 224


def network_module(setting: Setting) -> tuple[Module, Tensor]:
    """The network of ``setting`` with random weights on its device, and random inputs.

    Shape: batch, and seq for BERT, prefill for a decoder's block.
    """
    import torch

    name = setting.network
    if name not in (*IMAGE_NETWORKS, *_TEXT, *_BLOCKS):
        raise unknown("network", name, (*IMAGE_NETWORKS, *_TEXT, *_BLOCKS))
    with torch.device(setting.device):  # weights are drawn there
        if name in IMAGE_NETWORKS:
            module, inputs = _images(name), _pixels(setting)
        elif name in _TEXT:
            module, inputs = _TEXT[name](), _tokens(setting)
        else:
            block = _BLOCKS[name]
            size = setting.shape["batch"], setting.shape["prefill"], block.width
            module, inputs = decoder_block(block), torch.randn(size, dtype=_kind(setting))
    module = module.to(_kind(setting)).eval()
    if setting.device == "cuda":
        torch.backends.cudnn.benchmark = True
        if name in IMAGE_NETWORKS:
            module = module.to(memory_format=torch.channels_last)
    return module, inputs


def _kind(setting: Setting) -> Any:
    import torch

    return torch.float32 if setting.device == "cpu" else torch.float16  # half precision is not all there on a CPU


def _images(name: str) -> Module:
    try:
        from torchvision.models import get_model
    except ImportError:
        raise InputError("networks of images need torchvision; install it with: pip install torchvision") from None
    return get_model(IMAGE_NETWORKS[name], weights=None)


def _pixels(setting: Setting) -> Any:
    import torch

    pixels = torch.randn(setting.shape["batch"], 3, _PIXELS, _PIXELS, dtype=_kind(setting))
    return pixels.to(memory_format=torch.channels_last) if setting.device == "cuda" else pixels


def _tokens(setting: Setting) -> Any:
    import torch

    return torch.randint(0, 1000, (setting.shape["batch"], setting.shape["seq"]))


def _bert(layers: int, width: int, heads: int) -> Module:
    try:
        from transformers import BertConfig, BertModel
    except ImportError:
        raise InputError("networks of text need transformers; install it with: pip install transformers") from None
    config = BertConfig(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width
    )
    return BertModel(config)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSizes:
    """Widths of a decoder's block."""

    width: int
    heads: int
    kv_heads: int
    hidden: int


def decoder_block(sizes: BlockSizes) -> Module:
    """A block of Llama without rotary positions: norm, causal attention, norm, gated perceptron, all with residuals."""
    from torch import nn
    from torch.nn.functional import scaled_dot_product_attention, silu

    head_dim = sizes.width // sizes.heads

    class Block(nn.Module):  # type: ignore[misc,name-defined,unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.RMSNorm(sizes.width), nn.RMSNorm(sizes.width)
            self.query = nn.Linear(sizes.width, sizes.width, bias=False)
            self.key = nn.Linear(sizes.width, sizes.kv_heads * head_dim, bias=False)
            self.value = nn.Linear(sizes.width, sizes.kv_heads * head_dim, bias=False)
            self.output = nn.Linear(sizes.width, sizes.width, bias=False)
            self.gate = nn.Linear(sizes.width, sizes.hidden, bias=False)
            self.up = nn.Linear(sizes.width, sizes.hidden, bias=False)
            self.down = nn.Linear(sizes.hidden, sizes.width, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm1(x)
            q, k, v = (
                part(y).unflatten(-1, (-1, head_dim)).transpose(1, 2) for part in (self.query, self.key, self.value)
            )
            seen = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=sizes.heads != sizes.kv_heads)
            x = x + self.output(seen.transpose(1, 2).flatten(-2))
            y = self.norm2(x)
            return x + self.down(silu(self.gate(y)) * self.up(y))

    return Block()


_BLOCKS: Mapping[str, BlockSizes] = {
    "llama-3-8b-block": BlockSizes(width=4096, heads=32, kv_heads=8, hidden=14336),
}
_TEXT: Mapping[str, Callable[[], Module]] = {
    "bert-base": lambda: _bert(12, 768, 12),
    "bert-large": lambda: _bert(24, 1024, 16),
}
