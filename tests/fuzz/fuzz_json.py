"""Damaged JSON files: operator streams (read, cut into jobs, and run), measurements, sensitivities, configurations."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.fuzz.damage import Judge, damaged_bytes, damaged_data, damaged_text
from tilewright.errors import TilewrightError
from tilewright.hw_models.load import load_machine
from tilewright.kernels.measurement import load_measurements
from tilewright.kernels.reading import read_tables
from tilewright.search.bits.sensitivity import load_sensitivity
from tilewright.search.mapping_cache import ForgetfulCache
from tilewright.search.network import simulate_stream
from tilewright.sim.fusion.graph.build import fusion_graph
from tilewright.sim.jobs import jobs_of
from tilewright.workloads.operators import Operator, TensorSpec
from tilewright.workloads.stream.file import load_stream, stream_to_json
from tilewright.workloads.stream.graph import OperatorStream

MEASURED = {
    "schema": "tilewright-measurements-1",
    "device": {"name": "h200", "kind": "gpu", "n_sm": 132, "memory_bytes": 150000000000},
    "taken": "2026-11-20",
    "measurements": [
        {
            "operator": "gemm", "kernel": "triton", "shape": {"m": 512, "n": 512, "k": 256},
            "formats": {"a": "bf16", "b": "bf16", "out": "bf16"}, "tiles": {"m": 128, "n": 128, "k": 32},
            "median_s": 1e-5, "low_s": 9e-6, "high_s": 1.1e-5, "n_samples": 10, "n_per_sample": 5, "power_w": 300.0,
        },
        {
            "operator": "attention", "kernel": "triton",
            "shape": {
                "batch": 1, "heads": 8, "kv_heads": 8, "query_len": 128, "key_len": 128, "head_dim": 64,
                "value_dim": 64, "causal": 1,
            },
            "formats": {"a": "bf16"}, "median_s": 1e-5, "low_s": 9e-6, "high_s": 1e-5, "n_samples": 3,
            "n_per_sample": 1,
        },
    ],
}  # fmt: skip
SENSITIVITY = {
    "schema": "tilewright.sensitivity", "version": 1, "network": "a", "measured_by": "b",
    "layers": [
        {"name": name, "n_weights": 10, "macs": 100, "options": [
            {"weights": "int8", "activations": "int8", "sensitivity": 0.1},
            {"weights": "int4", "activations": "int8", "sensitivity": 0.7, "sqnr_db": 20.0},
        ]} for name in ("c", "d")
    ],
    "tied": [["c", "d"]], "pinned": {"c": {"weights": "int8", "activations": "int8"}},
}  # fmt: skip


def run(n: int, seed: int) -> None:
    """Read ``n`` files."""
    chance, judge = random.Random(seed), Judge("json", seed)
    stream = json.loads(stream_to_json(small_network()))
    kinds: list[tuple[Any, Callable[[Path], object]]] = [
        (stream, _stream),
        (stream, _stream),
        (MEASURED, lambda path: (load_measurements(path), read_tables(path))),
        (SENSITIVITY, load_sensitivity),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz.json"
        for at in range(n):
            whole, read = chance.choice(kinds)
            data = _made(chance, whole)
            path.write_bytes(data)
            judge.of(at, data, lambda read=read: read(path))
    judge.end()


def _stream(path: Path) -> None:
    stream = load_stream(path)
    _ = stream.macs, stream.weight_bytes, stream.activation_bytes, stream.rows(distinct=True)
    uses = [
        lambda: stream.with_formats(weights="int8", activations="int8"),
        stream.with_split_attention,
        lambda: jobs_of(stream),
        lambda: fusion_graph(stream),
        lambda: simulate_stream(
            stream, load_machine("edge-16x16"), cache=ForgetfulCache(), attention_dataflows=("flash2",)
        ),
    ]
    for use in uses if path.stat().st_size % 4 == 0 else uses[:-1]:  # a run costs some tenths of a second
        with suppress(TilewrightError):
            use()


def _made(chance: random.Random, whole: Any) -> bytes:
    way = chance.random()
    if way < 0.01:
        return chance.choice((b"", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000, b"\xff\xfe{}", b"NaN"))
    text = json.dumps(whole, indent=0 if way < 0.4 else None)
    if way < 0.25:
        return damaged_bytes(chance, text.encode())
    if way < 0.4:
        return damaged_text(chance, text).encode("utf-8", "surrogatepass")
    try:
        return json.dumps(damaged_data(chance, whole)).encode()
    except ValueError:
        return text.encode()


def small_network() -> OperatorStream:
    """One operator of most kinds, tied together."""
    tensors = [
        TensorSpec(name=name, shape=shape, number_format="fp16", role=role)
        for name, shape, role in (
            ("x", (1, 4, 8, 8), "activation"), ("w", (8, 4, 3, 3), "weight"), ("c", (1, 8, 4, 4), "activation"),
            ("r", (1, 8, 4, 4), "activation"), ("p", (1, 8, 2, 2), "activation"), ("t", (1, 4, 4, 4), "activation"),
            ("tw", (8, 4, 2, 2), "weight"), ("g", (1, 8), "activation"), ("m", (8, 16), "weight"),
            ("y", (1, 16), "activation"), ("o", (1, 16), "activation"), ("q", (1, 2, 4, 8), "activation"),
            ("k", (1, 2, 6, 8), "activation"), ("v", (1, 2, 6, 8), "activation"), ("a", (1, 2, 4, 8), "activation"),
            ("e", (100, 16), "weight"), ("i", (3,), "constant"), ("b", (3, 16), "activation"),
            ("n", (3, 16), "activation"), ("s", (3, 16), "activation"),
        )
    ]  # fmt: skip
    conv = {"batch": 1, "groups": 1, "in_size": (8, 8), "out_size": (4, 4), "kernel": (3, 3), "stride": (2, 2)}
    conv |= {"padding": (1, 1, 1, 1), "dilation": (1, 1)}
    turned = conv | {"in_size": (2, 2), "out_size": (4, 4), "kernel": (2, 2), "padding": (0, 0, 0, 0)}
    pool = {"batch": 1, "channels": 8, "in_size": (4, 4), "out_size": (2, 2), "kernel": (2, 2), "stride": (2, 2)}
    sizes = {"batch": 1, "query_heads": 2, "kv_heads": 2, "query_len": 4, "key_len": 6, "head_dim": 8, "value_dim": 8}
    table = {"rows": 3, "columns": 16}
    operators = [
        ("conv", "x w", "c", conv | {"in_channels": 4, "out_channels": 8, "transposed": False}),
        ("elementwise", "c", "r", {"function": "relu", "n_elements": 128}),
        ("pool", "r", "p", pool | {"function": "max", "padding": (0, 0, 0, 0)}),
        ("conv", "p tw", "t", turned | {"in_channels": 8, "out_channels": 4, "transposed": True}),
        ("reduction", "p", "g", {"function": "mean", "rows": 8, "columns": 4}),
        ("matmul", "g m", "y", {"batch": 1, "m": 1, "k": 8, "n": 16}),
        ("softmax", "y", "o", {"rows": 1, "columns": 16}),
        ("attention", "q k v", "a", sizes | {"mask": "banded", "window_left": 2, "window_right": 1}),
        ("gather", "e i", "b", table),
        ("norm", "b", "n", table | {"function": "rms"}),
        ("reshape", "n", "s", {"function": "pad"}),
    ]
    made = tuple(
        Operator(name=out, kind=kind, inputs=tuple(ins.split()), outputs=(out,), attributes=attributes)  # type: ignore[arg-type]
        for kind, ins, out, attributes in operators
    )
    return OperatorStream(
        name="small", tensors=tuple(tensors), operators=made, inputs=("x", "q", "k", "v"), outputs=("t", "o", "a", "s")
    )
