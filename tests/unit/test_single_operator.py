"""Single operators as text: the layer they mean, the same cost as in a network, and one clear sentence for mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.workload import layer_of
from tilewright.sim.jobs import jobs_of
from tilewright.workloads.gemm import GemmLayer, VectorLayer
from tilewright.workloads.low_rank import LowRankAttentionLayer
from tilewright.workloads.network import load_network
from tilewright.workloads.scan import ScanLayer
from tilewright.workloads.single_operator import operator_stream, operator_texts

SMALL = "gemm:m=64,n=48,k=32"


def test_a_product_has_its_extents_and_formats() -> None:
    layer = layer_of("gemm: m=64, n=48, k=32, batch=3, b=activation, a_format=int8, b_format=int4, out_format=fp16")
    assert isinstance(layer, GemmLayer)
    assert (layer.groups, layer.m, layer.n, layer.k) == (3, 64, 48, 32)
    assert (layer.a_bits, layer.b_bits, layer.out_bits, layer.compute_format) == (8, 4, 16, "int8")
    assert not layer.b_is_weight
    assert layer.name == "gemm:m=64,n=48,k=32,batch=3,b=activation,a_format=int8,b_format=int4,out_format=fp16"


def test_a_batch_on_one_weight_is_one_product_with_more_rows() -> None:
    layer = layer_of("gemm:m=64,n=48,k=32,batch=3")
    assert isinstance(layer, GemmLayer)
    assert (layer.groups, layer.m) == (1, 192)


@pytest.mark.parametrize(
    ("text", "macs", "out"),
    [
        ("conv:in=64x56x56,out_channels=64,kernel=3,stride=1,padding=1", 64 * 56 * 56 * 64 * 9, (1, 64, 56, 56)),
        ("conv:in=3x224x224,out_channels=64,kernel=7,stride=2,padding=3", 64 * 112 * 112 * 3 * 49, (1, 64, 112, 112)),
        ("conv:in=8x20,out_channels=4,kernel=5,dilation=2,batch=2", 2 * 4 * 12 * 8 * 5, (2, 4, 12)),
        ("conv:in=8x7x9,out_channels=6,kernel=3x1,groups=2", 6 * 5 * 9 * 4 * 3, (1, 6, 5, 9)),
        ("conv:in=8x7x7,out_channels=6,kernel=2,stride=2,transposed=yes", 8 * 49 * 6 * 4, (1, 6, 14, 14)),
    ],
)
def test_a_convolution_counts_its_multiply_adds(text: str, macs: int, out: tuple[int, ...]) -> None:
    stream = operator_stream(text)
    assert stream.macs == macs
    assert stream.tensor(stream.outputs[0]).shape == out


@pytest.mark.parametrize("kind", operator_texts())
def test_every_example_is_one_job(kind: str) -> None:
    stream = load_network(operator_texts()[kind][1].example)
    job, *others = jobs_of(stream)
    assert bool(others) == operator_texts()[kind][1].is_network
    products = ("gemm", "conv", "ntt", "shift_matmul", "kronecker_matmul")
    others_are = VectorLayer | ScanLayer | LowRankAttentionLayer
    assert isinstance(job.layer, GemmLayer if kind in products else others_are)
    assert set(operator_texts()[kind][1].needed) <= set(operator_texts()[kind][1].keys)


@pytest.mark.parametrize("text", [SMALL, "softmax:rows=64,columns=96", "elementwise:function=add,n=4096"])
@pytest.mark.parametrize("n_cores", [1, 3])
def test_alone_it_costs_what_it_costs_in_a_network(text: str, n_cores: int) -> None:
    machine = load_machine("edge-16x16").with_(n_cores=n_cores)
    alone = tilewright.simulate(text, machine)
    network = tilewright.simulate_network(text, machine, keep_mappings=False)
    assert (alone.cycles, alone.energy_pj) == (network.cycles, network.energy_pj)
    assert alone.dram_bytes == network.dram_bytes
    assert alone.search is not None
    assert alone.search.proven
    again = tilewright.simulate(text, machine, tiling=alone.tiling)
    assert (again.cycles, again.search) == (alone.cycles, None)


def test_it_is_explained_traced_searched_and_compared() -> None:
    reasons = tilewright.why(SMALL, "edge-16x16")
    assert reasons.attribution is not None
    assert reasons.attribution.total_cycles == reasons.result.cycles
    assert all(item.cycles <= reasons.result.cycles for item in reasons.what_ifs)
    trace = tilewright.trace(SMALL, "edge-16x16", None, reasons.result.tiling)
    assert trace.total_cycles == reasons.result.cycles
    found = tilewright.search_tiling(SMALL, "edge-16x16")
    assert (found.cycles, found.dataflow) == (reasons.result.cycles, "gemm")
    table = tilewright.search_tilings([SMALL], "edge-16x16", methods=["exhaustive", "random"], budget=4)
    assert list(table["dataflow"]) == ["gemm", "gemm"]
    comparison = tilewright.compare([SMALL, "attention:heads=1,seq=32,head_dim=16"], "edge-16x16", ["mas", "flat"])
    assert [(r.workload[:4], r.dataflow) for r in comparison.results] == [
        ("gemm", "gemm"), ("atte", "mas"), ("atte", "flat"),
    ]  # fmt: skip


def test_a_sweep_takes_it(tmp_path: Path) -> None:
    from tilewright.search.sweep.spec import load_sweep

    file = tmp_path / "sweep.yaml"
    file.write_text(
        f'name: products\nmachine: edge-16x16\nworkloads: ["{SMALL}"]\nparameters:\n  vector.lanes: [16, 32]\n'
    )
    frame = tilewright.sweep(load_sweep(file), store=tmp_path / "results.db", jobs=1)
    assert len(frame) == 2
    assert set(frame["workload"]) == {SMALL}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gemm", "gemm: m: missing; allowed for example gemm:m=512,n=768,k=768"),
        ("gemm:m=4,n=4,kk=2", 'unknown key; given "kk"; allowed m, n, k, batch, b, '),
        ("gemm:m=4,n=4,k=0", 'k: must be a whole number; given "0"; allowed whole numbers from 1 to 2147483647'),
        ("gemm:m=4,n=4,k=nan", 'k: must be a whole number; given "nan"'),
        ("gemm:m=4,n=4,k=1e999", 'k: must be a whole number; given "1e999"'),
        ("gemm:m=4,n=4,k", 'expected key=value; given "k"'),
        ("gemm:m=4,n=4,k=2,m=8", 'm: given twice; given "4" and "8"; allowed once'),
        ("gemm:m=4,n=4,k=2,b=wieght", '(did you mean "weight"?)'),
        ("gemm:m=4,n=4,k=2,format=int9x", 'format: unknown number format; given "int9x"'),
        ("gemm:m=2e9,n=2e9,k=2", "is beyond reason; allowed at most 2^50 values"),
        ("conv:in=3x8x8,out_channels=4,kernel=9", "kernel: 9x9 leaves no result of an input of 8x8"),
        ("conv:in=3,out_channels=4,kernel=1", "in: given \"3\"; allowed channels and 1 to 3 sizes"),
        ("conv:in=4x8x8,out_channels=4,kernel=1x1x1", 'kernel: given "1x1x1"; allowed one number, or 2 as in in='),
        ("conv:in=4x8x8,out_channels=6,kernel=1,groups=4", "allowed divisors of 4 input and 6 output channels"),
        ("norm:rows=4,columns=4,function=layre", '(did you mean "layer"?)'),
        ("elementwise:n=4,function=gelu_tan", '(did you mean "gelu_tanh"?)'),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        layer_of(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dataflow_of_another_kind_is_refused() -> None:
    with pytest.raises(InputError, match="mas is one of attention; given gemm:m=64,n=48,k=32; allowed gemm"):
        tilewright.simulate(SMALL, "edge-16x16", "mas")
    with pytest.raises(InputError, match='unknown dataflow; given "fla"'):
        tilewright.compare(SMALL, "edge-16x16", ["fla"])


@pytest.mark.parametrize("text", [SMALL, "attention:heads=2,seq=64,head_dim=16"])
def test_a_machine_without_fp16_takes_it_in_its_own_format(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = tilewright.simulate(text, "eyeriss")
    assert result.assumptions[0].startswith("number format: int16, the machine's own, instead of fp16")
    assert tilewright.why(text, "eyeriss").result.assumptions[0] == result.assumptions[0]
    assert tilewright.search_tiling(text, "eyeriss", "mas" if text[0] == "a" else None).cycles == result.cycles
    assert tilewright.simulate(text, "edge-16x16").assumptions[0][:13] != "number format"
    key = "qkv_format" if text[0] == "a" else "format"
    with pytest.raises(InputError, match="multiply rate"):
        tilewright.simulate(f"{text},{key}=fp16", "eyeriss")
    from tilewright.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(["simulate", text, "-a", "eyeriss"])
    assert stopped.value.code == 0
    assert f"{text}: number format: int16, the machine's own" in capsys.readouterr().err
