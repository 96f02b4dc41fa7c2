"""A space of `tilewright search --over` is registered with an options object of its own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tilewright.cli.run import run
from tilewright.cli.search_space import SPACES, SearchCall, SearchOptions, SearchSpace, count


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(SearchOptions):
    budget: int = 7
    pareto: bool = False


def test_a_space_of_ones_own_gets_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[SearchCall[Options]] = []
    with SPACES.only_for_now():
        SPACES.register("own", SearchSpace(name="own", options=Options, run=calls.append, budget=count))
        assert run(["search", "anything", "--over", "own", "-a", "m", "--budget", "3"]) == 0
        assert run(["search", "anything", "--over", "own", "-a", "m", "--pareto"]) == 0
        assert run(["search", "anything", "--over", "own"]) == 2
        assert capsys.readouterr().err.endswith("--machine: missing; this search needs it\n")
        assert run(["search", "anything", "--over", "own", "-a", "m", "--seed", "3"]) == 2
        assert "--seed: means nothing to --over own; allowed --budget, --machine, --pareto" in capsys.readouterr().err
        assert run(["search", "anything", "--over", "own", "-a", "m", "--budget", "3x"]) == 2
        assert "--budget: not a count" in capsys.readouterr().err
    expected = [Options(machine="m", budget=3), Options(machine="m", pareto=True)]
    assert [(call.target, call.options) for call in calls] == [("anything", options) for options in expected]
    assert run(["search", "anything", "--over", "own", "-a", "m"]) == 2
    assert 'unknown space; given "own"; allowed tiling, fusion, bits, joint' in capsys.readouterr().err
