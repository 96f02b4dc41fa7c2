"""Two small networks trained on scikit-learn's handwritten digits (1,797 images of 8 x 8; UCI, 1998).

Trained here in seconds, with seeds, on one thread: repeatable on one computer, nearly so between computers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Digits", "digits", "trained"]


@dataclass(frozen=True, slots=True)
class Digits:
    """Images (n, 1, 8, 8) of 0 to 1 and labels.

    ``calibration`` is part of what was trained on, ``choice`` (for choosing formats) to a third; ``test`` is apart from
    both.
    """

    train: tuple[Any, Any]
    calibration: tuple[Any, Any]
    choice: tuple[Any, Any]
    test: tuple[Any, Any]


@lru_cache(maxsize=1)
def digits() -> Digits:
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images, dtype=torch.float32)[order, None] / 16
    labels = torch.tensor(data.target)[order]
    train, trained_too, choice = 1000, 800, 1400
    return Digits(
        train=(images[:train], labels[:train]),
        calibration=(images[:256], labels[:256]),
        choice=(images[trained_too:choice], labels[trained_too:choice]),
        test=(images[choice:], labels[choice:]),
    )


class Convolutional(nn.Module):
    """Four convolutions and two products."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv4 = nn.Conv2d(64, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 4, 128)
        self.head = nn.Linear(128, 10)

    def forward(self, x: Any) -> Any:
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))))
        x = functional.max_pool2d(x, 2)
        x = functional.relu(self.conv4(functional.relu(self.conv3(x))))
        x = functional.max_pool2d(x, 2)
        return self.head(functional.relu(self.hidden(x.flatten(1))))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        normed = self.norm1(x)
        b, n, w = x.shape
        q, k, v = (f(normed).view(b, n, self.heads, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, w)
        x = x + self.out(mixed)
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Sixteen overlapping patches of 3 x 3, two blocks of width 64 with four heads."""

    def __init__(self, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.place = nn.Parameter(torch.zeros(1, 16, width))
        self.blocks = nn.ModuleList(_Block(width, 4) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(16 * width, 10)

    def forward(self, x: Any) -> Any:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.place
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).flatten(1))


@lru_cache(maxsize=2)
def trained(name: str, n_epochs: int = 60) -> Any:
    """``convolutional`` or ``transformer``, trained with random shifts by one pixel."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = {"convolutional": Convolutional, "transformer": Transformer}[name]()
    images, labels = digits().train
    optimiser = torch.optim.AdamW(module.parameters(), lr=2e-3, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=n_epochs * 16)
    for _ in range(n_epochs):
        order = torch.randperm(len(images))
        for batch in order[:-40].view(16, -1):
            shifts = torch.randint(-1, 2, (2,)).tolist()
            given = torch.roll(functional.pad(images[batch], (1, 1, 1, 1)), shifts, (2, 3))[:, :, 1:-1, 1:-1]
            loss = functional.cross_entropy(module(given), labels[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
    return module.eval()


def accuracy(module: Any, data: tuple[Any, Any]) -> float:
    """The share of images that ``module`` names rightly."""
    with torch.no_grad():
        return float((module(data[0]).argmax(1) == data[1]).double().mean())
