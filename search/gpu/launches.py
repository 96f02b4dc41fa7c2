"""What our own kernels launch for a measured row: which compiled schedule, over how many blocks, how long each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tilewright.errors import InputError
from tilewright.kernels.measured import MeasuredTable
from tilewright.kernels.operations import PASSED_VALUES
from tilewright.kernels.tiles import AttentionTiles, ProductTiles, ScanTiles
from tilewright.search.gpu.schedules import ScheduleKey
from tilewright.sim.gpu.activity import SCORE_OPERATIONS
from tilewright.sim.gpu.scheduled import ScheduledWork

__all__ = ["Launch", "launches_of", "rows_of"]

Row = Mapping[str, int]
_BYTES = {"fp16": 2.0, "fp32": 4.0, "int8": 1.0, "fp8_e4m3": 1.0, "int4": 0.5}
_RATES = {"int8": "int8", "fp8_e4m3": "fp8_e4m3"}
_SOFTMAX_WARPS, _SOFTMAX_STAGES, _SOFTMAX_COLUMNS = 4, 3, 1024  # of Triton and of the kernels, where nothing is given
_GROUP_SIZE = 128  # int4 weights that share a scale, as they are measured
_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One kernel: its schedule and its work; no schedule where it only moves bytes, ``turned`` from rows to columns."""

    key: ScheduleKey | None
    work: ScheduledWork
    turned: bool = False


def rows_of(table: MeasuredTable) -> list[dict[str, int]]:
    """The rows of ``table`` as plain numbers by column."""
    names = list(table.columns)
    columns = [table.columns[name].tolist() for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def launches_of(table: MeasuredTable, row: Row) -> list[Launch]:
    """The launches of one call of the table's family; raises :class:`InputError` where the tiling is not all told."""
    try:
        return _MAKERS[table.operator](table, row)
    except KeyError as missing:
        lacking = str(missing.args[0]).removeprefix("tile_")
        raise InputError(
            f"{table.name}: the tilings lack {lacking}; allowed {', '.join(table.tile_columns) or 'none'}"
        ) from None


def _gemm(table: MeasuredTable, row: Row) -> list[Launch]:
    weights = table.family.removeprefix("triton_")
    tiles = _tiles(row, "m", "n", "k", "stages", "warps")
    return [_product(weights, tiles, m=row["m"], n=row["n"], k=row["k"])]


def _product(weights: str, tiles: Row, *, m: int, n: int, k: int, result: str = "fp16", planes: int = 1) -> Launch:
    """``planes`` products in one launch; ``weights`` in fp16, int8, fp8_e4m3 or int4."""
    operand = "fp16" if weights == "int4" else weights
    numbers = dict(tiles) | ({"group_size": _GROUP_SIZE} if weights == "int4" else {})
    scales = n * k / _GROUP_SIZE * 2 if weights == "int4" else 0.0
    n_blocks = planes * math.ceil(m / tiles["m"]) * math.ceil(n / tiles["n"])
    trips = math.ceil(k / tiles["k"])
    work = ScheduledWork(
        n_blocks=n_blocks,
        trips=float(trips),
        loaded_bytes=n_blocks * trips * tiles["k"] * (tiles["m"] * _BYTES[operand] + tiles["n"] * _BYTES[weights]),
        read_bytes=planes * (m * k * _BYTES[operand] + n * k * _BYTES[weights] + scales),
        written_bytes=planes * m * n * _BYTES[result],
        macs=float(planes * m * n * k),
        multiply_format=_RATES.get(weights, "fp16"),
    )
    name = f"product {weights}" + ("" if result == "fp16" else f" to {result}")
    return Launch(key=ScheduleKey(kernel=name, numbers=numbers), work=work)


def _norm(_: MeasuredTable, row: Row) -> list[Launch]:
    tiles = _tiles(row, "m", "n", "k", "stages", "warps")
    plain = _product("fp16", tiles, m=row["m"], n=row["n"], k=row["k"])
    return [replace(plain, key=ScheduleKey(kernel="norm and product", numbers=tiles))]


def _perceptron(_: MeasuredTable, row: Row) -> list[Launch]:
    tiles = _tiles(row, "row", "hidden", "stages", "warps")
    numbers = tiles | {"width": row["width"], "out_width": row["out_width"]}
    weights = row["hidden"] * (row["width"] + row["out_width"])
    n_blocks, trips = math.ceil(row["m"] / tiles["row"]), math.ceil(row["hidden"] / tiles["hidden"])
    work = ScheduledWork(
        n_blocks=n_blocks,
        trips=float(trips),
        loaded_bytes=2.0 * n_blocks * trips * tiles["hidden"] * (row["width"] + row["out_width"]),
        read_bytes=2.0 * (row["m"] * row["width"] + weights),
        written_bytes=2.0 * row["m"] * row["out_width"],
        macs=float(row["m"] * weights),
        multiply_format="fp16",
    )
    return [Launch(key=ScheduleKey(kernel="perceptron", numbers=numbers), work=work)]


def _attention(table: MeasuredTable, row: Row) -> list[Launch]:
    causal = not table.family.endswith("_encoder") and row["queries"] > 1
    if table.family.startswith("triton_unfused"):
        return _unfused(row, causal)
    tiles = _tiles(row, "query", "key", "stages", "warps") if table.tile_columns else AttentionTiles().to_dict()
    if row["window"]:
        causal = True
    masks = {"causal": int(causal), "banded": int(row["window"] > 0), "single": int(row["queries"] == 1)}
    key = ScheduleKey(kernel="attention", numbers=tiles | {"dim": row["head_dim"]} | masks)
    return [Launch(key=key, work=_attention_work(row, tiles, _walk(row, tiles, causal)))]


def _walk(row: Row, tiles: Row, causal: bool) -> list[int]:
    """Blocks of keys that the tiles of queries of one head walk over, in the order in which they are launched."""
    n_tiles, past = math.ceil(row["queries"] / tiles["query"]), row["keys"] - row["queries"]
    walk = []
    for tile in range(n_tiles):
        first, last = 0, row["keys"]
        if causal:
            last = min(last, (tile + 1) * tiles["query"] + past)
        if row.get("window", 0):
            first = max(0, tile * tiles["query"] + past - row["window"]) // tiles["key"] * tiles["key"]
        walk.append(math.ceil((last - first) / tiles["key"]))
    return walk


def _attention_work(row: Row, tiles: Row, walk: list[int]) -> ScheduledWork:
    """``walk``: of the tiles of one head, or of all heads."""
    n_heads = row["batch"] * row["heads"]
    n_tiles = math.ceil(row["queries"] / tiles["query"])
    walks = walk if len(walk) == n_heads * n_tiles else walk * n_heads
    queries = 2.0 * n_heads * row["queries"] * row["head_dim"]
    keys = 4.0 * row["batch"] * row["kv_heads"] * row["keys"] * row["head_dim"]
    share = sum(walks) / len(walks) / math.ceil(row["keys"] / tiles["key"])
    return ScheduledWork(
        n_blocks=len(walks),
        trips=float(walks[0]) if len(set(walks)) == 1 else tuple(walks),
        loaded_bytes=4.0 * sum(walks) * tiles["key"] * row["head_dim"] + queries,
        read_bytes=queries + keys,
        written_bytes=queries,
        macs=2.0 * n_heads * row["queries"] * row["keys"] * row["head_dim"] * share,
        multiply_format="fp16",
        lane_operations=n_heads * row["queries"] * row["keys"] * share * SCORE_OPERATIONS,
    )


def _sparse(_: MeasuredTable, row: Row) -> list[Launch]:
    tiles = _tiles(row, "query", "key", "stages", "warps")
    n_blocks = row["batch"] * row["heads"] * math.ceil(row["queries"] / tiles["query"])
    chance = np.random.default_rng(_SEED)  # which blocks were kept is not in the file; any draw is as good
    kept = chance.binomial(math.ceil(row["keys"] / tiles["key"]), row["kept_per_mille"] / 1000, n_blocks)
    key = ScheduleKey(kernel="block-sparse attention", numbers=tiles | {"dim": row["head_dim"]})
    return [Launch(key=key, work=_attention_work(row, tiles, np.maximum(kept, 1).tolist()))]


def _scan(table: MeasuredTable, row: Row) -> list[Launch]:
    """The scan of Mamba-2: one kernel that walks each head's chunks, or three over chunks."""
    tiles = _tiles(row, "chunk", "rows", "value", "stages", "warps") if table.tile_columns else ScanTiles().to_dict()
    tokens, state, dim = row["tokens"], row["key_dim"], row["value_dim"]
    planes, parts = row["batch"] * row["heads"], math.ceil(row["value_dim"] / tiles["value"])
    n_chunks = math.ceil(tokens / tiles["chunk"])
    numbers = tiles | {"dim": dim, "state": state}
    x = 2.0 * row["batch"] * tokens * row["heads"] * dim
    keys = 2.0 * row["batch"] * tokens * row["key_heads"] * state
    steps = 4.0 * row["batch"] * tokens * row["heads"]
    if not table.family.endswith("_chunked"):
        size, values = tiles["chunk"], tiles["value"]
        walk = ScheduledWork(
            n_blocks=planes * parts,
            trips=float(n_chunks),
            loaded_bytes=planes * parts * n_chunks * size * (4.0 * state + 2.0 * tiles["value"] + 4.0),
            read_bytes=x + 2 * keys + steps,
            written_bytes=x,
            macs=float(planes * parts * n_chunks * size * (size * (state + values) + 2 * state * values)),
            multiply_format="fp16",
            lane_operations=3.0 * planes * parts * n_chunks * size * size,
        )
        return [Launch(key=ScheduleKey(kernel="chunk scan", numbers=numbers), work=walk)]
    states = 4.0 * planes * n_chunks * state * dim
    of_chunk = tiles["chunk"] // tiles["rows"]
    added = ScheduledWork(
        n_blocks=planes * parts * n_chunks,
        trips=float(of_chunk),
        loaded_bytes=planes * parts * n_chunks * tiles["chunk"] * (2.0 * state + 2.0 * tiles["value"] + 4.0),
        read_bytes=x + keys + steps,
        written_bytes=states,
        macs=float(planes * n_chunks * tiles["chunk"] * state * dim),
        multiply_format="fp16",
    )
    size = state * dim
    block = min(size, PASSED_VALUES)
    passed = ScheduledWork(
        n_blocks=planes * (size // block),
        trips=float(n_chunks),
        loaded_bytes=states,
        read_bytes=states,
        written_bytes=states,
        macs=0.0,
        multiply_format="fp16",
    )
    walks = [back + 1 for back in range(of_chunk)] * n_chunks
    trips = sum(walks) * planes * parts
    made = ScheduledWork(
        n_blocks=len(walks) * planes * parts,
        trips=float(of_chunk) if of_chunk == 1 else tuple(walks) * (planes * parts),
        loaded_bytes=trips * tiles["rows"] * (2.0 * state + 2.0 * tiles["value"] + 4.0) + states * of_chunk,
        read_bytes=x + 2 * keys + steps + states,
        written_bytes=x,
        macs=float(
            trips * tiles["rows"] ** 2 * (state + tiles["value"]) + planes * n_chunks * tiles["chunk"] * state * dim
        ),
        multiply_format="fp16",
        lane_operations=3.0 * trips * tiles["rows"] ** 2,
    )
    of_passed = {"size": size, "block": block, "warps": _SOFTMAX_WARPS, "stages": _SOFTMAX_STAGES}
    return [
        Launch(key=ScheduleKey(kernel="chunk states", numbers=numbers), work=added),
        Launch(key=ScheduleKey(kernel="passed states", numbers=of_passed), work=passed),
        Launch(key=ScheduleKey(kernel="chunk outputs", numbers=numbers), work=made),
    ]


def _unfused(row: Row, causal: bool) -> list[Launch]:
    """Keys and values copied for each query head, keys turned, the products with scores in fp32 and weights between."""
    planes, queries, keys, dim = row["batch"] * row["heads"], row["queries"], row["keys"], row["head_dim"]
    tiles = {name: size for name, size in ProductTiles().to_dict().items() if name != "group"}
    stored, all_keys = 2.0 * row["batch"] * row["kv_heads"] * keys * dim, 2.0 * planes * keys * dim
    scores = planes * queries * keys
    columns = min(_SOFTMAX_COLUMNS, max(16, 1 << (keys - 1).bit_length()))
    numbers = {"columns": columns, "warps": _SOFTMAX_WARPS, "stages": _SOFTMAX_STAGES}
    softmax = ScheduledWork(
        n_blocks=planes * queries,
        trips=float(2 * math.ceil(keys / columns) - 1),  # of two alike loops, the second once among all else
        read_bytes=4.0 * scores,
        written_bytes=2.0 * scores,
        macs=0.0,
        multiply_format="fp16",
        lane_operations=float(scores * SCORE_OPERATIONS),
    )
    launches = [_copy(stored, all_keys), _copy(stored, all_keys), replace(_copy(all_keys, all_keys), turned=True)]
    launches.append(_product("fp16", tiles, m=queries, n=keys, k=dim, result="fp32", planes=planes))
    if causal:
        launches.append(_copy(0.0, 2.0 * scores))  # half of the scores are hidden
    launches.append(Launch(key=ScheduleKey(kernel="softmax", numbers=numbers), work=softmax))
    launches.append(_product("fp16", tiles, m=queries, n=dim, k=keys, planes=planes))
    return launches


def _copy(read_bytes: float, written_bytes: float) -> Launch:
    work = ScheduledWork(
        n_blocks=1, trips=0.0, read_bytes=read_bytes, written_bytes=written_bytes, macs=0.0, multiply_format="fp16"
    )
    return Launch(key=None, work=work)


def _tiles(row: Row, *names: str) -> dict[str, int]:
    return {name: row[f"tile_{name}"] for name in names}


_MAKERS: dict[str, Callable[[MeasuredTable, Row], list[Launch]]] = {
    "gemm": _gemm,
    "norm_gemm": _norm,
    "mlp": _perceptron,
    "attention": _attention,
    "block_sparse_attention": _sparse,
    "scan": _scan,
}
