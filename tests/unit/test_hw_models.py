"""Do the machine files say what their sources say, and do the cost models give the figures one can work out by hand?"""

from __future__ import annotations

import pickle
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path

import pytest

from tilewright.errors import InputError
from tilewright.hw_models import components, dram, energy, matrix_unit, row_buffer, vector_unit
from tilewright.hw_models.buffer import access_cycles
from tilewright.hw_models.describe import describe
from tilewright.hw_models.dram_grades import RowTimingSpec, grade_names, row_timing
from tilewright.hw_models.energy import Counters
from tilewright.hw_models.load import load_machine, machine_names, machine_text
from tilewright.hw_models.spec import BufferSpec, MachineSpec, MatrixUnitSpec, VectorUnitSpec

NAMES = (
    "a100",
    "apple-m2-pro",
    "apple-m3-ultra",
    "apple-m4",
    "b200",
    "codenet-ultra96",
    "coral-edgetpu-devboard",
    "coral-edgetpu-usb",
    "dpu-b4096-zcu102",
    "dpu-b4096-zcu104",
    "edge-16x16",
    "edge-16x16-bitfusion",
    "ethos-u55-256",
    "ethos-u65-imx93",
    "eyeriss",
    "flat-cloud",
    "flat-edge",
    "fusemax-cloud",
    "gap9-ne16",
    "gap9-ne16-240mhz",
    "gb10",
    "gb200",
    "h100",
    "h200",
    "h800",
    "jetson-agx-orin",
    "jetson-orin-nano",
    "jetson-thor",
    "l20",
    "l40s",
    "mi210",
    "npu-with-lpddr5x-pim",
    "npu-with-neupims",
    "nvdla-2048",
    "nvdla-512",
    "nvdla-small",
    "radeon-r9700",
    "raspberry-pi-5",
    "rk3566-npu",
    "rk3576-npu-core",
    "rk3588-npu-core",
    "rtx4090",
    "rtxpro6000",
    "ryzen-ai-340",
    "ryzen-ai-max-395",
    "stm32n6570-dk",
    "tenstorrent-n150",
    "tileflow-cloud",
    "tileflow-edge",
    "tileflow-rtl",
    "tpu-v5e",
    "tpu-v6e",
)


# --- machine files ---------------------------------------------------------------------------------------------------


def test_the_shipped_machines_are_all_there() -> None:
    assert machine_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_figure_has_a_source(name: str) -> None:
    machine = load_machine(name)
    assert machine.name == name
    assert machine.assumptions
    rows = describe(machine)
    assert [row.path for row in rows if not row.kind] == []
    paths = [row.path for row in rows]
    unused = [
        pattern
        for entry in machine.sources
        for pattern in entry.fields
        if not any(fnmatchcase(path, pattern) or path.startswith(f"{pattern}.") for path in paths)
        and pattern.removesuffix(".*") not in paths
    ]  # a file with a base says of a figure that differs that what is below it differs too
    assert unused == []


def test_a_figure_without_a_source_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(machine_text("edge-16x16").replace("n_cores]", "n_corez]"))
    rows = {row.path: row for row in describe(load_machine(path))}
    assert (rows["n_cores"].kind, rows["n_cores"].source) == ("", "no source given")
    assert rows["clock_ghz"].kind == "assumed"


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        # machines of the attention papers, section by section of the published tables
        ("edge-16x16", "matrix.rows", 16),
        ("edge-16x16", "vector.lanes", 256),
        ("edge-16x16", "buffers.l1.capacity_kib", 5 * 1024),
        ("edge-16x16", "dram.bandwidth_gb_per_s", 30),
        ("tileflow-edge", "dram.bandwidth_gb_per_s", 60),
        ("tileflow-cloud", "dram.bandwidth_gb_per_s", 384),
        ("tileflow-rtl", "clock_ghz", 0.4),
        ("eyeriss", "clock_ghz", 0.2),
        ("eyeriss", "matrix.scratchpads.filter_words", 224),
        ("eyeriss", "dram.bandwidth_gb_per_s", 0.48),
        ("tileflow-rtl", "buffers.cache.capacity_kib", 384),
        ("flat-edge", "buffers.global.capacity_kib", 512),
        ("flat-cloud", "buffers.global.capacity_kib", 32 * 1024),
        ("fusemax-cloud", "clock_ghz", 0.94),
        ("fusemax-cloud", "buffers.global.capacity_kib", 16 * 1024),
        ("fusemax-cloud", "matrix.elementwise_cycles.exp", 6),
        ("flat-cloud", "vector.cycles.sub", 0),
    ],
)
def test_published_figures(name: str, path: str, value: float) -> None:
    assert {row.path: row.value for row in describe(load_machine(name))}[path] == value


def test_bandwidths_are_exact() -> None:
    gib = Fraction(400 * 2**30, 940_000_000)
    assert dram.bytes_per_cycle(load_machine("fusemax-cloud")) == gib
    assert dram.bytes_per_cycle(load_machine("flat-cloud")) == gib
    assert dram.bytes_per_cycle(load_machine("flat-edge")) == gib / 8
    assert dram.bytes_per_cycle(load_machine("tileflow-rtl")) == 8  # 4 words of 16 bits
    assert dram.bytes_per_cycle(load_machine("tileflow-edge")) == 50
    assert load_machine("fusemax-cloud").clock_hz == 940_000_000


def test_tileflow_machines_have_the_published_number_of_multipliers() -> None:
    for name, n_pes in (("tileflow-edge", 32 * 32), ("tileflow-cloud", 256 * 256)):
        machine = load_machine(name)
        assert machine.n_cores * machine.matrix.rows * machine.matrix.columns == n_pes


def test_machines_are_hashable_and_can_be_sent_to_another_process() -> None:
    machine = load_machine("edge-16x16")
    assert pickle.loads(pickle.dumps(machine)) == machine
    assert hash(machine) == hash(pickle.loads(pickle.dumps(machine)))


def test_the_description_has_units_and_the_grades_timing() -> None:
    rows = {row.path: row for row in describe(load_machine("edge-16x16"))}
    assert rows["clock_ghz"].unit == "GHz"
    assert rows["vector.cycles.exp"].unit == "cycles"
    assert rows["energy.multiply_accumulate_pj.fp16"].unit == "pJ"
    assert rows["dram.bandwidth_gb_per_s"].unit == "GB/s"
    assert rows["energy.dram_read_pj_per_byte"].unit == "pJ/byte"
    assert (rows["dram.timing.trcd_ns"].value, rows["dram.timing.trcd_ns"].kind) == (18, "datasheet")
    assert rows["dram.timing.rows_ahead"].kind == "assumed"


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "capacity_kib: 5120",
            "capacity_kb: 5",
            "19:5: buffers.0.capacity_kb: unknown field; given 5; allowed name, capacity_kib, read_bytes_per_cycle, "
            'write_bytes_per_cycle, shared_by_cores, latency_cycles, holds, parts (did you mean "capacity_kib"?)',
        ),
        (
            "bandwidth_gb_per_s: 30",
            "bandwidth: 30",
            "21:3: dram.bandwidth: unknown field; given 30; allowed bandwidth_gb_per_s, first_access_latency_ns, "
            "burst_bytes, detail, ports, grade, timing, sustained_share, capacity_gib (did you mean "
            '"bandwidth_gb_per_s"?)',
        ),
        (
            "bandwidth_gb_per_s: 30",
            "bandwidth_gb_per_s: 0",
            "21:23: dram.bandwidth_gb_per_s: out of range; given 0; allowed a number greater than 0 and of at most "
            "1,000,000",
        ),
        (
            "clock_ghz: 1",
            'clock_ghz: "1 GHz"',
            '4:12: clock_ghz: not a number; given "1 GHz"; allowed a number of at least 1e-09 and of at most 100 '
            "(write the number alone: its unit is in the name of the field)",
        ),
        (
            "clock_ghz: 1",
            "clock_ghz: 940",
            "4:12: clock_ghz: out of range; given 940; allowed a number of at least 1e-09 and of at most 100",
        ),
        (
            "rows: 16",
            "rows: 0",
            "7:9: matrix.rows: out of range; given 0; allowed a whole number of at least 1 and of at most 1,048,576",
        ),
        (
            "stationarity: output",
            "stationarity: weights",
            '9:17: matrix.stationarity: unknown value; given "weights"; allowed output, weight, input, flexible '
            '(did you mean "weight"?)',
        ),
        (
            "{fp16: 1, bf16: 1, int8: 1}",
            "{fp16: 1, bf61: 1, int8: 1}",
            '11:42: matrix.multiplies_per_pe_per_cycle.bf61: unknown key; given "bf61"; allowed int1, int2, int3, '
            "int4, int5, int6, int7, int8, int9, int10, int11, int12, int13, int14, int15, int16, int32, fp4_e1m2, "
            "fp4_e2m1, fp4_e3m0, fp6_e2m3, fp6_e3m2, fp8_e3m4, fp8_e4m3, fp8_e5m2, fp16, bf16, tf32, fp32, fp64 "
            '(did you mean "bf16"?)',
        ),
        (
            ", exp: 6, div: 4}",
            ", exp: 6}",
            "14:11: vector.cycles: lacks div; allowed all of add, sub, mul, max, exp, div",
        ),
        (
            "lpddr4x-4266",
            "lpddr4-4266",
            '25:10: dram.grade: unknown DRAM grade; given "lpddr4-4266"; allowed lpddr4x-3200, lpddr4x-4266, '
            'lpddr5-6400 (did you mean "lpddr4x-4266"?)',
        ),
        (
            "detail: bandwidth # row_buffer follows the banks of the grade\n  grade: lpddr4x-4266",
            "detail: row_buffer",
            "24:11: dram.detail: row_buffer needs the rows' timing; allowed together with a grade "
            "(lpddr4x-3200, lpddr4x-4266, lpddr5-6400) or a timing of one's own",
        ),
        (
            "buffer_read_pj_per_byte: {l1: 2.51}",
            "buffer_read_pj_per_byte: {L1: 2.51}",
            "30:28: energy.buffer_read_pj_per_byte: lacks l1; allowed exactly l1",
        ),
        (
            "name: edge-16x16",
            "name: ../edge",
            '2:7: name: has characters that cannot be used; given "../edge"; allowed letters, digits, _ + -',
        ),
    ],
)
def test_a_fault_in_a_machine_file_is_one_clear_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = machine_text("edge-16x16")
    assert old in text
    path = tmp_path / "m.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_machine(path)
    assert str(caught.value) == f"{path}:{expected}"


def test_unknown_machine() -> None:
    with pytest.raises(InputError) as caught:
        load_machine("edge16x16")
    assert str(caught.value) == (
        f'unknown machine; given "edge16x16"; allowed {", ".join(NAMES)}, or the path of a YAML file '
        '(did you mean "edge-16x16"?)'
    )
    with pytest.raises(InputError) as caught:
        load_machine("none.yaml")
    assert str(caught.value) == "none.yaml: no such file; allowed the path of a machine file in YAML"


def test_changes_are_checked_and_noted() -> None:
    machine = load_machine("edge-16x16")
    faster = machine.with_(**{"dram.bandwidth_gb_per_s": 60, "matrix.rows": 32, "buffers.0.capacity_kib": 64})
    assert (faster.dram.bandwidth_gb_per_s, faster.matrix.rows, faster.buffers[0].capacity_bytes) == (60, 32, 65536)
    assert machine.dram.bandwidth_gb_per_s == 30
    rows = {row.path: row for row in describe(faster)}
    assert (rows["dram.bandwidth_gb_per_s"].kind, rows["dram.bandwidth_gb_per_s"].source) == (
        "assumed",
        "changed from 30",
    )
    assert rows["buffers.l1.capacity_kib"].source == "changed from 5120"
    assert machine.with_() == machine
    slow_rows = machine.with_(**{"dram.detail": "row_buffer", "dram.timing.trcd_ns": 30})
    assert slow_rows.dram.timing is not None
    assert (slow_rows.dram.grade, slow_rows.dram.timing.trcd_ns) == (None, 30)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (
            "dram.bandwidth_gb_per_s",
            0,
            "dram.bandwidth_gb_per_s: out of range; given 0; allowed a number greater than 0 and of at most 1,000,000",
        ),
        (
            "dram.bandwith",
            1,
            'dram.bandwith: unknown field; given "bandwith"; allowed bandwidth_gb_per_s, first_access_latency_ns, '
            "burst_bytes, detail, ports, grade, timing, sustained_share, capacity_gib (did you mean "
            '"bandwidth_gb_per_s"?)',
        ),
        (
            "buffers.l3.capacity_kib",
            1,
            'buffers.l3.capacity_kib: unknown field; given "l3"; allowed l1 (did you mean "l1"?)',
        ),
        ("matrix.rows.x", 1, 'matrix.rows.x: unknown field; given "x"; allowed no field here'),
        (
            "matrix.elementwise_cycles.exp",
            6,
            "energy.matrix_elementwise_pj: lacks exp; allowed exactly exp",
        ),
    ],
)
def test_bad_changes(path: str, value: object, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        load_machine("edge-16x16").with_(**{path: value})
    assert str(caught.value) == f"edge-16x16: {expected}"


# --- matrix and vector units -----------------------------------------------------------------------------------------


def array(**changes: object) -> MatrixUnitSpec:
    fields: dict[str, object] = {
        "rows": 4,
        "columns": 8,
        "stationarity": "output",
        "fill_drain": "hidden",
        "multiplies_per_pe_per_cycle": {"fp16": 1.0, "int8": 2.0, "fp32": 0.25},
    }
    return MatrixUnitSpec(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stationarity", "cycles", "a", "b", "written", "partial"),
    [
        # C[10, 20] = A[10, 6] B[6, 20] on 4 rows x 8 columns
        ("output", 3 * 3 * 6, 10 * 6 * 3, 6 * 20 * 3, 200, 0),
        ("weight", 2 * 3 * 10, 10 * 6 * 3, 6 * 20, 200 * 2, 200),
        ("input", 2 * 2 * 20, 10 * 6, 6 * 20 * 2, 200 * 2, 200),
        ("flexible", 54, 180, 360, 200, 0),
    ],
)
def test_product_by_hand(stationarity: str, cycles: int, a: int, b: int, written: int, partial: int) -> None:
    cost = matrix_unit.product(array(stationarity=stationarity), 10, 6, 20, "fp16")
    assert (cost.cycles, cost.fill_drain_cycles, cost.macs) == (cycles, 0, 1200)
    assert (cost.read_elements_a, cost.read_elements_b) == (a, b)
    assert (cost.write_elements, cost.read_partial_elements) == (written, partial)


def test_fill_and_drain() -> None:
    once = 2 * 4 + 8 - 2
    per_pass = matrix_unit.product(array(fill_drain="per_pass"), 10, 6, 20, "fp16")
    assert (per_pass.cycles, per_pass.fill_drain_cycles) == (54 + 9 * once, 9 * once)
    per_command = matrix_unit.product(array(fill_drain="per_command"), 10, 6, 20, "fp16")
    assert (per_command.cycles, per_command.fill_drain_cycles) == (54 + once, once)
    # a pass of two steps still waits until the next pass's tile has been shifted into four rows
    short = matrix_unit.product(array(fill_drain="per_command"), 4, 2, 16, "fp16")
    assert (short.cycles, short.fill_drain_cycles) == (4 + 2 + once, 2 + once)


def test_multiply_rates() -> None:
    assert matrix_unit.product(array(), 4, 7, 8, "int8").cycles == 4
    assert matrix_unit.product(array(), 4, 7, 8, "fp32").cycles == 28
    with pytest.raises(InputError) as caught:
        matrix_unit.product(array(), 1, 1, 1, "fp61")
    assert str(caught.value) == (
        'the matrix unit has no multiply rate for this number format; given "fp61"; allowed fp16, int8, fp32 '
        '(did you mean "fp16"?)'
    )


def test_fusemax_tiles() -> None:
    unit = load_machine("fusemax-cloud").matrix
    for width in (64, 128):
        assert matrix_unit.product(unit, 256, width, 256, "fp16").cycles == width  # QK^T
        assert matrix_unit.product(unit, 256, 256, width, "fp16").cycles == width  # P V
    assert matrix_unit.elementwise(unit, "exp", 256, 256) == 6
    assert matrix_unit.elementwise(unit, "max", 257, 512) == 4
    with pytest.raises(InputError) as caught:
        matrix_unit.elementwise(load_machine("flat-cloud").matrix, "exp", 1, 1)
    assert str(caught.value) == ('the matrix unit does no element-wise work of this kind; given "exp"; allowed none')


def test_vector_cycles_by_hand() -> None:
    unit = VectorUnitSpec(
        lanes=16,
        cycles={"add": 1, "sub": 0, "mul": 1, "max": 1, "exp": 6, "div": 4},
        startup_cycles=3,
        reduction_depth_cycles=4,
    )
    assert vector_unit.vector_cycles(unit, [("exp", 33), ("add", 16)], reduces=False) == 3 + 3 * 6 + 1
    assert vector_unit.vector_cycles(unit, [("max", 1)], reduces=True) == 3 + 1 + 4
    idle = load_machine("flat-cloud").vector
    assert vector_unit.vector_cycles(idle, [("sub", 1000)], reduces=True) == 1
    scores = [("max", 256), ("sub", 256), ("exp", 256), ("add", 256), ("div", 256)]
    assert vector_unit.vector_cycles(idle, scores, reduces=True) == 4


def test_buffer_ports_work_side_by_side() -> None:
    buffer = BufferSpec(name="b", capacity_kib=0.5, read_bytes_per_cycle=2.5, write_bytes_per_cycle=1.0)
    assert buffer.capacity_bytes == 512
    assert access_cycles(buffer, read_bytes=11, write_bytes=3) == 5
    assert access_cycles(buffer, read_bytes=0, write_bytes=3) == 3
    assert access_cycles(BufferSpec(name="b", capacity_kib=1.0), read_bytes=10**9, write_bytes=1) == 0


# --- DRAM ------------------------------------------------------------------------------------------------------------


def test_transfer_by_bandwidth() -> None:
    machine = load_machine("edge-16x16")
    cost = dram.transfer(machine, n_runs=3, run_bytes=100, stride_bytes=1000)
    assert (cost.latency_cycles, cost.occupancy_bytes, cost.n_bytes) == (100, 384, 384)
    touching = dram.transfer(machine, n_runs=3, run_bytes=100, stride_bytes=100)
    assert (touching.occupancy_bytes, touching.n_activations) == (320, 2)  # in two of the four channels
    ideal = dram.transfer(load_machine("fusemax-cloud"), n_runs=3, run_bytes=101, stride_bytes=1000)
    assert (ideal.latency_cycles, ideal.occupancy_bytes, ideal.n_activations) == (0, 303, 0)
    half = machine.with_(clock_ghz=0.75)
    assert dram.transfer(half, n_runs=1, run_bytes=1, stride_bytes=1).latency_cycles == 75
    with pytest.raises(ValueError, match="do not overlap"):
        dram.transfer(machine, n_runs=2, run_bytes=100, stride_bytes=99)


def toy(**changes: object) -> RowTimingSpec:
    """One clock a nanosecond, bursts of 32 bytes in 8 clocks, rows of two bursts, no refresh."""
    fields: dict[str, object] = {
        "grade": "toy",
        "data_rate_mt_per_s": 2000,
        "channel_width_bits": 16,
        "burst_length": 16,
        "beats_per_clock": 2,
        "n_banks": 8,
        "row_bytes": 64,
        "trcd_ns": 20,
        "trp_ns": 20,
        "tras_ns": 40,
        "tcl_ns": 15,
        "trtp_ns": 10,
        "trrd_ns": 10,
        "tfaw_ns": 50,
        "trfc_ns": 0,
        "trefi_ns": 1000,
        "interleave_bytes": 32,
        "rows_ahead": 8,
    }
    return RowTimingSpec(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "gb_per_s", "runs", "clocks", "activations"),
    [
        ({}, 4, (1, 1, 1), 8, 1),  # one burst
        ({}, 4, (1, 64, 64), 16, 1),  # one row
        ({}, 4, (1, 128, 128), 32, 2),  # the second row was opened behind the first one's bursts
        ({"rows_ahead": 1}, 4, (1, 128, 128), 36, 2),  # ... or at 20, when they begin: usable at 40, first burst at 20
        ({"n_banks": 2}, 4, (2, 32, 128), 38 + 20 + 8 + 2, 2),  # same bank: precharge at 40, open at 60, burst at 80
        ({"n_banks": 2, "tras_ns": 25}, 4, (2, 32, 128), 10 + 20 + 20 + 8, 2),  # precharge 10 after the burst at 20
        ({}, 4, (4, 32, 64), 30 + 8, 4),  # bursts at 20, 30, 40, 50: activations are 10 apart
        ({}, 4, (5, 32, 64), 50 + 8, 5),  # the fifth activation waits for the window of four: 50, burst at 70
        ({}, 8, (1, 64, 64), 8, 2),  # two channels, one burst each
        ({}, 8, (2, 32, 64), 16, 1),  # two runs in the same channel and row
        ({"trrd_ns": 0, "tfaw_ns": 0}, 4, (8, 32, 64), 64, 8),  # nothing but the bus
    ],
)
def test_row_buffer_by_hand(
    changes: dict[str, object], gb_per_s: float, runs: tuple[int, int, int], clocks: int, activations: int
) -> None:
    cost = row_buffer.tile(toy(**changes), gb_per_s, *runs)
    assert (cost.clocks, cost.n_activations) == (clocks, activations)
    assert cost.occupancy_bytes == clocks * gb_per_s


def test_refresh_takes_its_share() -> None:
    with_refresh = toy(trfc_ns=100, trefi_ns=1000)
    assert row_buffer.tile(with_refresh, 4, 1, 1 << 20, 1 << 20).occupancy_bytes == -(-(1 << 20) * 1000 // 900)


def test_row_buffer_level_of_a_machine() -> None:
    machine = load_machine("edge-16x16").with_(**{"dram.detail": "row_buffer"})
    n_bytes = 1 << 20
    in_a_row = dram.transfer(machine, n_runs=1, run_bytes=n_bytes, stride_bytes=n_bytes)
    assert in_a_row.occupancy_bytes / n_bytes == pytest.approx(3904 / (3904 - 280), rel=1e-4)
    assert in_a_row.n_activations == n_bytes // 2048
    scattered = dram.transfer(machine, n_runs=n_bytes // 64, run_bytes=64, stride_bytes=65536)
    assert scattered.occupancy_bytes > 10 * in_a_row.occupancy_bytes  # same bank of one channel each time
    assert scattered.n_activations == n_bytes // 64
    fast = load_machine("fusemax-cloud").with_(**{"dram.grade": "lpddr5-6400", "dram.detail": "row_buffer"})
    least = dram.transfer(fast, n_runs=1, run_bytes=64, stride_bytes=64)
    assert least.latency_cycles == 37  # tRCD + tCL = 39.25 ns at 0.94 GHz
    assert least.occupancy_bytes >= 64


def test_a_file_may_bring_its_own_timing(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    timing = "\n".join(f"    {name}: {getattr(toy(), name)}" for name in RowTimingSpec.__slots__)
    path.write_text(
        machine_text("edge-16x16")
        .replace("detail: bandwidth", "detail: row_buffer")
        .replace("  grade: lpddr4x-4266", f"  timing:\n{timing}")
    )
    machine = load_machine(path)
    assert machine.dram.row_timing == toy()
    assert {row.path: row.unit for row in describe(machine)}["dram.timing.trcd_ns"] == "ns"
    path.write_text(path.read_text().replace("trfc_ns: 0", "trfc_ns: 1000"))
    with pytest.raises(InputError) as caught:
        load_machine(path)
    assert str(caught.value).endswith(
        "dram.timing.trfc_ns: not below trefi_ns; allowed a refresh that ends before the next one begins"
    )


def test_grades() -> None:
    assert grade_names() == ("lpddr4x-3200", "lpddr4x-4266", "lpddr5-6400")
    assert row_timing("lpddr4x-4266").channel_gb_per_s == Fraction("8.532")
    assert row_timing("lpddr5-6400").burst_bytes == 64
    assert row_buffer.channel_count(row_timing("lpddr4x-4266"), 30) == 4
    with pytest.raises(InputError, match=r"unknown DRAM grade; .*did you mean \"lpddr5-6400\""):
        row_timing("lpddr5-6401")


# --- energy and area -------------------------------------------------------------------------------------------------


def test_counters_add_and_scale() -> None:
    one = Counters(macs={"fp16": 3}, buffer_read_bytes={"l1": 5}, dram_read_bytes=7)
    other = Counters(macs={"fp16": 1, "int8": 2}, vector_operations={"exp": 4}, dram_activations=1)
    assert one + other == Counters(
        macs={"fp16": 4, "int8": 2},
        vector_operations={"exp": 4},
        buffer_read_bytes={"l1": 5},
        dram_read_bytes=7,
        dram_activations=1,
    )
    assert one * 3 == 3 * one == one + one + one


def test_energy_by_hand() -> None:
    machine = load_machine("edge-16x16").with_(**{"energy.static_mw": 2})
    counters = Counters(
        macs={"fp16": 1000, "int8": 10},
        vector_operations={"exp": 5, "div": 2},
        buffer_read_bytes={"l1": 100},
        buffer_write_bytes={"l1": 10},
        dram_read_bytes=64,
        dram_write_bytes=32,
        dram_activations=2,
    )
    parts = energy.energy_by_component(machine, counters, 50)
    assert parts == pytest.approx(
        {
            "matrix": 1000 * (2.0 + 0.576) + 10 * (0.3 + 0.576),
            "vector": 5 * 9.0 + 2 * 4.1,
            "l1": 100 * 2.51 + 10 * 2.76,
            "dram": 64 * 56.1 + 32 * 36.0 + 2 * 1192.5 + 150 * 50,
            "static": 2 * 50,
        }
    )
    causes = energy.dram_energy_pj(machine, counters, 50)
    assert sum(causes.values()) == pytest.approx(parts["dram"])
    assert causes["activate"] == 2 * 1192.5


def test_machine_files_state_the_energies_of_their_sources() -> None:
    edge, fusemax = load_machine("edge-16x16").energy, load_machine("fusemax-cloud").energy
    for number_format in ("fp16", "bf16", "int8"):
        assert edge.multiply_accumulate_pj[number_format] == pytest.approx(
            components.multiply_accumulate_pj(number_format)
        )
    read, write = components.sram_pj_per_byte(45, 128, 256)
    assert (edge.buffer_read_pj_per_byte["l1"], edge.buffer_write_pj_per_byte["l1"]) == (
        pytest.approx(read, abs=0.005),
        pytest.approx(write, abs=0.005),
    )
    lpddr4x = components.dram_energy(components.LPDDR4_CURRENTS, vddq_volts=0.6)
    assert edge.dram_activate_pj == pytest.approx(lpddr4x.activate_pj)
    assert edge.dram_read_pj_per_byte == pytest.approx(lpddr4x.read_pj_per_byte, abs=0.05)
    assert edge.dram_write_pj_per_byte == pytest.approx(lpddr4x.write_pj_per_byte, abs=0.05)
    assert edge.dram_background_mw == pytest.approx(4 * lpddr4x.background_mw)
    table = components.FUSEMAX_45NM_PJ
    assert fusemax.multiply_accumulate_pj["fp16"] == table["multiply_accumulate"]
    assert fusemax.vector_pj["exp"] == pytest.approx(6 * table["multiply_accumulate"])
    assert fusemax.buffer_read_pj_per_byte["global"] == table["buffer_read_4096b"] / 512
    assert fusemax.buffer_write_pj_per_byte["global"] == table["buffer_write_4096b"] / 512
    assert fusemax.dram_read_pj_per_byte == table["dram_64b"] / 8
    assert load_machine("flat-cloud").energy.vector_pj["exp"] == table["exp_unit"]


def test_sram_grid() -> None:
    assert components.sram_pj_per_byte(22, 64, 128) == pytest.approx((8.97 / 16, 7.60 / 16))
    assert components.sram_pj_per_byte(45, 4, 64) == pytest.approx((3.39 / 8, 6.45 / 8))
    read, _ = components.sram_pj_per_byte(45, 32, 64)  # Horowitz: 20 pJ per 64 bits at 32 KB
    assert 8 * read == pytest.approx(20, rel=0.2)
    with pytest.raises(InputError, match="no SRAM energy at 7 nm"):
        components.sram_pj_per_byte(7, 64, 128)
    with pytest.raises(InputError, match="4 to 4096 KiB"):
        components.sram_pj_per_byte(45, 8192, 128)
    with pytest.raises(InputError, match='no multiply-add energy; given "fp64"'):
        components.multiply_accumulate_pj("fp64")


def test_lpddr4_energy_agrees_with_a_device_simulator() -> None:
    # DRAMsim3, LPDDR4-2400 x16: 7.35 pJ per bit for reads from open rows
    lpddr4 = components.dram_energy(components.LPDDR4_CURRENTS)
    assert lpddr4.read_pj_per_byte / 8 == pytest.approx(7.35, rel=0.2)


def test_machine_spec_refuses_what_does_not_fit_together() -> None:
    cloud = load_machine("tileflow-cloud")
    with pytest.raises(InputError, match=r"buffers: the first one \(\"l1\"\) is the working buffer of each core"):
        cloud.with_(**{"buffers.l1.shared_by_cores": True})
    with pytest.raises(InputError, match='buffers: two are called "l1"'):
        cloud.with_(**{"buffers.l2.name": "l1"})
    with pytest.raises(InputError, match=r'unknown buffer; given "l3"; allowed l1, l2'):
        cloud.buffer("l3")
    assert cloud.buffer("l2").shared_by_cores
    assert isinstance(cloud, MachineSpec)
    assert cloud.seconds(1_200_000_000) == 1.0
