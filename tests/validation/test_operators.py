"""Operators of vision papers against their published tables (shared/systems).

``pytest tests/validation/test_operators.py -s`` prints every figure beside the published one.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

import tilewright
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.fusion.fused_run import simulate_scheme
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.fusion.scheme import get_scheme
from tilewright.sim.jobs import jobs_of
from tilewright.sim.live import most_live_bytes
from tilewright.sim.operation_energy import UNIT_PJ
from tilewright.workloads.network import load_network
from tilewright.workloads.pruning import effective_macs, pruned_to
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.transformers import EncoderConfig, feed_forward, self_attention

SHARED = Path(os.environ.get("TILEWRIGHT_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "systems"


def rows(name: str) -> list[dict[str, str]]:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"{path} is not there: the published figures are read from it")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def show(what: str, predicted: float, published: float) -> float:
    error = predicted / published - 1
    print(f"{what:44} {predicted:12.4g} {published:12.4g} {error:+8.1%}")
    return abs(error)


def test_shvit_has_its_published_sizes() -> None:
    """Within 2 %: parameters and multiply-adds (its table calls these FLOPs)."""
    for row in rows("vision_shvit.csv"):
        stream = load_network(f"{row['model'].lower()}:image={row['resolution']}")
        assert show(f"{row['model']} parameters", (stream.n_parameters or 0) / 1e6, float(row["params_M"])) < 0.02
        assert show(f"{row['model']} multiply-adds", stream.macs / 1e6, float(row["flops_M"])) < 0.02


#: Machines of its devices, how many chips a row is of, and how many times the dense peak stands there.
PEAKS = {
    "NVIDIA A100": ("a100", 1, 1),
    "NVIDIA H100": ("h100", 1, 1),
    "NVIDIA L40s": ("l40s", 1, 1),
    "NVIDIA RTX 4090": ("rtx4090", 1, 2),  # with sparsity, the only row of it so
    "NVIDIA GB200": ("b200", 2, 1),
    "TPU v6e": ("tpu-v6e", 1, 1),
}


def test_int8_peaks_are_those_of_data_sheets() -> None:
    """Within 2 %: machines' rates as CROSS lists them; watts are the limits of boards (of the GB200 a system's)."""
    table = {row["device"]: row for row in rows("ai_chip_int8_tops_power.csv")}
    for device, (name, n_chips, doubled) in PEAKS.items():
        machine = load_machine(name)
        rate = machine.matrix.multiplies_per_pe_per_cycle["int8"]
        macs = float(machine.matrix.n_multipliers) * machine.n_cores * rate
        tops = 2 * macs * machine.clock_ghz / 1e3 * n_chips * doubled
        assert show(f"{device} int8 TOPS", tops, float(table[device]["int8_tops"])) < 0.02
        if machine.gpu is not None and n_chips == 1:
            assert machine.gpu.power_limit_w == float(table[device]["power_w"])


def test_shvit_on_an_a100() -> None:
    """Images a second of batches of 256 in fp16 (autocast, traced, norms folded): its order, and 39 to 56 % too many.

    A miss. Not described: what autocast casts, and maps that cuDNN turns from channels first to channels last.
    """
    found = []
    for row in rows("vision_shvit.csv"):
        stream = load_network(f"{row['model'].lower()}:batch=256,image={row['resolution']}")
        result = tilewright.simulate_network(stream, "a100", kernels="eager")
        found.append(256 / result.seconds)
        show(f"{row['model']} images a second", found[-1], float(row["throughput_img_s_a100"]))
        assert 1 < found[-1] / float(row["throughput_img_s_a100"]) < 1.65
    assert found == sorted(found, reverse=True)


def codenet(row: dict[str, str]) -> str:
    """The network of a row: those of 2.9 MB are twice as wide."""
    size = "1x" if float(row["size_MB"]) < 1 else "2x"
    return f"codenet-{size}{'' if row['downsample'] == 'Stride4' else '-pooled'}:image={row['resolution']}"


def profiled_gmacs(stream: OperatorStream) -> float:
    """As the profiler ``thop`` counts, which the released network calls: a multiply-add as one, a bias as one more for
    each result, batch norms as two; nothing of deformable convolutions, whose class it does not know.
    """
    n = stream.macs
    for one in stream.operators:
        if one.kind == "deformable_conv":
            n -= one.macs
        elif one.kind == "conv":
            n += stream.tensor(one.outputs[0]).n_elements * (2 if one.attributes.get("batch_norm") else 1)
    return n / 1e9


def test_codenet_has_its_published_sizes() -> None:
    """Within 2 %: weights of 4 bits in units of 2^20 bytes, and multiply-adds as its authors' profiler counts them."""
    for row in rows("vision_codenet_ultra96.csv"):
        if not row["detector"].startswith("CoDeNet"):
            continue
        stream = load_network(codenet(row))
        weights = stream.n_weights / 2 / 2**20
        assert show(f"{row['detector']} MB", weights, float(row["size_MB"])) < 0.02
        show(f"{row['detector']} G multiply-adds", stream.macs / 1e9, float(row["macs_G"]))
        assert show(f"{row['detector']} G as thop counts", profiled_gmacs(stream), float(row["macs_G"])) < 0.02


CROSS_ROWS = "he_cross_tpuv6e_latency.csv"
#: Errors are shown of all rows and asserted of these. What is larger than 0.2 is a miss, as docs/operators.md says.
NTT_ERRORS = {"montgomery": 0.2, "barrett": 0.2, "lazy": 0.4}
#: Batches whose operands could not be read from the HBM in the published time.
FASTER_THAN_READ = {"shoup": ("1", "2"), "lazy": ("1",)}


def on_tpu(text: str, machine: str = "tpu-v6e") -> float:
    """Microseconds on one TPU, with what fits kept in its vector memory."""
    return tilewright.simulate_network(load_network(text), machine, residency=True).seconds * 1e6


@pytest.mark.parametrize("reduction", NTT_ERRORS)
def test_transforms_on_a_tpu_against_cross(reduction: str) -> None:
    """51 limbs of 65,536 residues on one TPU v6e, every step by itself, as its compiler makes them."""
    for row in rows(CROSS_ROWS):
        if row["kernel"] != "NTT" or row["reduction"].removeprefix("bat") != reduction:
            continue
        text = f"ntt:n=65536,rows=256,limbs=51,batch={row['batch']},modulo={reduction},steps=apart"
        assert show(text, on_tpu(text), float(row["latency_us"])) < NTT_ERRORS[reduction]


def test_a_transform_of_shoups_is_missed() -> None:
    """CROSS makes it of convolutions, of which a batch of 2 takes 9.5 times as long as one of 1: only shown."""
    for row in rows(CROSS_ROWS):
        if row["kernel"] == "NTT" and row["reduction"] == "shoup" and row["batch"] in ("1", "2", "64"):
            text = f"ntt:n=65536,rows=256,limbs=51,batch={row['batch']},modulo=shoup"
            show(text, on_tpu(text), float(row["latency_us"]))


@pytest.mark.parametrize("reduction", ["montgomery", "barrett", "shoup", "lazy"])
def test_modular_products_on_a_tpu_against_cross(reduction: str) -> None:
    """Both polynomials of a ciphertext. The one fitted figure, the HBM's share, is of Montgomery at batch 64.

    The measurement leaves out the copies of inputs before the kernel: small batches are then read from vector memory.
    """
    form = {"shoup": ",word=64", "lazy": ",steps=apart"}.get(reduction, "")
    for row in rows(CROSS_ROWS):
        if row["kernel"] == "NTT" or row["reduction"].removeprefix("bat_") != reduction:
            continue
        text = f"modular_multiply:n=65536,limbs=51,batch={2 * int(row['batch'])},modulo={reduction}{form}"
        error = show(text, on_tpu(text), float(row["latency_us"]))
        assert error < 0.2 or row["batch"] in FASTER_THAN_READ.get(reduction, ())


#: Chips; and for each degree limbs, and the batch of one chip at which a power of two is fastest here.
NTT_HOSTS = {
    "TPUv6e": ("tpu-v6e", 8, {4096: (4, 256), 8192: (8, 64), 16384: (16, 16)}),
    "TPUv5e": ("tpu-v5e", 4, {4096: (4, 256), 8192: (8, 64), 16384: (16, 16)}),
}


def test_transforms_a_second_of_a_host() -> None:
    """A batch dealt out to the chips: Montgomery, 128 rows, 4, 8 and 16 limbs a transform, the best batch.

    So CROSS' own program for its table of throughput has it (tabVII.py of its repository). Eight v6e are a host; its
    guide starts v5litepod-4.
    """
    for row in rows("he_cross_ntt_throughput.csv"):
        if row["device"] not in NTT_HOSTS:
            continue
        machine, chips, sets = NTT_HOSTS[row["device"]]
        degree = int(row["degree_N"])
        limbs, batch = sets[degree]
        found = {}
        for tried in (batch // 2, batch, 2 * batch):
            text = f"ntt:n={degree},rows=128,limbs={limbs},batch={tried},modulo=montgomery,steps=apart"
            found[tried] = chips * tried / on_tpu(text, machine) * 1e6
        assert max(found, key=lambda tried: found[tried]) == batch
        what = f"{row['device']}: transforms a second, N = {degree}, batch {chips} x {batch}"
        assert show(what, found[batch], float(row["ntt_per_second"])) < 0.25


def test_yolov8n_on_an_orin_nano() -> None:
    """TensorRT, as kernels whose element-wise chains are fused, within 25 %, energy within 30 %.

    Its engine of FP32 was built without --noTF32 (TensorRT's default): products in TF32. That the host's launches are
    what PyTorch waits for on the board's own processor is not described, and that row only shown.
    """
    formats = {"FP32": "tf32", "FP16": "fp16", "INT8": "int8"}
    for row in rows("vision_yolov8n_orin_nano.csv"):
        number_format, eager = formats[row["precision"]], row["runtime"] == "PyTorch"
        stream = load_network("yolov8n").with_formats(weights=number_format, activations=number_format)
        kernels, launch = ("eager", "host") if eager else ("fused", "graph")
        result = tilewright.simulate_network(stream, "jetson-orin-nano", kernels=kernels, launch=launch)
        published = float(row["gpu_latency_ms"])
        what = f"YOLOv8n {row['runtime']} {row['precision']}"
        error = show(f"{what} ms", result.seconds * 1e3, published)
        energy = show(f"{what} mJ", result.energy_pj / 1e9, published * float(row["power_W"]))
        if eager:
            assert result.seconds * 1e3 < published
        else:
            assert error < 0.25 and energy < 0.30


def test_unit_energies_are_those_of_shiftaddvit() -> None:
    table = {(row["quantity"], row["bits"]): row["value"] for row in rows("vision_shiftaddvit_unit_energy.csv")}
    for (name, bits), value in UNIT_PJ.items():
        assert value == float(table[name, str(bits)])


def codenet_frames(row: dict[str, str], machine: str | MachineSpec = "codenet-ultra96") -> float:
    stream = load_network(f"{codenet(row)},whole_pixels=1").with_formats(weights="int8", activations="int8")
    return 1 / tilewright.simulate_network(stream, machine).seconds


def test_codenet_on_an_ultra96() -> None:
    """Within 25 % (and 10 %, as found): the machine was fitted to calls of the board below, never to these frames."""
    for row in rows("vision_codenet_ultra96.csv"):
        if row["fps"]:
            assert show(f"{row['detector']} frames a second", codenet_frames(row), float(row["fps"])) < 0.10


# hqjenny/CoDeNet, sw/codenet.ipynb: side of the map, channels before and behind a 1 x 1 convolution, stride of the
# depthwise 3 x 3 one behind it, and milliseconds of the call on the board (the mean of equal calls).
BOARD_CALLS = (
    (64, 32, 32, 2, 1.028), (32, 32, 128, 1, 0.609), (64, 32, 128, 2, 1.712), (32, 128, 128, 1, 0.740),
    (32, 256, 256, 2, 1.859), (16, 256, 256, 1, 0.577), (16, 512, 512, 2, 1.588), (8, 512, 512, 1, 0.556),
    (8, 1024, 512, 1, 0.840), (8, 2048, 1, 1, 0.152), (8, 2048, 256, 1, 0.800), (16, 256, 1, 1, 0.132),
    (16, 256, 128, 1, 0.334), (32, 128, 1, 1, 0.374), (64, 128, 80, 1, 1.781), (64, 128, 2, 1, 1.313),
)  # fmt: skip


def test_calls_of_the_ultra96() -> None:
    """Four figures of the machine are fitted to these sixteen: that its structure explains them is what is tested."""
    errors = []
    for side, ins, outs, stride, published in BOARD_CALLS:
        outs = max(16, outs)  # channels are padded to 16
        b = Layers("call", activations="int8", weights="int8")
        y = b.elementwise("relu", b.conv(b.input("x", (1, ins, side, side)), outs, 1, "point"))
        stream = b.finish([b.conv(y, outs, 3, "depthwise", stride=stride, groups=outs)])
        result = tilewright.simulate_network(stream, "codenet-ultra96")
        errors.append(show(f"call {side} x {side}, {ins} -> {outs}, /{stride}, ms", result.seconds * 1e3, published))
    print(f"mean {sum(errors) / len(errors):.1%}")
    assert sum(errors) / len(errors) < 0.06 and max(errors) < 0.20


def test_block_pruned_transformers_have_lpvits_operations() -> None:
    """Within 3 % of its GFLOPs, at its share of them.

    Where heads or tokens are left out beside blocks (A, T) the table does not say how much each gives; here blocks give
    all of it, and the products of attention stay.
    """
    networks = {"DeiT-Small": "deit-s", "DeiT-Base": "vit-b-16", "Swin-Tiny": "swin-tiny", "Swin-Base": "swin-base"}
    for row in rows("vision_lpvit_pruning.csv"):
        if row["method"] not in ("LPViT", "dense"):
            continue
        pruned = pruned_to(load_network(networks[row["model"]]), float(row["flops_percent"]) / 100)
        assert show(f"{row['model']} {row['scheme']} G", effective_macs(pruned) / 1e9, float(row["flops_G"])) < 0.03


# --- layers of low rank ---------------------------------------------------------------------------------------------


def of_bert(half: str, rank: int, *, fused: bool = False) -> OperatorStream:
    """One half of a layer of BERT-Base for 512 tokens, attention or mlp, with weights of ``rank`` (0: whole)."""
    b = Layers(f"{half} of rank {rank}")
    x = b.input("x", (1, 512, 768))
    config = EncoderConfig(hidden=768, heads=12, intermediate=3072, rank=rank, fused=fused)
    make = {"attention": self_attention, "mlp": feed_forward}[half]
    return b.finish([make(b, x, config)])


def alone(stream: OperatorStream) -> tuple[int, int, float, int]:
    """Cycles, DRAM bytes, mJ, and the most bytes of activations that are alive at a time."""
    result = tilewright.simulate_network(stream, "edge-16x16", keep_mappings=False)
    return result.cycles, result.dram_bytes, result.energy_pj / 1e9, most_live_bytes(stream, jobs_of(stream))


def as_group(stream: OperatorStream) -> tuple[int, int, float, int]:
    """The same of all operators as one group in slabs: what passes between them stays on chip."""
    machine, graph = load_machine("edge-16x16"), fusion_graph(stream)
    scheme = get_scheme("brr", machine.working_buffer.capacity_bytes)
    found = simulate_scheme(scheme, stream, graph, (1 << len(graph.nodes)) - 1, machine)
    ends = sum(stream.tensor(name).n_bytes for name in (*stream.inputs, *stream.outputs))
    return found.cycles, found.dram_bytes, found.energy_pj / 1e9, ends


@pytest.mark.parametrize("rank", [64, pytest.param(256, marks=pytest.mark.slow)])
def test_layers_of_low_rank_whole_unfused_and_fused(rank: int) -> None:
    """Unfused the attention half needs as much memory for activations as with whole weights, fused less by Q, K and V.

    FlashSVD publishes up to 70.2 % less at its peak; of which ranks, lengths and tensors could not be read, so that it
    is not compared.
    """
    figures = {
        "attention, whole": alone(of_bert("attention", 0)),
        "attention, unfused": alone(of_bert("attention", rank)),
        "attention, flash_svd": alone(of_bert("attention", rank, fused=True)),
        "attention, group (brr)": as_group(of_bert("attention", rank)),
        "mlp, whole": alone(of_bert("mlp", 0)),
        "mlp, unfused": alone(of_bert("mlp", rank)),
        "mlp, group (brr)": as_group(of_bert("mlp", rank)),
    }
    print(f"\nBERT-Base, 512 tokens, rank {rank} on edge-16x16    cycles     DRAM MB      mJ   live kB")
    for name, (cycles, n_bytes, energy, live) in figures.items():
        print(f"  {name:40} {cycles:12,} {n_bytes / 1e6:9.2f} {energy:8.2f} {live / 1e3:9.0f}")
    unfused, fused = figures["attention, unfused"], figures["attention, flash_svd"]
    tokens, row = 512, 2 * 768
    assert unfused[3] == figures["attention, whole"][3] == 4 * tokens * row  # Q, K, V and the result, or x
    assert fused[3] == tokens * (3 * 2 * rank + row)
    assert 0.49 < 1 - fused[3] / unfused[3] < 0.70
    # Q, K and V are written and read no more; P of all three is read as it was
    assert unfused[1] - fused[1] >= 2 * 3 * tokens * row
    assert figures["mlp, group (brr)"][1] < figures["mlp, unfused"][1] / 2


def test_ranks_of_flashsvds_code_leave_the_shares_that_it_says() -> None:
    """Its scripts name ranks (of a head's Q, K and V; of the others) beside a reduction; within 2.5 points."""
    whole = load_network("bert-base:seq=8").n_parameters or 0
    others = whole - 12 * (4 * 768**2 + 2 * 768 * 3072)
    for head_rank, rank, said in ((60, 480, 0.10), (56, 384, 0.25), (48, 336, 0.35), (40, 240, 0.50), (32, 192, 0.60)):
        kept = (load_network(f"bert-base-svd:seq=8,head_rank={head_rank},rank={rank}").n_parameters or 0) - others
        less = 1 - kept / (whole - others)
        print(f"ranks {head_rank}, {rank}: {less:.1%} fewer weights in layers, said {said:.0%}")
        assert abs(less - said) < 0.025
