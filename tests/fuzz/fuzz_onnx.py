"""Damaged and made-up ONNX files: each is read, or refused in one sentence, soon and without harm to this process."""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.errors import InputError
from tilewright.sim.jobs import jobs_of
from tilewright.workloads.extract.onnx import stream_from_onnx

MOST_SECONDS = 10.0
_SIZES = (0, 1, 2, 3, 5, 8, 64, -1, -9, 1 << 20, 1 << 31, (1 << 62) + 1)


def run(n: int, seed: int) -> None:
    """Read ``n`` files; raises AssertionError for the first that gives a traceback or takes too long."""
    chance = random.Random(seed)
    seeds = _seeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz.onnx"
        for at in range(n):
            data = _made(chance, seeds)
            path.write_bytes(data)
            _read(path, data, f"seed {seed}, file {at}")


def _read(path: Path, data: bytes, what: str) -> None:
    began, said = time.monotonic(), ""
    try:
        stream = stream_from_onnx(path, unknown="memory" if len(data) % 2 else "error")
        jobs_of(stream)
    except InputError as fault:
        said = str(fault)
    except BaseException as fault:
        kept = Path(tempfile.gettempdir()) / "tilewright_fuzz_failure.onnx"
        kept.write_bytes(data)
        text = "".join(traceback.format_exception(fault))
        raise AssertionError(f"{what}: kept as {kept}\n{text}") from fault
    assert "\n" not in said, f"{what}: more than one line: {said}"
    seconds = time.monotonic() - began
    assert seconds < MOST_SECONDS, f"{what}: {seconds:.1f} s"


# --- how files are made -----------------------------------------------------------------------------------------------


def _made(chance: random.Random, seeds: list[bytes]) -> bytes:
    way = chance.random()
    if way < 0.25:
        return _random_graph(chance)
    data = chance.choice(seeds)
    return _other_bytes(chance, data) if way < 0.6 else _other_fields(chance, data)


def _other_bytes(chance: random.Random, data: bytes) -> bytes:
    """Some bytes changed, taken out, put in twice, or the end cut off."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0 if place < len(changed):
                changed[place] = chance.randrange(256)
            case 1:
                del changed[place : place + chance.randrange(1, 9)]
            case 2:
                changed[place:place] = changed[place : place + chance.randrange(1, 9)]
            case _:
                del changed[chance.randrange(len(changed) + 1) :]
        if not changed:
            return b""
    return bytes(changed)


def _other_fields(chance: random.Random, data: bytes) -> bytes:
    """A graph that is well written but says something else somewhere."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    for _ in range(chance.choice((1, 1, 2, 4))):
        node = chance.choice(graph.node)
        kinds = [other.op_type for other in graph.node]
        changes: list[Callable[[], Any]] = [
            lambda node=node: _change_attribute(chance, node),
            lambda node=node, kinds=kinds: setattr(node, "op_type", chance.choice([*kinds, "Attention", "Loop", ""])),
            lambda node=node: _change_name(chance, graph, node),
            lambda: _change_sizes(chance, graph),
            lambda: _change_numbers(chance, graph),
            lambda node=node: setattr(node, "domain", chance.choice(("", "com.microsoft", "other"))),
            lambda: setattr(model.opset_import[0], "version", chance.randrange(5, 30)),
            lambda: graph.node.remove(chance.choice(graph.node)) if len(graph.node) > 1 else None,
        ]
        chance.choice(changes)()
    return bytes(model.SerializeToString())


def _change_attribute(chance: random.Random, node: Any) -> None:
    if not node.attribute:
        return
    attribute = chance.choice(node.attribute)
    if chance.random() < 0.2:
        node.attribute.remove(attribute)
    elif attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(_SIZES)
    else:
        attribute.i = chance.choice(_SIZES)


def _change_name(chance: random.Random, graph: Any, node: Any) -> None:
    names = [name for other in graph.node for name in (*other.input, *other.output)] + ["", "nothing"]
    side = node.input if chance.random() < 0.7 else node.output
    if side:
        side[chance.randrange(len(side))] = chance.choice(names)


def _change_sizes(chance: random.Random, graph: Any) -> None:
    held = chance.choice([*graph.input, *graph.output, *graph.initializer])
    if hasattr(held, "dims"):
        if held.dims:
            held.dims[chance.randrange(len(held.dims))] = chance.choice(_SIZES)
        else:
            held.dims.append(chance.choice(_SIZES))
        return
    dims = held.type.tensor_type.shape.dim
    if dims:
        dims[chance.randrange(len(dims))].dim_value = chance.choice(_SIZES)


def _change_numbers(chance: random.Random, graph: Any) -> None:
    from onnx import numpy_helper

    whole = [one for one in graph.initializer if one.data_type in (6, 7) and one.dims]
    if whole:
        tensor = chance.choice(whole)
        try:
            array = numpy_helper.to_array(tensor).copy()
        except Exception:  # damaged by an earlier change
            return
        if array.size:
            array.reshape(-1)[chance.randrange(array.size)] = chance.choice(_SIZES[:-2])
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _random_graph(chance: random.Random) -> bytes:
    """Up to eight random nodes after each other on tensors of random shapes."""
    import onnx
    from onnx import helper, numpy_helper

    kinds = sorted({schema.name for schema in onnx.defs.get_all_schemas()})
    shape = [chance.choice((1, 2, 3, 4, 8)) for _ in range(chance.randrange(5))]
    names = ["x"]
    kept = [
        numpy_helper.from_array(np.array([chance.choice(_SIZES[:-2]) for _ in range(size)]), f"n{size}")
        for size in (1, 2, 4)
    ]
    kept += [numpy_helper.from_array(np.ones([chance.choice((1, 2, 4)) for _ in range(rank)], np.float32), f"w{rank}")
             for rank in range(5)]  # fmt: skip
    names += [one.name for one in kept]
    nodes = []
    for at in range(chance.randrange(1, 9)):
        inputs = [chance.choice(names) for _ in range(chance.randrange(1, 4))]
        attributes = {
            key: chance.choice(_SIZES) for key in ("axis", "keepdims", "num_heads", "group") if chance.random() < 0.2
        }
        nodes.append(helper.make_node(chance.choice(kinds), inputs, [f"y{at}"], **attributes))
        names.append(f"y{at}")
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(names[-1], onnx.TensorProto.FLOAT, None)
    model = helper.make_model(
        helper.make_graph(nodes, "random", [x], [y], kept),
        opset_imports=[helper.make_opsetid("", chance.choice((9, 13, 17, 21, 23)))],
        ir_version=9,
    )
    return bytes(model.SerializeToString())


# --- what they are made of --------------------------------------------------------------------------------------------


def _seeds() -> list[bytes]:
    """Small valid files, each with operators of another kind."""
    return [_image_net(), _quantised(), _attention(), _loop(), _moves(), _optimised(), _grouped()]


def _file(nodes: list[Any], inputs: dict[str, list[int]], output: str, kept: dict[str, Any], opset: int = 17) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    made = [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)]
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in kept.items()]
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "net", given, made, held)
    return bytes(helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString())


def _image_net() -> bytes:
    from onnx.helper import make_node

    nodes = [
        make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2], group=1),
        make_node("BatchNormalization", ["c", "g", "g", "g", "g"], ["n"]),
        make_node("Relu", ["n"], ["r"]),
        make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        make_node("LRN", ["p"], ["l"], size=3),
        make_node("GlobalAveragePool", ["l"], ["a"]),
        make_node("Flatten", ["a"], ["f"], axis=1),
        make_node("Gemm", ["f", "v"], ["y"], transB=1),
    ]
    kept = {"w": np.ones((8, 3, 3, 3), np.float32), "g": np.ones(8, np.float32), "v": np.ones((5, 8), np.float32)}
    return _file(nodes, {"x": [1, 3, 16, 16]}, "y", kept)


def _quantised() -> bytes:
    from onnx.helper import make_node

    nodes = [
        make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        make_node("QLinearConv", ["q", "s", "z", "w", "s", "wz", "s", "z"], ["c"], kernel_shape=[1, 1]),
        make_node("DequantizeLinear", ["c", "s", "z"], ["d"]),
        make_node("Relu", ["d"], ["r"]),
        make_node("QuantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    kept = {"s": np.float32(0.1), "z": np.uint8(0), "wz": np.int8(0), "w": np.ones((4, 3, 1, 1), np.int8)}
    return _file(nodes, {"x": [1, 3, 4, 4]}, "y", kept)


def _attention() -> bytes:
    from onnx.helper import make_node

    nodes = [
        make_node("Attention", ["x", "w"], ["a"], domain="com.microsoft", num_heads=2, unidirectional=1),
        make_node("SkipLayerNormalization", ["a", "x", "g", "g"], ["n"], domain="com.microsoft"),
        make_node("Attention", ["n", "n", "n"], ["t"], q_num_heads=2, kv_num_heads=2, is_causal=1, softcap=5.0),
        make_node("Einsum", ["t", "v"], ["e"], equation="bij,jk->bik"),
        make_node("Softmax", ["e"], ["y"], axis=-1),
    ]
    kept = {"w": np.ones((8, 24), np.float32), "g": np.ones(8, np.float32), "v": np.ones((8, 8), np.float32)}
    return _file(nodes, {"x": [1, 4, 8]}, "y", kept, 25)


def _loop() -> bytes:
    from onnx import TensorProto
    from onnx.helper import make_graph, make_node, make_tensor_value_info

    given = [make_tensor_value_info("i", TensorProto.INT64, []), make_tensor_value_info("go", TensorProto.BOOL, [])]
    given.append(make_tensor_value_info("h", TensorProto.FLOAT, [4, 4]))
    results = [
        make_tensor_value_info("on", TensorProto.BOOL, []),
        make_tensor_value_info("o", TensorProto.FLOAT, [4, 4]),
    ]
    body = make_graph(
        [make_node("Identity", ["go"], ["on"]), make_node("MatMul", ["h", "w"], ["o"])], "b", given, results
    )
    nodes = [
        make_node("Loop", ["n", "", "x"], ["l"], body=body),
        make_node("Unsqueeze", ["l", "axis"], ["u"]),
        make_node("LSTM", ["u", "W", "R"], ["y"], hidden_size=4),
    ]
    kept = {"n": np.array(3), "w": np.ones((4, 4), np.float32), "axis": np.array([1])}
    kept |= {name: np.ones((1, 16, 4), np.float32) for name in "WR"}
    return _file(nodes, {"x": [4, 4]}, "y", kept)


def _moves() -> bytes:
    from onnx.helper import make_node

    nodes = [
        make_node("Shape", ["x"], ["s"]),
        make_node("Pad", ["x", "p"], ["a"]),
        make_node("Slice", ["a", "b", "e"], ["c"]),
        make_node("Expand", ["c", "big"], ["d"]),
        make_node("Range", ["zero", "four", "one"], ["r"]),
        make_node("Less", ["r", "col"], ["m"]),
        make_node("Where", ["m", "d", "f"], ["w"]),
        make_node("Reshape", ["w", "flat"], ["t"]),
        make_node("TopK", ["t", "k"], ["y", "i"]),
    ]
    kept = {
        "p": np.array([0, 1, 0, 0]), "b": np.array([0, 0]), "e": np.array([2, 4]), "big": np.array([3, 2, 4]),
        "zero": np.array(0), "one": np.array(1), "four": np.array(4), "col": np.array([[2], [3]]),
        "f": np.float32(-1e9), "flat": np.array([-1]), "k": np.array([2]),
    }  # fmt: skip
    return _file(nodes, {"x": [2, 3]}, "y", kept)


def _optimised() -> bytes:
    """What onnxruntime's optimiser makes of a layer, with an If and weights of few bits."""
    from onnx import TensorProto
    from onnx.helper import make_graph, make_node, make_tensor_value_info

    def branch(kind: str) -> Any:
        result = make_tensor_value_info(kind, TensorProto.FLOAT, [1, 4, 8])
        return make_graph([make_node(kind, ["x"], [kind])], kind, [], [result])

    def call(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
        return make_node(kind, inputs, outputs, domain="com.microsoft", **attributes)

    nodes = [
        make_node("If", ["yes"], ["i"], then_branch=branch("Relu"), else_branch=branch("Tanh")),
        call("MultiHeadAttention", ["i", "x", "x", "b24", "", "mask"], ["a"], num_heads=2),
        call("FusedMatMul", ["a", "w"], ["m"], transB=1),
        call("SkipSimplifiedLayerNormalization", ["m", "i", "g"], ["n", "", "", "s"]),
        call("MatMulNBits", ["n", "B", "S", "Z"], ["q"], K=8, N=8, bits=4, block_size=16),
        call("BiasGelu", ["q", "g"], ["e"]),
        call("FusedGemm", ["e2", "w"], ["f"], transB=1, activation="Relu"),
        call("MoE", ["e", "p", "E1", "", "E2"], ["y"], k=2, activation_type="gelu"),
    ]
    nodes.insert(6, make_node("Reshape", ["e", "rows"], ["e2"]))
    kept = {
        "yes": np.array([True]), "b24": np.ones(24, np.float32), "w": np.ones((8, 8), np.float32),
        "g": np.ones(8, np.float32), "B": np.ones((8, 1, 8), np.uint8), "S": np.ones(8, np.float32),
        "Z": np.ones(8, np.uint8), "rows": np.array([4, 8]), "p": np.ones((1, 4, 3), np.float32),
        "E1": np.ones((3, 16, 8), np.float32), "E2": np.ones((3, 8, 16), np.float32),
    }  # fmt: skip
    return _file(nodes, {"x": [1, 4, 8], "mask": [1, 2, 4, 4]}, "y", kept)


def _grouped() -> bytes:
    """One token behind a cache, in whole numbers behind it."""
    from onnx.helper import make_node

    nodes = [
        make_node(
            "GroupQueryAttention", ["q", "k", "v", "pk", "pv", "n", "total"], ["a", "ok", "ov"],
            domain="com.microsoft", num_heads=4, kv_num_heads=2, local_window_size=3,
        ),
        make_node("QuantizeLinear", ["a", "s", "z"], ["aq"]),
        make_node("QLinearAdd", ["aq", "s", "z", "aq", "s", "z", "s", "z"], ["b"], domain="com.microsoft"),
        make_node("DequantizeLinear", ["b", "s", "z"], ["d"]),
        make_node("Scan", ["start", "d"], ["end", "y"], body=_scan_body(), num_scan_inputs=1),
    ]  # fmt: skip
    kept = {
        "n": np.array([5], np.int32), "total": np.array(6, np.int32), "s": np.float32(0.1), "z": np.uint8(0),
        "start": np.ones((2, 16), np.float32),
    }  # fmt: skip
    inputs = {"q": [1, 2, 16], "k": [1, 2, 8], "v": [1, 2, 8], "pk": [1, 2, 4, 4], "pv": [1, 2, 4, 4]}
    return _file(nodes, inputs, "y", kept)


def _scan_body() -> Any:
    from onnx import TensorProto
    from onnx.helper import make_graph, make_node, make_tensor_value_info

    given = [make_tensor_value_info(name, TensorProto.FLOAT, [2, 16]) for name in ("state", "part")]
    results = [make_tensor_value_info(name, TensorProto.FLOAT, [2, 16]) for name in ("next", "out")]
    nodes = [make_node("Add", ["state", "part"], ["next"]), make_node("Relu", ["next"], ["out"])]
    return make_graph(nodes, "body", given, results)
