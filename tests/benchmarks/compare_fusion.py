"""Searches for fusion groups with and without graph explanation, beside the proven optimum and published figures.

Run with: python tests/benchmarks/compare_fusion.py runs.csv [--case II|III-lbdf|III-brr ...] [--seeds N]
[--explainers pg,rg,gnn] [--methods local]; every run is added to the file, and what it holds is not run again.
--tables prints the file as Markdown, with the published figures of ../shared where that folder is there.

Counting, as far as the study (arXiv 2501.00636) tells its own: each activation is an operator of its own, words of 16
bit, one picture; LBDF counts the feature maps of the operators that can be fused at all; MB are 1000 KiB.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from tilewright.search.fusion.outcome import FusionOutcome
from tilewright.search.fusion.problem import FusionProblem, check_fusion_objective
from tilewright.search.fusion.run import search_groups
from tilewright.search.fusion.split import Splitter
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph
from tilewright.sim.fusion.scheme import Memoised, get_scheme
from tilewright.workloads.network import load_network

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "fusion_quant" / "get_opfusion_dram_access.csv"
EXPLAINERS = ("none", "pg", "rg", "gnn")
COLUMNS = (
    "case",
    "network",
    "method",
    "explainer",
    "seed",
    "bytes",
    "tenth_bytes",
    "peak_buffer_bytes",
    "n_split",
    "seconds",
)
_MB = 1000 * 1024
_SEEDS = 5
_PAPER_NAMES = {
    "efficientnet-b3": "EfficientNet-B3",
    "resnet-152": "ResNet-152",
    "deeplabv3-mobilenet-v3": "DeepLabV3+MobileNetV3",
    "mobilenet-v2": "MobileNetV2",
    "vgg-16": "VGG16",
    "resnet-50": "ResNet-50",
    "resnet-18": "ResNet-18",
    "squeezenet": "SqueezeNet",
}
_PAPER_METHODS = {"local": "LS", "nsga2": "NSGA-II", "random": "RS"}
_PAPER_EXPLAINERS = {"none": "none", "gnn": "GNNE", "pg": "PG", "rg": "RG"}
_SMALL = ("mobilenet-v2", "vgg-16", "resnet-50", "resnet-18", "squeezenet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One table of the study."""

    name: str
    scheme: str
    capacity_bytes: int
    budget: int
    objective: str
    networks: tuple[str, ...]
    methods: tuple[str, ...]


CASES = {
    case.name: case
    for case in (
        Case(
            name="II",
            scheme="lbdf",
            capacity_bytes=256 * 1024,
            budget=5000,
            objective="feature_maps",
            networks=("efficientnet-b3", "resnet-152", "deeplabv3-mobilenet-v3"),
            methods=("local", "nsga2", "random"),
        ),
        Case(
            name="III-lbdf",
            scheme="lbdf",
            capacity_bytes=128 * 1024,
            budget=2000,
            objective="feature_maps",
            networks=_SMALL,
            methods=("local", "random"),
        ),
        Case(
            name="III-brr",
            scheme="brr",
            capacity_bytes=128 * 1024,
            budget=2000,
            objective="dram",
            networks=_SMALL,
            methods=("local", "random"),
        ),
    )
}


def counted_bytes(case: Case, outcome: FusionOutcome) -> int:
    """The figure of the tables: feature maps of operators that can be fused, or all traffic."""
    return outcome.fusable_value if case.objective == "feature_maps" else outcome.value


def tenth_bytes(case: Case, outcome: FusionOutcome) -> int:
    """The same after a tenth of the plans."""
    early = [value for n_plans, value in outcome.curve if n_plans <= max(1, case.budget // 10)]
    return counted_bytes(case, outcome) + early[-1] - outcome.value


class Store:
    """Rows in a CSV file, by what they are about."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[tuple[str, ...], dict[str, str]] = {}
        if path.exists():
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    self.rows[tuple(row[name] for name in COLUMNS[:5])] = row

    def add(self, *values: object) -> None:
        is_new = not self.path.exists()
        row = dict(zip(COLUMNS, map(str, values), strict=True))
        self.rows[tuple(row[name] for name in COLUMNS[:5])] = row
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow(row)

    def figures(self, *wanted: str, column: str = "bytes") -> list[float]:
        """The figures in MB of all seeds of one (case, network, method, explainer)."""
        return [int(row[column]) / _MB for key, row in self.rows.items() if key[:4] == wanted]


def run_case(case: Case, store: Store, seeds: int, explainers: Sequence[str], methods: Sequence[str]) -> None:
    for network in case.networks:
        # One scheme for all searches of a network: what groups cost is worked out once.
        graph, scheme = fusion_graph(load_network(network)), get_scheme(case.scheme, case.capacity_bytes)
        wanted = [(method, "none", 0) for method in ("dp", "cp_sat")]
        wanted += [(m, e, seed) for e in explainers for m in case.methods if m in methods for seed in range(seeds)]
        splitters: dict[str, Splitter] = {}
        for method, explainer, seed in wanted:
            if (case.name, network, method, explainer, str(seed)) in store.rows:
                continue
            if explainer != "none" and explainer not in splitters:
                splitters[explainer] = _splitter(case, graph, scheme, explainer)
            _add(case, store, graph, scheme, network, method, explainer, seed, splitters.get(explainer))


def _splitter(case: Case, graph: FusionGraph, scheme: Memoised, explainer: str) -> Splitter:
    import torch

    from tilewright.search.fusion.explain.splitter import explained_splitter

    torch.set_num_threads(1)
    problem = FusionProblem(
        graph=graph,
        scheme=scheme,
        capacity_bytes=case.capacity_bytes,
        objective=check_fusion_objective(case.objective),
        budget=1,
        seed=0,
    )
    return explained_splitter(problem, explainer)


def _add(
    case: Case,
    store: Store,
    graph: FusionGraph,
    scheme: Memoised,
    network: str,
    method: str,
    explainer: str,
    seed: int,
    splitter: Splitter | None,
) -> None:
    outcome = search_groups(
        graph,
        scheme,
        capacity_bytes=case.capacity_bytes,
        objective=case.objective,
        method=method if explainer == "none" else f"get-{method}",
        budget=case.budget,
        seed=seed,
        splitter=splitter,
    )
    if method in ("dp", "cp_sat"):
        assert outcome.proven, f"{method} did not prove {network}"
    figures = (counted_bytes(case, outcome), tenth_bytes(case, outcome), outcome.peak_buffer_bytes, outcome.n_split)
    store.add(case.name, network, method, explainer, seed, *figures, f"{outcome.seconds:.2f}")
    said = f"{figures[0] / _MB:.3f} MB, after a tenth {figures[1] / _MB:.3f}, {outcome.seconds:.1f} s"
    print(case.name, network, method, explainer, seed, said, flush=True)


def tables(store: Store) -> Iterator[str]:
    published = _published()
    for case in CASES.values():
        if not any(key[0] == case.name for key in store.rows):
            continue
        kib = case.capacity_bytes // 1024
        yield f"\n{case.scheme}, {kib} KiB, {case.budget:,} plans; mean of the seeds [after a tenth of the plans], MB\n"
        yield "| network | optimum | search | plain |" + "".join(f" + {e} |" for e in EXPLAINERS[1:]) + " study |"
        yield "| --- | ---: | --- |" + " ---: |" * (len(EXPLAINERS) + 1)
        for network in case.networks:
            optimum = store.figures(case.name, network, "dp", "none")
            for method in case.methods:
                cells = [network, f"{optimum[0]:.3f}" if optimum else "", method]
                cells += [_cell(store, case, network, method, explainer) for explainer in EXPLAINERS]
                yield "| " + " | ".join([*cells, _theirs(published, case, network, method)]) + " |"


def _cell(store: Store, case: Case, network: str, method: str, explainer: str) -> str:
    found = store.figures(case.name, network, method, explainer)
    if not found:
        return ""
    early = mean(store.figures(case.name, network, method, explainer, column="tenth_bytes"))
    seeds = "" if len(found) == _SEEDS else f" ({len(found)} seeds)"
    return f"{mean(found):.3f} [{early:.2f}]{seeds}"


def _theirs(published: dict[tuple[str, ...], str], case: Case, network: str, method: str) -> str:
    """The study's figures: plain, and with each explainer."""
    keys = (
        (case.scheme.upper(), str(case.capacity_bytes // 1024), _PAPER_NAMES[network], _PAPER_METHODS[method], name)
        for name in map(_PAPER_EXPLAINERS.__getitem__, EXPLAINERS)
    )
    return " / ".join(published.get(key, "?") for key in keys) if published else ""


def _published() -> dict[tuple[str, ...], str]:
    if not PUBLISHED.exists():
        return {}
    with PUBLISHED.open(newline="") as file:
        return {
            (row["scheme"], row["buffer_KB"], row["network"], row["search"], row["explainer"]): row["dram_access_MB"]
            for row in csv.DictReader(file)
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--case", nargs="*", choices=tuple(CASES), default=["II", "III-lbdf"])
    parser.add_argument("--seeds", type=int, default=_SEEDS)
    parser.add_argument("--explainers", default=",".join(EXPLAINERS))
    parser.add_argument("--methods", default="local,nsga2,random")
    parser.add_argument("--tables", action="store_true")
    given = parser.parse_args()
    store = Store(given.store)
    if not given.tables:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        for name in given.case:
            run_case(CASES[name], store, given.seeds, given.explainers.split(","), given.methods.split(","))
    print("\n".join(tables(store)))


if __name__ == "__main__":
    main()
