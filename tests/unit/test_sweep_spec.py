"""Sweep files: what they mean, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.search.sweep.conditions import parse_condition
from tilewright.search.sweep.design_figures import (
    AreaChoice,
    area_mm2,
    area_rule_of,
    base_values,
    leakage_mw,
    peak_tops,
)
from tilewright.search.sweep.space import count_points, designs, points
from tilewright.search.sweep.spec import load_sweep

LAYER = "attention:heads=1,seq=32,head_dim=16"
HEAD = f'machine: edge-16x16\nworkloads: ["{LAYER}"]\n'


def test_grid_of_lists_ranges_and_ties() -> None:
    sweep = load_sweep(
        {
            "machine": "edge-16x16",
            "workloads": [LAYER],
            "dataflows": ["mas", "flat"],
            "parameters": {
                "vector.lanes": {"from": 16, "to": 100, "factor": 2},
                "dram.bandwidth_gb_per_s": {"from": 0.1, "to": 0.4, "step": 0.1},
            },
            "together": [{"matrix.rows": [8, 8, 16], "matrix.columns": [8, 16, 16]}],
            "conditions": ["matrix.rows * matrix.columns >= 128 or vector.lanes == 16"],
        }
    )
    lanes, bandwidth, array = sweep.axes
    assert [values for (values,) in lanes.settings] == [16, 32, 64]
    assert [values for (values,) in bandwidth.settings] == [0.1, 0.2, 0.3, 0.4]
    assert array.settings == ((8, 8), (8, 16), (16, 16))
    found = list(designs(sweep))
    assert len(found) == 4 * (3 * 2 + 1)
    assert count_points(sweep) == 2 * len(found) == len({point.key for point in points(sweep)})


def test_buffers_by_position_are_buffers_by_name() -> None:
    keys = []
    for path in ("buffers.0.capacity_kib", "buffers.l1.capacity_kib"):
        sweep = load_sweep({"machine": "edge-16x16", "workloads": [LAYER], "parameters": {path: [64, 128]}})
        keys.append([point.key for point in points(sweep)])
    assert keys[0] == keys[1]


def test_key_follows_content() -> None:
    base = {"machine": "edge-16x16", "workloads": [LAYER], "parameters": {"matrix.rows": [8]}}
    changes = [
        {},
        {"objective": "energy"},
        {"dataflows": ["flat"]},
        {"workloads": ["attention:heads=2,seq=32,head_dim=16"]},
        {"machine": "flat-edge"},
        {"parameters": {"matrix.rows": [9]}},
    ]
    assert len({next(points(load_sweep(base | change))).key for change in changes}) == len(changes)
    assert next(points(load_sweep(base | {"name": "other"}))).key == next(points(load_sweep(base))).key


def test_sobol_is_repeatable_bounded_and_without_repeats() -> None:
    spec = {
        "machine": "edge-16x16",
        "workloads": [LAYER],
        "parameters": {
            "matrix.rows": {"from": 4, "to": 64, "scale": "geometric"},
            "dram.bandwidth_gb_per_s": {"from": 5, "to": 50},
            "vector.lanes": [16, 32],
        },
        "sampling": {"method": "sobol", "n": 1500, "seed": 3},
    }
    found = list(designs(load_sweep(spec)))
    assert found == list(designs(load_sweep(spec)))
    assert 1400 < len(found) <= 1500
    assert all(4 <= d["matrix.rows"] <= 64 and isinstance(d["matrix.rows"], int) for d in found)
    assert all(5 <= d["dram.bandwidth_gb_per_s"] <= 50 for d in found)
    small = sum(d["matrix.rows"] <= 16 for d in found)
    assert 0.4 < small / len(found) < 0.6  # geometric: as many from 4 to 16 as from 16 to 64
    other = list(designs(load_sweep(spec | {"sampling": {"method": "sobol", "n": 1500, "seed": 4}})))
    assert other != found


def test_designs_are_made_when_asked_for() -> None:
    sweep = load_sweep(
        {
            "machine": "edge-16x16",
            "workloads": [LAYER],
            "parameters": {
                "matrix.rows": {"from": 1, "to": 1000, "step": 1},
                "matrix.columns": {"from": 1, "to": 1000, "step": 1},
                "vector.lanes": {"from": 1, "to": 1000, "step": 1},
            },
        }
    )
    assert count_points(sweep) == 10**9
    assert next(points(sweep)).design == {"matrix.rows": 1, "matrix.columns": 1, "vector.lanes": 1}


def test_area_is_in_proportion_and_agrees_with_the_published_one() -> None:

    machine = tilewright.load_machine("fusemax-cloud")
    rule, values = area_rule_of(machine), base_values(machine)
    assert rule is not None
    assert area_mm2(rule, values) == pytest.approx(1207.95 + 12.94 + 94.18)
    half = area_mm2(rule, values | {"matrix.rows": 128})
    assert half == pytest.approx(1207.95 / 2 + 12.94 + 94.18)
    assert area_rule_of(tilewright.load_machine("edge-16x16")) is None
    edge = base_values(tilewright.load_machine("edge-16x16"))
    assert peak_tops(edge) == pytest.approx(0.512)


@pytest.mark.parametrize(
    ("text", "values", "holds"),
    [
        ("a <= b", {"a": 1, "b": 1}, True),
        ("1 < a < 3 and not b == 2", {"a": 2, "b": 3}, True),
        ("a * 2 + b // 2 - -1 == 8", {"a": 3, "b": 2}, True),
        ("x.kind == 'output' or a % 2 == 1", {"x.kind": "weight", "a": 2}, False),
        ("x.on == true", {"x.on": True}, True),
        ("a <= 4", {"a": None}, False),
    ],
)
def test_condition(text: str, values: dict, holds: bool) -> None:
    assert parse_condition(text, values).holds(values) is holds


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true') == 0",
        "(lambda: 1)() == 1",
        "[a for a in (1,)] == 1",
        "a ** 99 > 1",
        "a if b else b",
        "a[0] > 1",
        "f'{a}' == 1",
        "a.__class__ == 1",
        "a := 1",
        "a",
        "a +",
        "(" * 150 + "a" + ")" * 150,
        "a > 1" + " " * 500,
    ],
)
def test_condition_is_no_code(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_condition(text, ["a", "b"])
    assert "\n" not in str(refused.value)


def test_condition_that_cannot_be_computed_is_a_sentence() -> None:
    condition = parse_condition("a / b > 1", ["a", "b"])
    with pytest.raises(
        InputError, match=r'^condition "a / b > 1": cannot be computed with a=1, b=0 \(division by zero'
    ):
        condition.holds({"a": 1, "b": 0})


BAD = [
    ("machine: edge-16x17\nworkloads: [bert-base]\n", 'S:1:10: machine: unknown machine; given "edge-16x17"'),
    ("machine: edge-16x16\n", "S:1:1: workloads: this field is missing"),
    (HEAD + "parameters:\n  matrix.row: [8]\n", 'S:4:3: parameters.matrix.row: unknown field; given "row"'),
    (HEAD + "parameters:\n  matrix.rows: [8, 0]\n", "S:4:20: parameters.matrix.rows.1: out of range; given 0"),
    (HEAD + "parameters:\n  matrix.rows: [8, 8]\n", "S:4:20: parameters.matrix.rows.1: 8 is given twice"),
    (HEAD + "parameters:\n  matrix.rows: []\n", "S:4:16: parameters.matrix.rows: no value"),
    (
        HEAD + "parameters:\n  matrix.rows: {from: 8, to: 4, step: 1}\n",
        "S:4:30: parameters.matrix.rows.to: out of range",
    ),
    (
        HEAD + "parameters:\n  matrix.rows: {from: 8, to: 9, stp: 1}\n",
        "S:4:33: parameters.matrix.rows.stp: unknown field",
    ),
    (HEAD + "parameters:\n  matrix.rows: {from: 8, to: 64}\n", "S:4:16: parameters.matrix.rows: a grid needs a step"),
    (
        HEAD + "parameters:\n  matrix.rows: {from: 8, to: 64, factor: 1}\n",
        "S:4:42: parameters.matrix.rows.factor: out of",
    ),
    (
        HEAD + "parameters:\n  matrix.rows: {from: x, to: 64, factor: 2}\n",
        "S:4:23: parameters.matrix.rows.from: not a num",
    ),
    (
        HEAD + "parameters:\n  buffers.l1.capacity_kib: [8]\n  buffers.0.capacity_kib: [8]\n",
        "S:5:3: parameters.buffers.0.capacity_kib: is varied twice",
    ),
    (HEAD + "parameters:\n  name: [a]\n", "S:4:3: parameters.name: is no figure of the machine"),
    (
        HEAD + "together:\n  - {matrix.rows: [8, 16], matrix.columns: [8]}\n",
        "S:4:5: together.0: lists of different lengths; given matrix.rows 2, matrix.columns 1",
    ),
    (
        HEAD + "together:\n  - {matrix.rows: [8, 16], matrix.columns: [8, -1]}\n",
        "S:4:48: together.0.matrix.columns.1: out of range; given -1",
    ),
    (HEAD + "dataflows: [mass]\n", 'S:3:13: dataflows.0: unknown dataflow; given "mass"'),
    (HEAD + "dataflows: [mas, mas]\n", 'S:3:18: dataflows.1: "mas" is given twice'),
    (HEAD + "objective: speed\n", 'S:3:12: objective: unknown value; given "speed"; allowed latency, energy, edp'),
    (HEAD + "conditions:\n  - matrix.rows <= rows\n", 'S:4:5: conditions.0: unknown name; given "rows"'),
    (HEAD + "conditions: [matrix.rows]\n", 'S:3:14: conditions.0: compares nothing; given "matrix.rows"'),
    (
        HEAD + "limits: [area_mm2 <= 4]\n",
        "S:3:10: limits.0: the area is not known: edge-16x16 does not give matrix_mm2",
    ),
    (HEAD + "limits: [matrix.rows <= 4]\n", 'S:3:10: limits.0: unknown name; given "matrix.rows"'),
    (HEAD + "sampling: {method: sobol}\n", "S:3:11: sampling.n: sobol needs the number of designs to draw"),
    (HEAD + "sampling: {n: 4}\n", "S:3:15: sampling.n: a grid runs every design"),
    (HEAD + "sampling: {method: nsga2}\n", "S:3:11: sampling.n: nsga2 needs the number of designs to draw"),
    (HEAD + "sampling: {population: 8}\n", "S:3:24: sampling.population: is for a search; allowed together with"),
    (
        HEAD + "sampling: {method: nsga2, n: 9, objectives: [energy]}\n",
        "S:3:45: sampling.objectives: not a front; given energy; allowed two or more different ones",
    ),
    (
        HEAD + "sampling: {method: nsga2, n: 9, objectives: [energy, area]}\n",
        "S:3:54: sampling.objectives.1: the area is not known: edge-16x16 does not give matrix_mm2",
    ),
    (
        HEAD + "sampling: {method: nsga2, n: 9, objectives: [energy, speed]}\n",
        'S:3:54: sampling.objectives.1: unknown value; given "speed"; allowed latency, energy, power, area',
    ),
    (HEAD + "area: {mm2_per_pe: -1, mm2_per_lane: 0, mm2_per_kib: 0}\n", "S:3:20: area.mm2_per_pe: out of range"),
    (HEAD + "area: {mm2_per_pe: 1}\n", "S:3:7: area: not a rule; given mm2_per_pe; allowed mm2_per_pe, mm2_per_lane"),
    (HEAD + "area: {node_nm: 28, pe_format: int8}\n", "S:3:17: area.node_nm: no area is known; given 28; allowed 22"),
    (HEAD + "area: {node_nm: 45, pe_format: in8}\n", 'S:3:32: area.pe_format: no area of a multiply-add; given "in8"'),
    ("machine: edge-16x16\nworkloads: [bert-bse]\n", 'S:2:13: workloads.0: unknown workload; given "bert-bse"'),
    ("machine: edge-16x16\nworkloads: [bert-base, bert-base]\n", 'S:2:24: workloads.1: "bert-base" is given twice'),
    ("machine: [\n", "S:2:1: sweep: not valid YAML"),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_bad_file_is_one_line_with_its_place(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("S").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        load_sweep("S")
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_mapping_is_checked_like_a_file() -> None:
    with pytest.raises(InputError, match=r"^sweep: parameters\.matrix\.rows\.0: out of range; given 0"):
        load_sweep({"machine": "edge-16x16", "workloads": [LAYER], "parameters": {"matrix.rows": [0]}})
    with pytest.raises(InputError, match=r"^sweep: worloads: unknown field"):
        load_sweep({"machine": "edge-16x16", "worloads": [LAYER]})


def test_files_beside_the_sweep(tmp_path: Path) -> None:
    from tilewright.hw_models.load import machine_text

    (tmp_path / "mine.yaml").write_text(machine_text("edge-16x16").replace("name: edge-16x16", "name: mine"))
    (tmp_path / "sweep.yaml").write_text(f'machine: ./mine.yaml\nworkloads: ["{LAYER}"]\n')
    assert load_sweep(tmp_path / "sweep.yaml").machine.name == "mine"


def test_area_and_leakage_of_published_parts_at_a_node() -> None:
    machine = tilewright.load_machine("edge-16x16")
    rule, values = AreaChoice(node_nm=45, pe_format="int8").rule(), base_values(machine)
    pes, lanes, kib = 256, 256, 5120
    assert area_mm2(rule, values) == pytest.approx(
        pes * rule.mm2_per_pe + lanes * rule.mm2_per_lane + kib * rule.mm2_per_kib
    )
    # 282 + 137 um2 of cells and 64 register bits, seven tenths of the block
    assert rule.mm2_per_pe == pytest.approx((282 + 137 + 64 * 5.98 * (45 / 40) ** 2) / 0.7 * 1e-6)
    logic = pes * rule.mm2_per_pe + lanes * rule.mm2_per_lane
    assert leakage_mw(rule, values) == pytest.approx(rule.leakage_mw_per_mm2 * logic + 0.14 / 1024 * kib)
    assert leakage_mw(None, values) == 0


def test_parts_fill_half_of_the_published_chip() -> None:
    """TileFlow's chip (22 nm, 7.84 mm2 with everything) has four cores of 16 x 16, 16 lanes and 384 KiB."""
    rule = AreaChoice(node_nm=22, pe_format="fp16").rule()
    parts = 4 * (256 * rule.mm2_per_pe + 16 * rule.mm2_per_lane + 384 * rule.mm2_per_kib)
    assert parts == pytest.approx(3.75, abs=0.01)


def test_leakage_is_part_of_the_energy() -> None:
    file = {"machine": "edge-16x16", "workloads": ["attention:heads=1,seq=32,head_dim=16"]}
    (dry,) = tilewright.sweep(file, jobs=1).to_dict("records")
    (leaky,) = tilewright.sweep(file | {"area": {"node_nm": 45, "pe_format": "int8"}}, jobs=1).to_dict("records")
    assert leaky["cycles"] == dry["cycles"]
    rule, values = AreaChoice(node_nm=45, pe_format="int8").rule(), base_values(tilewright.load_machine("edge-16x16"))
    assert leaky["energy_pj"] - dry["energy_pj"] == pytest.approx(leakage_mw(rule, values) * 1e9 * leaky["seconds"])


def test_a_whole_number_is_one_value_however_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(HEAD + "parameters: {clock_ghz: [0.5, 1.0]}\n", encoding="utf-8")
    given = {"machine": "edge-16x16", "workloads": [LAYER]}
    keys = [
        [point.key for point in points(sweep)]
        for sweep in (
            load_sweep(file),
            load_sweep(given | {"parameters": {"clock_ghz": [0.5, 1]}}),
            load_sweep(given | {"parameters": {"clock_ghz": [0.5, 1.0]}}),
        )
    ]
    assert keys[0] == keys[1] == keys[2]


def test_a_grid_from_the_smallest_number_on(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    text = HEAD + "parameters:\n  dram.bandwidth_gb_per_s: {from: 5.0e-324, to: 40, factor: 2}\n"
    path.write_text(text, encoding="utf-8")
    assert len(load_sweep(path).axes[0].settings) == 1080
