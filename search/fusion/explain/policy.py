"""The policy of the RG-Explainer-like explainer: it grows a connected part of a group that still does not fit."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tilewright.search.fusion.explain.model import HIDDEN, batch_of, need_torch
from tilewright.search.fusion.explain.samples import Sample

if TYPE_CHECKING:
    from tilewright.search.fusion.explain.training import Trained

__all__ = ["learnt_policy", "ranked_by_policy"]

_EPOCHS = 10
_GROUPS_PER_EPOCH = 120
_MOST_STEPS = 12
_NODE_COST = 0.02
_SEED = 0


def learnt_policy() -> tuple[Any, Callable[[Any, Trained], None]]:
    """An untrained policy, and the function that trains it."""
    torch = need_torch()
    torch.manual_seed(_SEED)

    def scorer(width: int) -> Any:
        return torch.nn.Sequential(torch.nn.Linear(width, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))

    return torch.nn.ModuleDict({"begin": scorer(HIDDEN), "grow": scorer(2 * HIDDEN)}), _train


def _embedded(model: Any, sample: Sample) -> Any:
    torch = need_torch()
    with torch.no_grad():
        return torch.log1p(model.nodes(batch_of(sample)))


def _neighbours(sample: Sample) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in range(len(sample.features))]
    for p, i in sample.edges:
        found[p].add(i)
        found[i].add(p)
    return found


def _train(policy: Any, trained: Trained) -> None:
    """REINFORCE with the mean reward as baseline: how surely the grown part does not fit, less a cost per node."""
    torch = need_torch()
    torch.manual_seed(_SEED)
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    chance = random.Random(_SEED)
    baseline = 0.0
    for _ in range(_EPOCHS):
        samples = chance.sample(trained.explained, min(_GROUPS_PER_EPOCH, len(trained.explained)))
        for sample in samples:
            part, log_chance = _drawn(policy, trained.model, sample)
            reward = _reward(trained.model, sample, part)
            optimiser.zero_grad()
            (-(reward - baseline) * log_chance).backward()
            optimiser.step()
            baseline = 0.95 * baseline + 0.05 * reward


def _drawn(policy: Any, model: Any, sample: Sample) -> tuple[list[int], Any]:
    torch = need_torch()
    nodes, near = _embedded(model, sample), _neighbours(sample)
    chances = torch.distributions.Categorical(logits=policy["begin"](nodes)[:, 0])
    first = chances.sample()
    part, log_chance = [int(first)], chances.log_prob(first)
    for _ in range(min(_MOST_STEPS, len(near) - 1)):
        rim = sorted(set().union(*(near[i] for i in part)) - set(part))
        if not rim:
            break
        chances = torch.distributions.Categorical(logits=_grow_scores(policy, nodes, part, rim))
        chosen = chances.sample()
        log_chance = log_chance + chances.log_prob(chosen)
        part.append(rim[int(chosen)])
    return part, log_chance


def _grow_scores(policy: Any, nodes: Any, part: list[int], rim: list[int]) -> Any:
    torch = need_torch()
    whole = nodes[part].mean(dim=0).expand(len(rim), HIDDEN)
    return policy["grow"](torch.cat([nodes[rim], whole], dim=1))[:, 0]


def _reward(model: Any, sample: Sample, part: list[int]) -> float:
    """The best prefix of the part counts: the model's chance of "does not fit" for it, less the cost of its nodes."""
    torch = need_torch()
    prefixes = [part[: n + 1] for n in range(1, len(part))] or [part]
    with torch.no_grad():
        return max(
            float(torch.sigmoid(-model(batch_of(_restricted(sample, prefix))))[0]) - _NODE_COST * len(prefix)
            for prefix in prefixes[:: max(1, len(prefixes) // 3)]
        )


def _restricted(sample: Sample, part: list[int]) -> Sample:
    place = {node: at for at, node in enumerate(sorted(part))}
    edges = tuple((place[p], place[i]) for p, i in sample.edges if p in place and i in place)
    return Sample(features=sample.features[sorted(part)], edges=edges, fits=False)


def ranked_by_policy(model: Any, policy: Any, sample: Sample) -> Sequence[int]:
    """The edges in the order in which the likeliest growth takes in their second end."""
    torch = need_torch()
    with torch.no_grad():
        nodes, near = _embedded(model, sample), _neighbours(sample)
        part = [int(policy["begin"](nodes)[:, 0].argmax())]
        while len(part) <= min(_MOST_STEPS, len(near) - 1):
            rim = sorted(set().union(*(near[i] for i in part)) - set(part))
            if not rim:
                break
            part.append(rim[int(_grow_scores(policy, nodes, part, rim).argmax())])
    came_in = {node: at for at, node in enumerate(part)}
    last = len(near)

    def when(edge: int) -> tuple[int, int]:
        p, i = sample.edges[edge]
        return max(came_in.get(p, last), came_in.get(i, last)), edge

    return sorted(range(len(sample.edges)), key=when)
