"""What state-space models and linear attention compute, exactly: FLOP, exponentials and bytes of each stage.

One multiply-add is two FLOP. Every form keeps a state of ``key_dim`` by ``value_dim`` numbers a head: N and P of a
state-space model, the widths of keys and values of linear attention. In chunked forms the last chunk is padded to a
whole one, and the causal half of a chunk's square is counted where kernels skip the other (``causal``), as in Dao and
Gu, "Transformers are SSMs" (arXiv 2405.21060), Yang et al., "Gated linear attention" (arXiv 2312.06635), "Gated delta
networks" (arXiv 2412.06464) and "Kimi linear" (arXiv 2510.26692). Bytes are those that a stage reads and writes when it
is a kernel of its own; ``fused_bytes`` those of one kernel for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.errors import InputError

__all__ = [
    "ChunkedScan",
    "ScanCounts",
    "StageCounts",
    "conv_counts",
    "delta_rule_counts",
    "gated_linear_counts",
    "linear_attention_counts",
    "sana_counts",
    "selective_scan_counts",
    "ssd_counts",
    "step_counts",
]

_STATE_BYTES = 4  # states are kept in 32 bits
_SUB_CHUNK = 16  # tokens between which the decay of a key channel is formed pair by pair


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCounts:
    """One stage: ``flop``, ``n_exponentials``, ``read_bytes``, ``write_bytes``; ``n_steps`` one behind the other."""

    name: str
    flop: int
    n_exponentials: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    n_steps: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanCounts:
    """All stages, in order. ``fused_bytes``: inputs once and results once, the state on chip."""

    stages: tuple[StageCounts, ...]
    fused_bytes: int

    @property
    def flop(self) -> int:
        """Of all stages."""
        return sum(stage.flop for stage in self.stages)

    @property
    def n_exponentials(self) -> int:
        """Of all stages."""
        return sum(stage.n_exponentials for stage in self.stages)

    @property
    def dram_bytes(self) -> int:
        """Of all stages, each a kernel of its own."""
        return sum(stage.read_bytes + stage.write_bytes for stage in self.stages)

    def stage(self, name: str) -> StageCounts:
        """The stage called ``name``; raises :class:`KeyError`."""
        return next(stage for stage in self.stages if stage.name == name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedScan:
    """Extents of a chunked scan: ``batch`` sequences of ``n_tokens``, ``n_heads`` that share ``n_key_heads`` keys.

    ``key_dim`` by ``value_dim``: of a head's state; ``chunk``: tokens of a chunk; ``value_bytes``: of an element of
    inputs and results. Raises :class:`InputError` for extents below 1 and heads that are no multiple of the key heads.
    """

    batch: int
    n_tokens: int
    n_heads: int
    key_dim: int
    value_dim: int
    chunk: int
    n_key_heads: int = 1
    value_bytes: int = 2

    def __post_init__(self) -> None:
        for name in ("batch", "n_tokens", "n_heads", "key_dim", "value_dim", "chunk", "n_key_heads", "value_bytes"):
            if getattr(self, name) < 1:
                raise InputError(f"scan: {name}: given {getattr(self, name)}; allowed 1 or more")
        if self.n_heads % self.n_key_heads:
            raise InputError(
                f"scan: n_heads: given {self.n_heads} with {self.n_key_heads} key heads; allowed a multiple of them"
            )

    @property
    def n_chunks(self) -> int:
        """Chunks of a sequence, the last one padded."""
        return -(-self.n_tokens // self.chunk)

    @property
    def n_padded(self) -> int:
        """Tokens of a sequence with the padding of its last chunk."""
        return self.n_chunks * self.chunk

    @property
    def n_head_chunks(self) -> int:
        """Chunks of all heads and sequences."""
        return self.batch * self.n_chunks * self.n_heads

    @property
    def state_bytes(self) -> int:
        """The states of all heads and sequences, once."""
        return self.batch * self.n_heads * self.key_dim * self.value_dim * _STATE_BYTES

    @property
    def key_bytes(self) -> int:
        """Keys (or queries) of all tokens, once for each group of heads."""
        return self.batch * self.n_tokens * self.n_key_heads * self.key_dim * self.value_bytes

    @property
    def values_bytes(self) -> int:
        """Values (or results) of all tokens."""
        return self.batch * self.n_tokens * self.n_heads * self.value_dim * self.value_bytes

    @property
    def gate_bytes(self) -> int:
        """One number a token and head, in 32 bits."""
        return self.batch * self.n_tokens * self.n_heads * _STATE_BYTES


def ssd_counts(scan: ChunkedScan, *, causal: bool = True) -> ScanCounts:
    """Mamba-2's state-space dual in five stages: cumulative sum, states of chunks, passing, C B^T, chunk scan."""
    q, n, p = scan.chunk, scan.key_dim, scan.value_dim
    all_states = scan.n_chunks * scan.state_bytes
    scores = scan.batch * scan.n_chunks * scan.n_key_heads * q * q
    square = scan.n_head_chunks * q * q
    if causal:  # exact: a chunk length is most often even
        scores, square = scores // 2, square // 2
    return ScanCounts(
        stages=(
            StageCounts(
                name="cumulative_sum",
                flop=8 * scan.batch * scan.n_tokens * scan.n_heads,
                read_bytes=scan.gate_bytes,
                write_bytes=2 * scan.gate_bytes,
            ),
            StageCounts(
                name="chunk_states",
                flop=2 * scan.n_head_chunks * q * n * p,
                n_exponentials=scan.n_head_chunks * q,
                read_bytes=scan.key_bytes + scan.values_bytes + 2 * scan.gate_bytes,
                write_bytes=all_states,
            ),
            StageCounts(
                name="state_passing",
                flop=2 * scan.n_head_chunks * n * p,
                n_exponentials=scan.n_head_chunks,
                read_bytes=all_states,
                write_bytes=all_states,
                n_steps=scan.n_chunks,
            ),
            StageCounts(
                name="scores",
                flop=2 * scores * n,
                read_bytes=2 * scan.key_bytes,
                write_bytes=scan.batch * scan.n_chunks * scan.n_key_heads * q * q * scan.value_bytes,
            ),
            StageCounts(
                name="chunk_scan",
                flop=2 * square * p + 2 * scan.n_head_chunks * q * n * p,
                n_exponentials=square + scan.n_head_chunks * q,
                read_bytes=scan.batch * scan.n_chunks * scan.n_key_heads * q * q * scan.value_bytes
                + scan.key_bytes
                + scan.values_bytes
                + 2 * scan.gate_bytes
                + all_states,
                write_bytes=scan.values_bytes,
            ),
        ),
        fused_bytes=2 * scan.key_bytes + 2 * scan.values_bytes + scan.gate_bytes + scan.state_bytes,
    )


def linear_attention_counts(scan: ChunkedScan, *, causal: bool = True, decays: bool = True) -> ScanCounts:
    """Retention and linear attention with one decay a head (none without ``decays``): C (Dk + Dv) + 4 Dk Dv a token."""
    q, n, p = scan.chunk, scan.key_dim, scan.value_dim
    square = scan.n_head_chunks * q * q // (2 if causal else 1)
    return ScanCounts(
        stages=(
            StageCounts(name="within", flop=2 * square * (n + p), n_exponentials=square if decays else 0),
            StageCounts(name="from_state", flop=2 * scan.n_head_chunks * q * n * p),
            StageCounts(name="state", flop=2 * scan.n_head_chunks * q * n * p, n_steps=scan.n_chunks),
        ),
        fused_bytes=2 * scan.key_bytes + 2 * scan.values_bytes + scan.state_bytes,
    )


def gated_linear_counts(scan: ChunkedScan, *, causal: bool = True) -> ScanCounts:
    """A decay a key channel: as one a head, and pairs within sub-chunks of 16 tokens on the vector unit."""
    plain = linear_attention_counts(scan, causal=causal, decays=False)
    channels = scan.n_head_chunks * scan.chunk * scan.key_dim
    pairs = channels * min(_SUB_CHUNK, scan.chunk)
    gates = scan.batch * scan.n_tokens * scan.n_heads * scan.key_dim * _STATE_BYTES
    return ScanCounts(
        stages=(
            StageCounts(name="gates", flop=channels, n_exponentials=2 * channels),
            StageCounts(name="diagonal", flop=2 * pairs, n_exponentials=pairs),
            *plain.stages,
        ),
        fused_bytes=plain.fused_bytes + gates,
    )


def delta_rule_counts(scan: ChunkedScan, *, by_channel: bool = False) -> ScanCounts:
    """The gated delta rule, ``by_channel`` with a gate a key channel (Kimi's): 2 C (3 Dk + 2 Dv) + 6 Dk Dv a token.

    Kernels form whole squares; the triangular inverse is about C^2 / 3 FLOP a token beside these.
    """
    q, n, p = scan.chunk, scan.key_dim, scan.value_dim
    chunks, state = scan.n_head_chunks, scan.state_bytes
    channels = chunks * q * n if by_channel else 0
    pairs = channels * min(_SUB_CHUNK, q)
    return ScanCounts(
        stages=(
            StageCounts(name="key_products", flop=2 * chunks * q * q * n, n_exponentials=chunks * q * q + 2 * channels),
            StageCounts(name="inverse", flop=chunks * q**3 // 3),
            StageCounts(name="w_and_u", flop=2 * chunks * q * q * (n + p)),
            StageCounts(
                name="state",
                flop=4 * chunks * q * n * p,
                write_bytes=scan.n_chunks * state // 2,
                n_steps=scan.n_chunks,
            ),
            StageCounts(
                name="results",
                flop=2 * chunks * q * q * (n + p) + 2 * chunks * q * n * p,
                read_bytes=scan.n_chunks * state // 2,
            ),
            StageCounts(name="diagonal", flop=2 * pairs, n_exponentials=pairs),
        ),
        fused_bytes=2 * scan.key_bytes + 2 * scan.values_bytes + 2 * scan.gate_bytes + state,
    )


def selective_scan_counts(
    *, batch: int, n_tokens: int, n_channels: int, n_states: int, value_bytes: int = 2, gated: bool = True
) -> ScanCounts:
    """Mamba-1's selective scan: 9 FLOP (the authors' count) and an exponential for each token, channel and state."""
    elements = batch * n_tokens * n_channels * n_states
    streams = 4 if gated else 3  # x, dt, z in, y out
    moved = streams * batch * n_tokens * n_channels * value_bytes + 2 * batch * n_tokens * n_states * value_bytes
    read = moved - batch * n_tokens * n_channels * value_bytes
    return ScanCounts(
        stages=(
            StageCounts(
                name="scan",
                flop=9 * elements,
                n_exponentials=elements,
                read_bytes=read,
                write_bytes=moved - read,
                n_steps=n_tokens,
            ),
        ),
        fused_bytes=moved,
    )


def conv_counts(
    *, batch: int, n_tokens: int, n_channels: int, width: int = 4, value_bytes: int = 2, activation: bool = True
) -> ScanCounts:
    """A short causal depthwise convolution, with SiLU where ``activation``: 2 ``width`` FLOP a value, read once."""
    values = batch * n_tokens * n_channels
    side = values * value_bytes
    stage = StageCounts(
        name="convolution",
        flop=2 * width * values,
        n_exponentials=values if activation else 0,
        read_bytes=side + n_channels * (width + 1) * value_bytes,
        write_bytes=side,
    )
    return ScanCounts(stages=(stage,), fused_bytes=2 * side)


def step_counts(
    *,
    batch: int,
    n_heads: int,
    key_dim: int,
    value_dim: int,
    n_key_heads: int | None = None,
    delta_rule: bool = False,
    value_bytes: int = 2,
    state_bytes: int = _STATE_BYTES,
) -> ScanCounts:
    """One token of any of these: the state is read and written once, whatever came before.

    Decay, outer product and result are five FLOP an element of the state, the delta rule's product with the key two
    more. ``n_key_heads``: keys and queries (B and C), ``n_heads`` where not given.
    """
    elements = batch * n_heads * key_dim * value_dim
    keys = 2 * batch * (n_heads if n_key_heads is None else n_key_heads) * key_dim * value_bytes
    values = batch * n_heads * value_dim * value_bytes
    state = elements * state_bytes
    stage = StageCounts(
        name="step",
        flop=(7 if delta_rule else 5) * elements,
        n_exponentials=batch * n_heads,
        read_bytes=state + keys + values,
        write_bytes=state + values,
    )
    return ScanCounts(stages=(stage,), fused_bytes=2 * state + keys + 2 * values)


def sana_counts(*, batch: int, n_tokens: int, n_heads: int, key_dim: int, value_dim: int) -> ScanCounts:
    """SANA's linear attention, not causal: the sum of K'^T V and of K', then queries times it; a reduction between."""
    product = 2 * batch * n_heads * n_tokens * key_dim * value_dim
    sums = batch * n_heads * n_tokens * key_dim
    side = batch * n_heads * n_tokens * 2
    state = batch * n_heads * key_dim * (value_dim + 1) * _STATE_BYTES
    return ScanCounts(
        stages=(
            StageCounts(name="sum", flop=product + sums, read_bytes=side * (key_dim + value_dim), write_bytes=state),
            StageCounts(
                name="apply",
                flop=product + 2 * sums,
                read_bytes=side * key_dim + state,
                write_bytes=side * value_dim,
            ),
        ),
        fused_bytes=2 * side * (key_dim + value_dim),
    )
