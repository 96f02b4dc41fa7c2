"""Several networks at once on groups of cores: one exact run in which they feel each other."""

from __future__ import annotations

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import simulate_stream
from tilewright.search.pipeline import at_once
from tilewright.search.pipeline.at_once import Placement, run_at_once
from tilewright.search.pipeline.costs import stage_machine
from tilewright.sim.engine.joint import Joint
from tilewright.sim.engine.reference import run_reference
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

MACHINE = load_machine("edge-16x16").with_(n_cores=3, **{"buffers.l1.capacity_kib": 16, "dram.bandwidth_gb_per_s": 2})


def camera() -> OperatorStream:
    b = Layers("camera", activations="int8", weights="int8")
    x = b.conv(b.conv(b.input("image", (1, 8, 12, 12)), 16, 3, "first"), 16, 3, "second")
    return b.finish([x])


def speech() -> OperatorStream:
    b = Layers("speech", activations="int8", weights="int8")
    return b.finish([b.linear(b.linear(b.input("frames", (1, 32, 64)), 128, "up"), 64, "down")])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> MappingCache:
    return MappingCache(tmp_path_factory.mktemp("cache"))


def test_one_network_alone_is_the_ordinary_run(kept: MappingCache) -> None:
    plain = simulate_stream(camera(), stage_machine(MACHINE, 2), cache=kept, residency=False)
    ran = run_at_once([Placement(stream=camera(), n_cores=2, n_images=3)], MACHINE, cache=kept)
    assert ran.networks[0].alone_cycles == plain.cycles
    assert ran.networks[0].images == tuple((i * plain.cycles, (i + 1) * plain.cycles) for i in range(3))
    assert ran.networks[0].slowdown == 1


def test_networks_feel_each_other_as_the_reference_says(kept: MappingCache, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Joint] = []
    join = at_once.join
    monkeypatch.setattr(at_once, "join", lambda *given: made.append(join(*given)) or made[-1])
    places = [Placement(stream=camera(), n_cores=2, n_images=2), Placement(stream=speech(), n_cores=1, n_images=3)]
    ran = run_at_once(places, MACHINE, cache=kept)
    assert run_reference(made[-1].program).cycles == ran.cycles
    assert [len(network.images) for network in ran.networks] == [2, 3]
    assert max(end for network in ran.networks for _, end in network.images) == ran.cycles
    assert all(network.slowdown >= 1 for network in ran.networks)
    assert max(network.slowdown for network in ran.networks) > 1.05


def test_more_cores_than_there_are_is_refused(kept: MappingCache) -> None:
    with pytest.raises(InputError, match="cores: given 4 for 2 networks"):
        run_at_once([Placement(stream=camera(), n_cores=2), Placement(stream=speech(), n_cores=2)], MACHINE)
