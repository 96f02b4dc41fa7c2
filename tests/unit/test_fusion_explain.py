"""Graph explanation of fusion groups: the model learns, explainers rank edges, splits are sound, files are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tilewright.errors import InputError  # noqa: E402
from tilewright.search.fusion.explain import explainers, policy, training  # noqa: E402
from tilewright.search.fusion.explain.explainers import EXPLAINERS, get_explainer  # noqa: E402
from tilewright.search.fusion.explain.samples import BUFFER_SIZES, N_FEATURES, sample_groups  # noqa: E402
from tilewright.search.fusion.explain.splitter import explained_splitter  # noqa: E402
from tilewright.search.fusion.plan import ordered, random_plan  # noqa: E402
from tilewright.search.fusion.problem import FusionProblem  # noqa: E402
from tilewright.search.fusion.run import search_fusion  # noqa: E402
from tilewright.sim.fusion.graph.build import fusion_graph  # noqa: E402
from tilewright.sim.fusion.graph.fusion_graph import FusionGraph  # noqa: E402
from tilewright.sim.fusion.scheme import get_scheme  # noqa: E402
from tilewright.workloads.network import load_network  # noqa: E402

pytestmark = pytest.mark.extras

CAPACITY = 128 * 1024


@pytest.fixture(scope="module", autouse=True)
def _small_training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Few groups and epochs, in a cache folder of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILEWRIGHT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(training, "TRAINING_NETWORKS", {"mobilenet-v2": 70, "squeezenet": 70})
        patch.setattr(training, "_EPOCHS", 10)
        patch.setattr(policy, "_EPOCHS", 1)
        patch.setattr(explainers, "_PG_EPOCHS", 3)
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="module")
def graph() -> FusionGraph:
    return fusion_graph(load_network("mobilenet-v2"))


def _problem(graph: FusionGraph) -> FusionProblem:
    return FusionProblem(
        graph=graph,
        scheme=get_scheme("lbdf", CAPACITY),
        capacity_bytes=CAPACITY,
        objective="dram",
        budget=100,
        seed=0,
    )


def test_samples_say_what_the_scheme_says(graph: FusionGraph) -> None:
    groups = sample_groups(graph, "lbdf", 40, seed=3)
    assert len(groups) == 40
    for group, again in zip(groups, sample_groups(graph, "lbdf", 40, seed=3), strict=True):
        assert [one.edges for one in group] == [one.edges for one in again]
        assert all((one.features == two.features).all() for one, two in zip(group, again, strict=True))
        assert len(group) == len(BUFFER_SIZES)
        assert [sample.fits for sample in group] == sorted(sample.fits for sample in group), "more room, never less fit"
        assert all(sample.features.shape[1] == N_FEATURES for sample in group)
        assert 2 <= len(group[0].features) <= 64
    shares = [sum(group[at].fits for group in groups) for at in range(len(BUFFER_SIZES))]
    assert 0 < shares[0] < shares[-1]


def test_the_model_learns_and_is_kept() -> None:
    first = training.trained_model("lbdf")
    assert first.quality.accuracy > 0.85
    assert first.quality.f1 > 0.8
    (path,) = first.folder.glob("lbdf-*.pt")
    made = path.stat().st_mtime_ns
    again = training.trained_model("lbdf")
    assert path.stat().st_mtime_ns == made
    assert again.quality == first.quality
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True))


def test_a_damaged_file_is_made_anew() -> None:
    first = training.trained_model("lbdf")
    path: Path = first.folder / f"lbdf-{first.key}.pt"
    path.write_bytes(b"not a model")
    again = training.trained_model("lbdf")
    assert again.quality == first.quality
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("name", EXPLAINERS)
def test_explainers_rank_every_edge_and_repeat(name: str) -> None:
    trained = training.trained_model("lbdf")
    explain = get_explainer(name, trained)
    for sample in trained.explained[:5]:
        order = list(explain(sample))
        assert sorted(order) == list(range(len(sample.edges)))
        assert list(explain(sample)) == order
        assert list(get_explainer(name, trained)(sample)) == order


@pytest.mark.parametrize("name", EXPLAINERS)
def test_splits_are_groups_that_fit(graph: FusionGraph, name: str) -> None:
    problem = _problem(graph)
    split = explained_splitter(problem, name)
    n_split = 0
    for _ in range(6):
        for mask in random_plan(graph, problem.fusable, problem.random):
            if problem.fits(mask):
                continue
            parts = split(problem, mask)
            n_split += 1
            assert sum(parts) == mask
            assert all(problem.fits(part) and graph.is_group(part) for part in parts)
            assert ordered(graph, parts)
            assert len(ordered(graph, parts)) == len(parts)
            assert split(problem, mask) == parts
    assert n_split


def test_searches_with_explanations_repeat_and_are_not_below_the_optimum() -> None:
    optimum = search_fusion("mobilenet-v2", buffer_bytes=CAPACITY).value
    for method in ("get-local", "get-random"):
        one, two = (
            search_fusion("mobilenet-v2", buffer_bytes=CAPACITY, method=method, budget=60, seed=1) for _ in range(2)
        )
        assert one == two
        assert one.value >= optimum
        assert one.n_split


def test_an_unknown_explainer_is_refused() -> None:
    with pytest.raises(InputError, match='unknown explainer; given "pgg"; allowed gnn, pg, rg'):
        search_fusion("fsrcnn", buffer_bytes=CAPACITY, method="get-local", explainer="pgg")
