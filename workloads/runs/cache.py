"""How large the cache of a decoder is: closed forms by layer, heads and block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tilewright.formats import tensor_bits
from tilewright.units import BITS_PER_BYTE, ceil_div
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["CachedTensor", "cached_bytes", "cached_tensors", "shared_bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedTensor:
    """One tensor of the cache (keys or values of a layer, a latent, a state), for ``n_sequences`` together.

    ``shape``: with any number of tokens along ``axis`` (None: it does not grow: a state, what an encoder gave).
    ``window``: only so many of the last tokens are seen, and kept (0: all). ``made_format``: of the newest ``residual``
    tokens, which are stored as they are made. ``block``: whole blocks of so many tokens are taken.
    """

    name: str
    shape: tuple[int, ...]
    axis: int | None
    n_sequences: int
    number_format: str
    made_format: str
    window: int = 0
    block: int = 1
    residual: int = 0

    @property
    def values_per_token(self) -> int:
        """Values that a token of one sequence takes: KV heads times their width."""
        count = 1
        for axis, extent in enumerate(self.shape):
            count *= extent if axis != self.axis else 1
        return count // self.n_sequences

    def n_stored(self, n_tokens: int) -> int:
        """Tokens for which there is room where a sequence has ``n_tokens``: those that are kept, in whole blocks."""
        kept = min(n_tokens, self.window) if self.window else n_tokens
        return ceil_div(kept, self.block) * self.block

    def bits(self, n_tokens: int) -> Fraction:
        """Bits of one sequence with room for ``n_tokens``, the newest of them as they are made."""
        if self.axis is None:
            return Fraction(tensor_bits(self.number_format, self.shape), self.n_sequences)
        newest = min(n_tokens, self.residual)
        parts = ((self.number_format, n_tokens - newest), (self.made_format, newest))
        return sum((Fraction(self._bits(name, n), self.n_sequences) for name, n in parts if n), Fraction(0))

    def _bits(self, number_format: str, n_tokens: int) -> int:
        assert self.axis is not None
        shape = (*self.shape[: self.axis], n_tokens, *self.shape[self.axis + 1 :])
        return tensor_bits(number_format, shape)

    def n_bytes(self, n_tokens: int, n_sequences: int = 1) -> int:
        """Bytes that ``n_sequences`` of ``n_tokens`` tokens take."""
        bits = n_sequences * self.bits(self.n_stored(n_tokens))
        return -(-bits.numerator // (bits.denominator * BITS_PER_BYTE))


def cached_tensors(
    stream: OperatorStream, longer: OperatorStream, *, n_sequences: int, block: int = 1, residual: int = 0
) -> tuple[CachedTensor, ...]:
    """What a decoder keeps: what ``stream`` reads as cache, seen beside the same step with more tokens cached."""
    more = {name: longer.tensor(name) for name in longer.inputs}
    found = []
    for name in stream.inputs:
        spec = stream.tensor(name)
        if spec.role != "cache":
            continue
        grown = more[name].shape
        axis = next((at for at, (a, b) in enumerate(zip(spec.shape, grown, strict=True)) if a != b), None)
        readers = _attentions_on(stream, name) if axis is not None else []
        found.append(
            CachedTensor(
                name=name,
                shape=spec.shape,
                axis=axis,
                n_sequences=n_sequences,
                number_format=spec.number_format,
                made_format=stream.tensor(readers[0].inputs[0]).number_format if readers else spec.number_format,
                window=_window(readers),
                block=block,
                residual=residual if readers else 0,
            )
        )
    return tuple(found)


def _attentions_on(stream: OperatorStream, name: str) -> list[Operator]:
    """The attentions that read the cached tensor ``name``, by itself or with what is appended to it."""
    parts = {name}
    for operator in stream.operators:
        made = [stream.base(one) for one in operator.outputs]
        if any(stream.base(one).name in parts for one in operator.inputs):
            parts |= {one.name for one in made if one.role == "cache"}
    return [
        operator
        for operator in stream.operators
        if operator.kind == "attention" and any(stream.base(one).name in parts for one in operator.inputs[1:3])
    ]


def _window(readers: Sequence[Operator]) -> int:
    """Tokens that the widest of ``readers`` sees; 0: all."""
    lefts = [reader.attributes.get("window_left") for reader in readers]
    if not lefts or any(left is None for left in lefts):
        return 0
    return max(int(str(left)) for left in lefts) + 1


def shared_bytes(tensors: Sequence[CachedTensor], n_shared: int, n_tokens: int) -> int:
    """Bytes that a further sequence of ``n_tokens`` does not take where the first ``n_shared`` are another's, too:
    those of whole blocks, where no window has moved beyond them.
    """
    return sum(
        one.n_bytes(n_shared // one.block * one.block)
        for one in tensors
        if one.axis is not None and n_shared >= one.block and not (one.window and n_tokens > one.window)
    )


def cached_bytes(tensors: Sequence[CachedTensor], n_tokens: int, n_sequences: int = 1) -> int:
    """Bytes of all ``tensors`` for ``n_sequences`` of ``n_tokens`` tokens each."""
    return sum(one.n_bytes(n_tokens, n_sequences) for one in tensors)
