"""Measuring: each result on the disk at once, goes on where it was, stops in time, refuses another device's file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import load_calibration
from tilewright.hw_models.load import load_machine
from tilewright.kernels.board import Board
from tilewright.kernels.calls import BUILDERS, Setting
from tilewright.kernels.compiled import Resources, resources_of
from tilewright.kernels.measure import _count_energy
from tilewright.kernels.measurement import Measurement, MeasurementDevice, MeasurementFile, load_measurements
from tilewright.kernels.networks import BlockSizes, decoder_block, network_module
from tilewright.kernels.reading.runs import is_run_table, read_runs
from tilewright.kernels.suite import SUITES, Configuration, configurations
from tilewright.search.gpu.predict import kernel_energy


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
        ("network", "torch_eager"),
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
    assert "18 of 18 configurations" in capsys.readouterr().out
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
    assert n_done < 18 and f"{n_done} of 18" in said.out and f"{18 - n_done} are left" in said.err
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
    assert "17 of 18" in said.out and "0 are left" in said.err
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


# --- what only a GPU has, on fakes -----------------------------------------------------------------------------------


def driver(*, power_failure: int = 0) -> Any:
    """A driver whose board has drawn 500 J more each time that it is asked."""
    asked = []

    def energy(handle: object, value: Any) -> int:
        asked.append(handle)
        value._obj.value = 500_000 * len(asked)
        return 0

    def power(handle: object, value: Any) -> int:
        value._obj.value = 321_000
        return power_failure

    def clock(handle: object, kind: int, value: Any) -> int:
        value._obj.value = 1395 if kind == 1 else 0
        return 0

    return SimpleNamespace(
        nvmlDeviceGetTotalEnergyConsumption=energy, nvmlDeviceGetPowerUsage=power, nvmlDeviceGetClockInfo=clock
    )


def test_a_board_says_joules_watts_and_clock() -> None:
    known = Board(driver(), None)
    assert (known.joules(), known.joules(), known.watts(), known.clock_mhz()) == (500, 1000, 321, 1395)
    unknown = Board()
    assert (unknown.joules(), unknown.watts(), unknown.clock_mhz()) == (None, None, None)
    assert Board(driver(power_failure=3), None).watts() is None


@pytest.mark.extras
@pytest.mark.usefixtures("interpreter")
def test_energy_is_what_the_counter_moved_over_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    counter = Board(driver(), None)
    monkeypatch.setattr("tilewright.kernels.measure.board", lambda: counter)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: None)
    monkeypatch.setattr("tilewright.kernels.measure._ENERGY_S", 0.02)
    counted = _count_energy(lambda: calls.append(1), 10, 1e-4)  # 10 calls of 0.1 ms a replay
    assert len(calls) == 20 and counted.joules == pytest.approx(500 / 200)
    assert counted.seconds is not None and counted.seconds >= 0.01
    assert counted.watts == pytest.approx(500 / counted.seconds) and counted.clock_mhz == 1395


class Compiled:
    """As Triton gives a compiled kernel back."""

    def __init__(self, n_regs: int, n_spills: int, shared: int) -> None:
        self.n_regs, self.n_spills, self.metadata = n_regs, n_spills, SimpleNamespace(shared=shared)


@pytest.mark.extras
def test_registers_and_spills_of_what_a_call_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="triton is not installed: pip install 'tilewright[gpu]'")
    from triton.runtime.jit import JITFunction

    made = iter([Compiled(128, 4, 1000), Compiled(255, 60, 500)])
    monkeypatch.setattr(JITFunction, "run", lambda self, *arguments, **options: next(made))
    plain = JITFunction.run
    kernel = JITFunction.__new__(JITFunction)

    def call() -> None:
        kernel.run(1, grid=(1,))
        kernel.run(2, grid=(1,))

    assert resources_of(call) == Resources(registers=255, spills=64, shared_bytes=1000)
    assert JITFunction.run is plain
    assert resources_of(lambda: None) is None


@pytest.mark.extras
@pytest.mark.usefixtures("interpreter")
def test_networks_are_measured_and_read_as_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def small(setting: Setting) -> tuple[object, object]:
        return torch.nn.Linear(4, 4), torch.zeros(setting.shape["batch"], 4)

    def two() -> Iterator[Configuration]:
        shapes = ({"batch": 2}, {"batch": 1, "seq": 64}, {"batch": 1, "prefill": 8})
        for name, shape in zip(("resnet-18", "bert-base", "llama-3-8b-block"), shapes, strict=True):
            yield Configuration(operator="network", kernel="torch_eager", shape=shape, formats=HALF, network=name)

    monkeypatch.setattr("tilewright.kernels.networks.network_module", small)
    monkeypatch.setattr(SUITES, "get", lambda name, place: (two,))
    path = tmp_path / "networks.json"
    assert command("--suite", "networks", "-o", str(path)) == 0
    assert is_run_table(path)
    runs = read_runs(path).runs
    assert [(each.name, each.batch, each.kind) for each in runs] == [
        ("resnet-18", 2, "network"),
        ("bert-base:seq=64", 1, "network"),
        ("llama-3-8b-block:prefill=8,rotary=0", 1, "network"),
    ]
    assert all(each.seconds > 0 and each.activations == "fp16" for each in runs)
    kernels = tmp_path / "kernels.json"
    FILE.save(kernels)
    assert not is_run_table(kernels)


@pytest.mark.extras
def test_an_unknown_network_is_said() -> None:
    pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[gpu]'")
    with pytest.raises(InputError, match='unknown network; given "bert"'):
        network_module(Setting("cpu", {"batch": 1, "seq": 8}, HALF, {}, "bert"))


@pytest.mark.extras
def test_a_decoders_block_has_its_shape_and_sees_no_later_token() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[gpu]'")
    torch.manual_seed(0)
    block = decoder_block(BlockSizes(width=16, heads=4, kv_heads=2, hidden=32))
    x = torch.randn(2, 6, 16)
    y = block(x)
    assert y.shape == x.shape
    assert sum(weight.numel() for weight in block.parameters()) == 16 * (16 + 8 + 8 + 16 + 3 * 32) + 32
    changed = x.clone()
    changed[:, 4:] += 1
    assert torch.equal(block(changed)[:, :4], y[:, :4]) and not torch.equal(block(changed)[:, 4:], y[:, 4:])


# --- one's own GPU: measure, calibrate, validate ---------------------------------------------------------------------

HALF = {"a": "fp16", "b": "fp16", "out": "fp16"}
MY_GPU = "base: h200\nname: gpu\n"


def made_up(configuration: Configuration, device: str) -> Measurement:
    """A measurement on a GPU that is like an H200, only a tenth slower."""
    shape = {name: size for name, size in configuration.shape.items() if name in ("m", "n", "k")}
    found = kernel_energy(load_machine("h200"), "gemm", "bf16", **shape)
    seconds = found.seconds * 1.1
    energy = {"joules": found.watts * seconds, "energy_s": 2.0, "power_w": found.watts, "energy": True}
    return measured(
        kernel=configuration.kernel,
        shape=dict(configuration.shape),
        formats=dict(configuration.formats),
        median_s=seconds,
        low_s=seconds,
        high_s=seconds,
        sm_clock_mhz=found.clock_ghz * 1e3,
        **(energy if configuration.energy else {}),
    )


def test_three_commands_on_ones_own_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def products() -> Iterator[Configuration]:
        for m, n, k in product((1, 1024, 8192), (1024, 4096, 14336), (1024, 4096)):
            shape = {"m": m, "n": n, "k": k}
            for energy in (False, True):
                yield Configuration(operator="gemm", kernel="torch_matmul", shape=shape, formats=HALF, energy=energy)

    own = MeasurementDevice(name="Some my GPU 80GB", kind="gpu", torch="-", triton="-")
    monkeypatch.setattr("tilewright.kernels.measure._device", lambda kind: own)
    monkeypatch.setattr("tilewright.kernels.measure._idle_w", lambda: 126.2)
    monkeypatch.setattr("tilewright.kernels.measure._one", made_up)
    for name, few in (("_STARTS_OF_FEW", 1), ("_EVALUATIONS", 6)):
        monkeypatch.setattr(f"tilewright.search.gpu.calibrate.{name}", few)
    monkeypatch.setattr(SUITES, "get", lambda name, place: (products,))
    machine, results, kernels = (tmp_path / name for name in ("gpu.yaml", "my.json", "kernels.yaml"))
    machine.write_text(MY_GPU, encoding="utf-8")
    assert run(["measure", "-o", str(results)]) == 0
    assert load_measurements(results).device.idle_w == 126.2
    assert run(["calibrate", str(results), "-a", str(machine), "-o", str(kernels)]) == 0
    assert "static W 126" in " ".join(capsys.readouterr().out.split())
    written = load_calibration(kernels)
    assert written.power[0].device == "gpu" and written.power[0].kind == "calibrated"
    found = tmp_path / "found.json"
    assert run(["validate", str(results), "-a", str(machine), "--calibration", str(kernels), "--json", str(found)]) == 0
    result = json.loads(found.read_text(encoding="utf-8"))
    result = result.get("result", result)
    assert result["power"][0]["overall"]["mape"] < 0.06 and result["power"][0]["scope"] == "held out"
    assert all(table["overall"]["mape"] < 0.15 for table in result["tables"])


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
