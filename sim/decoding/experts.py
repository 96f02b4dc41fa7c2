"""Weights of experts on their way to the units: order of the tokens, and what of them is kept where.

Tokens in their own order bring an expert's weights again whenever it has been put out of the room on chip; taken
expert by expert (Edge-MoE, arXiv 2305.18691) they bring each once. Of experts that lie in a slower memory (flash),
those that are kept in the faster one are hits: the most popular ones for good, or those that were used last.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from tilewright.errors import InputError
from tilewright.workloads.language.routing import Routing

__all__ = ["expert_loads", "last_used_hits", "pinned_hits"]


def expert_loads(choices: Sequence[Sequence[int]], *, room: int = 1, by_expert: bool = False) -> int:
    """Times that weights of an expert are brought for tokens that go to the experts ``choices[token]``.

    ``room``: experts that stay on chip, those that were used last. ``by_expert``: tokens are taken expert by expert.
    """
    if room < 1:
        raise InputError(f"room: given {room}; allowed 1 or more experts")
    if by_expert:
        return len({expert for token in choices for expert in token})
    held: OrderedDict[int, None] = OrderedDict()
    loads = 0
    for expert in (expert for token in choices for expert in token):
        if expert in held:
            held.move_to_end(expert)
            continue
        loads += 1
        held[expert] = None
        if len(held) > room:
            held.popitem(last=False)
    return loads


def pinned_hits(routing: Routing, n_experts: int, top_k: int, room: int) -> float:
    """Share of a token's experts that are there when the ``room`` most popular are kept for good.

    No way to keep experts does better when tokens choose independently of each other.
    """
    chances = np.sort(routing.chances(n_experts, top_k))[::-1]
    return float(chances[: max(0, room)].sum() / top_k)


def last_used_hits(routing: Routing, n_experts: int, top_k: int, room: int) -> float:
    """Share of a token's experts that are there when the ``room`` that were used last are kept, one token at a time.

    By the characteristic time (Che and others, 2002): an expert is there if one of the last t tokens took it, where t
    fills the room on the mean.
    """
    chances = routing.chances(n_experts, top_k)
    if room >= int((chances > 0).sum()):
        return 1.0
    if room < top_k:
        return 0.0
    from scipy.optimize import brentq

    left = np.clip(1 - chances, 0.0, 1.0)
    tokens = brentq(lambda t: float((1 - left**t).sum()) - room, 0.0, 1e12)
    return float((chances * (1 - left**tokens)).sum() / top_k)
