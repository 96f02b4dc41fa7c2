"""Do the energies that a file leaves to a technology node follow the published tables, the buffers and the formats?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tilewright.document import parse_document
from tilewright.errors import InputError
from tilewright.hw_models.describe import describe
from tilewright.hw_models.energy_table import DRAM_KINDS, TableFigure, multiply_accumulate_pj, register_pj, sram_pj
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.redesign import Redesigner
from tilewright.hw_models.spec import MachineSpec
from tilewright.search import api

ON_CHIP = """name: mine
base: edge-16x16
energy: {node_nm: NODE}
"""


def _machine(tmp_path: Path, text: str) -> MachineSpec:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    return load_machine(path)


def test_at_45_nm_it_is_what_the_files_at_45_nm_say(tmp_path: Path) -> None:
    machine = _machine(tmp_path, ON_CHIP.replace("NODE", "45"))
    for name in ("edge-16x16", "tileflow-edge"):
        own, table = load_machine(name).energy, machine.energy
        assert dict(own.multiply_accumulate_pj) == dict(table.multiply_accumulate_pj)
        assert dict(own.vector_pj) == dict(table.vector_pj)
        assert own.register_pj_per_multiply_accumulate == table.register_pj_per_multiply_accumulate
        assert own.buffer_read_pj_per_byte["l1"] == table.buffer_read_pj_per_byte["l1"]
        assert own.buffer_write_pj_per_byte["l1"] == table.buffer_write_pj_per_byte["l1"]


def test_at_7_nm_it_is_the_published_table() -> None:
    assert multiply_accumulate_pj("int8", 7) == pytest.approx(0.07 + 0.03)
    assert multiply_accumulate_pj("bf16", 7) == pytest.approx(0.21 + 0.38)
    assert multiply_accumulate_pj("fp16", 7) == pytest.approx(0.34 + 0.38)
    assert multiply_accumulate_pj("fp32", 7) == pytest.approx(1.31 + 0.38)
    assert multiply_accumulate_pj("fp64", 7) is None


def test_products_of_a_block_share_the_register_of_their_sum() -> None:
    one, many = register_pj(45), register_pj(45, depth=64)
    assert (one, many) == (0.576, pytest.approx(0.576 * (32 + 0.5) / 64, rel=2e-3))
    nvdla = load_machine("nvdla-2048")
    assert nvdla.energy.register_pj_per_multiply_accumulate == register_pj(16, depth=64)
    assert nvdla.with_(**{"matrix.block.depth": 8}).energy.register_pj_per_multiply_accumulate == register_pj(
        16, depth=8
    )


def test_files_of_other_nodes_lie_within_a_factor_of_two() -> None:
    """What was put together by hand for a chip of 22 nm, from other sources, beside the table."""
    own = load_machine("gap9-ne16").energy
    table = load_machine("gap9-ne16", ["energy.node_nm=22"]).energy
    for mine, theirs in (
        (own.multiply_accumulate_pj["int8"], table.multiply_accumulate_pj["int8"]),
        (own.buffer_read_pj_per_byte["l1"], table.buffer_read_pj_per_byte["l1"]),
        (own.vector_pj["add"], table.vector_pj["add"]),
    ):
        assert 0.5 <= mine / theirs <= 2
    assert table.dram_read_pj_per_byte == own.dram_read_pj_per_byte  # not of the node


def test_less_at_every_smaller_node_and_more_in_a_larger_bank() -> None:
    nodes = [65, 55, 45, 40, 32, 28, 22, 16, 12, 7, 5, 3]
    for number_format in ("int1", "int4", "int8", "int16", "fp4_e2m1", "fp8_e4m3", "bf16", "tf32", "fp32", "int32"):
        energies = [multiply_accumulate_pj(number_format, node) or 0 for node in nodes]
        assert energies == sorted(energies, reverse=True) and min(energies) > 0
    for kib in (1, 4, 50, 128, 4096):
        reads = [sram_pj(kib, node)[0] for node in nodes]
        assert reads == sorted(reads, reverse=True)
    assert sram_pj(16, 22) < sram_pj(64, 22) < sram_pj(128, 22) == sram_pj(8192, 22)


def test_it_follows_buffers_and_formats_and_an_own_figure_counts(tmp_path: Path) -> None:
    text = ON_CHIP.replace("{node_nm: NODE}", "{node_nm: 22, vector_pj: {exp: 1}, multiply_accumulate_pj: {fp16: 5}}")
    machine = _machine(tmp_path, text)
    assert machine.energy.vector_pj["exp"] == 1
    assert machine.energy.multiply_accumulate_pj["fp16"] == 5
    assert isinstance(machine.energy.vector_pj["add"], TableFigure)
    smaller = machine.with_(
        **{"buffers.l1.capacity_kib": 8, "matrix.multiplies_per_pe_per_cycle": {"fp16": 1, "int4": 4}}
    )
    assert smaller.energy.buffer_read_pj_per_byte["l1"] < machine.energy.buffer_read_pj_per_byte["l1"]
    assert list(smaller.energy.multiply_accumulate_pj) == ["fp16", "int4"]
    assert (smaller.energy.multiply_accumulate_pj["fp16"], smaller.energy.vector_pj["exp"]) == (5, 1)
    newer = machine.with_(**{"energy.node_nm": 7})  # another technology: what was said of the old one goes
    assert newer.energy.vector_pj["exp"] == 3
    for changes in ({"buffers.l1.capacity_kib": 8}, {"energy.node_nm": 7}, {"energy.static_mw": 5}, {"matrix.rows": 8}):
        assert repr(Redesigner(machine).design(changes)) == repr(machine.with_(**changes))


def test_it_comes_back_from_its_text(tmp_path: Path) -> None:
    machine = _machine(tmp_path, ON_CHIP.replace("NODE", "7, register_pj_per_multiply_accumulate: 0"))
    again = _machine(tmp_path, machine.to_yaml())
    assert again == machine
    assert again.energy.register_pj_per_multiply_accumulate == 0
    assert "multiply_accumulate_pj" not in machine.to_yaml().split("energy:")[1].split("assumptions:")[0].replace(
        "register_pj_per_multiply_accumulate", ""
    )
    assert again.with_(n_cores=2).energy == machine.energy


def test_results_and_show_name_the_tables() -> None:
    machine = load_machine("edge-16x16", ["energy.node_nm=7"])
    rows = {row.path: row for row in describe(machine)}
    assert rows["energy.multiply_accumulate_pj.fp16"].kind == "derived"
    assert "Jouppi, ISCA 2021" in rows["energy.multiply_accumulate_pj.fp16"].source
    assert rows["energy.buffer_read_pj_per_byte.l1"].source.endswith("at 7 nm")
    new, old = (api.simulate("gemm:m=64,n=64,k=64", one) for one in (machine, load_machine("edge-16x16")))
    assert any("published tables at 7 nm" in text for text in new.assumptions)
    assert new.cycles == old.cycles
    assert new.energy_by_component["matrix"] == pytest.approx(
        old.energy_by_component["matrix"] * (0.72 + 0.173) / (2 + 0.576), rel=1e-3
    )


@pytest.mark.parametrize("kind", DRAM_KINDS)
def test_dram_by_kind(kind: str, tmp_path: Path) -> None:
    given = f"{{node_nm: 12, dram_kind: {kind}}}"
    energy = _machine(tmp_path, ON_CHIP.replace("{node_nm: NODE}", given)).energy
    assert 30 < energy.dram_write_pj_per_byte <= energy.dram_read_pj_per_byte < 170


@pytest.mark.parametrize(
    ("energy", "expected"),
    [
        (
            "{}",
            "energy.multiply_accumulate_pj: this field is missing; allowed with fp16, bf16, int8; or energy.node_nm",
        ),
        ("{node_nm: 2}", "energy.node_nm: out of range; given 2; allowed a number of at least 3 and of at most 65"),
        (
            "{node_nm: 7, dram_kind: ddr4, dram_read_pj_per_byte: 1, dram_write_pj_per_byte: 1}",
            "dram_kind: gives nothing",
        ),
        ("{dram_kind: ddr4}", "energy.dram_kind: given without node_nm"),
        ("{node_nm: 7, dram_kind: ddr5}", 'given "ddr5"; allowed lpddr4x, ddr4, gddr6, hbm2 (did you mean "ddr4"?)'),
        ("{node_nm: 7, vector_pj: {tanh: 1}}", 'energy.vector_pj.tanh: unknown key; given "tanh"; allowed add, sub,'),
        ("{node_nm: 7}", "energy.dram_read_pj_per_byte: this field is missing; allowed a number of at least 0, or"),
    ],
)
def test_what_cannot_be_is_one_line(energy: str, expected: str, tmp_path: Path) -> None:
    data = load_machine("edge-16x16", ["dram.grade=null"]).to_yaml()
    before, rest = data.split("energy:")
    text = f"{before}energy: {energy}\nassumptions:{rest.split('assumptions:')[1]}"
    with pytest.raises(InputError) as caught:
        _machine(tmp_path, text)
    assert expected in str(caught.value)


def test_a_node_that_gives_nothing_is_refused() -> None:
    text = load_machine("tileflow-cloud").to_yaml()
    with pytest.raises(InputError, match=r"energy\.node_nm: gives nothing, for every figure is given"):
        parse_document(text.replace("energy:", "energy:\n  node_nm: 7"), MachineSpec, what="machine", name="m")
