"""Measured tables read, predicted, split and compared; tilings ranked; the commands around them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import calibration_of, load_calibration
from tilewright.hw_models.load import load_machine
from tilewright.kernels.measured import MeasuredTable
from tilewright.kernels.measurement import Measurement, MeasurementDevice, MeasurementFile
from tilewright.kernels.reading import read_tables
from tilewright.search.gpu.calibrate import calibrate, free_parameters, parameter_bounds
from tilewright.search.gpu.predict import kernel_seconds, predict, predict_with
from tilewright.search.gpu.ranking import rank_tiles, tiled_seconds
from tilewright.search.gpu.split import calibration_rows
from tilewright.search.gpu.validate import error_figures, same_device, validate
from tilewright.sim.gpu.device import gpu_device

SAMPLES = Path(__file__).resolve().parents[1] / "validation" / "gpu_samples"

#: Largest mean error of each sample of held-out rows, in per cent (30 to 40 rows; the whole tables are in
#: tests/validation/test_gpu_measured.py).
SAMPLE_ERRORS = {
    "h200_gemm_vllm_0.24.0_sample__bfloat16": 8,
    "h100_gemm_vllm_0.24.0_sample__bfloat16": 8,
    "a100_gemm_sglang_0.5.10_sample": 12,
    "h200_gemm_trtllm_1.2.0rc5_sample": 15,
    "h200_context_attention_vllm_0.24.0_sample": 12,
    "h200_generation_attention_vllm_0.24.0_sample": 15,
    "h200_moe_vllm_0.22.0_sample": 16,
    "h100_context_mla_vllm_0.14.0_sample": 10,
    "h100_generation_mla_vllm_0.14.0_sample": 10,
}


def sample(name: str) -> list[MeasuredTable]:
    return read_tables(SAMPLES / f"{name}.csv")


def products(n: int = 400, family: str = "bf16", device: str = "h200", seed: int = 1) -> MeasuredTable:
    chance = np.random.default_rng(seed)
    columns = {name: 2 ** chance.integers(low, 14, n) for name, low in (("m", 0), ("n", 6), ("k", 6))}
    empty = MeasuredTable(
        name="drawn",
        operator="gemm",
        family=family,
        device=device,
        columns=columns,
        seconds=np.ones(n),
        source="drawn",
        weight_copies=6,
    )
    machine = load_machine(device)
    seconds = predict(gpu_device(machine), calibration_of(machine), empty).seconds
    return MeasuredTable(**{**{f: getattr(empty, f) for f in empty.__slots__}, "seconds": seconds})


# --- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLE_ERRORS)
def test_samples_of_held_out_rows_are_predicted(name: str) -> None:
    machine = load_machine(name[:4])
    found = validate(machine, calibration_of(machine), sample(name))
    assert not found.left_out
    for table in found.tables:
        assert table.overall.mape * 100 < SAMPLE_ERRORS[name], table.name
        assert sum(figures.n for figures in table.by_size.values()) == table.overall.n


def test_the_samples_were_held_out() -> None:
    for name in SAMPLE_ERRORS:
        assert not any(calibration_rows(table).any() for table in sample(name)), name


# --- reading ---------------------------------------------------------------------------------------------------------


def test_aiconfigurator_s_columns_become_shapes() -> None:
    (decode,) = sample("h200_generation_attention_vllm_0.24.0_sample")
    assert (decode.operator, decode.family, decode.device) == ("attention", "fa3_decode", "h200")
    assert (decode.columns["queries"] == 1).all() and decode.columns["keys"].min() >= 2
    families = {table.family: table for table in sample("h200_gemm_trtllm_1.2.0rc5_sample")}
    assert set(families) == {"int4_wo", "int8_wo", "int8_sq"}
    assert families["int4_wo"].weight_copies == 5
    assert sample("h200_gemm_vllm_0.24.0_sample__bfloat16")[0].weight_copies == 6


def test_llmcompass_rates_become_seconds(tmp_path: Path) -> None:
    (tmp_path / "matmul_A100.csv").write_text("64, 12288, 12288, 0.1900ms, 101.7124Tflops\n")
    (tmp_path / "softmax_MI210.csv").write_text("4096, 1024, 87.5\n")
    (tmp_path / "gelu_A100.csv").write_text("2048, 0.0434\n")
    (product,) = read_tables(tmp_path / "matmul_A100.csv")
    assert product.seconds[0] == pytest.approx(190e-6) and product.device == "a100"
    (softmax,) = read_tables(tmp_path / "softmax_MI210.csv")
    assert softmax.seconds[0] == pytest.approx(4096 * 1024 / 87.5e9) and softmax.device == "mi210"
    (gelu,) = read_tables(tmp_path / "gelu_A100.csv")
    assert (gelu.columns["m"][0], gelu.columns["n"][0]) == (2, 1024)


def test_neusight_and_tenstorrent_are_read(tmp_path: Path) -> None:
    neusight = tmp_path / "linear.csv"
    neusight.write_text("op,device,latency_ms,B,M,N,K\nlinear,NVIDIA L4,1.5,1,1024,2560,2560\n")
    (linear,) = read_tables(neusight)
    assert linear.columns["m"].tolist() == [1024] and linear.device == "l4"
    wormhole = tmp_path / "n150.csv"
    wormhole.write_text("config,m,k,n,dtype,fidelity,time_ns\ntuned,512,1024,2048,BFLOAT16,HiFi2,363193\n")
    (tensix,) = read_tables(wormhole)
    assert tensix.seconds[0] == pytest.approx(363193e-9) and tensix.columns["n"].tolist() == [2048]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("h200_gemm_vllm_1.csv", "m,n,latency_ms\n1,2,3\n", "lacks the column k"),
        ("h200_gemm_vllm_1.csv", "m,n,k,latency_ms\n", "holds no measured times"),
        ("h200_gemm_vllm_1.csv", "m,n,k,latency_ms\n1,2,3,abc\n", "h200_gemm_vllm_1.csv:2: latency_ms: given abc"),
        ("h200_gemm_vllm_1.csv", "m,n,k,latency_ms\n1,2,3,4\n1,,3,1\n", "h200_gemm_vllm_1.csv:3: n: given nan"),
        ("h200_gemm_vllm_1.csv", "m,n,k,latency_ms\n1,2,3,4,5\n", "not a CSV table"),
        ("h200_gemm_vllm_1.csv", "m,n,k,latency_ms\n1,2,-3,4\n", "k: given -3; allowed whole numbers from 1"),
        ("matmul_A100.csv", "64, 8, 8, 0ms, 1\n", "matmul_A100.csv:1: not a row"),
        ("other.csv", "m,n,k,latency_ms\n1,2,3,4\n", "the name does not say what was measured"),
        ("other.csv", "a,b\n1,2\n", "not a table that is known here"),
        ("matmul_A100.csv", "64, x\n", "matmul_A100.csv:1: not a row of LLMCompass's matmul"),
        (
            "h200_gemm_vllm_1.csv",
            "m,n,k,latency_ms\n1e300,2,3,4\n",
            "m: given 1e+300; allowed whole numbers from 1 to 2",
        ),
        (
            "h200_gemm_vllm_1.csv",
            "m,n,k,latency_ms\n1,2,3,1e-320\n",
            "latency_ms: given 1e-320; allowed a time above 0",
        ),
        ("h200_gemm_vllm_1__foo.csv", "m,n,k,latency_ms\n1,2,3,4\n", 'ends in an unknown format; given "foo"'),
        ("h200_context_attention_vllm_1.csv", "isl,latency_ms\n1,2\n", "lacks the column num_heads"),
        ("n150.csv", "m,k,n,fidelity,time_ns\n1,1,1,HiFi2,3\n", "lacks the column dtype"),
        ("matmul_A100.csv", f"{10**30}, 8, 8, 1ms\n", "matmul_A100.csv:1: not a row"),
        ("own.json", "{", "not valid JSON"),
        ("own.json", "[" * 100_000, "not valid JSON (nested too deeply"),
        ("own.json", "9" * 5000, "not valid JSON"),
    ],
)
def test_a_bad_table_is_said(name: str, text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match="^[^\n]*" + re.escape(said)):
        read_tables(path)


def test_query_heads_that_no_key_head_divides_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "h200_context_attention_vllm_1.csv"
    path.write_text("batch_size,isl,num_heads,num_key_value_heads,latency_ms\n1,16,4,8,0.1\n")
    with pytest.raises(InputError, match="heads: given 4 with 8 key heads; allowed a multiple"):
        read_tables(path)


def measurement(**changes: object) -> Measurement:
    fields: dict[str, object] = {
        "operator": "gemm",
        "kernel": "torch_matmul",
        "shape": {"m": 4096, "n": 4096, "k": 4096},
        "formats": {"a": "fp16", "b": "fp16", "out": "fp16"},
        "median_s": 200e-6,
        "low_s": 190e-6,
        "high_s": 210e-6,
        "n_samples": 20,
        "n_per_sample": 100,
    }
    return Measurement(**{**fields, **changes})  # type: ignore[arg-type]


def own_file(path: Path, measurements: list[Measurement]) -> Path:
    device = MeasurementDevice(name="NVIDIA H200", kind="gpu", n_sm=132)
    MeasurementFile(device=device, taken="2026-11-20", measurements=tuple(measurements)).save(path)
    return path


def test_our_own_measurements_become_tables(tmp_path: Path) -> None:
    shape = {"batch": 1, "heads": 32, "kv_heads": 8, "query_len": 1, "key_len": 4096, "head_dim": 128, "value_dim": 128}
    path = own_file(
        tmp_path / "own.json",
        [
            measurement(),
            measurement(kernel="triton", tiles={"m": 128, "n": 128, "k": 64, "stages": 3, "warps": 8, "group": 8}),
            measurement(operator="attention", kernel="torch_sdpa", shape=shape),
            measurement(operator="softmax", kernel="torch", shape={"rows": 64, "columns": 4096}),
            measurement(operator="mlp", kernel="torch", shape={"m": 64, "width": 8, "hidden": 8, "out_width": 8}),
        ],
    )
    tables = {table.family: table for table in read_tables(path)}
    assert set(tables) == {"bf16", "triton_fp16", "torch_sdpa_decode", "softmax_graph", "torch_mlp"}
    assert tables["triton_fp16"].tile_columns == (
        "tile_group",
        "tile_k",
        "tile_m",
        "tile_n",
        "tile_stages",
        "tile_warps",
    )
    assert tables["bf16"].copies > 1
    found = validate(load_machine("h200"), calibration_of(load_machine("h200")), list(tables.values()))
    assert [(table.family, table.stand_in, table.measured_on) for table in found.tables] == [
        ("bf16", "", "h200"),
        ("torch_sdpa_decode", "fa3_decode", "h200"),
        ("softmax_graph", "", "h100"),
        ("torch_mlp", "", ""),
    ]
    assert len(found.left_out) == 1 and "3 tilings" in found.left_out[0][1]


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"m": 1, "n": 1}, "measurements: shape: gemm, torch_matmul: lacks k"),
        ({"m": 0, "n": 1, "k": 1}, "own: bf16: m: given 0; allowed 1 or more"),
    ],
)
def test_our_own_measurements_have_whole_shapes(shape: dict[str, int], said: str, tmp_path: Path) -> None:
    path = own_file(tmp_path / "own.json", [measurement(shape=shape)])
    with pytest.raises(InputError, match=said):
        read_tables(path)


# --- errors, split, calibration --------------------------------------------------------------------------------------


def test_errors_are_shares_of_the_measured_time() -> None:
    figures = error_figures(np.array([1.1, 1.8, 4.0]), np.array([1.0, 2.0, 4.0]))
    assert figures.mape == pytest.approx(0.2 / 3) and figures.median == pytest.approx(0.1)
    assert figures.worst == pytest.approx(0.1) and figures.rank_correlation == pytest.approx(1.0)
    assert error_figures(np.ones(2), np.ones(2)).rank_correlation is None


@pytest.mark.parametrize(
    ("device", "machine", "same"),
    [
        ("NVIDIA H200", "h200", True),
        ("NVIDIA A100-SXM4-80GB", "a100", True),
        ("NVIDIA H200", "h100", False),
        ("a1000", "a100", False),
    ],
)
def test_a_device_is_known_by_its_name(device: str, machine: str, same: bool) -> None:
    assert same_device(device, machine) is same


def test_all_rows_of_a_weight_are_on_one_side() -> None:
    table = products(2000)
    mask = calibration_rows(table)
    assert 0.3 < mask.mean() < 0.7
    sides: dict[tuple[int, int], bool] = {}
    for n, k, side in zip(table.columns["n"].tolist(), table.columns["k"].tolist(), mask.tolist(), strict=True):
        assert sides.setdefault((n, k), side) == side


def test_a_table_that_calibrates_counts_with_its_held_out_rows() -> None:
    machine = load_machine("h200")
    calibration = calibration_of(machine)
    drawn = products(300)
    named = MeasuredTable(
        **{f: getattr(drawn, f) for f in drawn.__slots__ if f != "name"},
        name=calibration.family("gemm", "bf16").measured,
    )
    (table,) = validate(machine, calibration, [named]).tables
    assert table.scope == "held out" and table.n_left_out == calibration_rows(named).sum()
    assert table.overall.mape == pytest.approx(0, abs=1e-12)
    (other,) = validate(machine, calibration, [drawn]).tables
    assert other.scope == "all" and other.overall.n == 300


def test_calibration_finds_the_parameters_that_made_the_times() -> None:
    device = gpu_device(load_machine("h200"))
    table = products(600)
    found = calibrate(device, table)
    assert found.held_out_error is not None and found.held_out_error < 0.02
    assert found.n_calibration + found.n_held_out == 600
    true = calibration_of(load_machine("h200")).family("gemm", "bf16").parameters
    assert found.parameters["launch_us"] == pytest.approx(true["launch_us"], rel=0.1)
    for name, (low, high) in parameter_bounds("gemm").items():
        assert low <= found.parameters[name] <= high
    assert "convert_cycles" not in free_parameters("gemm", "bf16")
    assert "convert_cycles" in free_parameters("gemm", "int4_wo")


def test_few_rows_leave_most_parameters_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilewright.search.gpu.calibrate._STARTS_OF_FEW", 2)
    device = gpu_device(load_machine("h200"))
    found = calibrate(device, products(60))
    assert "feed_bytes_per_cycle" in found.fixed and "launch_us" not in found.fixed
    with pytest.raises(InputError, match="rows to calibrate"):
        calibrate(device, products(4))


def test_nothing_to_compare_is_an_error_with_the_reasons() -> None:
    machine = load_machine("h200")
    with pytest.raises(InputError, match="nothing to compare with h200: drawn: measured on a100"):
        validate(machine, calibration_of(machine), [products(5, device="a100")])
    softmax = calibration_of(load_machine("a100")).family("rowwise", "softmax").typed()
    with pytest.raises(InputError, match="parameters of another operator"):
        predict_with(gpu_device(machine), softmax, products(5))


def test_one_kernel_by_its_shape() -> None:
    h200 = load_machine("h200")
    product = kernel_seconds(h200, "gemm", "bf16", m=4096, n=4096, k=4096)
    assert 2 * 4096**3 / product == pytest.approx(750e12, rel=0.15)
    decode = {"batch": 16, "queries": 1, "keys": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128}
    assert 0 < kernel_seconds(h200, "attention", "fa3_decode_fp8", **decode) < 1e-3
    with pytest.raises(InputError, match="gemm: shape given as m, n; allowed m, n, k"):
        kernel_seconds(h200, "gemm", "bf16", m=1, n=1)
    with pytest.raises(InputError, match="gemm: k: given 0; allowed at least 1"):
        kernel_seconds(h200, "gemm", "bf16", m=1, n=1, k=0)
    with pytest.raises(InputError, match="edge-16x16: is not a GPU"):
        kernel_seconds(load_machine("edge-16x16"), "gemm", "bf16", m=1, n=1, k=1)


# --- tilings ---------------------------------------------------------------------------------------------------------


def tile_sweep(operator: str = "gemm") -> MeasuredTable:
    sides = [(m, n, s) for m in (32, 64, 128) for n in (64, 128, 256) for s in (2, 4)]
    tiles = np.array(sides * 2).T
    n = len(tiles[0])
    if operator == "gemm":
        columns = {"m": 4096, "n": 4096, "k": 4096, "tile_k": 64}
        columns |= {"tile_m": tiles[0], "tile_n": tiles[1], "tile_stages": tiles[2], "tile_warps": 8, "tile_group": 8}
        columns["m"] = np.repeat([512, 4096], n // 2)
    else:
        columns = {"batch": 1, "queries": 4096, "keys": 4096, "heads": 16, "kv_heads": 16, "head_dim": 64, "window": 0}
        columns |= {"tile_query": tiles[0], "tile_key": tiles[1], "tile_stages": tiles[2], "tile_warps": 4}
    return MeasuredTable(
        name="sweep",
        operator=operator,  # type: ignore[arg-type]
        family="triton_fp16" if operator == "gemm" else "triton_fused_prefill",
        device="NVIDIA H200",
        columns={name: np.broadcast_to(np.asarray(value), (n,)).astype(np.int64) for name, value in columns.items()},
        seconds=np.ones(n),
        source="made up",
    )


@pytest.mark.parametrize("operator", ["gemm", "attention"])
def test_tilings_are_ranked_against_their_measured_times(operator: str) -> None:
    machine = load_machine("h200")
    device, calibration = gpu_device(machine), calibration_of(machine)
    sweep = tile_sweep(operator)
    simulated = tiled_seconds(device, calibration, sweep)
    fits = np.isfinite(simulated)
    assert fits.any() and (simulated[fits] > 0).all() and len(np.unique(simulated[fits])) > 5
    chance = np.random.default_rng(0)
    noisy = np.where(fits, simulated, 1.0) * chance.normal(1, 0.01, len(sweep))
    measured = MeasuredTable(**{f: getattr(sweep, f) for f in sweep.__slots__ if f != "seconds"}, seconds=noisy)
    rankings = rank_tiles(device, calibration, measured)
    assert len(rankings) == (2 if operator == "gemm" else 1)
    for ranking in rankings:
        assert ranking.rank_correlation > 0.9 and 0 <= ranking.regret < 0.03 and ranking.mape < 0.03


def test_the_worst_choice_has_its_regret() -> None:
    machine = load_machine("h200")
    device, calibration = gpu_device(machine), calibration_of(machine)
    sweep = tile_sweep().rows(np.arange(18, 36))
    simulated = tiled_seconds(device, calibration, sweep)
    opposite = MeasuredTable(
        **{f: getattr(sweep, f) for f in sweep.__slots__ if f != "seconds"}, seconds=1e-9 / simulated
    )
    (ranking,) = rank_tiles(device, calibration, opposite)
    assert ranking.rank_correlation < -0.9
    finite = simulated[np.isfinite(simulated)]
    assert ranking.regret == pytest.approx(finite.max() / finite.min() - 1, rel=1e-6)


def test_more_stages_and_larger_tiles_have_their_price() -> None:
    machine = load_machine("h200")
    device, calibration = gpu_device(machine), calibration_of(machine)
    sweep = tile_sweep()
    deep = MeasuredTable(
        **{f: getattr(sweep, f) for f in sweep.__slots__ if f != "columns"},
        columns={**sweep.columns, "tile_stages": np.full(len(sweep), 40)},
    )
    assert np.isinf(tiled_seconds(device, calibration, deep)).any()


# --- commands --------------------------------------------------------------------------------------------------------


def test_validate_writes_tables_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report"
    files = [
        str(SAMPLES / f"{name}.csv") for name in SAMPLE_ERRORS if name.startswith("h200") and "context" not in name
    ]
    to_files = ["--json", str(tmp_path / "v.json"), "--csv", str(tmp_path / "v.csv"), "--report", str(out)]
    code = run(["validate", *files, "-a", "h200", *to_files])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert "predicted against measured on h200" in shown.out and "fa3_decode" in shown.out
    data = json.loads((tmp_path / "v.json").read_text())
    assert {table["family"] for table in data["tables"]} >= {"bf16", "fa3_decode", "int4_wo"}
    assert (tmp_path / "v.csv").read_text().startswith("table,operator,family,scope,by,class,n,mape")
    page = (out / "index.html").read_text()
    assert "Error by what limits the kernel" in page and page.count("data:image/png") == len(data["tables"])
    assert len(list(out.glob("*.png"))) == len(data["tables"])


def test_calibrate_writes_a_file_that_validate_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = products(300, seed=5)
    rows = zip(*(table.columns[name] for name in ("m", "n", "k")), table.seconds * 1e3, strict=True)
    path = tmp_path / "h200_gemm_vllm_9.csv"
    path.write_text("m,n,k,latency_ms\n" + "".join(f"{m},{n},{k},{t}\n" for m, n, k, t in rows))
    own = tmp_path / "own.yaml"
    assert run(["calibrate", str(path), "-a", "h200", "-o", str(own)]) == 0
    assert load_calibration(own).family("gemm", "bf16").measured == "h200_gemm_vllm_9: bf16"
    assert run(["validate", str(path), "-a", "h200", "--calibration", str(own)]) == 0
    assert "held out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["validate", "nope.csv", "-a", "h200"], "nope.csv: no such file"),
        (["validate", "nope.csv", "-a", "edge-16x16"], "nope.csv: no such file"),
        (["calibrate", "nope.csv", "-a", "h200", "-o", "x.yaml"], "nope.csv: no such file"),
        (["calibrate", "nope.csv", "-a", "flat-edge", "-o", "x.yaml"], "nope.csv: no such file"),
    ],
)
def test_mistakes_end_with_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert said in capsys.readouterr().err
