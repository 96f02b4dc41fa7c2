"""GPUs are timed as their library kernels: which kernels a network is, what they find in the L2, and one answer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tilewright
from tilewright.cli.run import run
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.gpu.kernel_options import kernel_options
from tilewright.search.gpu.predict import kernel_seconds
from tilewright.sim.gpu.launches.fused import fused_launches
from tilewright.sim.gpu.launches.launch import Launch, Use
from tilewright.sim.gpu.launches.residence import found_in_cache
from tilewright.sim.gpu.launches.unfused import unfused_launches
from tilewright.workloads.network import load_network

MIB = 2**20


def test_batch_norms_activations_and_sums_are_kernels_again() -> None:
    """ResNet-18: 20 convolutions with norms (three kernels each), 17 activations, 8 sums, pools, the classifier."""
    counts = Counter(launch.kernel for launch in unfused_launches(load_network("resnet-18")))
    assert counts == {"conv": 20, "statistics": 40, "elementwise": 20 + 17 + 8, "pooling": 1, "reduce": 1, "matmul": 1}


def test_a_convolution_without_a_norm_has_its_bias_added_by_a_kernel() -> None:
    counts = Counter(launch.kernel for launch in unfused_launches(load_network("vgg-16")))
    assert (counts["conv"], counts["statistics"], counts["elementwise"]) == (13, 0, 13 + 13 + 2)


def test_a_compiler_leaves_products_and_one_kernel_for_what_follows_each() -> None:
    stream = load_network("resnet-18")
    launches = fused_launches(stream)
    counts = Counter(launch.kernel for launch in launches)
    assert counts == {"conv": 20, "elementwise": 19, "pooling": 1, "reduce": 1, "matmul": 1}
    last = next(launch for launch in launches if len(launch.operators) == 3)  # norm, sum and activation
    assert [name.rpartition(".")[2] for name in last.operators] == ["conv2", "add", "relu"]
    assert len([use for use in last.reads if use.n_bytes > MIB // 8]) == 2
    assert len(launches[-2].operators) == 4  # the mean of the last maps takes their norm, sum and activation in


def test_every_operator_is_in_some_kernel_and_fusing_moves_fewer_bytes() -> None:
    for name in ("mobilenet-v2", "bert-base", "llama-3.2-1b:prefill=16"):
        stream = load_network(name)
        eager, fused = unfused_launches(stream), fused_launches(stream)
        wanted = {operator.name for operator in stream.operators}
        for launches in (eager, fused):
            assert {one for launch in launches for one in launch.operators} == wanted
        moved = [sum(one.read_bytes + one.write_bytes for one in launches) for launches in (eager, fused)]
        assert len(fused) < len(eager) and moved[1] < moved[0]
        assert sum(one.macs for one in eager) == sum(one.macs for one in fused)


def test_a_tensor_just_written_is_found_in_the_cache_and_a_large_one_is_not() -> None:
    def chain(n_bytes: int) -> list[Launch]:
        uses = [Use(name, n_bytes) for name in ("a", "b", "c")]
        return [
            Launch(kernel="elementwise", operators=("one",), reads=(uses[0],), writes=(uses[1],)),
            Launch(kernel="elementwise", operators=("two",), reads=(uses[1],), writes=(uses[2],)),
        ]

    small = found_in_cache(chain(MIB), 50 * MIB)
    assert [one.reads for one in small] == [(0.0,), (0.0,)]
    assert small[0].writes == (0.0,) and small[1].writes == (1.0,)  # nobody reads the last one
    large = found_in_cache(chain(200 * MIB), 50 * MIB)
    assert [(one.reads, one.writes) for one in large] == [((1.0,), (1.0,))] * 2
    alone = found_in_cache(chain(MIB), 50 * MIB, repeated=False)
    assert [one.reads for one in alone] == [(1.0,), (0.0,)]


@pytest.mark.parametrize(
    ("text", "operator", "family", "shape"),
    [
        ("gemm:m=4096,n=4096,k=4096", "gemm", "bf16", {"m": 4096, "n": 4096, "k": 4096}),
        ("gemm:m=3,n=700,k=300", "gemm", "bf16", {"m": 3, "n": 700, "k": 300}),
        (
            "attention:heads=32,kv_heads=8,seq=2048,head_dim=128,mask=causal",
            "attention",
            "torch_sdpa_prefill",
            {"batch": 1, "queries": 2048, "keys": 2048, "heads": 32, "kv_heads": 8, "head_dim": 128},
        ),
        ("softmax:rows=8192,columns=4096", "rowwise", "softmax_graph", {"m": 8192, "n": 4096}),
    ],
)
def test_one_kernel_has_one_time(text: str, operator: str, family: str, shape: dict[str, int]) -> None:
    """What ``simulate`` says of a kernel is what ``validate`` compares with a measurement, to the last digit."""
    machine = load_machine("h100")
    wanted = kernel_seconds(machine, operator, family, **shape)  # type: ignore[arg-type]
    result = tilewright.simulate(text, machine)
    assert result.seconds == wanted
    assert result.kernels == "eager" and result.dataflow == family
    assert tilewright.compare([text], ["h100"]).runs[0].seconds == wanted
    assert tilewright.why(text, machine).result.seconds == wanted


def test_a_network_has_one_time_whoever_is_asked(tmp_path: Path) -> None:
    wanted = tilewright.simulate_network("resnet-18:batch=8", "h100").seconds
    assert tilewright.compare(["resnet-18:batch=8"], ["h100"]).runs[0].seconds == wanted
    assert tilewright.why_network("resnet-18:batch=8", "h100").result.seconds == wanted
    table = tmp_path / "mine.csv"
    table.write_text("network,batch,dtype,median_ms\nresnet18,8,float16,0.5\n")
    from tilewright.kernels.reading.runs import read_runs
    from tilewright.search.devices.validate import validate_device

    found = validate_device(load_machine("h100"), read_runs(table).runs)
    assert found.rows[0].prediction.seconds == wanted


def test_operators_add_up_to_the_network_and_kernels_to_operators() -> None:
    for launch in ("graph", "host"):
        result = tilewright.simulate_network("mobilenet-v2", "h100", launch=launch)
        kernels = [kernel for operator in result.operators for kernel in operator.kernels]
        assert sum(kernel.seconds for kernel in kernels) == pytest.approx(result.seconds, rel=1e-12)
        assert sum(operator.cycles for operator in result.operators) == result.cycles
        assert sum(operator.energy_pj for operator in result.operators) == pytest.approx(result.energy_pj)
        assert result.cycles == pytest.approx(result.seconds * 1.83e9, abs=1)
        assert all(operator.cycles >= operator.lower_bound.cycles for operator in result.operators)
        data = result.to_dict()
        assert (data["kernels"], data["launch"], len(data["operators"][0]["kernels"])) == ("eager", launch, 4)


def test_launching_from_the_host_and_not_fusing_take_longer() -> None:
    def seconds(**options: str) -> float:
        return tilewright.simulate_network("mobilenet-v2", "h100", **options).seconds  # type: ignore[arg-type]

    assert seconds(kernels="fused") < seconds() < seconds(launch="host")


def test_more_of_a_resource_never_makes_a_network_slower() -> None:
    for name in ("resnet-18:batch=8", "llama-3-8b-block:prefill=512"):
        reasons = tilewright.why_network(name, "h100")
        assert {item.label for item in reasons.what_ifs} >= {"2x DRAM bandwidth", "kernels launched in no time"}
        assert all(item.cycles <= reasons.result.cycles for item in reasons.what_ifs)


def test_a_large_batch_is_not_refused_and_bert_is_not_the_engines() -> None:
    assert tilewright.simulate_network("resnet-50:batch=64", "h200").seconds < 6e-3
    assert 0.5e-3 < tilewright.simulate_network("bert-base:seq=512", "h200").seconds < 0.8e-3


def test_a_module_of_attention_is_apart_on_hopper_alone() -> None:
    """``nn.MultiheadAttention`` leaves cuDNN's fused kernels out, which are PyTorch's choice on Hopper."""

    def kernels(name: str, machine: str, **options: str) -> Counter[str]:
        result = tilewright.simulate_network(name, machine, **options)  # type: ignore[arg-type]
        return Counter(kernel.kernel for operator in result.operators for kernel in operator.kernels)

    apart = kernels("vit-b-16", "h100")
    assert (apart["attention"], apart["softmax"], apart["matmul"]) == (0, 12, 73 + 24)
    assert kernels("vit-b-16", "h100", kernels="fused")["attention"] == 12
    assert kernels("vit-b-16", "a100")["attention"] == 12
    assert kernels("deit-s", "h100")["attention"] == 12


def test_a_gpu_without_fused_attention_does_two_products_and_a_softmax() -> None:
    result = tilewright.simulate_network("bert-base", "mi210")
    assert any("two products and a softmax" in note for note in result.assumptions)
    layer = tilewright.simulate("bert-base", "mi210")
    assert layer.seconds > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernels": "eagre"}, 'did you mean "eager"'),
        ({"launch": "graf"}, 'did you mean "graph"'),
        ({"kernels": "engine", "launch": "host"}, "launch: is for library kernels"),
        ({"fuse": False}, "fuse: is for the engine's schedules"),
        ({"prefetch": False}, "prefetch: is for the engine's schedules"),
        ({"attention_dataflows": ["flat"]}, "dataflow: is for the engine's schedules"),
    ],
)
def test_what_library_kernels_have_not_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tilewright.simulate_network("resnet-18", "h100", **options)  # type: ignore[arg-type]


def test_kernels_are_asked_of_gpus_alone() -> None:
    with pytest.raises(InputError, match="not a GPU"):
        kernel_options(load_machine("edge-16x16"), "eager")
    with pytest.raises(InputError, match="not a GPU"):
        tilewright.simulate("bert-base", "edge-16x16", kernels="fused")
    assert kernel_options(load_machine("edge-16x16")).is_engine


def test_what_asks_for_a_mapping_asks_for_the_engine() -> None:
    given = {"query": 64, "key": 128}
    result = tilewright.simulate("bert-base", "h100", "flash2", given)
    assert (result.dataflow, result.kernels) == ("flash2", "")
    with pytest.raises(InputError, match="dataflow: is for the engine's schedules"):
        tilewright.simulate("bert-base", "h100", "flash2", kernels="eager")


def test_attention_is_compared_fused_and_apart() -> None:
    found = tilewright.compare("attention:heads=16,seq=2048,head_dim=128", "h100")
    fused, apart = found.results
    assert (fused.dataflow, apart.dataflow) == ("torch_sdpa_encoder", "unfused")
    assert apart.seconds > 2 * fused.seconds


def test_the_command_line_says_which_model_it_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "resnet-18", "-a", "h100", "--json", "-"]) == 0
    said = capsys.readouterr()
    assert '"kernels": "eager"' in said.out and "timed as its library kernels (eager" in said.err
    assert run(["simulate", "resnet-18", "-a", "h100"]) == 0
    said = capsys.readouterr()
    assert "library kernels (eager), by class" in said.out and "108 library kernels, eager; one CUDA graph" in said.out
    assert run(["simulate", "resnet-18", "-a", "h100", "--no-fuse", "--kernels", "eager"]) == 2
    assert "--no-fuse: is for the engine's schedules" in capsys.readouterr().err
    assert run(["compare", "resnet-18", "-a", "edge-16x16", "--kernels", "eager"]) == 2
    assert "--kernels: edge-16x16 is not a GPU" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ResNet18", "resnet-18:batch=4"),
        ("mobilenet_v2", "mobilenet-v2:batch=4"),
        ("llama-3-8b block prefill=128 (no rotary)", "llama-3-8b-block:prefill=128,rotary=0,batch=4"),
        (
            "llama-3-8b block decode context=16 (no rotary, cache concatenated)",
            "llama-3-8b-block:decode=1,context=16,rotary=0,concatenated=1,batch=4",
        ),
        ("bert-base: seq=512", "bert-base:seq=512,batch=4"),
    ],
)
def test_names_of_networks_in_measured_tables(written: str, meant: str, tmp_path: Path) -> None:
    from tilewright.kernels.reading.runs import read_runs
    from tilewright.search.devices.predict import network_text

    table = tmp_path / "mine.csv"
    table.write_text(f'network,batch,ms\n"{written}",4,1\n')
    (row,) = read_runs(table).runs
    assert network_text(row) == meant


@pytest.mark.extras
def test_what_a_module_writes_out_is_as_many_kernels() -> None:
    """GPT-2's GELU and Llama's norm are written in single steps; PyTorch's own are a kernel each."""
    torch = pytest.importorskip("torch", reason="torch is not installed")

    class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(3, 32, 3, bias=False), torch.nn.BatchNorm2d(32)
            self.linear = torch.nn.Linear(32, 32)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.norm(self.conv(x))).mean((2, 3))
            x = torch.nn.functional.silu(self.linear(torch.nn.functional.gelu(x)))
            x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
            return 0.5 * x * (1.0 + torch.tanh(0.79788456 * (x + 0.044715 * torch.pow(x, 3.0))))

    found = {}
    for kernels in ("eager", "fused"):
        result = tilewright.simulate_network(Net().eval(), "h100", inputs=[torch.zeros(2, 3, 8, 8)], kernels=kernels)
        found[kernels] = Counter(one.kernel for operator in result.operators for one in operator.kernels)
    # batch norm, ReLU, GELU, SiLU; two of the norm's five steps and the eight of the last GELU are over all values
    assert found["eager"]["elementwise"] == 4 + 2 + 8
    assert found["eager"]["statistics"] == 2 + 3
    assert found["fused"]["statistics"] == 0 and found["fused"].total() <= 6
