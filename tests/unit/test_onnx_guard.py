"""What aborts the ONNX library is one sentence, and the next file is read as ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tilewright.errors import InputError
from tilewright.workloads.network import load_network

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'tilewright[onnx]'")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from tilewright.workloads.extract import onnx_guard  # noqa: E402
from tilewright.workloads.extract.onnx import stream_from_onnx  # noqa: E402

pytestmark = pytest.mark.extras
BROKEN = Path(__file__).resolve().parents[3] / "shared" / "cases" / "break"


def sliced(extent: int, step: int = -1) -> Any:
    """A Slice of a dimension of ``extent`` values; none at all aborts ONNX 1.23 when it goes backwards."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [extent, 4]) for name in "xy")
    bounds = {"starts": 3, "ends": -9, "axes": 0, "steps": step}
    kept = [numpy_helper.from_array(np.array([number], np.int64), name) for name, number in bounds.items()]
    nodes = [helper.make_node("Slice", ["x", *bounds], ["part"]), helper.make_node("Relu", ["part"], ["y"])]
    y.type.tensor_type.ClearField("shape")
    graph = helper.make_graph(nodes, "net", [x], [y], kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_file_that_aborts_the_library_is_one_sentence() -> None:
    assert len(stream_from_onnx(sliced(8)).operators) == 1
    with pytest.raises(onnx_guard.LibraryEndedError):
        onnx_guard.ask("run", b"", {"x": _EndsTheProcess()})
    assert len(stream_from_onnx(sliced(9)).operators) == 1  # a new process reads it


class _EndsTheProcess:
    """Something that ends the process that unpacks it, as an abort does."""

    def __reduce__(self) -> Any:
        import os

        return os.abort, ()


@pytest.mark.parametrize("name", ["onnx_abort.onnx", "onnx-s1-7182--6.onnx"])
def test_the_reported_files(name: str) -> None:
    if not (BROKEN / name).exists():
        pytest.skip("the folder of damaged files is not here")
    with pytest.raises(InputError, match=r"onnx: \w+: (the sizes of|the ONNX library)") as fault:
        load_network(str(BROKEN / name))
    assert "\n" not in str(fault.value)


def test_a_network_without_operators_is_one_sentence() -> None:
    kept = numpy_helper.from_array(np.ones((4, 2), np.float32), "z")
    x, z = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 2]) for name in "xz")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", [x], [z], [kept])
    with pytest.raises(InputError, match=r"nothing to run: its results are inputs or are known beforehand"):
        stream_from_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def test_equal_requests_are_made_once() -> None:
    onnx_guard.ask("ready", remember=True)
    asked = len(onnx_guard._answers)
    onnx_guard.ask("ready", remember=True)
    assert len(onnx_guard._answers) == asked
