"""Whole networks as people run them with PyTorch: modules with random weights in half precision, one call a run.

Nothing is fused by a compiler: batch norms, activations and residuals are kernels of their own, all in one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tilewright.errors import InputError, unknown
from tilewright.kernels.calls import Setting

__all__ = ["IMAGE_NETWORKS", "network_module"]

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
    """The network of ``setting`` with random weights on its device, and random inputs for batch (and seq, of text)."""
    import torch

    name = setting.network
    if name in IMAGE_NETWORKS:
        module, inputs = _images(name), _pixels(setting)
    elif name in _TEXT:
        module, inputs = _TEXT[name](), _tokens(setting)
    else:
        raise unknown("network", name, (*IMAGE_NETWORKS, *_TEXT))
    module = module.to(setting.device).to(_kind(setting)).eval()
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

    pixels = torch.randn(setting.shape["batch"], 3, _PIXELS, _PIXELS, device=setting.device, dtype=_kind(setting))
    return pixels.to(memory_format=torch.channels_last) if setting.device == "cuda" else pixels


def _tokens(setting: Setting) -> Any:
    import torch

    return torch.randint(0, 1000, (setting.shape["batch"], setting.shape["seq"]), device=setting.device)


def _bert(layers: int, width: int, heads: int) -> Module:
    try:
        from transformers import BertConfig, BertModel
    except ImportError:
        raise InputError("networks of text need transformers; install it with: pip install transformers") from None
    config = BertConfig(
        num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width
    )
    return BertModel(config)


_TEXT: Mapping[str, Callable[[], Module]] = {
    "bert-base": lambda: _bert(12, 768, 12),
    "bert-large": lambda: _bert(24, 1024, 16),
}
