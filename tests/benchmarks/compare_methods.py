"""Every search method on the attention networks and dataflows, each with 5 % of the runs that trying all would take.

Run with: python tests/benchmarks/compare_methods.py [objective]; prints the tables of the README as Markdown.
With --picture FILE.png it draws how far the best tiling so far is from the optimum, run by run, and leaves the tables.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from tilewright.hw_models.load import load_machine
from tilewright.search.methods.method import get_method
from tilewright.search.methods.run import run_method
from tilewright.search.objective import check_objective
from tilewright.sim.lowering.mapping import dataflow_names, get_dataflow
from tilewright.workloads.load import load_workload, workload_names

METHODS = ("cp_sat", "mcts", "genetic", "mcts_genetic", "nsga2", "tpe", "random")
SEEDS = (0, 1, 2)
SHARE = 0.05
NEAR = 1.01


CURVES = (("bert-base", "mas"), ("vit-b-16", "flat"), ("t5", "fusemax"))


def networks() -> list[str]:
    return [name for name in workload_names() if not name.startswith(("fusemax-", "llama-"))]


def main(objective: str = "latency") -> None:
    goal, machine = check_objective(objective), load_machine("edge-16x16")
    over: dict[tuple[str, str], list[float]] = {}  # network, method -> how far over the optimum, dataflows x seeds
    proofs: dict[str, list[tuple[int, int, int, float]]] = {}
    for network in networks():
        layer = load_workload(network)
        for name in dataflow_names():
            flow = get_dataflow(name)
            best = run_method(get_method("exhaustive"), flow, layer, machine, objective=goal)
            assert best.proven
            to_best = best.curve[-1][0]
            proofs.setdefault(network, []).append((best.n_fitting, best.n_evaluations, to_best, best.seconds))
            budget = max(len(flow.phases), int(SHARE * best.n_fitting))
            for method in METHODS:
                for seed in SEEDS:
                    found = run_method(
                        get_method(method), flow, layer, machine, objective=goal, seed=seed, budget=budget
                    )
                    assert found.value >= best.value
                    over.setdefault((network, method), []).append(found.value / best.value)
    print(
        f"{goal}, {machine.name}, {len(dataflow_names())} dataflows, seeds {SEEDS}; budget {SHARE:.0%} of the tilings\n"
    )
    print("| network | tilings | runs to prove | to find | slowest, s |" + "".join(f" {m} |" for m in METHODS))
    print("| --- | ---: | ---: | ---: | ---: |" + " ---: |" * len(METHODS))
    for network, rows in proofs.items():
        n_fitting, n_runs, to_best, _ = (sum(column) for column in zip(*rows, strict=True))
        cells = [over[network, method] for method in METHODS]
        shown = [f"{sum(x <= NEAR for x in c)}/{len(c)} ({max(c) - 1:.1%})" for c in cells]
        slowest = max(row[3] for row in rows)
        print(f"| {network} | {n_fitting} | {n_runs} | {to_best} | {slowest:.2f} | " + " | ".join(shown) + " |")
    print("\nCells: runs within 1 % of the optimum, of dataflows x seeds (worst).")


def draw(picture: Path, objective: str = "latency", n_seeds: int = 10) -> None:
    """Median over seeds of (best so far / optimum), against the share of the tilings that was run."""
    import matplotlib.pyplot as plt

    goal, machine = check_objective(objective), load_machine("edge-16x16")
    figure, axes = plt.subplots(1, len(CURVES), figsize=(12, 3.6), sharey=True, layout="constrained")
    for axis, (network, name) in zip(axes, CURVES, strict=True):
        flow, layer = get_dataflow(name), load_workload(network)
        best = run_method(get_method("exhaustive"), flow, layer, machine, objective=goal)
        budget = int(0.2 * best.n_fitting)
        runs = np.arange(1, budget + 1)
        for method in METHODS:
            over = []
            for seed in range(n_seeds):
                found = run_method(get_method(method), flow, layer, machine, objective=goal, seed=seed, budget=budget)
                at, values = (np.array(column, dtype=float) for column in zip(*found.curve, strict=True))
                place = np.searchsorted(at, runs, side="right") - 1
                over.append(np.where(place >= 0, values[place] / best.value - 1, np.nan))
            axis.step(100 * runs / best.n_fitting, 100 * np.nanmedian(over, axis=0), where="post", label=method, lw=1.4)
        axis.axvline(100 * SHARE, color="0.7", lw=0.8, zorder=0)
        axis.set(title=f"{network}, {name} ({best.n_fitting} tilings)", xlabel="tilings run, %", xlim=(0, 20))
        axis.set_yscale("symlog", linthresh=0.1)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set(ylabel=f"{goal} over the optimum, %\n(median of {n_seeds} seeds)", ylim=(0, None))
    axes[-1].legend(frameon=False, fontsize=8)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("objective", nargs="?", default="latency")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    begun = time.perf_counter()
    if given.picture:
        draw(given.picture, given.objective)
    else:
        main(given.objective)
    print(f"{time.perf_counter() - begun:.0f} s")
