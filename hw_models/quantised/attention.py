"""Attention with narrow products: INT8 or INT4 for Q K^T, FP8 or FP16 for P V (SageAttention 1 to 3)."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.errors import InputError
from tilewright.formats import tensor_format
from tilewright.hw_models.quantised.demand import ElementWork, ProductWork, Step, moved_bytes
from tilewright.hw_models.spec import OperationKind

__all__ = ["SAGE_ATTENTION", "SAGE_ATTENTION_2", "SAGE_ATTENTION_2_INT4", "SAGE_ATTENTION_3", "QuantisedAttention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedAttention:
    """softmax(Q K^T) V with each product in a format of its own.

    ``scores`` and ``values``: tensor formats of Q, K and of P, V. ``score_multiply`` and ``value_multiply`` name the
    machine's rates. ``smooth_keys``: the mean over tokens is taken from K. Work beyond the softmax of an unquantised
    attention: quantise Q, K and (unless in ``wide``) V once, scale every score, scale and cast every probability.
    """

    name: str
    scores: str
    values: str
    score_multiply: str
    value_multiply: str
    smooth_keys: bool = True
    wide: str = "fp16"
    source: str = "Zhang et al., SageAttention, arXiv 2410.02367, 2411.10958 and 2505.11594"
    assumptions: tuple[str, ...] = ("scores of a masked part are computed whole", "one kernel, K and V read once")

    @property
    def prepared(self) -> tuple[tuple[str, tuple[tuple[OperationKind, str], ...]], ...]:
        """What is done with each value of Q, K and V before the attention: (format that it leaves, operations and why);
        no operations where it stays as it is.
        """
        cast: tuple[tuple[OperationKind, str], ...] = (("max", "largest of a block"), ("mul", "scale and cast"))
        smooth: tuple[tuple[OperationKind, str], ...] = (("add", "mean of the keys"), ("sub", "smoothed keys"))
        return (
            (self.scores, cast),
            (self.scores, (*cast, *(smooth if self.smooth_keys else ()))),
            (self.values, cast if self.values != self.wide else ()),
        )

    @property
    def of_scores(self) -> tuple[tuple[OperationKind, str], ...]:
        """What is done with each score besides softmax."""
        scale: tuple[OperationKind, str] = ("mul", "scale of scores")
        return (scale, ("mul", "scale and cast of probabilities")) if self.values != self.wide else (scale,)

    def steps(
        self, *, heads: int, query_len: int, key_len: int, head_dim: int, value_dim: int | None = None
    ) -> tuple[Step, ...]:
        """One pass over ``heads`` heads (batch times heads), without a mask; extents at least 1."""
        value_dim = head_dim if value_dim is None else value_dim
        if min(heads, query_len, key_len, head_dim, value_dim) < 1:
            raise InputError(f"{self.name}: extents must be positive; allowed at least 1 each")
        sizes = heads * query_len * head_dim, heads * key_len * head_dim, heads * key_len * value_dim
        n_scores = heads * query_len * key_len
        narrow_values = self.values != self.wide
        prepare: dict[str, ElementWork] = {}
        for (_, kinds), n_elements in zip(self.prepared, sizes, strict=True):
            for kind, why in kinds:
                known = prepare[why].n_elements if why in prepare else 0
                prepare[why] = ElementWork(kind=kind, n_elements=known + n_elements, why=why)
        attend = [ElementWork(kind=kind, n_elements=n_scores, why=why) for kind, why in self.of_scores]
        rows, columns = heads * query_len, heads * key_len
        narrow = moved_bytes(self.scores, rows, head_dim) + moved_bytes(self.scores, columns, head_dim)
        wide_values = moved_bytes(self.wide, columns, value_dim)
        stored_values = moved_bytes(self.values, columns, value_dim) if narrow_values else wide_values
        wide = moved_bytes(self.wide, rows, head_dim) + moved_bytes(self.wide, columns, head_dim)
        products = (
            ProductWork(m=heads * query_len, k=head_dim, n=key_len, number_format=self.score_multiply),
            ProductWork(m=heads * query_len, k=key_len, n=value_dim, number_format=self.value_multiply),
        )
        return (
            Step(
                name="quantise",
                elements=tuple(prepare.values()),
                read_bytes=wide + (wide_values if narrow_values else 0),
                write_bytes=narrow + (stored_values if narrow_values else 0),
            ),
            Step(
                name="attend",
                products=products,
                elements=tuple(attend),
                read_bytes=narrow + stored_values,
                write_bytes=moved_bytes(self.wide, rows, value_dim),
            ),
        )

    def __post_init__(self) -> None:
        for number_format in (self.scores, self.values, self.wide):
            tensor_format(number_format)


SAGE_ATTENTION = QuantisedAttention(
    name="sageattention", scores="int8-token", values="fp16", score_multiply="int8", value_multiply="fp16"
)
SAGE_ATTENTION_2 = QuantisedAttention(
    name="sageattention2-8b",
    scores="int8-token",
    values="fp8_e4m3-channel",
    score_multiply="int8",
    value_multiply="fp8_e4m3",
)
SAGE_ATTENTION_2_INT4 = QuantisedAttention(
    name="sageattention2-4b",
    scores="int4-token",
    values="fp8_e4m3-channel",
    score_multiply="int4",
    value_multiply="fp8_e4m3",
)
SAGE_ATTENTION_3 = QuantisedAttention(
    name="sageattention3", scores="nvfp4", values="nvfp4", score_multiply="fp4_e2m1", value_multiply="fp4_e2m1"
)
