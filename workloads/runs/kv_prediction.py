"""KV prediction (Horton et al., arXiv 2410.08391): products that make a network's keys and values from those of a
smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilewright.workloads.runs.cache import CachedTensor
from tilewright.workloads.runs.kinds.generate import RequestSpec
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

__all__ = ["predictor_macs", "predictor_stream"]


def predictor_stream(
    helper: Sequence[CachedTensor], wanted: Sequence[CachedTensor], request: RequestSpec
) -> OperatorStream:
    """A product for each growing tensor of ``wanted``, of the helper's at the same height, over all tokens of the
    prompts.
    """
    b = Layers("predictor")
    given = {
        name: b.input(f"helper_{name}", (request.count, request.prompt, width))
        for name, width in dict.fromkeys((str(at), one) for at, one in enumerate(_widths(helper)))
    }
    made = []
    sources, targets = _widths(helper), _widths(wanted)
    for at, width in enumerate(targets):
        source = _at_height(at, len(targets), len(sources))
        made.append(b.linear(given[str(source)], width, f"make_{at}", bias=False))
    return b.finish(made, n_parameters=b.n_parameters)


def predictor_macs(helper: Sequence[CachedTensor], wanted: Sequence[CachedTensor], n_tokens: int) -> int:
    """Multiply-adds of the predictor for so many tokens (closed form)."""
    sources, targets = _widths(helper), _widths(wanted)
    return n_tokens * sum(
        width * sources[_at_height(at, len(targets), len(sources))] for at, width in enumerate(targets)
    )


def _widths(tensors: Sequence[CachedTensor]) -> list[int]:
    """Values of a token, tensor by tensor, of those that grow."""
    return [one.values_per_token for one in tensors if one.axis is not None]


def _at_height(at: int, of: int, sources: int) -> int:
    """The tensor at the same height: keys of keys, values of values, which take turns."""
    return at // 2 * (sources // 2) // (of // 2) * 2 + at % 2
