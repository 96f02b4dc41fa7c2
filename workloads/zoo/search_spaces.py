"""Networks of two search spaces by their operations, block by block: NAS-Bench-201 and FBNet.

A network of such a space is a row of blocks, each one of a few kinds, so what is told of the blocks holds for millions
of networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from tilewright.errors import InputError, unknown
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["SPACES", "Block", "SearchSpace", "space_named"]

#: Makes one block: its operators behind an input map.
Make = Callable[[Layers], str]
_FORMATS = {"activations": "int8", "weights": "int8"}


@dataclass(frozen=True, slots=True)
class Block:
    """A block by its name, which says all of its sizes."""

    name: str
    make: Make

    def stream(self) -> OperatorStream:
        """Its operators as a stream of their own."""
        b = Layers(self.name, **_FORMATS)
        return b.finish([self.make(b)])


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """``blocks_of``: the blocks of a network, given by a digit (below ``n_kinds``) for each of its ``n_choices``
    places, and how often it has each. ``needed_of``: those that its result needs, where some may not be: compilers
    leave out the others, frameworks that run operator by operator do not. ``source``: where the space was published.
    """

    name: str
    n_choices: int
    n_kinds: int
    source: str
    blocks_of: Callable[[tuple[int, ...]], Counter[Block]]
    needed_of: Callable[[tuple[int, ...]], Counter[Block]] | None = None

    def network(self, digits: str, *, only_needed: bool = False) -> Counter[Block]:
        """The blocks of the network ``digits``; ``only_needed``: without those that its result does not depend on.

        Raises InputError for digits that do not fit.
        """
        text = digits.strip()
        if len(text) != self.n_choices or not text.isdecimal() or any(int(one) >= self.n_kinds for one in text):
            raise InputError(
                f'{self.name}: not a network of it; given "{digits}"; allowed {self.n_choices} digits from 0 to '
                f"{self.n_kinds - 1}"
            )
        kinds = tuple(map(int, text))
        return self.needed_of(kinds) if only_needed and self.needed_of is not None else self.blocks_of(kinds)


# --- NAS-Bench-201 (Dong and Yang, ICLR 2020): cells of four nodes, five in each of three stages -------------------

_STAGES_201 = ((16, 32), (32, 16), (64, 8))  # channels, side of the map
_CELLS_201 = 5


def _conv_bn(b: Layers, x: str, n_out: int, kernel: int, name: str, *, stride: int = 1, groups: int = 1) -> str:
    return b.conv(x, n_out, kernel, name, stride=stride, groups=groups, batch_norm=True)


def _map(b: Layers, channels: int, side: int) -> str:
    return b.input("map", (1, channels, side, side))


def _edge_201(b: Layers, kind: int, channels: int, side: int) -> str:
    """An edge of a cell: 0 makes zeros of its map, 1 passes it on, 2 and 3 are convolutions of 1 x 1 and 3 x 3, 4
    averages 3 x 3; what it makes is added to its node.
    """
    x = _map(b, channels, side)
    if kind == 0:
        x = b.elementwise("mul", x, name="zero")
    if kind in (2, 3):
        x = _conv_bn(b, b.elementwise("relu", x, name="relu"), channels, 1 if kind == 2 else 3, "conv")
    elif kind == 4:
        x = b.average_pool(x, 3, "pool", stride=1, padding=1)
    return b.elementwise("add", x, b.input("node", b.shape(x)), name="add")


def _stem_201(b: Layers) -> str:
    return _conv_bn(b, b.input("image", (1, 3, 32, 32)), 16, 3, "conv")


def _halved_201(b: Layers, channels: int, side: int) -> str:
    """The residual block between two stages, from half the channels and twice the side."""
    x = _map(b, channels // 2, 2 * side)
    y = _conv_bn(b, x, channels, 3, "conv_a", stride=2)
    y = _conv_bn(b, y, channels, 3, "conv_b")
    around = b.conv(b.average_pool(x, 2, "pool", stride=2, padding=0), channels, 1, "around")
    return b.elementwise("add", y, around, name="add")


def _end_201(b: Layers) -> str:
    return b.linear(b.global_mean(_map(b, 64, 8)), 10, "classifier")


def _blocks_201(kinds: tuple[int, ...]) -> Counter[Block]:
    return _network_201(kinds, [_CELLS_201] * len(_STAGES_201))


#: The nodes that each edge of a cell joins.
_EDGES_201 = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def _needed_201(kinds: tuple[int, ...]) -> Counter[Block]:
    """What the last node needs; where it does not need the cell's input, only the last cell is left of the network."""
    needed = {3}
    for (source, target), kind in reversed(list(zip(_EDGES_201, kinds, strict=True))):
        if kind and target in needed:
            needed.add(source)
    kept = [kind for (_, target), kind in zip(_EDGES_201, kinds, strict=True) if kind and target in needed]
    if 0 in needed:
        return _network_201(kept, [_CELLS_201] * len(_STAGES_201))
    only_last = _network_201(kept, [0] * (len(_STAGES_201) - 1) + [1])
    return Counter({block: n for block, n in only_last.items() if block.name.startswith(("edge", "end"))})


def _network_201(kinds: Sequence[int], n_cells: Sequence[int]) -> Counter[Block]:
    """The blocks around and between stages, and the edges of ``kinds`` in so many cells of each stage."""
    found: Counter[Block] = Counter()
    found[_kept("stem", _stem_201)] = found[_kept("end", _end_201)] = 1
    for stage, ((channels, side), cells) in enumerate(zip(_STAGES_201, n_cells, strict=True)):
        if stage:
            found[_kept(f"halve {channels}", partial(_halved_201, channels=channels, side=side))] = 1
        for kind in kinds:
            make = partial(_edge_201, kind=kind, channels=channels, side=side)
            if cells:
                found[_kept(f"edge {kind} {channels}", make)] += cells
    return found


# --- FBNet (Wu et al., CVPR 2019): 22 places in seven stages --------------------------------------------------------

_CHANNELS = (16, 24, 32, 64, 112, 184, 352)
_REPEATS = (1, 4, 4, 4, 4, 4, 1)
#: Kernel, expansion, groups; None: the map is passed on.
_KINDS = ((3, 1, 1), (3, 1, 2), (3, 3, 1), (3, 6, 1), (5, 1, 1), (5, 1, 2), (5, 3, 1), (5, 6, 1), None)


class _Images(NamedTuple):
    """Of the images that a network takes their side, the stride of the stem and of each stage, and the classes."""

    side: int
    stem: int
    strides: tuple[int, ...]
    n_classes: int


#: The benchmarks of latency took the networks for CIFAR-100; FBNet was published for ImageNet.
_CIFAR_100 = _Images(32, 1, (1, 1, 2, 2, 1, 2, 1), 100)
_IMAGENET = _Images(224, 2, (1, 2, 2, 2, 1, 2, 1), 1000)


def _places(images: _Images) -> list[tuple[int, int, int, int]]:
    """Of each place the channels and side of its map, its channels out and its stride."""
    found, n_in, side = [], 16, images.side // images.stem
    for n_out, repeats, stride in zip(_CHANNELS, _REPEATS, images.strides, strict=True):
        for repeat in range(repeats):
            own = 1 if repeat else stride
            found.append((n_in, side, n_out, own))
            n_in, side = n_out, -(-side // own)
    return found


def _block_fbnet(b: Layers, kind: int, n_in: int, side: int, n_out: int, stride: int) -> str:
    x = _map(b, n_in, side)
    sizes = _KINDS[kind]
    if sizes is None:
        return _conv_bn(b, x, n_out, 1, "pass", stride=stride)
    kernel, expansion, groups = sizes
    wide = n_in * expansion
    y = b.elementwise("relu", _conv_bn(b, x, wide, 1, "expand", groups=groups), name="relu")
    if groups > 1:
        y = b.add("reshape", "shuffle", [y], b.shape(y), {"function": "shuffle"})
    y = _conv_bn(b, y, wide, kernel, "depthwise", stride=stride, groups=wide)
    y = _conv_bn(b, b.elementwise("relu", y, name="relu"), n_out, 1, "project", groups=groups)
    return b.elementwise("add", y, x, name="add") if stride == 1 and n_in == n_out else y


def _stem_fbnet(b: Layers, images: _Images) -> str:
    return _conv_bn(b, b.input("image", (1, 3, images.side, images.side)), 16, 3, "stem", stride=images.stem)


def _head_fbnet(b: Layers, images: _Images) -> str:
    _, side, _, n_in = _places(images)[-1]  # whose stride is 1
    return b.linear(b.global_mean(_conv_bn(b, _map(b, n_in, side), 1984, 1, "head")), images.n_classes, "classifier")


def _blocks_fbnet(kinds: tuple[int, ...], images: _Images) -> Counter[Block]:
    found: Counter[Block] = Counter()
    for name, make in (("stem", _stem_fbnet), ("head", _head_fbnet)):
        found[_kept(f"{name} {images.side}", partial(make, images=images))] = 1
    for kind, (n_in, side, n_out, stride) in zip(kinds, _places(images), strict=True):
        if _KINDS[kind] is None and stride == 1 and n_in == n_out:
            continue
        block = partial(_block_fbnet, kind=kind, n_in=n_in, side=side, n_out=n_out, stride=stride)
        found[_kept(f"kind {kind} {n_in} {side} {n_out} {stride}", block)] += 1
    return found


_BLOCKS: dict[str, Block] = {}


def _kept(name: str, make: Make) -> Block:
    """The one block of this name, so that equal ones are the same."""
    if name not in _BLOCKS:
        _BLOCKS[name] = Block(name, make)
    return _BLOCKS[name]


_FBNET = "Wu et al., CVPR 2019, arXiv 1812.03443"
SPACES = {
    "nasbench-201": SearchSpace(
        "nasbench-201", 6, 5, "Dong and Yang, ICLR 2020, arXiv 2001.00326", _blocks_201, needed_of=_needed_201
    ),
    "fbnet": SearchSpace("fbnet", 22, 9, _FBNET, partial(_blocks_fbnet, images=_CIFAR_100)),
    "fbnet-imagenet": SearchSpace("fbnet-imagenet", 22, 9, _FBNET, partial(_blocks_fbnet, images=_IMAGENET)),
}


def space_named(name: str) -> SearchSpace:
    """The space of that name. Raises InputError with the nearest one."""
    if name not in SPACES:
        raise unknown("search space", name, SPACES)
    return SPACES[name]
