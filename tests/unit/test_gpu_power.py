"""Energy of GPU kernels: its parts add up, no power is above the limit, and a meter's window is seen through."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import calibration_of
from tilewright.hw_models.gpu.power import PowerParameters, PowerSpec, measured_board
from tilewright.hw_models.load import load_machine, machine_names
from tilewright.kernels.measured import MeasuredTable
from tilewright.kernels.reading import read_tables
from tilewright.search.gpu.calibrate_power import calibrate_power
from tilewright.search.gpu.energy import power_of
from tilewright.search.gpu.meter import WINDOW_S, own_shares, shown_before
from tilewright.search.gpu.power_check import compare_power
from tilewright.search.gpu.predict import kernel_energy, kernel_seconds
from tilewright.sim.gpu.activity import Activity
from tilewright.sim.gpu.device import gpu_device
from tilewright.sim.gpu.power import PARTS, kernel_power

LARGE = {"m": 8192, "n": 8192, "k": 8192}
STREAM = {"m": 1, "n": 16384, "k": 16384}
LAW = PowerParameters(
    static_w=100,
    multiply_pj={"bf16": 2.0},
    lane_pj=1.0,
    l2_pj_per_byte=40,
    dram_pj_per_byte=60,
    voltage_slope=0.9,
)
BOARD = PowerSpec(device="some", kind="assumed", limit_w=500, parameters=LAW)


def activity(*, tera_macs: float = 0.0, l2_tb: float = 0.0, dram_tb: float = 0.0) -> Activity:
    """Of one kernel of a second."""
    one = np.ones(1)
    return Activity(
        macs={"bf16": tera_macs * 1e12 * one}, dram_bytes=dram_tb * 1e12 * one, l2_bytes=l2_tb * 1e12 * one,
        lane_operations=0 * one,
    )  # fmt: skip


def powered(
    done: Activity, *, limit_w: float = 500.0, core_bound: bool = True, zeros: bool = False
) -> tuple[float, ...]:
    found = kernel_power(BOARD, done, np.ones(1), limit_w=limit_w, core_bound=np.array([core_bound]), zeros=zeros)
    return float(found.watts[0]), float(found.clock_share[0]), float(found.seconds[0])


def test_below_the_limit_every_part_costs_what_it_does() -> None:
    done = activity(tera_macs=50, l2_tb=2, dram_tb=1)
    found = kernel_power(BOARD, done, np.ones(1), limit_w=500, core_bound=np.array([True]))
    assert tuple(found.joules) == PARTS
    assert {name: float(joules[0]) for name, joules in found.joules.items()} == pytest.approx(
        {"multiply": 100, "lanes": 0, "l2": 80, "dram": 60, "static": 100}
    )
    assert found.watts[0] == pytest.approx(340) and found.clock_share[0] == 1


def test_at_the_limit_the_clock_falls_until_power_is_the_limit() -> None:
    watts, clock, seconds = powered(activity(tera_macs=250))
    assert watts == pytest.approx(500) and seconds == 1
    assert (1 - 0.9 * (1 - clock)) ** 2 == pytest.approx(400 / 500)  # the voltage squared, over what is left for work


def test_another_limit_than_that_of_the_measurements_stretches_what_the_cores_bound() -> None:
    done = activity(tera_macs=250)
    usual, lower, higher = (powered(done, limit_w=limit) for limit in (500, 300, 1000))
    assert lower[0] == pytest.approx(300, rel=1e-6) and lower[1] < usual[1] and lower[2] > 1
    assert higher[1] == 1 and higher[2] == pytest.approx(usual[1]) and higher[0] < 1000
    of_memory = powered(activity(tera_macs=20, dram_tb=3), limit_w=310, core_bound=False)
    assert of_memory[2] == 1 and of_memory[0] <= 350 + 1e-9
    assert powered(activity(dram_tb=5), limit_w=200)[2] == pytest.approx(3)  # 300 J with 100 W to spare: work waits


def test_zeros_switch_less() -> None:
    law = replace(LAW, zeros_share=0.25)
    done = activity(tera_macs=100)
    found = kernel_power(
        replace(BOARD, parameters=law), done, np.ones(1), limit_w=500, core_bound=np.array([True]), zeros=True
    )
    assert found.watts[0] == pytest.approx(150)


def test_a_limit_that_the_idle_board_passes_is_refused() -> None:
    with pytest.raises(InputError, match=r"gpu.power_limit_w: given 90; allowed more than .* 100"):
        powered(activity(), limit_w=90)


@pytest.mark.parametrize("name", [name for name in machine_names() if load_machine(name).gpu is not None])
def test_every_gpu_has_an_energy_and_no_kernel_is_above_the_limit(name: str) -> None:
    machine = load_machine(name)
    assert machine.gpu is not None
    family = "fp16_host" if name == "mi210" else "bf16"
    for shape in (LARGE, STREAM, {"m": 64, "n": 256, "k": 512}):
        found = kernel_energy(machine, "gemm", family, **shape)
        assert found.seconds == kernel_seconds(machine, "gemm", family, **shape)
        assert found.joules == pytest.approx(sum(found.joules_by_part.values()))
        assert found.joules == pytest.approx(found.watts * found.seconds)
        assert 0 < found.watts <= machine.gpu.power_limit_w * (1 + 1e-9)
        assert 0 < found.clock_ghz <= machine.gpu.clock_max_ghz


def test_a_product_is_held_back_and_a_stream_is_not() -> None:
    machine = load_machine("h100")
    product, stream = (kernel_energy(machine, "gemm", "bf16", **shape) for shape in (LARGE, STREAM))
    assert product.watts > 690 and 1.25 < product.clock_ghz < 1.55  # measured: 698 W at 1,395 MHz
    assert 400 < stream.watts < 560 and stream.clock_ghz == pytest.approx(1.98)  # measured: 468 W at 1,980 MHz
    assert kernel_energy(machine, "gemm", "bf16", zeros=True, **LARGE).watts < 500  # measured: 404 W
    assert product.energy_from == "measured on h100"
    assert kernel_energy(load_machine("a100"), "gemm", "bf16", **LARGE).energy_from.startswith("assumed")


def test_another_chip_has_its_own_figures_and_its_times_hold_under_its_own_limit() -> None:
    other = load_machine("b200")
    found = kernel_energy(other, "gemm", "bf16", **LARGE)
    assert found.energy_from.startswith("assumed") and found.watts <= 1000
    device, calibration = gpu_device(other), calibration_of(other)
    assert power_of(device, calibration).limit_w == 1000
    mine = load_machine("h200").with_(name="mine", **{"gpu.power_limit_w": 600})
    assert power_of(gpu_device(mine), calibration_of(mine)).device in ("h100", "h200")  # the same chip: a like board
    assert power_of(gpu_device(mine), calibration_of(mine)).limit_w == 600


def test_layers_of_several_kernels_have_an_energy() -> None:
    machine = load_machine("h200")
    experts = {"tokens": 512, "hidden": 4096, "inner": 1536, "top_k": 8, "experts": 128}
    few = kernel_energy(machine, "experts", "moe_bf16", **experts)
    many = kernel_energy(machine, "experts", "moe_bf16", **(experts | {"tokens": 8192}))
    assert few.joules < many.joules and max(few.watts, many.watts) <= 700
    assert many.joules_by_part["multiply"] == pytest.approx(16 * few.joules_by_part["multiply"], rel=0.35)
    latent = kernel_energy(load_machine("h100"), "latent", "mla_decode", batch=32, queries=1, keys=8192, heads=128)
    assert 125 < latent.watts <= 700 and latent.joules == pytest.approx(sum(latent.joules_by_part.values()))


def test_the_boards_limit_moves_time_and_power() -> None:
    machine = load_machine("h200")
    low = machine.with_(**{"gpu.power_limit_w": 350})
    assert kernel_energy(low, "gemm", "bf16", **LARGE).watts <= 350
    assert kernel_seconds(low, "gemm", "bf16", **LARGE) > 1.2 * kernel_seconds(machine, "gemm", "bf16", **LARGE)
    less = machine.with_(**{"gpu.power_limit_w": 500})
    assert kernel_seconds(less, "gemm", "bf16", **STREAM) == kernel_seconds(machine, "gemm", "bf16", **STREAM)


# --- the meter ---------------------------------------------------------------------------------------------------


def table(
    watts: list[float], run_seconds: list[float] | None, place: list[int], name: str = "file: bf16"
) -> MeasuredTable:
    n = len(watts)
    return MeasuredTable(
        name=name,
        operator="gemm",
        family="bf16",
        device="h200",
        columns={side: np.full(n, 4096) for side in ("m", "n", "k")},
        seconds=np.full(n, 2e-4),
        source="",
        watts=np.array(watts),
        run_seconds=None if run_seconds is None else np.array(run_seconds),
        place=np.array(place),
    )


def test_a_reading_is_of_the_kernel_as_far_as_it_fills_the_window() -> None:
    shares = own_shares(table([1] * 4, [0.05, 0.2, WINDOW_S, 100.0], [0, 1, 2, 3]))
    assert shares[0] == 0 and shares[1] == pytest.approx(0.05 / WINDOW_S)
    assert shares[2] == pytest.approx(3 / 7) and 0.99 < shares[3] < 1
    assert (own_shares(table([1, 1], None, [0, 1])) == 1).all()


def test_what_was_before_is_the_nearest_row_above_that_may_be_looked_at() -> None:
    one, other = table([500, 510, 520], None, [0, 2, 5]), table([200, 210], None, [1, 3], "file: fp8")
    masks = [np.array([True, False, True]), np.array([False, True])]
    before = shown_before([one, other], masks, 126)
    assert before[0].tolist() == pytest.approx([126, 500, 210]) and before[1].tolist() == pytest.approx([500, 500])


def test_where_boards_took_turns_the_mean_of_their_rows_is_what_was_before() -> None:
    readings = [700.0, 200.0] * 20
    (before,) = shown_before([table(readings, [0.05] * 40, list(range(40)))], [np.ones(40, dtype=bool)], 126)
    assert before[10:].tolist() == pytest.approx([(700 * 200) ** 0.5] * 30)


# --- fits --------------------------------------------------------------------------------------------------------


def made_up(law: PowerParameters) -> MeasuredTable:
    """Products of many shapes with the power that ``law`` gives them."""
    machine = load_machine("h200")
    rng = np.random.default_rng(1)
    sizes = {side: 2 ** rng.integers(low, 15, 120) for side, low in (("m", 0), ("n", 9), ("k", 9))}
    shapes = MeasuredTable(
        name="made up: bf16",
        operator="gemm",
        family="bf16",
        device="h200",
        columns=sizes,
        seconds=np.ones(120),
        source="",
    )
    from tilewright.search.gpu.predict import predict

    found = predict(gpu_device(machine), calibration_of(machine), shapes)
    assert found.activity is not None
    power = kernel_power(
        PowerSpec(device="h200", kind="calibrated", limit_w=700, parameters=law),
        found.activity,
        found.seconds,
        limit_w=700,
        core_bound=found.bound == 1,
    )
    return replace(shapes, seconds=found.seconds, watts=power.watts, idle_w=law.static_w)


def test_a_fit_finds_the_figures_that_made_the_power() -> None:
    law = PowerParameters(
        static_w=110,
        multiply_pj={"bf16": 1.5},
        lane_pj=4,
        l2_pj_per_byte=30,
        dram_pj_per_byte=70,
        voltage_slope=0.9,
        limit_share=0.98,
    )
    machine = load_machine("h200")
    device, calibration, measured = gpu_device(machine), calibration_of(machine), made_up(law)
    found = calibrate_power(device, calibration, [measured])
    assert found.parameters.static_w == pytest.approx(110, rel=1e-3)
    assert found.parameters.multiply_pj["bf16"] == pytest.approx(1.5, rel=0.1)
    moved = found.parameters.l2_pj_per_byte + found.parameters.dram_pj_per_byte
    assert moved == pytest.approx(100, rel=0.05)
    assert found.parameters.limit_share == pytest.approx(0.98, rel=0.01)
    assert found.held_out_error is not None and found.held_out_error < 0.01
    (compared,) = compare_power(device, calibration, [measured], power=found)
    assert compared.scope == "held out" and compared.largest_w <= 700 and compared.overall.mape < 0.01


def test_nothing_with_power_is_said() -> None:
    machine = load_machine("h200")
    with pytest.raises(InputError, match="no table holds the power of kernels that are modelled"):
        calibrate_power(gpu_device(machine), calibration_of(machine), [])


COUNTER = """what,seconds,joules,watts,calls,sm_clock_mhz
"idle, context open",1.5,180,120,0,1980
gemm bf16 4096^3 normal data,2,1400,700,10000,1400
gemm fp8 4096^3 zeros,2,800,400,20000,1600
"gemv bf16 4096x8192, 4 weights in turn",2,900,450,5000,1980
copy 1 GiB DRAM,2,1000,500,2000,1980
copy 8 MiB in L2,2,600,300,400000,1980
exp fp32 64M,2,1000,500,10000,1980
attention bf16 4x32x4096x128 library,2,1380,690,1000,1650
"""


def test_an_energy_counters_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "h100_counter.csv"
    path.write_text(COUNTER, encoding="utf-8")
    tables = {each.name.partition(": ")[2]: each for each in read_tables(path)}
    assert set(tables) == {"bf16", "fp8_cublas", "gelu_graph", "gelu_graph in the L2", "torch_sdpa_encoder"}
    products = tables["bf16"]
    assert products.watts is not None and products.watts.tolist() == [700, 450]
    assert products.seconds.tolist() == pytest.approx([2e-4, 1e-4])
    assert products.columns["n"].tolist() == [4096, 4096] and products.columns["k"].tolist() == [4096, 8192]
    assert products.idle_w == 120 and products.clock_hz is not None and products.clock_hz[0] == 1.4e9
    assert tables["fp8_cublas"].zeros is not None and tables["fp8_cublas"].zeros.all()
    assert all(each.device == "h100" for each in tables.values())


POWERED = """gemm_dtype,m,n,k,latency_ms,power_w
bfloat16,4096,4096,4096,0.2,690
fp8_block,4096,4096,4096,0.15,650
bfloat16,1,256,256,0.003,150
"""


def test_power_columns_of_aiconfigurators_tables_are_read(tmp_path: Path) -> None:
    path = tmp_path / "h200_gemm_vllm_0.22.0_power.csv"
    path.write_text(POWERED, encoding="utf-8")
    products, blocks = read_tables(path)
    assert products.watts is not None and products.run_seconds is not None and products.place is not None
    assert products.watts.tolist() == [690, 150] and products.place.tolist() == [0, 2]
    assert products.run_seconds[0] == pytest.approx(1, rel=0.01)
    assert products.run_seconds[1] == pytest.approx(3000 * 6 * 3e-6)  # at most 3,000 calls of 6 kernels
    assert blocks.run_seconds is not None and blocks.run_seconds[0] == pytest.approx(3000 * 0.15e-3)
    path.write_text(POWERED.replace("650", "-1"), encoding="utf-8")
    with pytest.raises(InputError, match="power_w: given -1"):
        read_tables(path)


def test_boards_that_come_with_it() -> None:
    for name in ("h100", "h200"):
        board = measured_board(name)
        assert board is not None and board.device == name and board.kind == "calibrated" and board.measured
    assert measured_board("a100") is None


SAMPLES = Path(__file__).resolve().parents[1] / "validation" / "gpu_samples"


def test_validate_shows_power_beside_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = str(SAMPLES / "h200_encoder_attention_vllm_0.22.0_sample_power.csv")
    page, data = tmp_path / "page", tmp_path / "found.json"
    assert run(["validate", sample, "-a", "h200", "--json", str(data), "--report", str(page)]) == 0
    assert "power, predicted against measured on h200" in capsys.readouterr().out
    (power,) = json.loads(data.read_text(encoding="utf-8"))["power"]
    assert power["largest_w"] <= power["limit_w"] == 700 and power["energy_from"] == "measured on h200"
    assert power["long_runs"]["n"] == 30 and power["long_runs"]["mape"] < 0.03
    text = (page / "index.html").read_text(encoding="utf-8")
    assert "<h2>Power</h2>" in text and text.count("data:image/png") == 2
    assert len(list(page.glob("*-power.png"))) == 1


def test_power_of_products_in_the_sample() -> None:
    machine = load_machine("h200")
    tables = read_tables(SAMPLES / "h200_gemm_vllm_0.22.0_sample_power.csv")
    found = {entry.family: entry for entry in compare_power(gpu_device(machine), calibration_of(machine), tables)}
    assert set(found) == {"bf16", "fp8_block"}
    for entry in found.values():
        assert entry.long_runs is not None and entry.long_runs.mape < 0.13 and entry.largest_w <= entry.limit_w
