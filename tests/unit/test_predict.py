"""Latency of networks from a few measurements: units, choice, prediction, command line."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from tilewright.cli import main
from tilewright.errors import InputError
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.predictor.predict import choose_networks, predict_latencies
from tilewright.search.predictor.units import units_of_networks
from tilewright.workloads.zoo.search_spaces import SPACES, space_named

FAMILY = ("edge-16x16", "nvdla-small")
SOME = [f"nasbench-201/{one}{two}{three}{one}{two}{three}" for one in range(5) for two in range(5) for three in (0, 3)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> MappingCache:
    return MappingCache(tmp_path_factory.mktemp("cache"))


def device(names: list[str], weights: tuple[float, ...], fixed: float = 1e-3) -> dict[str, float]:
    """A device that takes so long for each operation of a cell, whatever the stage."""
    return {name: fixed + sum(weights[int(one)] for one in name.partition("/")[2]) * 1e-3 for name in names}


def test_blocks_of_the_spaces_have_the_published_multiply_adds() -> None:
    def macs(space: str, digits: str) -> int:
        return sum(
            n * sum(op.macs for op in block.stream().operators) for block, n in SPACES[space].network(digits).items()
        )

    # 3x3 convolutions on all six edges: five cells in each of three stages, 6 x 9 x C^2 x side^2 each, the same in all.
    edges = 3 * 5 * 6 * 9 * 16**2 * 32**2
    assert macs("nasbench-201", "333333") - macs("nasbench-201", "000000") == edges
    assert macs("nasbench-201", "333333") == pytest.approx(
        220.12e6 / 1, rel=0.01
    )  # the benchmark's FLOPs (multiply-adds)
    # Maps of the second stage for ImageNet are 56 x 56, for CIFAR-100 32 x 32.
    assert 3 * macs("fbnet", "3" * 22) < macs("fbnet-imagenet", "3" * 22)
    assert macs("fbnet", "3" * 22) > macs("fbnet", "2" * 22) > macs("fbnet", "0" * 22) > macs("fbnet", "1" * 22)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("nasbench-201/42121", "allowed 6 digits from 0 to 4"),
        ("nasbench-201/421215", "allowed 6 digits from 0 to 4"),
        ("fbnets/123", 'unknown search space; given "fbnets"; .*did you mean "fbnet"'),
        ("resnet-5", 'did you mean "resnet-50"'),
    ],
)
def test_networks_that_cannot_be_read(network: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        units_of_networks([network])


def test_an_unknown_space() -> None:
    with pytest.raises(InputError, match='did you mean "fbnet"'):
        space_named("fbnets")


def test_ten_measurements_of_an_additive_device_rank_all(cache: MappingCache) -> None:
    ten = choose_networks(SOME, 10, family=FAMILY, cache=cache)
    assert len(set(ten)) == 10
    truth = device(SOME, (0.0, 0.1, 1.0, 5.0, 2.0))
    result = predict_latencies(SOME, {name: truth[name] for name in ten}, family=FAMILY, cache=cache)
    ours = {one.network: one.seconds for one in result.predictions}
    assert spearmanr([truth[name] for name in SOME], [ours[name] for name in SOME]).statistic > 0.96
    assert all(one.low < one.seconds < one.high for one in result.predictions)
    held = [one.low <= truth[one.network] <= one.high for one in result.predictions]
    assert sum(held) > 0.85 * len(held)
    assert result.predictions[0].baseline is None


def blocks(digits: str, *, only_needed: bool) -> dict[str, int]:
    found = SPACES["nasbench-201"].network(digits, only_needed=only_needed)
    return {block.name: n for block, n in found.items()}


def test_what_the_result_of_a_cell_does_not_need() -> None:
    # Edges 0-1, 0-2, 1-2, 0-3, 1-3, 2-3: with only 0-3 and what leads to nodes 1 and 2, nothing of these is needed.
    written, needed = (blocks("330300", only_needed=one) for one in (False, True))
    assert (written["edge 3 16"], needed["edge 3 16"]) == (15, 5)
    assert (written["edge 0 64"], "edge 0 64" in needed, needed["stem"]) == (15, False, 1)
    # The last node hears nothing of the first: every cell but the last, and all before it, can be left out.
    assert blocks("333000", only_needed=True) == {"end": 1}
    assert blocks("000003", only_needed=True) == {"end": 1, "edge 3 64": 1}


def test_a_device_that_leaves_out_what_is_not_needed_is_known_from_ten(cache: MappingCache) -> None:
    weights = np.array([0.0, 0.2, 1.0, 3.0, 0.8])
    names = [f"nasbench-201/{one}{two}{three}{four}{three}{one}" for one, two, three, four in product("0134", repeat=4)]
    needed = [blocks(name.partition("/")[2], only_needed=True) for name in names]
    truth = {
        name: 1e-4 + 1e-4 * sum(n * weights[int(block.split()[1])] for block, n in own.items() if block[:4] == "edge")
        for name, own in zip(names, needed, strict=True)
    }
    ten = choose_networks(names, 10, family=FAMILY, cache=cache)
    result = predict_latencies(names, {name: truth[name] for name in ten}, family=FAMILY, cache=cache)
    ours = {one.network: one.seconds for one in result.predictions}
    assert spearmanr([truth[name] for name in names], [ours[name] for name in names]).statistic > 0.95


def test_known_devices_help_where_little_is_measured(cache: MappingCache) -> None:
    known = {"one": device(SOME, (0.0, 0.4, 1.0, 3.0, 6.0)), "other": device(SOME, (0.0, 0.5, 1.2, 2.5, 5.0))}
    truth = device(SOME, (0.0, 0.45, 1.1, 2.8, 5.5))
    measured = {name: truth[name] for name in SOME[30:33]}

    def off(result: object) -> float:
        return float(np.mean([abs(np.log(one.seconds / truth[one.network])) for one in result.predictions]))  # type: ignore[attr-defined]

    alone = predict_latencies(SOME, measured, family=FAMILY, cache=cache)
    helped = predict_latencies(SOME, measured, known=known, family=FAMILY, cache=cache)
    assert off(helped) < off(alone)
    assert helped.predictions[0].baseline is not None
    assert helped.devices == ("one", "other")


def test_layers_of_any_network_are_units(cache: MappingCache) -> None:
    names = ["mlp", "ds-cnn"]
    result = predict_latencies(names, {"mlp": 0.002}, family=("edge-16x16",), cache=cache)
    assert {one.network for one in result.predictions} == set(names)
    assert next(one for one in result.predictions if one.network == "mlp").measured == 0.002


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, captured.out, captured.err


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tmp_path / "networks.txt"
    names.write_text("\n".join(SOME[:12]))
    usual = ("predict", str(names), "-a", "nvdla-small")
    code, out, _ = said(capsys, *usual, "--choose", "3")
    assert (code, len(out.split())) == (0, 3)
    mine = tmp_path / "mine.csv"
    mine.write_text("network,ms\n" + "\n".join(f"{name},{at + 2}" for at, name in enumerate(out.split())))
    table = tmp_path / "all.csv"
    code, out, _ = said(capsys, *usual, "--from", str(mine), "--csv", str(table))
    assert (code, "the fastest of 12 networks" in out) == (0, True)
    assert len(table.read_text().splitlines()) == 13
    for arguments, fault in (
        (usual, "--from: missing"),
        ((*usual, "--choose", "13"), "choose: given 13; allowed 1 to 12"),
        (("predict", "--from", str(mine)), "networks: missing"),
        ((*usual, "--from", str(mine), "--known", str(mine), "--choose", "2"), "allowed one of the two"),
    ):
        code, _, error = said(capsys, *arguments)
        assert (code, error.count("\n"), fault in error) == (2, 1, True), error
    mine.write_text("network,ms\nnasbench-201/999999,3\n")
    code, _, error = said(capsys, *usual, "--from", str(mine))
    assert (code, 'mine.csv:2: nasbench-201: not a network of it; given "999999"' in error) == (2, True)
    mine.write_text("network,ms\nnasbench-201/111111,3\n")
    wrong = tmp_path / "known.csv"
    wrong.write_text("network,phone\nnasbench-201/111111,-3\n")
    code, _, error = said(capsys, *usual, "--from", str(mine), "--known", str(wrong))
    assert (code, 'known.csv:2: phone: given "-3"; allowed milliseconds above 0' in error) == (2, True)
