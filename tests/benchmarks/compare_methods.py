"""Every search method on the attention networks and dataflows, each with 5 % of the runs that trying all would take.

Run with: python tests/benchmarks/compare_methods.py [objective]; prints the tables of the README as Markdown.
"""

from __future__ import annotations

import sys
import time

from tilewright.hw_models.load import load_machine
from tilewright.search.methods.method import get_method
from tilewright.search.methods.run import run_method
from tilewright.search.objective import check_objective
from tilewright.sim.mapping import dataflow_names, get_dataflow
from tilewright.workloads.load import load_workload, workload_names

METHODS = ("cp_sat", "mcts", "genetic", "mcts_genetic", "nsga2", "tpe", "random")
SEEDS = (0, 1, 2)
SHARE = 0.05
NEAR = 1.01


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


if __name__ == "__main__":
    begun = time.perf_counter()
    main(*sys.argv[1:])
    print(f"{time.perf_counter() - begun:.0f} s")
