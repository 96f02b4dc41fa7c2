"""The process in which the ONNX library works: its C++ parts may abort on damaged files, and take only this process
with them.

Run by :mod:`tilewright.workloads.extract.onnx_guard`. Requests and answers are pickles behind their length in eight
bytes; an answer is (True, result) or (False, the first line of what went wrong).
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any

__all__ = ["LARGEST_RESULT", "LENGTH_BYTES", "main"]

LENGTH_BYTES = 8
LARGEST_RESULT = 1 << 25  # values of a tensor whose numbers are kept: a mask of 4096 x 8192
_MEMORY_BYTES = 4 << 30
_SECONDS_A_REQUEST = 5  # of processor time


def _infer(
    op_type: str,
    domain: str,
    version: int,
    node: bytes,
    types: dict[str, bytes],
    data: dict[str, bytes],
    opsets: list[bytes],
    ir_version: int,
) -> dict[str, bytes]:
    """Types of the results of one node; empty where ONNX does not know the operator."""
    import onnx
    import onnx.shape_inference

    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return {}
    found = onnx.shape_inference.infer_node_outputs(
        schema,
        onnx.NodeProto.FromString(node),
        {name: onnx.TypeProto.FromString(one) for name, one in types.items()},
        {name: onnx.TensorProto.FromString(one) for name, one in data.items()},
        opset_imports=[onnx.OperatorSetIdProto.FromString(one) for one in opsets],
        ir_version=ir_version,
    )
    return {name: one.SerializeToString() for name, one in found.items()}


def _run(model: bytes, feeds: dict[str, Any]) -> list[Any] | None:
    """The results of a small model on known numbers; None for results that are too large to keep."""
    import numpy as np
    import onnx
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(onnx.ModelProto.FromString(model)).run(None, feeds)
    arrays = [np.asarray(one) for one in results]
    return None if any(one.size > LARGEST_RESULT for one in arrays) else arrays


def _inline(model: bytes) -> bytes:
    """A model without functions of its own."""
    import onnx
    import onnx.inliner

    result: bytes = onnx.inliner.inline_local_functions(onnx.ModelProto.FromString(model)).SerializeToString()
    return result


def _convert(model: bytes, version: int) -> bytes:
    """A model in another version of the standard operator set."""
    import onnx
    import onnx.version_converter

    converted = onnx.version_converter.convert_version(onnx.ModelProto.FromString(model), version)
    result: bytes = converted.SerializeToString()
    return result


_REQUESTS: Mapping[str, Callable[..., Any]] = {
    "ready": lambda: True,
    "infer": _infer,
    "run": _run,
    "inline": _inline,
    "convert": _convert,
}


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(hard, _MEMORY_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _limit_time() -> None:
    """Let the system end this process when the next request takes too long."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(used.ru_utime + used.ru_stime) + _SECONDS_A_REQUEST
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _answer(request: tuple[str, tuple[Any, ...]]) -> tuple[bool, Any]:
    name, arguments = request
    try:
        return True, _REQUESTS[name](*arguments)
    except BaseException as fault:
        return False, (str(fault).strip() or type(fault).__name__).splitlines()[0][:160]


def main() -> None:
    """Answer requests from standard input until it ends."""
    asked, told = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing else may write between the answers
    _limit_memory()
    while True:
        length = int.from_bytes(asked.read(LENGTH_BYTES), "big")
        if not length:
            return
        request = pickle.loads(_whole(asked, length))
        _limit_time()
        data = pickle.dumps(_answer(request), protocol=pickle.HIGHEST_PROTOCOL)
        told.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
        told.flush()


def _whole(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        sys.exit(0)
    return data


if __name__ == "__main__":
    main()
