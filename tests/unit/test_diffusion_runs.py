"""Is a run of diffusion steps the sum of its steps, each as the network that it is?"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pytest

from tilewright.errors import InputError
from tilewright.search.api import simulate_network
from tilewright.search.runs.run import simulate_run
from tilewright.sim.runs.diffusion import DiffusionResult
from tilewright.workloads.network import load_network
from tilewright.workloads.runs.kinds.diffusion import DiffusionRun, StageSpec
from tilewright.workloads.runs.load import load_run, parse_run
from tilewright.workloads.zoo.diffusion import DiffusionConfig, dit
from tilewright.workloads.zoo.layers import Layers

N_BLOCKS, WIDTH = 5, 64
MACHINE = "edge-16x16"


@pytest.fixture(scope="module", autouse=True)
def networks(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Diffusion transformers of five blocks, for two sizes of picture."""
    config = DiffusionConfig(hidden=WIDTH, heads=2, layers=N_BLOCKS, patch=2, channels=4)
    for latent in (8, 16):
        path = tmp_path_factory.mktemp("networks") / f"tiny{latent}.json"
        dit(Layers(f"tiny{latent}"), config, batch=1, latent=latent).save(path)
        NETWORKS[latent] = str(path)


NETWORKS: dict[int, str] = {}


@lru_cache
def result(schedule: str = "full", **more: object) -> DiffusionResult:
    found = simulate_run(DiffusionRun(network=NETWORKS[8], steps=4, schedule=schedule, **more), MACHINE)  # type: ignore[arg-type]
    assert isinstance(found, DiffusionResult)
    return found


def test_full_steps_are_the_network_so_often() -> None:
    alone = simulate_network(NETWORKS[8], MACHINE)
    run = result()
    assert run.cycles == 4 * alone.cycles
    assert run.energy_pj == pytest.approx(4 * alone.energy_pj)
    assert run.dram_bytes == 4 * alone.dram_bytes
    assert [row.seconds for row in run.steps] == [alone.seconds] * 4
    assert run.measure("speedup_steps") == pytest.approx(1)
    assert run.measure("cache_peak_bytes") == 0
    assert [phase.name for phase in run.phases] == ["full"]


def test_phases_hold_all_steps_and_memory_what_is_kept() -> None:
    run = result("dbcache:F=1,W=1")
    assert [(phase.name, phase.n_steps) for phase in run.phases] == [("full", 1), ("cached", 3)]
    assert run.cycles == sum(phase.cycles for phase in run.phases)
    assert sum(row.seconds for row in run.steps) == pytest.approx(run.seconds)
    rows = 16 * WIDTH * 2
    assert {point.cache_bytes for point in run.memory} == {rows}
    assert run.measure("cache_read_bytes") == 3 * rows
    assert run.measure("cache_write_bytes") == rows
    assert run.measure("speedup_flop") > 2
    assert run.steps[1].blocks == 1
    assert run.steps[1].computed == (1, 0, 0, 0, 0)
    assert len(run.rows()) == 4
    assert run.to_dict()["steps"][3]["kind"] == "cached"


def test_guidance_runs_twice_or_in_one_batch() -> None:
    turns = result(guidance=2)
    assert turns.macs == 2 * result().macs
    assert turns.cycles == 2 * result().cycles
    assert turns.steps[0].forwards == 2
    given = DiffusionRun(network="dit-xl-2:image=16", steps=1, guidance=2, guidance_as="batch")
    batch = simulate_run(given, MACHINE)
    assert batch.phases[0].network == "dit-xl-2:image=16"
    assert batch.macs == 2 * load_network("dit-xl-2:image=16").macs
    with pytest.raises(InputError, match="options"):  # a saved stream has no batch to double
        result(guidance=2, guidance_as="batch")


def test_stages_have_networks_of_their_own() -> None:
    stages = (StageSpec(steps=1), StageSpec(steps=2, network=NETWORKS[16]))
    run = simulate_run(DiffusionRun(network=NETWORKS[8], stages=stages), MACHINE)
    assert isinstance(run, DiffusionResult)
    assert [phase.name for phase in run.phases] == ["stage 1: full", "stage 2: full"]
    assert [row.stage for row in run.steps] == [0, 1, 1]
    assert run.macs > 3 * result().macs / 4


def test_time_beside_the_network_only_waits() -> None:
    run = result("dbcache:F=1,W=1", step_ms=1.0, cached_step_ms=2.0)
    assert run.seconds == pytest.approx(result("dbcache:F=1,W=1").seconds + 10e-3)
    assert run.macs == result("dbcache:F=1,W=1").macs
    assert any("given, not simulated" in text for text in run.assumptions)


def test_tables_of_time_take_memory_for_work() -> None:
    run = result(time_tables=True)
    assert run.macs < result().macs
    assert run.memory[0].weight_bytes != result().memory[0].weight_bytes


def test_a_name_with_options_is_such_a_run() -> None:
    run = load_run("dit-xl-2:image=32,schedule=dbcache/F=1/W=8/MC=4,steps=20")
    assert run == DiffusionRun(network="dit-xl-2:image=32", steps=20, schedule="dbcache:F=1,W=8,MC=4")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("network: dit-xl-2", "steps: given neither of steps and stages"),
        ("network: dit-xl-2\nsteps: 0", "steps: out of range"),
        ("network: dit-xl-2\nsteps: 2\nguidance_as: batches", 'did you mean "batch"'),
        ("network: dit-xl-2\nsteps: 2\nshedule: full", 'did you mean "schedule"'),
        ("network: dit-xl-2\nsteps: 2\nweights: int99", "weights: "),
    ],
)
def test_a_faulty_file_is_one_line(text: str, fault: str) -> None:
    with pytest.raises(InputError) as error:
        parse_run(f"run: diffusion\n{text}", name="mine.yaml")
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"schedule": "dbcach"}, 'did you mean "dbcache"'),
        ({"schedule": "dbcache:F=20,B=8"}, "has 5 blocks"),
        ({"network": "autoencoder"}, "has no blocks"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(more: dict[str, str], fault: str) -> None:
    given = {"network": NETWORKS[8], "steps": 2, **more}
    with pytest.raises(InputError, match=r".+") as error:
        simulate_run(DiffusionRun(**given), MACHINE)  # type: ignore[arg-type]
    assert fault in str(error.value)


def test_the_example_runs() -> None:
    run = load_run(Path(__file__).parents[2] / "examples" / "diffusion_steps.yaml")
    assert isinstance(run, DiffusionRun)
    assert run.after == ("vae-decoder:image=256,channels=4",)
    found = simulate_run(DiffusionRun(network=NETWORKS[8], steps=run.steps, schedule=run.schedule), MACHINE)
    assert found.measure("full_steps") == 7


def test_more_than_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(f"base: {MACHINE}\nname: small\ndram: {{capacity_gib: 0.0001}}\n")
    with pytest.raises(InputError, match="fits in no schedule"):
        simulate_run(DiffusionRun(network=NETWORKS[8], steps=2), str(path))
