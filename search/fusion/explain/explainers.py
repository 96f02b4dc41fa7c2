"""Explainers: which edges of a group make the model say that it does not fit.

``gnn``: GNNExplainer (Ying et al., arXiv 1903.03894): a mask over the group's own edges, found by gradient steps, that
keeps the answer with few edges; nothing is learnt beforehand. ``pg``: PGExplainer (Luo et al., arXiv 2011.04573): a
small network gives each edge its weight from the embeddings of its ends, learnt once from many groups. ``rg``: after
RG-Explainer (Shan et al., NeurIPS 2021): a policy, learnt by reinforcement, grows a connected part of the group that
keeps the answer; its edges count first, in the order in which they came in.

Each gives all edges of the group, the most responsible first, and is repeatable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tilewright.errors import unknown
from tilewright.search.fusion.explain.model import HIDDEN, Batch, batch_of, need_torch
from tilewright.search.fusion.explain.policy import learnt_policy, ranked_by_policy
from tilewright.search.fusion.explain.samples import Sample
from tilewright.search.fusion.explain.training import Trained, load, save

__all__ = ["EXPLAINERS", "Explainer", "check_explainer", "get_explainer"]

#: The places of a group's edges in ``sample.edges``, the most responsible first.
Explainer: TypeAlias = Callable[[Sample], Sequence[int]]
EXPLAINERS = ("gnn", "pg", "rg")

_STEPS = 20  # of GNNExplainer
_STEP_SIZE = 0.3
_PG_EPOCHS = 25
_PG_BATCH = 32
_SIZE_WEIGHT, _ENTROPY_WEIGHT = 0.02, 0.1
_SEED = 0


def check_explainer(name: str) -> None:
    """Raise InputError, with the nearest name, where no explainer is so called."""
    if name not in EXPLAINERS:
        raise unknown("explainer", name, EXPLAINERS)


def get_explainer(name: str, trained: Trained) -> Explainer:
    """The explainer of that name for a trained model; those that learn do so now, or come from the cache folder."""
    check_explainer(name)
    if name == "gnn":
        return lambda sample: _by_own_mask(trained.model, sample)
    if name == "pg":
        scorer = _learnt(trained, "pg", _new_scorer(), _train_scorer)
        return lambda sample: _by_scorer(trained.model, scorer, sample)
    policy = _learnt(trained, "rg", *learnt_policy())
    return lambda sample: ranked_by_policy(trained.model, policy, sample)


def _learnt(trained: Trained, name: str, network: Any, train: Callable[[Any, Trained], None]) -> Any:
    """``network`` with its weights from the cache folder, or trained and kept there."""
    torch = need_torch()
    path = trained.folder / f"{trained.scheme}-{trained.key}-{name}.pt"
    try:
        network.load_state_dict(load(path)["state"])
    except (KeyError, TypeError, RuntimeError):
        n_threads = torch.get_num_threads()
        torch.set_num_threads(1)
        train(network, trained)
        torch.set_num_threads(n_threads)
        save(path, {"state": network.state_dict()})
    network.eval()
    return network


def _loss(answer: Any, weights: Any) -> Any:
    """Small where the model still says "does not fit" and few edges are kept, each fully or not at all."""
    torch = need_torch()
    kept = weights.clamp(1e-6, 1 - 1e-6)
    entropy = -(kept * kept.log() + (1 - kept) * (1 - kept).log()).mean()
    return torch.nn.functional.softplus(answer).mean() + _SIZE_WEIGHT * weights.sum() + _ENTROPY_WEIGHT * entropy


def _by_own_mask(model: Any, sample: Sample) -> Sequence[int]:
    torch = need_torch()
    batch = batch_of(sample)
    mask = torch.zeros(len(sample.edges), requires_grad=True)
    optimiser = torch.optim.Adam([mask], lr=_STEP_SIZE)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        weights = torch.sigmoid(mask)
        _loss(model(batch, weights), weights).backward()
        optimiser.step()
    order: list[int] = torch.argsort(mask.detach(), descending=True, stable=True).tolist()
    return order


def _new_scorer() -> Any:
    torch = need_torch()
    torch.manual_seed(_SEED)
    return torch.nn.Sequential(torch.nn.Linear(2 * HIDDEN, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))


def _scores(model: Any, scorer: Any, batch: Batch) -> Any:
    torch = need_torch()
    with torch.no_grad():
        nodes = torch.log1p(model.nodes(batch))  # embeddings are sums: as large as the maps
    return scorer(torch.cat([nodes[batch.edges[:, 0]], nodes[batch.edges[:, 1]]], dim=1))[:, 0]


def _by_scorer(model: Any, scorer: Any, sample: Sample) -> Sequence[int]:
    torch = need_torch()
    with torch.no_grad():
        scores = _scores(model, scorer, batch_of(sample))
    order: list[int] = torch.argsort(scores, descending=True, stable=True).tolist()
    return order


def _train_scorer(scorer: Any, trained: Trained) -> None:
    """Learn edge weights by a relaxed draw of edges (concrete distribution) whose temperature falls from 5 to 1."""
    torch = need_torch()
    torch.manual_seed(_SEED)
    optimiser = torch.optim.Adam(scorer.parameters(), lr=3e-3)
    samples = trained.explained
    batches = [Batch(samples[at : at + _PG_BATCH]) for at in range(0, len(samples), _PG_BATCH)]
    for epoch in range(_PG_EPOCHS):
        temperature = 5.0 * (1 / 5.0) ** (epoch / (_PG_EPOCHS - 1))
        for batch in batches:
            optimiser.zero_grad()
            scores = _scores(trained.model, scorer, batch)
            noise = torch.rand_like(scores).clamp(1e-6, 1 - 1e-6)
            weights = torch.sigmoid((scores + noise.log() - (1 - noise).log()) / temperature)
            loss = _loss(trained.model(batch, weights), weights / batch.n_groups)
            loss.backward()
            optimiser.step()
