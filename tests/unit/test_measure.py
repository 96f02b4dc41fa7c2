"""Measuring: each result on the disk at once, goes on where it was, stops in time, refuses another device's file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.kernels.calls import BUILDERS
from tilewright.kernels.measurement import Measurement, MeasurementDevice, MeasurementFile, load_measurements
from tilewright.kernels.suite import SUITES, configurations


def measured(**changes: object) -> Measurement:
    fields: dict[str, object] = {
        "operator": "gemm",
        "kernel": "torch_matmul",
        "shape": {"m": 16, "n": 32, "k": 32},
        "formats": {"a": "fp16", "b": "fp16", "out": "fp16"},
        "median_s": 2e-6,
        "low_s": 1e-6,
        "high_s": 3e-6,
        "n_samples": 20,
        "n_per_sample": 100,
    }
    return Measurement(**{**fields, **changes})  # type: ignore[arg-type]


FILE = MeasurementFile(
    device=MeasurementDevice(name="Some GPU", kind="gpu", n_sm=132), taken="2026-11-20", measurements=(measured(),)
)


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    tiled = measured(tiles={"m": 64}, sm_clock_mhz=1980.0, power_w=500.5)
    wanted = FILE.with_measurement(tiled)
    wanted.save(path)
    assert load_measurements(path) == wanted and len(wanted.measurements) == 2
    again = replace(tiled, median_s=5e-6)
    assert wanted.with_measurement(again).measurements == (measured(), again)


BAD = [
    ("{", "not valid JSON"),
    ("[]", "holds no measurements"),
    ('{"taken": "today"}', "device"),
    ('{"device": {"name": "x", "kind": "gpu"}, "taken": "t", "measurments": []}', 'did you mean "measurements"'),
]


@pytest.mark.parametrize(("text", "said"), BAD)
def test_a_bad_file_is_said(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        load_measurements(path)
    assert str(path) in str(caught.value)


def test_every_configuration_can_be_built_and_no_two_are_the_same() -> None:
    everything = configurations(list(SUITES.names()))
    assert all((each.operator, each.kernel) in BUILDERS for each in everything)
    assert len({each.key for each in everything}) == len(everything) >= 500
    assert {(each.operator, each.kernel) for each in configurations(["tiny"])} >= set(BUILDERS) - {
        ("gemm", "torch_int_mm"),  # the CPU has no such product
        ("gemm", "torch_scaled_mm"),
    }
    with pytest.raises(InputError, match=r'--suite: unknown suite; given "gem"; allowed .*did you mean "gemm"'):
        configurations(["gem"])


def test_a_budget_cuts_every_suite_and_none_off() -> None:
    first = configurations(["attention", "gemm", "fusion", "elementwise"])[:100]
    assert {each.operator for each in first} >= {"attention", "gemm", "mlp", "elementwise"}
    assert any(each.tiles for each in first) and any(each.kernel == "torch_matmul" for each in first)


@pytest.fixture
def interpreter() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[gpu]'")
    pytest.importorskip("triton", reason="triton is not installed: pip install 'tilewright[gpu]'")
    if torch.cuda.is_available():
        pytest.skip("the kernels are compiled for the GPU here")
    torch.set_num_threads(1)


def command(*arguments: str) -> int:
    usual = {"--device": "interpreter", "--suite": "tiny"}  # each given once
    given = [part for name, value in usual.items() if name not in arguments for part in (name, value)]
    return run(["measure", *given, *arguments])


@pytest.mark.extras
@pytest.mark.usefixtures("interpreter")
def test_measuring_goes_on_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "here.json"
    assert command("-o", str(path)) == 0
    assert "16 of 16 configurations" in capsys.readouterr().out
    whole = load_measurements(path)
    assert whole.device.kind == "interpreter"
    replace(whole, measurements=whole.measurements[:5]).save(path)
    assert command("-o", str(path)) == 0
    again = load_measurements(path)
    assert again.measurements[:5] == whole.measurements[:5]
    assert {each.key for each in again.measurements} == {each.key for each in whole.measurements}
    before = path.read_bytes()
    assert command("-o", str(path)) == 0
    assert path.read_bytes() == before


@pytest.mark.extras
@pytest.mark.usefixtures("interpreter")
def test_a_budget_ends_it_and_says_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "here.json"
    assert command("-o", str(path), "--budget", "0.001s") == 0
    said = capsys.readouterr()
    n_done = len(load_measurements(path).measurements)
    assert n_done < 16 and f"{n_done} of 16" in said.out and f"{16 - n_done} are left" in said.err
    json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.extras
@pytest.mark.usefixtures("interpreter")
def test_what_does_not_run_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(setting: object) -> object:
        raise RuntimeError("out of shared memory")

    monkeypatch.setattr("tilewright.kernels.suite.BUILDERS", {**BUILDERS, ("mlp", "triton_fused"): refuse})
    path = tmp_path / "here.json"
    assert command("-o", str(path)) == 0
    said = capsys.readouterr()
    assert "15 of 16" in said.out and "0 are left" in said.err
    assert "the last that does not run: mlp, triton_fused: RuntimeError: out of shared memory" in said.err
    assert "mlp" not in {each.operator for each in load_measurements(path).measurements if each.kernel != "torch"}


@pytest.mark.extras
@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "8"], '--budget: not a time; given "8"'),
        (["--suite", ""], "--suite: no suite"),
        (["--device", "gpu"], '--device: unknown device; given "gpu"'),
        (["--device", "cuda"], "PyTorch finds no GPU here"),
    ],
)
def test_faults_are_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("-o", str(tmp_path / "x.json"), *arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.extras
@pytest.mark.usefixtures("interpreter")
def test_another_devices_file_and_a_path_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gpu.json"
    FILE.save(path)
    assert command("-o", str(path)) == 2
    assert "holds measurements of Some GPU" in capsys.readouterr().err
    assert load_measurements(path) == FILE
    assert command("-o", str(tmp_path / "none" / "x.json")) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.extras
def test_measuring_on_a_gpu(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[gpu]'")
    if not torch.cuda.is_available():
        pytest.skip("no GPU on this computer")
    path = tmp_path / "gpu.json"
    assert run(["measure", "--suite", "tiny", "-o", str(path)]) == 0
    file = load_measurements(path)
    assert file.device.kind == "gpu" and len(file.measurements) >= 14
    assert all(each.low_s <= each.median_s <= each.high_s < 1e-2 for each in file.measurements)
