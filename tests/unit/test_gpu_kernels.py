"""The GPU kernel models obey what the hardware obeys: waves, splits, caches, masks; they say what they cannot do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import (
    CalibrationSpec,
    calibration_of,
    calibration_text,
    load_calibration,
)
from tilewright.hw_models.gpu.parameters import AttentionParameters, GemmParameters, RowwiseParameters
from tilewright.hw_models.load import load_machine
from tilewright.sim.gpu.attention import ATTENTION_FAMILIES, AttentionShapes, attention_family, attention_forecast
from tilewright.sim.gpu.device import GpuDevice, gpu_device
from tilewright.sim.gpu.families import GEMM_FAMILIES, GemmTile, gemm_family, row_spans, tiles_of
from tilewright.sim.gpu.gemm import BOUNDS, GemmShapes, gemm_forecast, gemm_times
from tilewright.sim.gpu.rowwise import ROWWISE_FAMILIES, RowwiseShapes, rowwise_family, rowwise_forecast

GPUS = ("a100", "h100", "h200", "l40s", "mi210")


@pytest.fixture
def h200() -> GpuDevice:
    return gpu_device(load_machine("h200"))


def gemm_parameters(machine: str = "h200", family: str = "bf16") -> GemmParameters:
    parameters = calibration_of(load_machine(machine)).family("gemm", family).typed()
    assert isinstance(parameters, GemmParameters)
    return parameters


def attention_parameters(family: str) -> AttentionParameters:
    parameters = calibration_of(load_machine("h200")).family("attention", family).typed()
    assert isinstance(parameters, AttentionParameters)
    return parameters


def shapes(*mnk: tuple[int, int, int], **more: int) -> GemmShapes:
    m, n, k = (np.array(values) for values in zip(*mnk, strict=True))
    return GemmShapes(m=m, n=n, k=k, **more)


def layers(**columns: Any) -> AttentionShapes:
    given = {"batch": 1, "queries": 1024, "keys": 1024, "heads": 32, "kv_heads": 8, "head_dim": 128, "window": 0}
    given |= columns
    n = max(len(np.atleast_1d(value)) for value in given.values())
    arrays = {name: np.broadcast_to(np.asarray(value), (n,)).copy() for name, value in given.items()}
    return AttentionShapes(**arrays)


# --- the devices -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tera_flops"), [("a100", 312), ("h100", 989), ("h200", 989), ("l40s", 362), ("mi210", 181)]
)
def test_the_described_rates_give_the_published_peak(name: str, tera_flops: float) -> None:
    machine = load_machine(name)
    rate = machine.matrix.multiplies_per_pe_per_cycle["fp16"] * float(machine.matrix.n_multipliers)
    peak = 2 * rate * machine.n_cores * machine.clock_ghz / 1e3
    assert peak == pytest.approx(tera_flops, rel=0.02)


@pytest.mark.parametrize("name", GPUS)
def test_exponentials_run_at_16_a_cycle(name: str) -> None:
    assert gpu_device(load_machine(name)).exp_per_cycle == 16


def test_an_edge_machine_is_no_gpu() -> None:
    with pytest.raises(InputError, match="edge-16x16: is not a GPU"):
        gpu_device(load_machine("edge-16x16"))
    with pytest.raises(InputError, match="edge-16x16: is not a GPU"):
        calibration_of(load_machine("edge-16x16"))


def test_the_a100_has_no_fp8(h200: GpuDevice) -> None:
    with pytest.raises(InputError, match="a100: cannot multiply fp8_e4m3; allowed bf16, fp16, int4, int8"):
        gpu_device(load_machine("a100")).macs("fp8_e4m3")
    assert h200.macs("fp8_e4m3") == 2 * h200.macs("bf16")


# --- products --------------------------------------------------------------------------------------------------------


def test_one_more_tile_than_multiprocessors_is_one_more_wave(h200: GpuDevice) -> None:
    tile = [GemmTile(rows=128, columns=128)]
    one, two = gemm_times(
        h200,
        gemm_family("bf16"),
        gemm_parameters(),
        shapes((128 * 132, 128, 4096), (128 * 133, 128, 4096)),
        tile,
    )[:, 0]
    assert two > 1.5 * one


def test_a_split_sum_helps_few_tiles_with_a_long_sum_only(h200: GpuDevice) -> None:
    tiles = [GemmTile(rows=64, columns=64), GemmTile(rows=64, columns=64, splits=16)]
    few, many = gemm_times(
        h200, gemm_family("bf16"), gemm_parameters(), shapes((64, 64, 65536), (8192, 8192, 512)), tiles
    )
    assert few[1] < few[0] / 2
    assert many[1] > many[0]


def test_weights_in_the_cache_are_faster(h200: GpuDevice) -> None:
    family, parameters = gemm_family("bf16"), gemm_parameters()
    warm = gemm_forecast(h200, family, parameters, shapes((1, 2048, 4096)))
    cold = gemm_forecast(h200, family, parameters, shapes((1, 2048, 4096), weight_copies=6))
    rotated = gemm_forecast(h200, family, parameters, shapes((1, 2048, 4096), copies=8))
    assert warm.seconds[0] < cold.seconds[0] <= rotated.seconds[0]


def test_more_work_never_takes_less_time(h200: GpuDevice) -> None:
    many = shapes(*((int(m), 8192, 8192) for m in 2 ** np.arange(0, 15)), weight_copies=6)
    forecast = gemm_forecast(h200, gemm_family("bf16"), gemm_parameters(), many)
    assert (np.diff(forecast.seconds) > -1e-12).all()
    assert forecast.bound[0] == BOUNDS.index("memory") and forecast.bound[-1] == BOUNDS.index("compute")


def test_no_product_is_faster_than_its_peak(h200: GpuDevice) -> None:
    many = shapes(*((m, n, k) for m in (1, 100, 3000) for n in (64, 5000, 30000) for k in (64, 4096, 20000)))
    for family in GEMM_FAMILIES.values():
        if calibration_of(load_machine("h200")).has("gemm", family.name):
            seconds = gemm_forecast(h200, family, gemm_parameters(family=family.name), many).seconds
            peak = h200.n_sms * h200.clock_hz * h200.macs(family.multiply_format)
            weights = many.n * many.k * family.weight_bits / 8
            assert (seconds > many.m * many.n * many.k / peak).all()
            assert (seconds > (weights - 4 * h200.l2_bytes) / h200.dram_bytes_per_s).all()


def test_the_power_limit_holds_short_kernels_back_when_they_are_repeated(h200: GpuDevice) -> None:
    family, parameters = gemm_family("bf16"), gemm_parameters()
    once = gemm_forecast(h200, family, parameters, shapes((2048, 2048, 4096), (8, 4096, 4096))).seconds
    often = gemm_forecast(h200, family, parameters, shapes((2048, 2048, 4096), (8, 4096, 4096), sustained=True)).seconds
    assert often[0] > once[0] and often[1] == once[1]


def test_a_library_that_chooses_by_rows_does_so(h200: GpuDevice) -> None:
    family = gemm_family("fp8")
    spans = dict(zip(tiles_of(family, 1), row_spans(family, 1), strict=True))
    assert spans[GemmTile(rows=64, columns=128)] == (64, 128)
    forecast = gemm_forecast(
        h200, family, gemm_parameters(family="fp8"), shapes((8, 4096, 4096), (100, 4096, 4096), (300, 4096, 4096))
    )
    assert [(tile.rows, tile.columns) for tile in forecast.tile] == [(16, 64), (64, 128), (128, 128)]


def test_chunks_change_nothing(h200: GpuDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    some = shapes(*((m, 1024, 1024) for m in range(1, 40)))
    whole = gemm_forecast(h200, gemm_family("bf16"), gemm_parameters(), some).seconds
    monkeypatch.setattr("tilewright.sim.gpu.gemm._CHUNK", 7)
    assert (gemm_forecast(h200, gemm_family("bf16"), gemm_parameters(), some).seconds == whole).all()


# --- attention -------------------------------------------------------------------------------------------------------


def test_causal_attention_takes_about_half_of_full(h200: GpuDevice) -> None:
    parameters = attention_parameters("fa3_prefill")
    causal = attention_family("fa3_prefill")
    layer = layers(queries=16384, keys=16384)
    half = attention_forecast(h200, causal, parameters, layer).seconds[0]
    full = attention_forecast(h200, replace(causal, causal=False), parameters, layer).seconds[0]
    assert half / full == pytest.approx(0.5, abs=0.05)


def test_a_window_bounds_the_time_by_its_length(h200: GpuDevice) -> None:
    family, parameters = attention_family("fa3_prefill"), attention_parameters("fa3_prefill")
    seconds = attention_forecast(
        h200, family, parameters, layers(queries=8192, keys=8192, window=[0, 128, 1024, 8192])
    ).seconds
    assert seconds[1] < seconds[2] < seconds[3] <= seconds[0] * 1.01
    assert seconds[1] < seconds[0] / 4


def test_long_decoding_runs_at_the_memory_s_speed(h200: GpuDevice) -> None:
    family, parameters = attention_family("fa3_decode"), attention_parameters("fa3_decode")
    layer = layers(batch=64, queries=1, keys=65536)
    seconds = attention_forecast(h200, family, parameters, layer).seconds[0]
    n_bytes = 64 * 65536 * 8 * 128 * 2 * 2
    assert n_bytes / seconds == pytest.approx(h200.dram_bytes_per_s * parameters.memory_share, rel=0.1)


def test_one_sequence_alone_is_split_over_the_keys(h200: GpuDevice) -> None:
    family, parameters = attention_family("fa3_decode"), attention_parameters("fa3_decode")
    layer = layers(batch=1, queries=1, keys=131072)
    split = attention_forecast(h200, family, parameters, layer).seconds[0]
    whole = attention_forecast(h200, replace(family, splits_keys=False), parameters, layer).seconds[0]
    assert split < whole / 4


def test_heads_of_a_group_share_their_tile(h200: GpuDevice) -> None:
    family, parameters = attention_family("fa3_decode"), attention_parameters("fa3_decode")
    seconds = attention_forecast(
        h200, family, parameters, layers(batch=512, queries=1, keys=64, kv_heads=[8, 32])
    ).seconds
    assert seconds[0] < seconds[1] / 2


# --- row-wise operators ----------------------------------------------------------------------------------------------


def test_long_streams_reach_the_calibrated_bandwidth() -> None:
    machine = load_machine("a100")
    parameters = calibration_of(machine).family("rowwise", "gelu").typed()
    assert isinstance(parameters, RowwiseParameters)
    device = gpu_device(machine)
    rows = RowwiseShapes(m=np.array([1 << 20]), n=np.array([1024]))
    seconds = rowwise_forecast(device, rowwise_family("gelu"), parameters, rows).seconds[0]
    assert 4 * (1 << 30) / seconds == pytest.approx(device.dram_bytes_per_s * parameters.memory_share, rel=0.1)


# --- families and calibrations ---------------------------------------------------------------------------------------


def test_families_are_found_by_name_or_the_nearest_is_named() -> None:
    assert {f.name for f in GEMM_FAMILIES.values()} >= {"bf16", "fp8", "int4_wo"}
    assert ATTENTION_FAMILIES.names() and ROWWISE_FAMILIES.names()
    with pytest.raises(InputError, match=r'given "int4_w"; .*did you mean "int4_wo"'):
        gemm_family("int4_w")
    with pytest.raises(InputError, match='did you mean "fa3_prefill"'):
        attention_family("fa3prefill")
    with pytest.raises(InputError, match='did you mean "softmax"'):
        rowwise_family("sofmax")


@pytest.mark.parametrize("name", ["a100", "h200", "mi210"])
def test_a_calibration_comes_back_as_it_was_written(name: str, tmp_path: Any) -> None:
    calibration = calibration_of(load_machine(name))
    path = tmp_path / "own.yaml"
    path.write_text(calibration_text(calibration), encoding="utf-8")
    assert load_calibration(path) == calibration
    for family in calibration.families:
        assert family.kind == "calibrated" and family.measured and family.n_held_out > 0


def test_one_set_of_few_parameters_a_family() -> None:
    for name in ("a100", "h200", "mi210"):
        keys = [(family.operator, family.family) for family in calibration_of(load_machine(name)).families]
        assert len(keys) == len(set(keys))
        for family in calibration_of(load_machine(name)).families:
            free = [n for n, value in family.parameters.items() if n not in family.fixed and value != 0]
            assert len(free) <= 14 and family.n_calibration >= len(free)


def test_the_h100_stands_on_the_h200_s_calibration() -> None:
    h100 = calibration_of(load_machine("h100"))
    assert h100.family("gemm", "bf16").device == "h200" and h100.family("gemm", "fp8_cublas").device == ""


def test_a_calibration_out_of_bounds_is_refused(tmp_path: Any) -> None:
    text = calibration_text(calibration_of(load_machine("mi210")))
    path = tmp_path / "own.yaml"
    path.write_text(text.replace("memory_share: 0.", "memory_share: 7.", 1), encoding="utf-8")
    with pytest.raises(InputError, match="memory_share"):
        load_calibration(path)


def test_an_unknown_family_of_a_calibration_is_said() -> None:
    calibration: CalibrationSpec = calibration_of(load_machine("h200"))
    with pytest.raises(InputError, match=r'no calibration of these gemm kernels .*"int8_w"; .*did you mean "int8_wo"'):
        calibration.family("gemm", "int8_w")
