"""One kernel that is launched for a network: what it computes, and which tensors it reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["TENSOR_KERNELS", "AttentionShape", "KernelClass", "Launch", "ProductShape", "SequenceShape", "Use"]

#: What a kernel is, for tables and for the figures that time it. ``statistics``: of a batch norm's few channels.
KernelClass: TypeAlias = Literal[
    "matmul", "conv", "attention", "depthwise", "elementwise", "normalise", "softmax", "reduce", "pooling", "copy",
    "statistics", "scan",
]  # fmt: skip
#: Those that work on the tensor cores; the others read, do little, and write, and are timed by the bytes they move.
TENSOR_KERNELS: tuple[KernelClass, ...] = ("matmul", "conv", "attention")


class Use(NamedTuple):
    """A tensor that a kernel reads or writes, and how many of its bytes."""

    tensor: str
    n_bytes: int


class ProductShape(NamedTuple):
    """``groups`` products C[m, n] = A[m, k] B[k, n] by one kernel, with the formats of A and B.

    ``moved_k``: k with the channels of each tap filled up to whole loads, for a convolution.
    """

    groups: int
    m: int
    n: int
    k: int
    a_format: str
    b_format: str
    moved_k: int


class AttentionShape(NamedTuple):
    """A fused attention; ``window`` of 0 sees all keys (all up to its own, where ``causal``)."""

    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    head_dim: int
    window: int
    causal: bool
    cache_bits: int


class SequenceShape(NamedTuple):
    """A scan, short convolution or step of a state: the ``operator`` and ``columns`` of its calibrated kernels.

    ``families``: libraries' kernels that compute it, the usual one first.
    """

    operator: Literal["scan", "short_conv", "state_step"]
    families: tuple[str, ...]
    columns: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A kernel of ``operators`` (names in the stream; the first one leads). ``in_place``: writes where it read first.

    ``rows``: rows and columns of a softmax or norm, which a thread block each works on. ``macs`` of its products,
    ``operations``: basic operations of the CUDA lanes by kind. ``apart``: kernels that run instead of it, one operator
    at a time, on GPUs where PyTorch's choice of a fused attention is cuDNN's (Hopper); ``written_out``: those of a
    model that has an attention as single steps.
    """

    kernel: KernelClass
    operators: tuple[str, ...]
    reads: tuple[Use, ...] = ()
    writes: tuple[Use, ...] = ()
    product: ProductShape | None = None
    attention: AttentionShape | None = None
    sequence: SequenceShape | None = None
    rows: tuple[int, int] | None = None
    in_place: bool = False
    macs: int = 0
    operations: tuple[tuple[str, int], ...] = ()
    apart: tuple[Launch, ...] = ()
    written_out: tuple[Launch, ...] = ()

    @property
    def read_bytes(self) -> int:
        return sum(use.n_bytes for use in self.reads)

    @property
    def write_bytes(self) -> int:
        return sum(use.n_bytes for use in self.writes)
