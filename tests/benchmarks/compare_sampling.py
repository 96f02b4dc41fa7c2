"""How much of the true Pareto front an adaptive search finds: NSGA-II and random designs beside the whole grid.

python tests/benchmarks/compare_sampling.py /tmp/grid.db        # runs 4,000 designs first, if the store has them not

A search runs on the grid's own results, so that many seeds cost little. Volume is the hypervolume of what was found
over that of the true front (objectives from 0 to 1, reference point 1, 1, 1); "of the front" is the share of its
designs' objectives that were found exactly.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilewright.search.sweep.adaptive import generations
from tilewright.search.sweep.front import DesignScore, score_design
from tilewright.search.sweep.run import run_sweep, sweep_rows
from tilewright.search.sweep.spec import Sweep, load_sweep

GRID: dict[str, Any] = {
    "name": "front",
    "machine": "edge-16x16",
    "area": {"node_nm": 45, "pe_format": "int8"},
    "parameters": {
        "matrix.rows": [4, 8, 16, 32, 64],
        "matrix.columns": [4, 8, 16, 32, 64],
        "vector.lanes": [16, 32, 64, 128, 256],
        "buffers.l1.capacity_kib": [16, 64, 256, 1024],
        "dram.bandwidth_gb_per_s": [5, 10, 20, 40],
        "clock_ghz": [0.5, 1],
    },
    "workloads": ["attention:heads=4,seq=256,head_dim=64", "attention:heads=8,query_len=1,key_len=1024,head_dim=64"],
}
SIZES = (100, 200, 400, 800)
N_SEEDS = 10

Objectives = tuple[float, ...]
Known = dict[tuple[Any, ...], DesignScore]


def searching(n: int, seed: int) -> Sweep:
    return load_sweep(GRID | {"sampling": {"method": "nsga2", "n": n, "seed": seed}})


def known_scores(store: str) -> Known:
    """The score of every design of the grid by its values."""
    grid, sweep = load_sweep(GRID), searching(1, 0)
    run_sweep(grid, store)
    rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in sweep_rows(grid, store):
        rows.setdefault(tuple(row[path] for path in sweep.paths), []).append(row)
    return {values: score_design(sweep, own)[0] for values, own in rows.items()}


def found_by_search(known: Known, n: int, seed: int) -> list[Objectives]:
    sweep = searching(n, seed)
    found: list[DesignScore] = []

    def scores(designs: Sequence[dict[str, Any]]) -> list[DesignScore]:
        return [known[tuple(design[path] for path in sweep.paths)] for design in designs]

    for designs in generations(sweep, scores):
        found += scores(designs)
    return [score.objectives for score in found if score.objectives is not None]


def found_by_chance(known: Known, n: int, seed: int) -> list[Objectives]:
    drawn = random.Random(seed).sample(list(known.values()), n)
    return [score.objectives for score in drawn if score.objectives is not None]


def front_of(found: Sequence[Objectives]) -> set[Objectives]:
    every = np.array(sorted(set(found)))
    return {tuple(p) for p in every.tolist() if not ((every <= p).all(axis=1) & (every < p).any(axis=1)).any()}


def main() -> None:
    from pymoo.indicators.hv import HV

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    known = known_scores(parser.parse_args().store)
    every = [score.objectives for score in known.values() if score.objectives is not None]
    low, high = np.min(every, axis=0), np.max(every, axis=0)
    true = front_of(every)

    def volume(front: set[Objectives]) -> float:
        return float(HV(ref_point=np.ones(len(low)))((np.array(sorted(front)) - low) / (high - low)))

    print(f"{len(known):,} designs, {len(every):,} run both workloads, {len(true)} on the front; {N_SEEDS} seeds")
    print("| designs run | by | volume: mean, least | of the front: mean, least |\n| --- | --- | --- | --- |")
    ways: dict[str, Callable[[Known, int, int], list[Objectives]]] = {
        "nsga2": found_by_search,
        "chance": found_by_chance,
    }
    for n in SIZES:
        for name, way in ways.items():
            fronts = [front_of(way(known, n, seed)) for seed in range(N_SEEDS)]
            volumes = [volume(front) / volume(true) for front in fronts]
            shares = [len(front & true) / len(true) for front in fronts]
            print(
                f"| {n} | {name} | {np.mean(volumes):.4f}, {min(volumes):.4f} "
                f"| {np.mean(shares):.0%}, {min(shares):.0%} |"
            )


if __name__ == "__main__":
    main()
