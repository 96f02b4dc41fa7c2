"""Test-time training in large chunks: the reference, its layer written out, and the programs of its products."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.search.mapping_cache import MappingCache
from tilewright.search.network import ATTENTION_DATAFLOWS, best_mapping
from tilewright.sim.dataflows.gemm.numbers import run_product_on_numbers
from tilewright.sim.fusion.reference import seen
from tilewright.sim.jobs import jobs_of
from tilewright.sim.kinds.elementwise import FUNCTIONS
from tilewright.workloads.gemm import GemmLayer
from tilewright.workloads.large_chunk_numbers import FastWeights, FloatArray, chunk_counts, large_chunk_training
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.large_chunks import FastNames, add_chunks
from tilewright.workloads.zoo.layers import Layers

HEADS, TOKENS, WIDTH, INNER = 2, 11, 6, 5
_EPSILON = 1e-5


def _drawn() -> tuple[dict[str, FloatArray], FastWeights]:
    random = np.random.default_rng(3)
    arrays = {name: random.standard_normal((HEADS, TOKENS, WIDTH)) for name in "qkv"}
    arrays |= {f"rate{i}": random.uniform(0, 0.1, (HEADS, TOKENS, 1)) for i in (1, 2, 3)}
    shapes = ((WIDTH, INNER), (INNER, WIDTH), (WIDTH, INNER))
    return arrays, FastWeights(*(random.standard_normal((HEADS, *shape)) for shape in shapes))


def _reference(chunk: int) -> FloatArray:
    arrays, weights = _drawn()
    rates = [arrays[f"rate{i}"][..., 0] for i in (1, 2, 3)]
    return large_chunk_training(arrays["q"], arrays["k"], arrays["v"], rates, weights, chunk)[0]


def test_the_steps_are_the_gradient() -> None:
    """Of -sum rate f(k) . v, by differences; rows then have the lengths that they had."""
    arrays, weights = _drawn()
    for place in range(3):
        rates = [arrays["rate1"][..., 0] * (one == place) for one in range(3)]

        def loss(changed: FastWeights, at: int = place) -> float:
            left, right = arrays["k"] @ changed.w1, arrays["k"] @ changed.w3
            result = (left / (1 + np.exp(-left)) * right) @ changed.w2
            return -float((arrays["rate1"] * result * arrays["v"]).sum())

        _, after = large_chunk_training(arrays["q"], arrays["k"], arrays["v"], rates, weights, TOKENS)
        before, found = weights[place], after[place]
        slope = np.zeros_like(before)
        for index in np.ndindex(*before.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = before.copy()
                moved[index] += step
                ends.append(loss(weights._replace(**{weights._fields[place]: moved})))
            slope[index] = (ends[0] - ends[1]) / 2e-5
        expected = before - slope
        square = [np.sqrt((one**2).mean(axis=-1, keepdims=True) + _EPSILON) for one in (before, expected)]
        assert np.allclose(found, expected / square[1] * square[0], atol=1e-6)


def _stream(chunk: int) -> OperatorStream:
    b = Layers("chunks")
    names = [b.input(name, (HEADS, TOKENS, WIDTH)) for name in "qkv"]
    rates = [b.input(f"rate{i}", (HEADS, TOKENS, 1)) for i in (1, 2, 3)]
    shapes = {"w1": (WIDTH, INNER), "w2": (INNER, WIDTH), "w3": (WIDTH, INNER)}
    weights = FastNames(*(b.trained(name, HEADS, *shape) for name, shape in shapes.items()))
    lengths = [b.constant(f"{name}.lengths", (HEADS, shape[0], 1)) for name, shape in shapes.items()]
    y, _ = add_chunks(b, *names, rates, weights, lengths, chunk)
    return b.finish([y])


def _value(stream: OperatorStream, known: dict[str, FloatArray], name: str) -> FloatArray:
    """A stored tensor, its rows as columns, or the tokens of one chunk."""
    spec = stream.tensor(name)
    return known[name] if spec.view_of is None else seen(spec, _value(stream, known, spec.view_of))


@pytest.mark.parametrize("chunk", [4, 11, 3])
def test_the_written_out_layer_gives_the_reference_with_the_programs_of_its_products(chunk: int) -> None:
    """Every product as its program computes it, the commands in their order; lengths that no chunk divides."""
    machine = load_machine("edge-16x16").with_(**{"matrix.rows": 4, "matrix.columns": 4})
    stream, (arrays, weights), cache = _stream(chunk), _drawn(), MappingCache(None)
    known = arrays | dict(zip(("w1", "w2", "w3"), weights, strict=True))
    for name, one in zip(("w1", "w2", "w3"), weights, strict=True):
        known[f"{name}.lengths"] = np.sqrt((one**2).mean(axis=-1, keepdims=True) + _EPSILON)
    for operator in stream.operators:
        inputs = [_value(stream, known, name) for name in operator.inputs]
        if operator.kind == "matmul":
            (job,) = [one for one in jobs_of(stream, fuse=False) if one.name == operator.name]
            assert isinstance(job.layer, GemmLayer)
            found = best_mapping(job, machine, "latency", ATTENTION_DATAFLOWS, cache)
            result = run_product_on_numbers(job.layer, machine, found.tiling, *inputs, dataflow=found.dataflow)
        elif operator.kind == "norm":
            result = inputs[0] / np.sqrt((inputs[0] ** 2).mean(axis=-1, keepdims=True) + _EPSILON)
        elif operator.kind == "reshape":
            result = np.concatenate(inputs, axis=1)
        else:
            result = FUNCTIONS[operator.text("function")](*inputs)
        known[operator.outputs[0]] = np.broadcast_to(result, stream.tensor(operator.outputs[0]).shape)
    assert np.allclose(known[stream.outputs[0]], _reference(chunk), atol=1e-9)


def test_work_is_counted_and_grows_with_the_tokens() -> None:
    text = "lact-layer:seq=4096,chunk={},hidden=512,heads=2,inner=128"
    counts = chunk_counts(4096, 2, 256, 128)
    assert counts == {"apply": 6 * 4096 * 2 * 256 * 128, "update": 12 * 4096 * 2 * 256 * 128}
    for chunk in (1024, 3000):
        stream = load_network(text.format(chunk))
        own = sum(one.macs for one in stream.operators if "chunks." in one.name)
        assert 2 * own == sum(counts.values())
    long = load_network("lact-layer:seq=8192,chunk=1024,hidden=512,heads=2,inner=128")
    assert long.macs == 2 * load_network(text.format(1024)).macs


def test_small_chunks_keep_the_matrix_unit_from_its_work() -> None:
    found = [
        tilewright.simulate_network(
            f"lact-layer:seq=256,chunk={chunk},hidden=128,heads=2,inner=64", "edge-16x16"
        ).cycles
        for chunk in (256, 16)
    ]
    assert found[0] < found[1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("seq=64,chunk=65", "chunk: longer than the sequence; given 65; allowed 1 to 64"),
        ("seq=8192,chunk=4", "chunk: more than 1024 chunks; given 4; allowed 8 or more"),
        ("seq=64,chunk=64,heads=3", "heads: given 3; allowed divisors of hidden, 1024"),
    ],
)
def test_refused(options: str, says: str) -> None:
    with pytest.raises(InputError) as fault:
        load_network(f"lact-layer:{options}")
    assert says in str(fault.value) and "\n" not in str(fault.value)
    arrays, weights = _drawn()
    with pytest.raises(InputError, match="chunk: longer than the sequence"):
        large_chunk_training(arrays["q"], arrays["k"], arrays["v"], [arrays["rate1"][..., 0]] * 3, weights, 12)
