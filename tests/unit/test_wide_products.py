"""Products of 32 bits on a GPU: tf32 on the tensor cores, fp32 on the CUDA lanes."""

from __future__ import annotations

import pytest

from tilewright import simulate, simulate_network
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.gpu.predict import kernel_seconds
from tilewright.sim.gpu.device import gpu_device
from tilewright.sim.network_result import NetworkResult
from tilewright.workloads.network import load_network
from tilewright.workloads.zoo.layers import Layers

A100 = load_machine("a100")
LARGE = {"m": 8192, "n": 8192, "k": 8192}
MACS = 8192**3


def rate(family: str, machine: str = "a100") -> float:
    """TFLOP/s of a large product."""
    return 2 * MACS / kernel_seconds(load_machine(machine), "gemm", family, **LARGE) / 1e12


def test_peaks_are_those_of_the_data_sheet() -> None:
    device = gpu_device(A100)
    each = device.n_sms * device.clock_hz * 2 / 1e12
    assert [round(device.macs(name) * each, 1) for name in ("tf32", "bf16")] == pytest.approx([156, 312], rel=0.01)
    assert device.macs("fp32") == device.lanes


def test_large_products_come_near_the_peak_of_their_format() -> None:
    assert 100 < rate("tf32") < 156
    # 64 lanes a multiprocessor: 19.5 TFLOP/s
    assert 12 < rate("fp32") < 19.5
    assert rate("fp32", "l40s") > rate("fp32")


@pytest.mark.parametrize("operator", ["gemm:m=2048,n=2048,k=2048", "conv:in=256x56x56,out_channels=256,kernel=3"])
def test_an_operator_alone_is_in_the_format_that_it_says(operator: str) -> None:
    half, tf32, fp32 = (simulate(f"{operator},format={name}", "a100") for name in ("fp16", "tf32", "fp32"))
    assert 1.5 * half.seconds < tf32.seconds < fp32.seconds / 2


def test_an_attention_alone_of_32_bits_has_no_fused_kernel() -> None:
    text = "attention:heads=16,seq=2048,head_dim=64,qkv_format="
    half, fp32 = (simulate(text + name, "h100") for name in ("fp16", "fp32"))
    assert fp32.dram_write_bytes > 10 * half.dram_write_bytes  # scores go there and back


def run(number_format: str, machine: str = "a100") -> NetworkResult:
    b = Layers("products")
    x = b.conv(b.input("x", (8, 64, 56, 56)), 128, 3, "conv")
    stream = b.finish([b.conv(x, 256, 1, "point")])
    return simulate_network(stream, machine, kernels="fused", weights=number_format, activations=number_format)


def test_a_network_says_which() -> None:
    """Twice the bytes of 16 bits for both; half the rate, and that of the lanes; energy by format."""
    half, tf32, fp32 = (run(name) for name in ("fp16", "tf32", "fp32"))
    assert half.seconds < tf32.seconds < fp32.seconds
    assert tf32.dram_write_bytes > 2 * half.dram_write_bytes
    names = [kernel.family for one in fp32.operators for kernel in one.kernels if kernel.kernel == "conv"]
    assert names == ["fp32 convolution"] * 2
    assert fp32.matrix_utilization == 0 < tf32.matrix_utilization
    assert fp32.vector_utilization > 0.3
    assert fp32.energy_pj > tf32.energy_pj > half.energy_pj
    assert "kernels tf32 are timed with the parameters of bf16" in tf32.assumptions


def test_a_device_without_the_format_refuses_it() -> None:
    with pytest.raises(InputError, match=r"mi210: cannot multiply tf32; allowed bf16, fp16, int8"):
        run("tf32", "mi210")
    assert run("fp32", "mi210").seconds > 0
    with pytest.raises(InputError, match="fp64"):
        run("fp64")


def test_attention_of_32_bits_is_two_products() -> None:
    result = simulate_network(load_network("deit-t"), "h100", weights="fp32", activations="fp32")
    assert any("two products and a softmax" in text for text in result.assumptions)
