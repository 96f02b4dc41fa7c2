"""Which parts of a network cost the most quality per bit: a linear account of sampled configurations.

Many random assignments are measured (or estimated); a linear model then says how much of the loss each bit that was
taken from each group of layers explains. Groups are the kinds of operators, the places in the network, and the blocks
(Qua2SeDiMo, arXiv 2412.14628, asks the same of diffusion models, by a graph network). How far the account can be
trusted is stated: the rank correlation of its predictions with the measured loss on configurations that it was not
fitted to.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tilewright.errors import InputError, unknown
from tilewright.progress import Progress
from tilewright.search.bits.problem import Assignment, BitProblem, Option
from tilewright.search.bits.sensitivity import Sensitivity
from tilewright.workloads.operators import Operator
from tilewright.workloads.stream.graph import OperatorStream

if TYPE_CHECKING:
    import numpy as np

    FloatArray: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
from tilewright.workloads.stream.tensor_formats import mean_bits

__all__ = ["FEWEST_SAMPLES", "Explanation", "GroupShare", "LayerRole", "explain", "layer_roles", "sample_assignments"]

_PLACES = ("first", "early", "middle", "late", "last")
_PENALTIES = (1e-6, 1e-4, 1e-2, 1e-1, 1.0, 10.0)
_N_FOLDS = 5
FEWEST_SAMPLES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRole:
    """What a layer is: the sort of operator, its place in the network, the block it stands in, its part there."""

    kind: str
    place: str
    block: str
    part: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupShare:
    """How much loss a group of layers explains. ``per_bit``: loss for each bit per weight or activation taken from one
    layer of the group; ``share`` of what the sampled configurations lost in all; ``layers`` in the group.
    """

    aspect: str
    group: str
    layers: tuple[str, ...]
    per_bit: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Groups ranked by what a bit costs there, and how well the account ranks configurations that it has not seen.

    ``rank_correlation``: Spearman's, on ``n_held_out`` configurations. ``by_layer``: loss per bit taken.
    """

    groups: tuple[GroupShare, ...]
    by_layer: Mapping[str, float]
    rank_correlation: float
    n_fitted: int
    n_held_out: int

    def of(self, aspect: str) -> tuple[GroupShare, ...]:
        """The groups of one aspect (``kind``, ``place``, ``block``, ``part``), the dearest bit first."""
        return tuple(group for group in self.groups if group.aspect == aspect)

    def rows(self) -> list[dict[str, object]]:
        """One row per group."""
        return [
            {
                "aspect": group.aspect,
                "group": group.group,
                "n_layers": len(group.layers),
                "loss_per_bit": group.per_bit,
                "share": group.share,
            }
            for group in self.groups
        ]


def sample_assignments(problem: BitProblem, n: int, *, seed: int = 0) -> tuple[Assignment, ...]:
    """``n`` different random assignments (all of them where there are no more); the same for the same seed.

    Half have every option equally likely; the others lean to wide or narrow options by a chance of their own, so that
    the sample spans from nearly all wide to nearly all narrow.
    """
    dice = random.Random(seed)
    wanted = min(n, problem.n_assignments)
    found: dict[Assignment, None] = {}
    for attempt in range(1000 * wanted):
        if len(found) == wanted:
            break
        lean = 1.0 if attempt % 2 else math.exp(dice.uniform(-1.5, 1.5))
        found[tuple(int(len(d.options) * dice.random() ** lean) for d in problem.decisions)] = None
    return tuple(found)


def explain(
    problem: BitProblem,
    roles: Mapping[str, LayerRole],
    evaluate: Callable[[Assignment], float],
    *,
    n_samples: int = 300,
    held_out: float = 0.25,
    seed: int = 0,
    progress: Progress | None = None,
) -> Explanation:
    """Measure ``n_samples`` random assignments with ``evaluate`` (loss, less is better) and account for them.

    The account is ridge regression of the loss on which option each decision takes; its penalty is chosen on the fitted
    part alone, by five folds of it. Raises InputError for too few samples or a layer without a role.
    """
    import numpy as np
    from scipy.stats import spearmanr

    missing = [layer for d in problem.decisions for layer in d.layers if layer not in roles]
    if missing:
        raise InputError(f'roles: lacks layer "{missing[0]}"')
    assignments = sample_assignments(problem, n_samples, seed=seed)
    n_held_out = round(len(assignments) * held_out)
    if len(assignments) - n_held_out < 2 * _N_FOLDS or n_held_out < 4:
        raise InputError(f"n_samples: given {n_samples}; allowed enough for 10 to fit and 4 to hold out")
    losses = []
    for at, assignment in enumerate(assignments):
        if progress is not None:
            progress(at, len(assignments), "measuring configurations")
        losses.append(float(evaluate(assignment)))
    x = np.array([_indicators(problem, assignment) for assignment in assignments])
    y = np.array(losses)
    effects, offset = _ridge(x[n_held_out:], y[n_held_out:])
    correlation = float(spearmanr(x[:n_held_out] @ effects + offset, y[:n_held_out]).statistic)
    by_layer, explained = _by_layer(problem, effects, x.mean(axis=0))
    return Explanation(
        groups=_groups(roles, by_layer, explained),
        by_layer=by_layer,
        rank_correlation=correlation,
        n_fitted=len(assignments) - n_held_out,
        n_held_out=n_held_out,
    )


def _indicators(problem: BitProblem, assignment: Assignment) -> list[float]:
    """For each option of each decision but the widest: 1 where it is taken."""
    return [
        float(taken == at)
        for decision, taken in zip(problem.decisions, assignment, strict=True)
        for at in range(1, len(decision.options))
    ]


def _ridge(x: FloatArray, y: FloatArray) -> tuple[FloatArray, float]:
    """Effects and offset of ridge regression; the penalty with the least error over folds of what it is fitted to."""
    import numpy as np

    def fitted(a: FloatArray, b: FloatArray, penalty: float) -> tuple[FloatArray, float]:
        middle, level = a.mean(axis=0), float(b.mean())
        centred = a - middle
        square = centred.T @ centred + penalty * len(b) * np.eye(a.shape[1])
        effects = np.linalg.solve(square, centred.T @ (b - level))
        return effects, level - float(middle @ effects)

    fold = np.arange(len(y)) % _N_FOLDS

    def error(penalty: float) -> float:
        total = 0.0
        for number in range(_N_FOLDS):
            effects, offset = fitted(x[fold != number], y[fold != number], penalty)
            total += float(((x[fold == number] @ effects + offset - y[fold == number]) ** 2).sum())
        return total

    return fitted(x, y, min(_PENALTIES, key=error))


def _by_layer(problem: BitProblem, effects: FloatArray, taken: FloatArray) -> tuple[dict[str, float], dict[str, float]]:
    """For each layer with a choice: loss per bit taken, and loss explained, over options as often as they were sampled
    (``taken``).

    Tied layers share theirs equally.
    """
    per_bit: dict[str, float] = {}
    explained: dict[str, float] = {}
    at = 0
    for decision in problem.decisions:
        narrower = decision.options[1:]
        part = slice(at, at + len(narrower))
        at += len(narrower)
        loss = float(effects[part] @ taken[part])
        bits = sum(
            float(share) * (_bits(decision.options[0]) - _bits(option))
            for share, option in zip(taken[part], narrower, strict=True)
        )
        for layer in decision.layers if narrower else ():
            explained[layer] = loss / len(decision.layers)
            per_bit[layer] = loss / bits / len(decision.layers) if bits > 0 else 0.0
    return per_bit, explained


def _bits(option: Option) -> float:
    return float(mean_bits(option.weights) + mean_bits(option.activations))


def _groups(
    roles: Mapping[str, LayerRole], per_bit: Mapping[str, float], explained: Mapping[str, float]
) -> tuple[GroupShare, ...]:
    total = sum(explained.values())
    found = []
    for aspect in ("kind", "place", "block", "part"):
        members: dict[str, list[str]] = {}
        for layer in per_bit:
            members.setdefault(getattr(roles[layer], aspect), []).append(layer)
        groups = [
            GroupShare(
                aspect=aspect,
                group=name,
                layers=tuple(layers),
                per_bit=sum(per_bit[layer] for layer in layers) / len(layers),
                share=sum(explained[layer] for layer in layers) / total if total else 0.0,
            )
            for name, layers in members.items()
        ]
        found += sorted(groups, key=lambda group: -group.per_bit)
    return tuple(found)


# --- what the layers are ---------------------------------------------------------------------------------------------


def layer_roles(stream: OperatorStream, sensitivity: Sensitivity) -> dict[str, LayerRole]:
    """The role of each layer, from the operators of ``stream`` (``kind`` and ``block`` of the table go first).

    A block is the path down to its last number (``stages.0.1`` of ``stages.0.1.conv1``), the part is what follows; the
    place is first, last, or one of three equal stretches between. Raises InputError for a layer that is no operator.
    """
    known = {operator.name: operator for operator in stream.operators}
    known |= {operator.path: operator for operator in stream.operators if operator.path not in known}
    order = {operator.name: at for at, operator in enumerate(stream.operators)}
    heads: dict[str, Operator] = {}
    for layer in sensitivity.layers:
        head = known.get(layer.operator_names[0])
        if head is None:
            fault = f'has no operator for layer "{layer.name}"'
            raise unknown("operator", layer.operator_names[0], known, place=stream.name, fault=fault)
        heads[layer.name] = head
    ordered = sorted(heads, key=lambda name: order[heads[name].name])
    places = {name: _place(at, len(ordered)) for at, name in enumerate(ordered)}
    roles = {}
    for layer in sensitivity.layers:
        head = heads[layer.name]
        block, part = _block(head.path or head.name)
        roles[layer.name] = LayerRole(
            kind=layer.kind or head.of_kind.layer_word(head),
            place=places[layer.name],
            block=layer.block or block,
            part=part,
        )
    return roles


def _place(at: int, n: int) -> str:
    if at in (0, n - 1):
        return _PLACES[0] if at == 0 else _PLACES[-1]
    return _PLACES[1 + 3 * (at - 1) // max(1, n - 2)]


def _block(path: str) -> tuple[str, str]:
    """Path down to its last number, and the rest; a path without a number is a block of its own."""
    found = re.fullmatch(r"(.*?\.?\d+)\.([^\d.][^.]*(?:\.[^\d.][^.]*)*)", path)
    return (found[1], found[2]) if found else (path, path)
