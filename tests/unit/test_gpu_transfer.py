"""What of a calibration goes along to another GPU, and which parameters stand in for a family that has none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import calibration_of, load_calibration
from tilewright.hw_models.gpu.parameters import AttentionParameters, GemmParameters
from tilewright.hw_models.load import load_machine
from tilewright.search.gpu.predict import kernel_seconds
from tilewright.search.gpu.stand_in import parameters_of
from tilewright.sim.gpu.device import GpuDevice, gpu_device
from tilewright.sim.gpu.transfer import transferred


@pytest.fixture(scope="module")
def a100() -> GpuDevice:
    return gpu_device(load_machine("a100"))


@pytest.fixture(scope="module")
def h200() -> GpuDevice:
    return gpu_device(load_machine("h200"))


def products(name: str) -> GemmParameters:
    found = load_calibration(name).family("gemm", "bf16").typed()
    assert isinstance(found, GemmParameters)
    return found


def test_on_its_own_device_a_calibration_is_what_was_fitted(a100: GpuDevice) -> None:
    assert transferred(products("a100"), a100, a100) == products("a100")
    assert parameters_of(a100, load_calibration("a100"), "gemm", "bf16").parameters == products("a100")


def test_figures_of_the_data_sheets_move_the_parameters(a100: GpuDevice, h200: GpuDevice) -> None:
    fitted = products("a100")
    moved = transferred(fitted, a100, h200, alone=True)
    assert isinstance(moved, GemmParameters)
    assert moved.step_cycles == 0 and fitted.step_cycles > 100  # asynchronous products hide it
    beyond = (fitted.launch_us - a100.launch_s * 1e6) * a100.clock_hz / h200.clock_hz
    assert moved.launch_us == pytest.approx(h200.launch_s * 1e6 + beyond)
    assert moved.overlap_loss == pytest.approx(0.7 * fitted.overlap_loss)
    assert moved.sustained_share < fitted.sustained_share  # more operations a watt, yet more of them
    assert moved.memory_share == fitted.memory_share
    older = transferred(fitted, a100, h200, hides_steps=(False, False))
    assert isinstance(older, GemmParameters) and older.step_cycles == fitted.step_cycles
    back = transferred(products("h200"), h200, a100)
    assert isinstance(back, GemmParameters) and back.step_cycles == pytest.approx(0.41 * 560)


def test_a_shorter_launch_keeps_its_ratio(a100: GpuDevice, h200: GpuDevice) -> None:
    fitted = replace(products("a100"), launch_us=1.0)
    moved = transferred(fitted, a100, h200)
    assert moved.launch_us == pytest.approx(h200.launch_s / a100.launch_s)


def test_the_launch_of_a_machine_is_read() -> None:
    shape = {"m": 1, "n": 64, "k": 64}
    usual = kernel_seconds(load_machine("h200"), "gemm", "bf16", **shape)
    slower = kernel_seconds(load_machine("h200", ["gpu.launch_us=5.37"]), "gemm", "bf16", **shape)
    assert slower - usual == pytest.approx(3e-6)


def test_relatives_stand_in_and_are_named(h200: GpuDevice) -> None:
    alone = load_calibration("a100")
    prefill = parameters_of(h200, alone, "attention", "fa3_prefill")
    assert (prefill.stand_in, prefill.measured_on) == ("fa2_prefill", "a100")
    fp8 = parameters_of(h200, alone, "attention", "fa3_decode_fp8").parameters
    assert isinstance(fp8, AttentionParameters) and fp8.value_cycles > 0
    quantised = parameters_of(h200, alone, "gemm", "fp8").parameters
    plain = parameters_of(h200, alone, "gemm", "bf16").parameters
    assert isinstance(quantised, GemmParameters) and quantised.quantise_chunk_ns > 0
    assert quantised.launch_us == pytest.approx(plain.launch_us + h200.launch_s * 1e6)
    with pytest.raises(
        InputError, match="a100: no calibrated gemm kernels fp8_block nor a relative of them; allowed bf16"
    ):
        parameters_of(h200, alone, "gemm", "fp8_block")
    # Of PyTorch's attention no row is fitted: FlashAttention-3's parameters on Hopper, FlashAttention-2's on an A100.
    for machine, relative, device in (("h100", "fa3_prefill", "h200"), ("a100", "fa2_prefill", "a100")):
        spec = load_machine(machine)
        chosen = parameters_of(gpu_device(spec), calibration_of(spec), "attention", "torch_sdpa_prefill")
        assert (chosen.stand_in, chosen.measured_on) == (relative, device)
        assert chosen.parameters.launch_us == pytest.approx(gpu_device(spec).launch_s * 1e6)


def test_a_calibration_is_known_by_its_machine_s_name() -> None:
    assert load_calibration("a100").device == "a100"
    with pytest.raises(InputError, match='unknown calibration; given "a10"'):
        load_calibration("a10")


@pytest.mark.parametrize(
    ("machine", "family", "relative"),
    [
        ("b200", "flashinfer_decode_fp8", "fa3_decode_fp8"),
        ("l40s", "trtllm_prefill", "fa2_prefill"),
        ("l40s", "fa2_decode_fp8", "fa2_decode"),
        ("h200", "flashinfer_encoder", "fa3_encoder"),
    ],
)
def test_libraries_without_a_table_stand_on_flashattention(machine: str, family: str, relative: str) -> None:
    spec = load_machine(machine)
    chosen = parameters_of(gpu_device(spec), calibration_of(spec), "attention", family)
    assert chosen.stand_in == relative


def test_four_bits_are_faster_where_the_tensor_cores_have_them() -> None:
    b200 = load_machine("b200")
    fp4, fp8 = (kernel_seconds(b200, "gemm", name, m=8192, n=8192, k=8192) for name in ("nvfp4", "fp8"))
    assert fp8 / 2 < fp4 < fp8
    with pytest.raises(InputError, match="h200: cannot multiply fp4_e2m1"):
        kernel_seconds(load_machine("h200"), "gemm", "nvfp4", m=1, n=1, k=1)
