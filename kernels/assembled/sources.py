"""The kernels of :mod:`tilewright.kernels.triton_kernels` by name, as the compiler takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tilewright.errors import unknown
from tilewright.kernels.assembled.compiler import KernelSource

__all__ = ["KERNELS", "source_of"]

Numbers = Mapping[str, int]
_POINTERS = {"fp16": "*fp16", "fp32": "*fp32", "int8": "*i8", "fp8_e4m3": "*fp8e4nv"}
_SIZES = {"m": "i32", "n": "i32", "k": "i32"}
_ROWS_IN_GROUP = 8  # only the order of blocks hangs on it, no instruction of the loop
_TRIPS = 4  # of the loop, when addresses are followed


def _product(operand: str, result: str, numbers: Numbers) -> KernelSource:
    scaled = operand != "fp16"
    scale = "*fp32" if scaled else _POINTERS[result]
    return KernelSource(
        module="gemm",
        function="product",
        types={"a": _POINTERS[operand], "b": _POINTERS[operand], "c": _POINTERS[result]}
        | {"a_scale": scale, "b_scale": scale}
        | _SIZES,
        constants={"scaled": scaled, "whole": operand == "int8"} | _blocks(numbers),
        arguments=_many_rows(numbers),
        warps=numbers["warps"],
        stages=numbers["stages"],
    )


def _int4(numbers: Numbers) -> KernelSource:
    return KernelSource(
        module="gemm",
        function="int4_weight_product",
        types={"a": "*fp16", "packed": "*u8", "scales": "*fp16", "c": "*fp16"} | _SIZES,
        constants={"group_size": numbers["group_size"]} | _blocks(numbers),
        arguments=_many_rows(numbers),
        warps=numbers["warps"],
        stages=numbers["stages"],
    )


def _norm(numbers: Numbers) -> KernelSource:
    return KernelSource(
        module="gemm",
        function="norm_product",
        types={"a": "*fp16", "gain": "*fp16", "b": "*fp16", "c": "*fp16"} | _SIZES | {"epsilon": "fp32"},
        constants=_blocks(numbers),
        arguments=_many_rows(numbers),
        warps=numbers["warps"],
        stages=numbers["stages"],
    )


def _mlp(numbers: Numbers) -> KernelSource:
    widths = {"width": numbers["width"], "out_width": numbers["out_width"]}
    return KernelSource(
        module="gemm",
        function="mlp_rows",
        types={"x": "*fp16", "w_up": "*fp16", "w_down": "*fp16", "y": "*fp16", "m": "i32", "hidden": "i32"},
        constants=widths | {"block_m": numbers["row"], "block_h": numbers["hidden"]},
        arguments={"m": 4096, "hidden": _TRIPS * numbers["hidden"]},
        warps=numbers["warps"],
        stages=numbers["stages"],
    )


def _attention(numbers: Numbers) -> KernelSource:
    single = {"query_len": 1} if numbers["single"] else {}
    lengths = {name: "i32" for name in ("query_len", "key_len", "window") if name not in single}
    shape = {"heads": 8, "group": 1, "dim": numbers["dim"], "value_dim": numbers["dim"]}
    masks = {"causal": bool(numbers["causal"]), "banded": bool(numbers["banded"])}
    return KernelSource(
        module="attention",
        function="attention_rows",
        types={"q": "*fp16", "k": "*fp16", "v": "*fp16", "out": "*fp16", "scale": "fp32"} | lengths,
        constants=shape | masks | single | {"block_m": numbers["query"], "block_n": numbers["key"]},
        arguments={"query_len": 4096, "key_len": _TRIPS * numbers["key"] + 4096, "window": 1 << 30},
        warps=numbers["warps"],
        stages=numbers["stages"],
    )


def _sparse(numbers: Numbers) -> KernelSource:
    pointers = {"q": "*fp16", "k": "*fp16", "v": "*fp16", "out": "*fp16", "starts": "*i32", "blocks": "*i32"}
    return KernelSource(
        module="attention",
        function="block_sparse_rows",
        types=pointers | {"scale": "fp32", "query_len": "i32", "key_len": "i32"},
        constants={"dim": numbers["dim"], "value_dim": numbers["dim"]}
        | {"block_m": numbers["query"], "block_n": numbers["key"]},
        arguments={"query_len": 4096, "key_len": 4096},
        warps=numbers["warps"],
        stages=numbers["stages"],
    )


_OF_SCAN = {"x": "*fp16", "dt": "*fp32", "a": "*fp32", "b": "*fp16"}
_SCAN_HEADS, _SCAN_CHUNKS = 8, 4
_LONG = 512  # tokens of a chunk, so that loops over its tiles run a few times


def _scan(function: str, numbers: Numbers) -> KernelSource:
    """One of the kernels of the scan of Mamba-2; ``tokens`` are some chunks."""
    more: dict[str, dict[str, str]] = {
        "chunk_scan_heads": {"c": "*fp16", "skip": "*fp32", "y": "*fp16", "tokens": "i32"},
        "chunk_states": {"states": "*fp32", "totals": "*fp32", "tokens": "i32", "n_chunks": "i32", "chunk": "i32"},
        "chunk_outputs": {
            "c": "*fp16", "skip": "*fp32", "states": "*fp32", "y": "*fp16", "tokens": "i32", "n_chunks": "i32",
            "chunk": "i32",
        },
    }  # fmt: skip
    whole = function == "chunk_scan_heads"
    tiles = {"block_t": numbers["chunk" if whole else "rows"], "block_p": numbers["value"]}
    shape = {"heads": _SCAN_HEADS, "groups": 1, "dim": numbers["dim"], "state": numbers["state"]}
    return KernelSource(
        module="scan",
        function=function,
        types=_OF_SCAN | more[function],
        constants=shape | tiles,
        arguments={"tokens": _SCAN_CHUNKS * _LONG, "n_chunks": _SCAN_CHUNKS, "chunk": _LONG},
        warps=numbers["warps"],
        stages=numbers["stages"],
    )


def _passed(numbers: Numbers) -> KernelSource:
    return KernelSource(
        module="scan",
        function="pass_states",
        types={"states": "*fp32", "totals": "*fp32", "n_chunks": "i32"},
        constants={"size": numbers["size"], "block": numbers["block"]},
        arguments={"n_chunks": _TRIPS},
        warps=numbers["warps"],
        stages=numbers["stages"],
    )


def _softmax(numbers: Numbers) -> KernelSource:
    return KernelSource(
        module="attention",
        function="softmax_rows",
        types={"scores": "*fp32", "out": "*fp16", "scale": "fp32", "n_columns": "i32"},
        constants={"block_n": numbers["columns"]},
        arguments={"n_columns": _TRIPS * numbers["columns"]},
        warps=numbers["warps"],
        stages=numbers["stages"],
    )


def _blocks(numbers: Numbers) -> dict[str, int]:
    tiles = {f"block_{name}": numbers[name] for name in ("m", "n", "k")}
    return tiles | {"rows_in_group": _ROWS_IN_GROUP}


def _many_rows(numbers: Numbers) -> dict[str, int]:
    return {"m": 4096, "n": 4096, "k": _TRIPS * numbers["k"]}


#: Kernels by name, from the numbers that they are compiled for.
KERNELS: dict[str, Callable[[Numbers], KernelSource]] = {
    "product fp16": lambda numbers: _product("fp16", "fp16", numbers),
    "product fp16 to fp32": lambda numbers: _product("fp16", "fp32", numbers),
    "product int8": lambda numbers: _product("int8", "fp16", numbers),
    "product fp8_e4m3": lambda numbers: _product("fp8_e4m3", "fp16", numbers),
    "product int4": _int4,
    "norm and product": _norm,
    "perceptron": _mlp,
    "attention": _attention,
    "block-sparse attention": _sparse,
    "softmax": _softmax,
    "chunk scan": lambda numbers: _scan("chunk_scan_heads", numbers),
    "chunk states": lambda numbers: _scan("chunk_states", numbers),
    "passed states": _passed,
    "chunk outputs": lambda numbers: _scan("chunk_outputs", numbers),
}


def source_of(kernel: str, numbers: Numbers) -> KernelSource:
    """The kernel called ``kernel`` compiled for ``numbers``; raises :class:`InputError` for another word."""
    if kernel not in KERNELS:
        raise unknown("kernel", kernel, list(KERNELS), place="compiled schedules")
    return KERNELS[kernel](numbers)
