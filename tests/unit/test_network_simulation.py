"""Whole networks: totals, weights brought ahead, several cores, and the cache of mappings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.search import mapping_cache
from tilewright.search.mapping_cache import ForgetfulCache, MappingCache, cache_folder
from tilewright.search.network import simulate_stream
from tilewright.sim.jobs import jobs_of
from tilewright.sim.network_result import NetworkResult
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16")
MACHINES = {
    "edge": EDGE,
    "little bandwidth": EDGE.with_(**{"dram.bandwidth_gb_per_s": 3}),
    "little room": EDGE.with_(**{"buffers.l1.capacity_kib": 96}),
    "row buffer": EDGE.with_(**{"dram.detail": "row_buffer"}),
    "four cores": load_machine("tileflow-edge"),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> MappingCache:
    """One cache for this file, so that each operator is searched once."""
    return MappingCache(tmp_path_factory.mktemp("cache"))


def small(name: str = "small", width: int = 96) -> OperatorStream:
    """Two residual blocks of linear layers, attention, a convolution and a norm."""
    b = Layers(name, activations="int8", weights="int8")
    image = b.input("image", (1, 8, 12, 12))
    image = b.elementwise("relu", b.conv(image, 16, 3, "conv"))
    x = b.input("x", (1, 40, width))
    for block in range(2):
        with b.scope("block", block):
            q, k, v = (b.linear(x, width, name) for name in "qkv")
            x = b.linear(b.attention(q, k, v, "attention", head_dim=24), width, "out")
            hidden = b.linear(x, 4 * width, "up")
            x = b.linear(hidden, width, "down")
    return b.finish([x, image])


def run(stream: OperatorStream, machine: MachineSpec, cache: MappingCache, **options: Any) -> NetworkResult:
    return simulate_stream(stream, machine, cache=cache, **options)


# -- totals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_totals_are_sums_of_the_operators(machine: MachineSpec, kept: MappingCache) -> None:
    stream = small()
    result = run(stream, machine, kept)
    assert result.cycles == sum(operator.cycles for operator in result.operators)
    assert result.macs == stream.macs == sum(operator.macs for operator in result.operators)
    assert result.dram_read_bytes == sum(operator.dram_read_bytes for operator in result.operators)
    assert result.dram_write_bytes == sum(operator.dram_write_bytes for operator in result.operators)
    assert result.energy_pj == pytest.approx(sum(operator.energy_pj for operator in result.operators))
    for component, energy in result.energy_by_component.items():
        assert energy == pytest.approx(sum(o.energy_by_component.get(component, 0) for o in result.operators))
    assert result.weight_bytes == sum(operator.weight_bytes for operator in result.operators)
    done = Counter(name for o in result.operators for name in (o.name, *o.fused))
    assert done == Counter(operator.name for operator in stream.operators)
    assert sum(row["cycles"] for row in result.by_kind().values()) == result.cycles
    assert all(o.cycles >= 0 and o.matrix_utilization <= 1 for o in result.operators)
    assert result.dram_bytes >= stream.weight_bytes
    assert result.n_distinct == len({job.layer for job in jobs_of(stream)})


@pytest.mark.parametrize("objective", ["latency", "energy", "edp"])
def test_the_objective_is_pursued(objective: str, kept: MappingCache) -> None:
    results = {goal: run(small(), MACHINES["little room"], kept, objective=goal, prefetch=False)
               for goal in ("latency", "energy", "edp")}  # fmt: skip
    score = {"latency": lambda r: r.cycles, "energy": lambda r: r.energy_pj, "edp": lambda r: r.cycles * r.energy_pj}
    assert score[objective](results[objective]) <= (1 + 1e-9) * min(score[objective](r) for r in results.values()) or (
        objective == "edp"  # the product of sums is not the sum of products
    )


def test_fusing_saves_traffic(kept: MappingCache) -> None:
    stream = load_network("resnet-18").with_formats(weights="int8", activations="int8")
    fused, apart = run(stream, EDGE, kept), run(stream, EDGE, kept, fuse=False)
    assert fused.dram_bytes < 0.85 * apart.dram_bytes
    assert fused.cycles < apart.cycles


# -- weights brought ahead ---------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_bringing_weights_ahead_costs_nothing(machine: MachineSpec, kept: MappingCache) -> None:
    with_it, without = run(small(), machine, kept), run(small(), machine, kept, prefetch=False)
    assert without.cycles == without.cycles_without_prefetch == with_it.cycles_without_prefetch
    assert with_it.cycles <= without.cycles
    assert (with_it.dram_read_bytes, with_it.dram_write_bytes) == (without.dram_read_bytes, without.dram_write_bytes)
    assert with_it.macs == without.macs
    assert any("loaded under the current one" in note for note in with_it.assumptions)
    assert not any("loaded under the current one" in note for note in without.assumptions)


@pytest.mark.parametrize("network", ["resnet-18", "bert-base", "llama-3.2-1b:decode=1,context=512"])
def test_bringing_weights_ahead_helps_real_networks(network: str, kept: MappingCache) -> None:
    stream = load_network(network).with_formats(weights="int8", activations="int8", cache="int8")
    with_it, without = run(stream, EDGE, kept), run(stream, EDGE, kept, prefetch=False)
    assert with_it.cycles < without.cycles
    assert with_it.dram_bytes == without.dram_bytes
    assert with_it.lower_bound_cycles <= without.lower_bound_cycles <= without.cycles
    for early, alone in zip(with_it.operators, without.operators, strict=True):
        # Bytes are booked with the operator that uses them, whenever they come; so is what bringing them costs.
        assert early.dram_read_bytes == alone.dram_read_bytes
        assert early.early_weight_bytes == 0 or early.weight_bytes
        assert early.bound_ratio >= 1
        assert early.lower_bound.matrix_cycles == alone.lower_bound.matrix_cycles
        if not early.early_weight_bytes:
            assert early.cycles <= alone.cycles


# -- errors ------------------------------------------------------------------------------------------------


def test_a_format_without_multiplier_is_one_line_that_names_the_place(kept: MappingCache) -> None:
    stream = small().with_formats(weights="fp64", activations="fp64")
    with pytest.raises(InputError, match=r'^conv: edge-16x16: .*given "fp64"; allowed [^\n]*$'):
        run(stream, EDGE, kept)


def test_an_operator_that_fits_nowhere_is_named(kept: MappingCache) -> None:
    with pytest.raises(InputError, match=r"^block.0.attention: the mapping needs [^\n]* buffer l1"):
        run(small(), EDGE.with_(**{"buffers.l1.capacity_kib": 1 / 16}), kept)


# -- the cache ---------------------------------------------------------------------------------------------


def test_a_hit_gives_the_same_result(tmp_path: Path) -> None:
    fresh, again = MappingCache(tmp_path), MappingCache(tmp_path)
    first, second = run(small(), EDGE, fresh), run(small(), EDGE, again)
    assert first == second == run(small(), EDGE, ForgetfulCache())
    assert (fresh.hits, again.misses) == (0, 0)
    assert fresh.misses == again.hits == len({job.layer for job in jobs_of(small())})


def test_a_damaged_file_is_written_anew(tmp_path: Path) -> None:
    want = run(small(), EDGE, MappingCache(tmp_path))
    files = sorted(tmp_path.rglob("*.json"))
    whole = [path.read_text() for path in files]
    value = json.loads(whole[0])["value"]
    names = value["tiling"]
    wrong: list[dict[str, object]] = [
        {},
        dict.fromkeys(names, 0),
        dict.fromkeys(names, 1.5),
        dict.fromkeys(names, 10**9),
        names | {"x": 1},
    ]
    broken = ["", "{", whole[0][:-5], "[]", '{"key": 1}']
    other = [value | {"way": way} for way in (-1, 10**6, "0", None)] + [value | {"dataflow": "none"}]
    values = [*(value | {"tiling": tiling} for tiling in wrong), *other]
    broken += [json.dumps(json.loads(whole[0]) | {"value": one}) for one in values]
    for text in broken:
        for path in files[:3]:
            kept = json.loads(path.read_text())
            path.write_text(text.replace(json.loads(whole[0])["key"], kept["key"]))
        assert run(small(), EDGE, MappingCache(tmp_path)) == want
        assert [path.read_text() for path in files] == whole
    assert not list(tmp_path.rglob("*.part"))


def test_the_question_changes_the_key() -> None:
    cache, (first, *others) = MappingCache(Path("nowhere")), jobs_of(small())
    keys = {
        cache.key("tiling", dataflow, objective, layer, machine)
        for dataflow in ("gemm", "vector")
        for objective in ("latency", "energy")
        for layer in {first.layer, *(job.layer for job in others)}
        for machine in (EDGE, EDGE.with_(**{"vector.lanes": 17}), load_machine("tileflow-edge"))
    }
    assert len(keys) == 2 * 2 * 3 * len({job.layer for job in (first, *others)})
    assert all(cache.key("tiling", "gemm", "latency", first.layer, EDGE) in keys for _ in range(2))


def test_other_code_is_another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = MappingCache(Path("nowhere"))
    before = cache.key("tiling")
    monkeypatch.setattr(mapping_cache, "code_digest", lambda: "other code")
    assert cache.key("tiling") != before


def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = MappingCache(tmp_path / "file")
    cache.put(cache.key("a"), {"b": 1})
    assert cache.get(cache.key("a")) is None


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(tmp_path / "given"))
    assert cache_folder() == tmp_path / "given"
    monkeypatch.delenv("TILEWRIGHT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "tilewright"


WRITE_AND_READ = """
import sys
from pathlib import Path
from tilewright.search.mapping_cache import MappingCache

cache, seed = MappingCache(Path(sys.argv[1])), int(sys.argv[2])
for i in range(200):
    cache.put(cache.key("entry", i % 20), {"tiling": {"m": i % 20}, "long": "x" * 5000})
    found = cache.get(cache.key("entry", (i + seed) % 20))
    if found is not None and found["tiling"] != {"m": (i + seed) % 20}:
        sys.exit("a wrong entry was read")
"""


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    """Both write the same entries and read each other's all the time."""
    both = [subprocess.Popen([sys.executable, "-c", WRITE_AND_READ, str(tmp_path), seed]) for seed in ("3", "7")]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    cache = MappingCache(tmp_path)
    assert [cache.get(cache.key("entry", i)) is not None for i in range(20)] == [True] * 20
    assert not list(tmp_path.rglob("*.part"))
