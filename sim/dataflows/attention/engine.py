"""Attention on a quantised engine: Q, K and V are stored narrow by passes over them, before the attention itself.

The passes belong to the first phase of a dataflow: tensor by tensor in blocks of values, load, vector work, store. The
attention's own loads come behind a read of one burst that waits for the last block.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from tilewright.formats import element_format, tensor_format
from tilewright.hw_models.quantised.attention import QuantisedAttention
from tilewright.hw_models.quantised.catalogue import ATTENTION_ENGINES
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.dataflows.spans import spans
from tilewright.units import BITS_PER_BYTE, bits_to_bytes, ceil_div
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.homes import DRAM, Place

if TYPE_CHECKING:
    from fractions import Fraction

    from tilewright.sim.dataflows.attention.core import AttentionCore

__all__ = ["EnginePass", "EnginePasses", "engine_passes", "on_engine", "stored_narrow"]

_BLOCK = 16 * 1024  # values


def on_engine(layer: AttentionLayer, machine: MachineSpec) -> AttentionLayer:
    """``layer`` with Q, K and V as the machine's engine stores them, where they come in its wide format."""
    name = machine.matrix.attention_engine
    if name is None or layer.engine is not None:
        return layer
    return stored_narrow(layer, ATTENTION_ENGINES.get(name))


def stored_narrow(layer: AttentionLayer, engine: QuantisedAttention) -> AttentionLayer:
    """``layer`` on ``engine``; unchanged where Q, K or V is not in its wide format."""
    if {layer.qkv_format, layer.key_format, layer.value_format} != {engine.wide}:
        return layer
    return replace(
        layer,
        engine=engine,
        qkv_format=engine.scores,
        key_format=engine.scores,
        value_format=engine.values,
        probability_format=element_format(engine.values),
    )


class EnginePass(NamedTuple):
    """What a pass does with one tensor: values of all groups, operations on each, bits of a value before and behind."""

    name: str
    n_elements: int
    kinds: tuple[str, ...]
    wide_bits: int | Fraction
    narrow_bits: int | Fraction
    home: Place

    @property
    def least_bytes(self) -> int:
        """Bytes of the DRAM."""
        return bits_to_bytes(self.n_elements * (self.wide_bits + self.narrow_bits)) if self.home == DRAM else 0


def engine_passes(layer: AttentionLayer) -> tuple[EnginePass, ...]:
    """The passes over the whole of Q, K and V; none without an engine."""
    engine: QuantisedAttention | None = layer.engine
    if engine is None:
        return ()
    rows = layer.batch * layer.query_heads * layer.query_len, layer.n_groups * layer.key_len
    sizes = rows[0] * layer.head_dim, rows[1] * layer.head_dim, rows[1] * layer.value_dim
    bits = layer.qkv_bits, layer.key_bits, layer.value_bits
    wide, homes = tensor_format(engine.wide).element.bits, (layer.homes.q, layer.homes.k, layer.homes.v)
    return tuple(
        EnginePass(name, n, tuple(kind for kind, _ in kinds), wide, narrow, home)
        for name, n, (_, kinds), narrow, home in zip("QKV", sizes, engine.prepared, bits, homes, strict=True)
        if kinds
    )


class EnginePasses:
    """The passes of one core over its groups; takes its room when it is made."""

    def __init__(self, core: AttentionCore) -> None:
        self.core = core
        self.passes = engine_passes(core.layer)
        self.sizes = [ceil_div(one.n_elements, core.layer.n_groups) for one in self.passes]
        most = max(min(size, _BLOCK) * max(one.wide_bits, one.narrow_bits)
                   for one, size in zip(self.passes, self.sizes, strict=True))  # fmt: skip
        n_blocks = core.n_groups * sum(ceil_div(size, _BLOCK) for size in self.sizes)
        self.pool = core.pool("values to quantise", slots=min(2, n_blocks), slot_bytes=bits_to_bytes(most))
        self.done = core.semaphore("values quantised")
        self.over = core.semaphore("quantised and stored")

    def run(self) -> None:
        """All blocks of all groups, then the read that the attention's own loads come behind."""
        core = self.core
        last = len(self.passes) - 1
        for at, (one, size) in enumerate(zip(self.passes, self.sizes, strict=True)):
            for values in spans(core, core.n_groups * size, min(size, _BLOCK), f"blocks of {one.name}"):
                self._block(one, values.size, signals=[self.over] if at == last and values.last else [])
        flag = core.costs.load(1, 1, BITS_PER_BYTE)
        core.load(flag, waits=[self.over], label="begin attention")

    def _block(self, one: EnginePass, n: int, *, signals: list[int]) -> None:
        core, costs, pool = self.core, self.core.costs, self.pool
        core.load(
            costs.load(1, n, one.wide_bits, home=one.home),
            waits=[pool.free],
            signals=[pool.full],
            label=f"load {one.name} to quantise",
        )
        core.vector(
            costs.vector(
                tuple((kind, n) for kind in one.kinds),
                reads_bits=n * one.wide_bits,
                writes_bits=n * one.narrow_bits,
                reduces="max" in one.kinds,
            ),
            waits=[pool.full],
            signals=[self.done],
            label=f"quantise {one.name}",
        )
        core.store(
            costs.store(1, n, one.narrow_bits, home=one.home),
            waits=[self.done],
            signals=[pool.free, *signals],
            label=f"store quantised {one.name}",
        )
