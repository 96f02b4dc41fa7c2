"""The blocks of a network that runs step by step, and the parts of each that can be kept between steps.

A block is what repeats along a network's depth: a layer of a transformer (``blocks.3``, ``double.0``,
``transformer_blocks.7``), or a residual block, a transformer or a change of size of a U-Net (``down.0.residual1``).
What stands in no block (embeddings, the last product) runs at every step that runs anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tilewright.errors import InputError, unknown
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["PARTS", "REST", "Block", "NetworkBlocks", "network_blocks"]

#: The parts of a block that schedules name; the rest of a block runs wherever the block does.
PARTS = ("attention", "cross_attention", "mlp")
REST = "rest"

_OF_U_NET = re.compile(
    r"^((?:down|mid|middle|up)(?:_blocks?)?(?:\.\d+)?\.[a-z_]+\d*(?:\.\d+)?)(?:\.|$)", re.ASCII | re.IGNORECASE
)
_NUMBERED = re.compile(r"^((?:[A-Za-z_]\w*\.)*?[A-Za-z_]\w*\.\d+)(?:\.|$)", re.ASCII)
_NAMES = (
    ("cross_attention", re.compile(r"^(cross(_?att(ention|n))?|att(ention|n)2)$")),
    ("attention", re.compile(r"^(self(_?att(ention|n))?|att(ention|n)1?|sdpa)$")),
    ("mlp", re.compile(r"mlp|^ff(n|_|$)|feed_?forward|^mix$")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block: its operators by part, in order; ``rest`` are those that belong to no part alone."""

    name: str
    parts: Mapping[str, tuple[str, ...]] = field(hash=False)

    @property
    def operators(self) -> tuple[str, ...]:
        """All of its operators."""
        return tuple(name for names in self.parts.values() for name in names)

    def of(self, part: str) -> tuple[str, ...]:
        """The operators of a part; of all of the block where ``part`` is empty."""
        return self.parts.get(part, ()) if part else self.operators


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkBlocks:
    """A network and its blocks in the order in which they run."""

    stream: OperatorStream
    blocks: tuple[Block, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the blocks."""
        return tuple(block.name for block in self.blocks)

    def block(self, name: str, *, place: str = "") -> Block:
        """The block called ``name``; raises InputError with the nearest name where there is none."""
        for block in self.blocks:
            if block.name == name:
                return block
        raise unknown("block", name, self.names, place=place or self.stream.name)

    def with_part(self, part: str) -> tuple[Block, ...]:
        """The blocks that have operators of ``part``."""
        return tuple(block for block in self.blocks if block.parts.get(part))


def network_blocks(stream: OperatorStream) -> NetworkBlocks:
    """The blocks of ``stream`` by the paths of its operators; raises InputError where these tell of none."""
    found: dict[str, list[Operator]] = {}
    for operator in stream.operators:
        name = _block_name(operator.path or operator.name)
        if name:
            found.setdefault(name, []).append(operator)
    if not found:
        raise InputError(
            f"{stream.name}: has no blocks: no operator's path has a number (blocks.3.attention.query); allowed a "
            "network whose layers are numbered"
        )
    readers = _readers(stream)
    blocks = tuple(Block(name=name, parts=_parts(stream, name, own, readers)) for name, own in found.items())
    return NetworkBlocks(stream=stream, blocks=blocks)


def _block_name(path: str) -> str:
    match = _OF_U_NET.match(path) or _NUMBERED.match(path)
    return match.group(1) if match else ""


def _readers(stream: OperatorStream) -> Mapping[str, list[str]]:
    """The operators that read what each operator makes; "" stands for the network's results."""
    found: dict[str, list[str]] = {operator.name: [] for operator in stream.operators}
    for operator in stream.operators:
        for maker in stream.predecessors(operator):
            found[maker.name].append(operator.name)
    for name in stream.outputs:
        last = stream.producer(name)
        if last is not None:
            found[last.name].append("")
    return found


def _parts(
    stream: OperatorStream, name: str, operators: Sequence[Operator], readers: Mapping[str, Iterable[str]]
) -> dict[str, tuple[str, ...]]:
    """Operators by part: those whose path names one, products that join several (these are one part then), and what
    is made for one part alone (its norm, say).
    """
    part = {operator.name: _named(operator, name) for operator in operators}
    _join_parts(stream, operators, part)
    for operator in reversed(operators):
        if part[operator.name] == REST:
            of_readers = {part.get(reader, "") for reader in readers[operator.name]}
            part[operator.name] = of_readers.pop() if len(of_readers) == 1 and "" not in of_readers else REST
    found: dict[str, list[str]] = {}
    for operator in operators:
        found.setdefault(part[operator.name], []).append(operator.name)
    return {key: tuple(found[key]) for key in (*PARTS, REST) if key in found}


def _named(operator: Operator, block: str) -> str:
    steps = (operator.path or operator.name).removeprefix(block).split(".")
    for step in steps:
        for part, pattern in _NAMES:
            if pattern.search(step):
                return part
    return REST


def _join_parts(stream: OperatorStream, operators: Sequence[Operator], part: dict[str, str]) -> None:
    """A product of what attention and others made side by side (FLUX.1's single blocks): one part, called attention."""
    by_name = {operator.name: operator for operator in operators}

    def makers(operator: Operator) -> set[str]:
        found: set[str] = set()
        for maker in stream.predecessors(operator):
            if maker.name in by_name:
                joins = maker.kind == "reshape" and part[maker.name] == REST
                found |= makers(maker) if joins else {part[maker.name]}
        return found

    for operator in operators:
        if part[operator.name] == REST and operator.of_kind.is_product:
            joined = makers(operator)
            if len(joined) > 1 and joined != {REST}:
                for name, own in part.items():
                    part[name] = PARTS[0] if own in joined and own != REST else own
                part[operator.name] = PARTS[0]
