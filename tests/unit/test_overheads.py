"""Fixed costs of a network and the DRAM's sustained share: what they add, where they are shown, none is none."""

from __future__ import annotations

from math import ceil

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.describe import figures, figures_hash
from tilewright.hw_models.dram import bytes_per_cycle
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.redesign import Redesigner
from tilewright.reports.network_case import NetworkCase
from tilewright.reports.network_page import operator_trace
from tilewright.reports.network_table import total_rows
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import simulate_stream
from tilewright.sim.network_result import OVERHEAD_KINDS
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers

EDGE = load_machine("edge-16x16").with_(**{"energy.static_mw": 10})
COSTLY = EDGE.with_(**{"overheads.per_inference_us": 100, "overheads.per_layer_us": 2.5005})
CACHE = MappingCache()


def stream() -> OperatorStream:
    b = Layers("small", activations="int8", weights="int8")
    x = b.input("x", (1, 40, 96))
    for name in ("up", "down"):
        x = b.linear(x, 96, name)
    return b.finish([x])


def test_fixed_costs_add_their_cycles_and_constant_energy_and_nothing_else() -> None:
    plain, costly = (simulate_stream(stream(), machine, cache=CACHE) for machine in (EDGE, COSTLY))
    each = ceil(2500.5)  # at 1 GHz
    assert costly.cycles == plain.cycles + 100_000 + 2 * each
    assert costly.overhead_cycles == 100_000 + 2 * each
    assert costly.lower_bound_cycles - plain.lower_bound_cycles == costly.overhead_cycles
    assert [o.cycles for o in costly.operators] == [o.cycles for o in plain.operators]
    power_mw = EDGE.energy.static_mw + EDGE.energy.dram_background_mw
    assert costly.overhead_energy_pj == pytest.approx(power_mw * costly.overhead_cycles)
    assert costly.energy_pj == pytest.approx(plain.energy_pj + costly.overhead_energy_pj)
    kinds = costly.by_kind()
    assert [kinds[kind]["cycles"] for kind in OVERHEAD_KINDS] == [2 * each, 100_000]
    assert sum(row["cycles"] for row in kinds.values()) == costly.cycles
    assert sum(row["energy_pj"] for row in kinds.values()) == pytest.approx(costly.energy_pj)
    assert any("100 us" in text and "2.5005 us" in text for text in costly.assumptions)
    assert plain.overhead_cycles == 0 and not any("fixed" in text for text in (*plain.by_kind(), *plain.assumptions))


def test_fixed_costs_are_shown() -> None:
    result = simulate_stream(stream(), COSTLY, cache=CACHE)
    case = NetworkCase(result=result, stream=stream(), machine=COSTLY, objective="latency", command="")
    assert dict(total_rows(case))["fixed costs"].startswith("105,002 cycles (100,000 an inference, 2,501 for each of 2")
    assert case.cycles_by_limit()["fixed"] == result.overhead_cycles
    assert case.to_dict()["layer_overhead_cycles"] == 2501
    commands = operator_trace(case).commands
    assert commands[0].start == 102_501 and commands[-1].end == result.cycles


def test_a_sustained_share_is_a_slower_dram() -> None:
    shared = EDGE.with_(**{"dram.sustained_share": 0.8})
    slower = EDGE.with_(**{"dram.bandwidth_gb_per_s": 24})
    assert bytes_per_cycle(shared) == bytes_per_cycle(slower) == 24
    one, other = (simulate_stream(stream(), machine, cache=CACHE) for machine in (shared, slower))
    assert one.cycles == other.cycles and one.dram_bytes == other.dram_bytes
    assert Redesigner(EDGE).design({"dram.sustained_share": 0.8}) == shared


def test_what_is_not_given_is_no_figure() -> None:
    names = {f"{section}.{name}" for section, name, _ in figures(EDGE)}
    assert "dram.sustained_share" not in names and not any(name.startswith("overheads.") for name in names)
    assert figures_hash(EDGE) != figures_hash(COSTLY)
    assert {name for section, name, _ in figures(COSTLY) if section == "overheads"} == {
        "per_inference_us",
        "per_layer_us",
    }


@pytest.mark.parametrize(
    ("path", "value"), [("dram.sustained_share", 0), ("dram.sustained_share", 1.01), ("overheads.per_layer_us", -1)]
)
def test_what_cannot_be_is_refused(path: str, value: float) -> None:
    with pytest.raises(InputError, match=path.rpartition(".")[2]):
        EDGE.with_(**{path: value})
