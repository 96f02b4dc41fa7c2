"""The cheapest mask for each head of an attention that keeps enough of its attention mass, with proof.

What each mask keeps of a head's mass is measured elsewhere and given. A head's cost is its exact best run by itself, on
all cores; heads run one after another, so their costs add up and the best choice is found exactly: head by head where
each must keep enough, as one integer program where their mean must.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tilewright.errors import InputError
from tilewright.sim.result import SimulationResult
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.masks.family import Site, make_mask

__all__ = ["DENSE", "HEADS_ASSUMPTION", "HeadChoice", "HeadMasks", "choose_masks", "read_statistics"]

#: The choice of every head that hides nothing more than the layer does.
DENSE = "dense"
HEADS_ASSUMPTION = (
    "heads run one after another, each on all cores and with keys and values of its own; the lists of a mask are there"
)
_SCALE = 10**6  # masses count in millionths


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadChoice:
    """What head ``head`` gets: a ``mask`` that keeps ``mass`` of its attention, its best run, of ``n_tried`` masks."""

    head: int
    mask: str
    mass: float
    result: SimulationResult
    n_tried: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadMasks:
    """A choice for every head; ``dense_cycles``: of all heads dense, run alike. ``budget``: in words."""

    choices: tuple[HeadChoice, ...]
    dense_cycles: int
    budget: str

    @property
    def cycles(self) -> int:
        """Of all heads, one after another."""
        return sum(choice.result.cycles for choice in self.choices)

    @property
    def energy_pj(self) -> float:
        """Of all heads."""
        return sum(choice.result.energy_pj for choice in self.choices)

    @property
    def mean_mass(self) -> float:
        """Kept attention mass, over all heads."""
        return sum(choice.mass for choice in self.choices) / len(self.choices)

    def rows(self) -> list[dict[str, Any]]:
        """One row a head, for tables and files."""
        return [
            {
                "head": one.head,
                "mask": one.mask,
                "mass": one.mass,
                "dataflow": one.result.dataflow,
                "cycles": one.result.cycles,
                "energy_pj": one.result.energy_pj,
                "masks_tried": one.n_tried,
            }
            for one in self.choices
        ]


def read_statistics(path: Path, n_heads: int) -> tuple[dict[str, float], ...]:
    """Kept mass by mask, for each of ``n_heads``: ``{"heads": [{"MASK": 0.97, ...}, ...]}``; raises InputError."""
    try:
        heads = json.loads(path.read_text(encoding="utf-8"))["heads"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no statistics of heads ({type(error).__name__}); "
            'allowed {"heads": [{"MASK": mass, ...}, ...]}'
        ) from None
    if not isinstance(heads, list) or len(heads) != n_heads or not all(isinstance(one, dict) for one in heads):
        given = len(heads) if isinstance(heads, list) else type(heads).__name__
        raise InputError(f"{path}: heads: given {given}; allowed a mask's mass by head, for {n_heads} heads")
    for number, head in enumerate(heads):
        for text, mass in head.items():
            if type(mass) not in (int, float) or not 0 <= mass <= 1:
                raise InputError(f"{path}: head {number}: {text}: given {mass}; allowed numbers from 0 to 1")
    return tuple({text: float(mass) for text, mass in head.items()} for head in heads)


def choose_masks(
    layer: AttentionLayer,
    statistics: Sequence[Mapping[str, float]],
    least_mass: float,
    best: Callable[[AttentionLayer], SimulationResult],
    *,
    mean: bool = False,
) -> HeadMasks:
    """The masks with fewest cycles that keep ``least_mass`` in every head, or with ``mean`` over all of them.

    ``statistics``: kept mass by mask's text, for each query head; dense keeps all. ``best(layer)``: a layer's best run.
    Raises InputError for a budget outside 0 to 1 and for masks that do not fit the layer.
    """
    if not 0 <= least_mass <= 1:
        raise InputError(f"--budget: given {least_mass}; allowed a share of the attention mass, from 0 to 1")
    if layer.blocks is not None or layer.mask == "banded":
        raise InputError(f"{layer.name}: mask: given {layer.mask}; allowed none or causal, from which masks are chosen")
    texts = dict.fromkeys([DENSE, *(text for head in statistics for text in head)])
    runs = {text: best(_one_head(layer, text)) for text in texts}
    options = [{DENSE: 1.0, **head} for head in statistics]
    chosen = _on_average(options, runs, least_mass) if mean else [_cheapest(one, runs, least_mass) for one in options]
    return HeadMasks(
        choices=tuple(
            HeadChoice(head=i, mask=text, mass=own[text], result=runs[text], n_tried=len(own))
            for i, (text, own) in enumerate(zip(chosen, options, strict=True))
        ),
        dense_cycles=runs[DENSE].cycles * len(options),
        budget=f"{'a mean of ' if mean else ''}{least_mass:g} of the attention mass{'' if mean else ' in every head'}",
    )


def _one_head(layer: AttentionLayer, text: str) -> AttentionLayer:
    head = replace(layer, query_heads=1, kv_heads=1, bias_heads=min(1, layer.bias_heads))
    if text == DENSE:
        return head
    site = Site(1, 1, layer.query_len, layer.key_len, layer.head_dim)
    mask = make_mask(text, site, what=layer.name)
    if layer.mask == "causal" and not mask.causal:
        raise InputError(f"{layer.name}: mask {text}: looks ahead of a causal layer; allowed causal masks")
    return replace(head, mask="blocks", blocks=mask)


def _cheapest(options: Mapping[str, float], runs: Mapping[str, SimulationResult], least_mass: float) -> str:
    enough = [text for text, mass in options.items() if mass >= least_mass]
    return min(enough, key=lambda text: runs[text].cycles)


def _on_average(
    options: Sequence[Mapping[str, float]], runs: Mapping[str, SimulationResult], least_mass: float
) -> list[str]:
    """As an integer program, solved to the proven optimum; masses are rounded down to millionths."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    picks = [{text: model.new_bool_var(f"{i} {text}") for text in own} for i, own in enumerate(options)]
    for of_head in picks:
        model.add_exactly_one(of_head.values())
    every = [
        (pick, own[text], text) for of_head, own in zip(picks, options, strict=True) for text, pick in of_head.items()
    ]
    needed = -int(-least_mass * _SCALE * len(options) // 1)
    model.add(sum(int(mass * _SCALE) * pick for pick, mass, _ in every) >= needed)
    model.minimize(sum(runs[text].cycles * pick for pick, _, text in every))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    if solver.solve(model) != cp_model.OPTIMAL:
        raise AssertionError("dense heads keep everything, so there is a best choice")
    return [next(text for text, pick in of_head.items() if solver.boolean_value(pick)) for of_head in picks]
