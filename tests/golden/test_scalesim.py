"""Is the systolic model with ``fill_drain: scale_sim`` equal to SCALE-Sim v3? Figures of ``record_scalesim.py``."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tilewright.hw_models.matrix_unit import MatrixCost, product
from tilewright.hw_models.spec import MatrixUnitSpec

HERE = Path(__file__).parent


def recorded(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(newline="") as lines:
        return list(csv.DictReader(lines))


def cost_of(row: dict[str, str], fill_drain: str = "scale_sim") -> MatrixCost:
    unit = MatrixUnitSpec(
        rows=int(row["rows"]),
        columns=int(row["columns"]),
        stationarity=row["stationarity"],  # type: ignore[arg-type]
        fill_drain=fill_drain,  # type: ignore[arg-type]
        multiplies_per_pe_per_cycle={"int8": 1},
    )
    return product(unit, int(row["m"]), int(row["k"]), int(row["n"]), "int8")


def test_cycles_and_reads_of_every_recorded_product_are_equal() -> None:
    rows = recorded("scalesim_gemm.csv")
    assert len(rows) >= 200
    assert {row["stationarity"] for row in rows} == {"output", "weight", "input"}
    assert {row["stall_cycles"] for row in rows} == {"0"}
    different = []
    for row in rows:
        cost = cost_of(row)
        # SCALE-Sim numbers its cycles from 0 and reports the number of the last one.
        ours = (cost.cycles - 1, cost.read_elements_a, cost.read_elements_b)
        if ours != (int(row["total_cycles"]), int(row["reads_a"]), int(row["reads_b"])):
            different.append((row, ours))
    assert different == []


def test_resnet50_is_equal_layer_by_layer() -> None:
    rows = recorded("scalesim_resnet50.csv")
    assert len(rows) == 54
    assert sum(int(row["m"]) * int(row["k"]) * int(row["n"]) for row in rows) == pytest.approx(4.09e9, rel=0.01)
    assert [cost_of(row).cycles - 1 for row in rows] == [int(row["total_cycles"]) for row in rows]


def test_the_other_ways_to_fill_and_drain_are_not_scale_sims() -> None:
    rows = recorded("scalesim_gemm.csv")
    for way in ("per_pass", "per_command", "hidden"):
        equal = sum(cost_of(row, way).cycles - 1 == int(row["total_cycles"]) for row in rows)
        assert equal < len(rows), way
    # the formula of its paper, per_pass here, still holds where an operand stays
    stays = [row for row in rows if row["stationarity"] != "output"]
    assert all(cost_of(row, "per_pass").cycles - 1 == int(row["total_cycles"]) for row in stays)
