"""Language models by configuration: sizes as published, weights as runtimes store them, caches as streams hold them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.systems.cards import card_named
from tilewright.hw_models.systems.catalogue import system_named
from tilewright.search.systems.throughput import largest_batch, throughput
from tilewright.sim.decoding.time import gpu_share, rates_of, step_time
from tilewright.sim.decoding.work import cache_bytes, distinct_experts, step_work
from tilewright.workloads.language.catalogue import language_model, language_model_names
from tilewright.workloads.language.runtimes import runtime_named
from tilewright.workloads.language.served import served_named
from tilewright.workloads.language.stored import STORAGES, storage_of
from tilewright.workloads.network import load_network

#: Parameters in billions as the authors give them.
PARAMETERS = {
    "llama-2-7b": 6.74,
    "llama-2-70b": 68.98,
    "llama-3.1-8b": 8.03,
    "llama-3.1-405b": 405.85,
    "llama-3.2-1b": 1.236,
    "llama-3.2-3b": 3.21,
    "mistral-7b": 7.24,
    "yi-34b": 34.39,
    "qwen1.5-72b": 72.28,
    "qwen2.5-14b": 14.77,
    "qwen3-1.7b": 1.72,
    "qwen3-30b-a3b": 30.53,
    "gemma-2-9b": 9.24,
    "phi-3.5-mini": 3.82,
    "gpt-oss-20b": 20.91,
    "gpt-oss-120b": 116.8,
    "deepseek-r1-671b": 671.0,
}
#: Sizes of files as published (Ollama's library, llama.cpp's tables), in GB.
FILES = {
    ("llama-3.2-3b", "q4_k_m"): 2.02,
    ("qwen2.5-14b", "q4_k_m"): 8.99,
    ("llama-3.1-8b", "q4_k_m"): 4.92,
    ("llama-3.1-70b", "q4_k_m"): 42.5,
    ("llama-3.1-405b", "q4_k_m"): 243.0,
    ("deepseek-r1-671b", "q4_k_m"): 404.0,
    ("llama-2-7b", "q4_k_m"): 4.08,
    ("gpt-oss-20b", "mxfp4"): 13.8,
    ("gpt-oss-20b", "mxfp4-q8_0"): 12.1,
}


@pytest.mark.parametrize(("name", "billions"), PARAMETERS.items())
def test_parameters_are_those_that_the_authors_give(name: str, billions: float) -> None:
    assert language_model(name).n_parameters / 1e9 == pytest.approx(billions, rel=2e-3)


@pytest.mark.parametrize(("which", "gigabytes"), FILES.items())
def test_files_are_as_large_as_published(which: tuple[str, str], gigabytes: float) -> None:
    model, storage = which
    assert float(STORAGES[storage].n_bytes(language_model(model))) / 1e9 == pytest.approx(gigabytes, rel=0.015)


@pytest.mark.parametrize("name", ["llama-3-8b", "llama-3.2-3b"])
def test_weights_and_caches_are_those_of_the_stream(name: str) -> None:
    """The closed form reads what the network of the same name reads, tensor by tensor."""
    model = language_model(name)
    stream = load_network(f"{name}:prefill=0,decode=1,context=300,batch=2")
    matrices = {
        stream.base(tensor).name: stream.base(tensor)
        for operator in stream.operators
        if operator.kind == "matmul"
        for tensor in operator.inputs
        if stream.base(tensor).role == "weight"
    }
    work = step_work(model, STORAGES["fp16"], batch=2, context=300)
    assert work.weight_bytes == sum(spec.n_bytes for spec in matrices.values())
    caches = sum(stream.tensor(name).n_bytes for name in stream.inputs if stream.tensor(name).role == "cache")
    assert work.cache_read == caches == 2 * cache_bytes(model, 300)
    assert sum(part.macs for part in work.parts) + work.attention_macs == pytest.approx(stream.macs, rel=2e-3)


def test_caches_in_their_own_format() -> None:
    """131,072 bytes a token in Llama 3.1 8B; q4 with a scale for 32 numbers is 4.5 bits; windows and latents count."""
    model = language_model("llama-3.1-8b")
    assert cache_bytes(model, 1) == 131_072
    assert cache_bytes(model, 1000, "int4-g32") == 131_072 * 1000 * 4.5 / 16
    assert cache_bytes(language_model("deepseek-r1-671b"), 10) == 61 * 10 * 576 * 2
    oss = language_model("gpt-oss-20b")
    assert cache_bytes(oss, 1000) == 12 * (128 + 1000) * 2 * 8 * 64 * 2
    mixed = language_model("qwen3.5-0.8b")
    assert cache_bytes(mixed, 7) == 6 * 7 * 2 * 2 * 256 * 2 + 18 * 16 * 128 * 128 * 4


def test_distinct_experts() -> None:
    assert distinct_experts(128, 8, 1) == pytest.approx(8)
    assert distinct_experts(128, 8, 32) / 128 == pytest.approx(0.873, abs=1e-3)
    work = step_work(language_model("qwen3-30b-a3b"), STORAGES["fp16"], batch=1)
    assert work.weight_bytes == language_model("qwen3-30b-a3b").n_active * 2


def test_a_narrow_cache_of_a_small_model_slows_decoding() -> None:
    """As measured (``llm_kv_precision_decode_small.csv``): little is saved of a short cache, and kernels are more."""
    runtime, machine = runtime_named("llama.cpp"), load_machine("jetson-orin-nano")
    for name in ("qwen2.5-0.5b", "qwen2.5-1.5b"):
        model = language_model(name)
        seconds = []
        for cache_format in ("fp16", "int8-g32", "int4-g32"):
            work = step_work(model, STORAGES["q4_k_m"], context=16, cache_format=cache_format)
            launches = runtime.launches(model, narrow_cache=cache_format != "fp16")
            seconds.append(step_time(work, machine, runtime, launches=launches).seconds)
        assert seconds[0] < seconds[1] and seconds[0] < seconds[2]


def test_what_is_around_the_part_that_works() -> None:
    """A card behind one lane of PCIe sends its logits through it; a laptop's processor has no link."""
    model, runtime = language_model("llama-3.2-3b"), runtime_named("ollama")
    work = step_work(model, STORAGES["q4_k_m"], context=256)
    seconds = {}
    for name in ("Pi CM5 - 16GB (Nvidia RTX 4090*)", "Intel 265K Custom PC (Nvidia RTX 4090)"):
        system = system_named(name, "GPU")
        assert system.machine.base_name == "rtx4090"
        seconds[name] = step_time(work, system.machine, runtime, launches=0).seconds_by_part["link"]
    assert list(seconds.values()) == pytest.approx([128_256 * 4 / 0.42e9, 128_256 * 4 / 25e9])
    assert system_named("Framework 13 (Ryzen AI 5 340)", "CPU").machine.host is None
    with pytest.raises(InputError, match="several computers"):
        system_named("Framework Mainboard Cluster (512GB)", "GPU")
    with pytest.raises(InputError, match="no data sheet"):
        system_named("abacus", "CPU")


def test_rates() -> None:
    assert 0.8 < gpu_share() < 0.9
    assert rates_of(load_machine("raspberry-pi-5")).bytes_per_s == pytest.approx(17.07e9 * 0.65)
    assert rates_of(load_machine("jetson-orin-nano")).launch_s == pytest.approx(4.1e-6)
    assert rates_of(load_machine("raspberry-pi-5")).on_processor == 1
    assert rates_of(load_machine("apple-m4")).on_processor == 0


def test_what_is_not_known_is_told() -> None:
    assert len(set(language_model_names())) == len(language_model_names())
    with pytest.raises(InputError, match=r'did you mean "llama-3.2-3b"'):
        language_model("llama-3.2-3bb")
    with pytest.raises(InputError, match="way to store weights"):
        storage_of("q3_z")
    with pytest.raises(InputError, match="runtime"):
        runtime_named("olama-server")
    with pytest.raises(ValueError, match="top_k"):
        replace(language_model("qwen3-30b-a3b"), top_k=500)


# --- serving ---------------------------------------------------------------------------------------------------------


def test_what_of_a_cache_the_memory_holds() -> None:
    """24 GB of fp16 cache beside 16 GB of weights; nothing of 69 GB on a card of 48."""
    card, fp16 = card_named("L40S 48GB"), served_named("TRT-LLM FP16")
    model = language_model("Llama-3-8B")
    free = 46_068 * 2**20 * 0.9 - 2 * model.n_parameters - 1.5e9
    each = 131_072 * 1536 + 1024 * (2 * 14_336 + 3 * 4096) * 2
    assert largest_batch(model, fp16, card, prompt=1024, generate=512) == int(free // each)
    assert largest_batch(language_model("Yi-34B"), fp16, card, prompt=1024, generate=512) < 1
    w4a16 = served_named("TRT-LLM W4A16")  # one sequence of 4 GB in what is left beside 41 GB of weights
    assert largest_batch(language_model("Qwen1.5-72B"), w4a16, card, prompt=1024, generate=512) == 1
    with pytest.raises(InputError, match="out of memory"):
        throughput(language_model("Yi-34B"), fp16, card, prompt=1024, generate=512)


def test_narrow_caches_are_bound_by_lanes_on_one_card_and_by_bytes_on_the_other() -> None:
    """The lesson of QServe: KV4 of many heads is bytes on an L40S, and conversions on an A100."""
    model, kv4 = language_model("llama-2-7b"), served_named("qserve-w4a8kv4")
    found = {
        name: throughput(model, kv4, card_named(name), prompt=1024, generate=512, batch=128)
        for name in ("L40S 48GB", "A100 80GB")
    }
    assert found["L40S 48GB"].limited_by == "cache" and found["A100 80GB"].limited_by == "lanes"
    with pytest.raises(InputError, match="dense models"):
        throughput(language_model("gpt-oss-20b"), kv4, card_named("A100 80GB"), prompt=64, generate=64)
    with pytest.raises(InputError, match="not described"):
        card_named("abacus")
    with pytest.raises(InputError, match="served precision"):
        served_named("trt-llm-w2")
