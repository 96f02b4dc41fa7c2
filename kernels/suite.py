"""What is measured: configurations of each suite, from quick library calls to sweeps over a kernel's tiles.

A configuration says what is computed and how, and can build its calls on a device. Shapes are those of the models that
the simulator's users ask about (Llama-3, BERT, ViT), and each tile sweep covers schedules that are good and bad.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, product, zip_longest

from tilewright.kernels.calls import BUILDERS, Build
from tilewright.kernels.measurement import configuration_key
from tilewright.kernels.networks import IMAGE_NETWORKS
from tilewright.registry import Registry

__all__ = ["SUITES", "Configuration", "configurations"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """One thing to measure; fields as in :class:`tilewright.kernels.measurement.Measurement`."""

    operator: str
    kernel: str
    shape: Mapping[str, int] = field(hash=False)
    formats: Mapping[str, str] = field(hash=False)
    tiles: Mapping[str, int] = field(default_factory=dict, hash=False)
    network: str = ""
    energy: bool = False

    @property
    def key(self) -> str:
        return configuration_key(
            self.operator,
            self.kernel,
            self.shape,
            self.formats,
            self.tiles,
            network=self.network,
            energy=self.energy,
        )

    @property
    def build(self) -> Build:
        """Makes one call with fresh inputs."""
        return BUILDERS[self.operator, self.kernel]


_FP16 = {"a": "fp16", "b": "fp16", "out": "fp16"}
_INT8 = {"a": "int8", "b": "int8", "out": "int32"}
_FP8 = {"a": "fp8_e4m3", "b": "fp8_e4m3", "out": "fp16"}
_INT4 = {"a": "fp16", "b": "int4", "out": "fp16"}

_GEMM_M = (1, 4, 16, 64, 256, 1024, 4096, 8192)
_GEMM_NK = ((4096, 4096), (6144, 4096), (14336, 4096), (4096, 14336), (768, 3072), (1024, 1024))
_GEMM_TILED = ((4096, 4096, 4096), (1024, 4096, 4096), (256, 14336, 4096), (2048, 768, 3072))
_GEMM_TILES = [
    {"m": m, "n": n, "k": k, "group": 8, "stages": stages, "warps": 8 if m * n >= 128 * 128 else 4}
    for m, n, k, stages in product((32, 64, 128), (64, 128, 256), (32, 64), (2, 4))
]
_QUANTISED_TILES = [
    {"m": m, "n": n, "k": 128, "group": 8, "stages": 3, "warps": 8 if m * n >= 128 * 128 else 4}
    for m, n in product((32, 64, 128), (64, 128, 256))
]
_ATTENTION = (  # batch, heads, kv_heads, query_len, key_len, head_dim
    (1, 12, 12, 512, 512, 64),
    (8, 12, 12, 512, 512, 64),
    (1, 16, 16, 4096, 4096, 64),
    (1, 32, 8, 2048, 2048, 128),
    (1, 32, 8, 8192, 8192, 128),
    (4, 32, 8, 4096, 4096, 128),
    (16, 32, 8, 1, 4096, 128),
    (1, 32, 8, 1, 8192, 128),
)
_ATTENTION_TILED = ((8, 12, 12, 512, 512, 64), (1, 16, 16, 4096, 4096, 64), (1, 32, 8, 4096, 4096, 128))
_ATTENTION_TILES = [
    {"query": query, "key": key, "stages": stages, "warps": 8 if query >= 128 else 4}
    for query, key, stages in product((32, 64, 128), (32, 64, 128), (2, 3))
]
_SPARSE = ((1, 16, 16, 4096, 4096, 64), (1, 24, 24, 17_408, 17_408, 64), (1, 32, 32, 8192, 8192, 128))
_SPARSE_TILES = [
    {"query": query, "key": key, "stages": 2, "warps": 8 if query >= 128 else 4}
    for query, key in product((32, 64, 128), (32, 64, 128))
]
_SCANS = (  # batch, tokens, heads, groups, head_dim, state_dim: Mamba-2 of 130 M and of 2.7 B parameters, Nemotron-H
    (8, 2048, 24, 1, 64, 128),
    (1, 8192, 80, 1, 64, 128),
    (1, 8192, 128, 8, 64, 128),
)
_SCAN_TILES = [
    *(
        ("persistent", {"chunk": chunk, "rows": chunk, "value": value, "stages": stages, "warps": 4})
        for chunk, value, stages in product((32, 64, 128), (32, 64), (1, 2))
    ),
    *(
        ("chunked", {"chunk": chunk, "rows": rows, "value": 64, "stages": 2, "warps": 4})
        for chunk, rows in product((64, 128, 256), (32, 64, 128))
        if rows <= chunk
    ),
]
_ROWS = ((1, 4096), (64, 4096), (1024, 4096), (8192, 4096), (32768, 4096), (4096, 16384), (65536, 768))


def _gemm() -> Iterator[Configuration]:
    for m, (n, k) in product(_GEMM_M, _GEMM_NK):
        shape = {"m": m, "n": n, "k": k}
        yield Configuration(operator="gemm", kernel="torch_matmul", shape=shape, formats=_FP16)
        if m >= 32:
            yield Configuration(operator="gemm", kernel="torch_int_mm", shape=shape, formats=_INT8)
        if m >= 16:
            yield Configuration(operator="gemm", kernel="torch_scaled_mm", shape=shape, formats=_FP8)


def _gemm_tiles() -> Iterator[Configuration]:
    for tiles, (m, n, k) in product(_GEMM_TILES, _GEMM_TILED):
        shape = {"m": m, "n": n, "k": k}
        yield Configuration(operator="gemm", kernel="triton", shape=shape, formats=_FP16, tiles=tiles)


def _gemm_quantised_tiles() -> Iterator[Configuration]:
    for tiles, (m, n, k) in product(_QUANTISED_TILES, _GEMM_TILED[:3]):
        shape = {"m": m, "n": n, "k": k}
        for formats in (_INT8 | {"out": "fp16"}, _FP8):
            yield Configuration(operator="gemm", kernel="triton", shape=shape, formats=formats, tiles=tiles)
        grouped = shape | {"group_size": 128}
        yield Configuration(operator="gemm", kernel="triton", shape=grouped, formats=_INT4, tiles=tiles)


def _attention_shape(layer: tuple[int, ...], causal: bool) -> dict[str, int]:
    names = ("batch", "heads", "kv_heads", "query_len", "key_len", "head_dim")
    return dict(zip(names, layer, strict=True)) | {"value_dim": layer[-1], "causal": int(causal)}


def _attention() -> Iterator[Configuration]:
    for layer, causal in product(_ATTENTION, (False, True)):
        if causal and layer[3] == 1:
            continue
        shape = _attention_shape(layer, causal)
        for kernel in ("torch_sdpa", "triton_fused", "triton_unfused"):
            if kernel == "triton_unfused" and layer[0] * layer[1] * layer[3] * layer[4] > 1 << 30:
                continue  # S and P alone would take more than 6 GB
            yield Configuration(operator="attention", kernel=kernel, shape=shape, formats=_FP16)


def _attention_tiles() -> Iterator[Configuration]:
    for tiles, layer, causal in product(_ATTENTION_TILES, _ATTENTION_TILED, (False, True)):
        shape = _attention_shape(layer, causal)
        yield Configuration(operator="attention", kernel="triton_fused", shape=shape, formats=_FP16, tiles=tiles)


def _sparse() -> Iterator[Configuration]:
    for kept in (1000, 500, 250, 100, 50):
        shape = _attention_shape((1, 16, 16, 4096, 4096, 64), False) | {"kept_per_mille": kept}
        tiles = {"query": 64, "key": 64, "stages": 2, "warps": 4}
        yield Configuration(operator="block_sparse_attention", kernel="triton", shape=shape, formats=_FP16, tiles=tiles)


def _sparse_tiles() -> Iterator[Configuration]:
    """Lists of several densities over the tiles, as long as videos and prompts are, beside dense attention."""
    for layer in _SPARSE:
        yield Configuration(
            operator="attention", kernel="torch_sdpa", shape=_attention_shape(layer, False), formats=_FP16
        )
    for tiles, layer, kept in product(_SPARSE_TILES, _SPARSE, (500, 250, 100)):
        shape = _attention_shape(layer, False) | {"kept_per_mille": kept}
        yield Configuration(operator="block_sparse_attention", kernel="triton", shape=shape, formats=_FP16, tiles=tiles)


def _scan() -> Iterator[Configuration]:
    """Mamba-2 layers in both forms over their tiles."""
    names = ("batch", "tokens", "heads", "groups", "head_dim", "state_dim")
    for (form, tiles), layer in product(_SCAN_TILES, _SCANS):
        shape = dict(zip(names, layer, strict=True))
        yield Configuration(
            operator="scan", kernel=f"triton_ssd_{form}", shape=shape, formats={"a": "fp16", "out": "fp16"}, tiles=tiles
        )


def _fusion() -> Iterator[Configuration]:
    for m in (256, 4096, 32768):
        mlp = {"m": m, "width": 256, "hidden": 1024, "out_width": 256}
        yield Configuration(operator="mlp", kernel="torch", shape=mlp, formats=_FP16)
        for row, hidden in product((16, 32, 64), (16, 32, 64)):
            tiles = {"row": row, "hidden": hidden, "stages": 1, "warps": 8}
            yield Configuration(operator="mlp", kernel="triton_fused", shape=mlp, formats=_FP16, tiles=tiles)
    for m, (n, k) in product((64, 1024, 8192), ((4096, 4096), (3072, 768))):
        shape = {"m": m, "n": n, "k": k}
        yield Configuration(operator="norm_gemm", kernel="torch", shape=shape, formats=_FP16)
        tiles = {"m": 64 if m < 1024 else 128, "n": 128, "k": 32, "group": 8, "stages": 3, "warps": 8}
        yield Configuration(operator="norm_gemm", kernel="triton_fused", shape=shape, formats=_FP16, tiles=tiles)


def _elementwise() -> Iterator[Configuration]:
    for operator, (rows, columns) in product(("elementwise", "softmax", "rmsnorm"), _ROWS):
        shape = {"rows": rows, "columns": columns}
        yield Configuration(operator=operator, kernel="torch", shape=shape, formats={"a": "fp16", "out": "fp16"})


#: Shapes that no fit has seen: not those of the suites above, nor of the public tables that calibrate.
_UNSEEN_GEMM = (
    *((5, 2816, 9216), (24, 7680, 3200), (100, 11008, 2304), (360, 5760, 2880), (700, 3328, 6656), (1500, 9728, 2432)),
    *((2900, 2688, 10752), (5200, 1792, 7424)),
)
_UNSEEN_ATTENTION = (
    *((3, 20, 20, 700, 700, 64), (2, 24, 8, 1500, 1500, 128), (6, 28, 4, 1, 3000, 128), (24, 40, 8, 1, 1800, 128)),
)
_UNSEEN_ROWS = ((300, 6912), (5000, 2304), (20000, 1408))


def _unseen() -> Iterator[Configuration]:
    for m, n, k in _UNSEEN_GEMM:
        yield Configuration(operator="gemm", kernel="torch_matmul", shape={"m": m, "n": n, "k": k}, formats=_FP16)
    for m, n, k in _UNSEEN_GEMM[2:6]:
        yield Configuration(operator="gemm", kernel="torch_scaled_mm", shape={"m": m, "n": n, "k": k}, formats=_FP8)
    for layer in _UNSEEN_ATTENTION:
        shape = _attention_shape(layer, layer[3] > 1)
        yield Configuration(operator="attention", kernel="torch_sdpa", shape=shape, formats=_FP16)
    for rows, columns in _UNSEEN_ROWS:
        shape = {"rows": rows, "columns": columns}
        yield Configuration(operator="softmax", kernel="torch", shape=shape, formats={"a": "fp16", "out": "fp16"})
    yield Configuration(
        operator="attention", kernel="torch_sdpa", shape=_attention_shape(_UNSEEN_ATTENTION[0], False), formats=_FP16
    )


def _energy() -> Iterator[Configuration]:
    """What takes joules: products bound by the tensor cores, by the DRAM and by the launch, attention, copies."""
    for m, n, k in ((8192, 8192, 8192), (4096, 14336, 4096), (256, 4096, 4096), (1, 14336, 4096), (16, 14336, 4096)):
        shape = {"m": m, "n": n, "k": k}
        yield Configuration(operator="gemm", kernel="torch_matmul", shape=shape, formats=_FP16, energy=True)
        if m > 16:
            yield Configuration(operator="gemm", kernel="torch_scaled_mm", shape=shape, formats=_FP8, energy=True)
            yield Configuration(operator="gemm", kernel="torch_int_mm", shape=shape, formats=_INT8, energy=True)
    for layer in ((4, 32, 32, 4096, 4096, 128), (8, 12, 12, 512, 512, 64), (16, 32, 8, 1, 4096, 128)):
        shape = _attention_shape(layer, False)
        yield Configuration(operator="attention", kernel="torch_sdpa", shape=shape, formats=_FP16, energy=True)
    for operator, (rows, columns) in product(("elementwise", "softmax", "rmsnorm"), ((262144, 4096), (1024, 4096))):
        shape = {"rows": rows, "columns": columns}
        formats = {"a": "fp16", "out": "fp16"}
        yield Configuration(operator=operator, kernel="torch", shape=shape, formats=formats, energy=True)


def _networks() -> Iterator[Configuration]:
    formats = {"a": "fp16", "b": "fp16", "out": "fp16"}
    for name, batch in product(IMAGE_NETWORKS, (1, 8, 64)):
        yield Configuration(
            operator="network", kernel="torch_eager", shape={"batch": batch}, formats=formats, network=name
        )
    for batch, length in ((1, 128), (1, 512), (1, 8192), (8, 1024)):
        shape = {"batch": batch, "prefill": length}
        yield Configuration(
            operator="network", kernel="torch_eager", shape=shape, formats=formats, network="llama-3-8b-block"
        )
    for name, (batch, seq) in product(("bert-base", "bert-large"), ((1, 128), (1, 512), (16, 512))):
        shape = {"batch": batch, "seq": seq}
        yield Configuration(operator="network", kernel="torch_eager", shape=shape, formats=formats, network=name)


def _tiny() -> Iterator[Configuration]:
    """A configuration of each kernel at sizes that an interpreter can do: to try the way, not to learn times."""
    small = {"m": 16, "n": 32, "k": 32}
    tiles = {"m": 16, "n": 16, "k": 16, "group": 1, "stages": 1, "warps": 1}
    yield Configuration(operator="gemm", kernel="torch_matmul", shape=small, formats=_FP16)
    for formats in (_FP16, _INT8 | {"out": "fp16"}, _FP8):
        yield Configuration(operator="gemm", kernel="triton", shape=small, formats=formats, tiles=tiles)
    yield Configuration(operator="gemm", kernel="triton", shape=small | {"group_size": 16}, formats=_INT4, tiles=tiles)
    attention = _attention_shape((1, 2, 1, 16, 16, 16), True)
    for kernel in ("torch_sdpa", "triton_fused", "triton_unfused"):
        yield Configuration(operator="attention", kernel=kernel, shape=attention, formats=_FP16)
    sparse = _attention_shape((1, 2, 2, 32, 32, 16), False) | {"kept_per_mille": 500}
    pair = {"query": 16, "key": 16, "stages": 1, "warps": 1}
    yield Configuration(operator="block_sparse_attention", kernel="triton", shape=sparse, formats=_FP16, tiles=pair)
    scan = {"batch": 1, "tokens": 40, "heads": 2, "groups": 1, "head_dim": 16, "state_dim": 16}
    chunks = {"chunk": 32, "rows": 16, "value": 16, "stages": 1, "warps": 1}
    for kernel in ("triton_ssd_persistent", "triton_ssd_chunked"):
        formats = {"a": "fp16", "out": "fp16"}
        yield Configuration(operator="scan", kernel=kernel, shape=scan, formats=formats, tiles=chunks)
    mlp = {"m": 16, "width": 16, "hidden": 32, "out_width": 16}
    yield Configuration(operator="mlp", kernel="torch", shape=mlp, formats=_FP16)
    row = {"row": 16, "hidden": 16, "stages": 1, "warps": 1}
    yield Configuration(operator="mlp", kernel="triton_fused", shape=mlp, formats=_FP16, tiles=row)
    yield Configuration(operator="norm_gemm", kernel="torch", shape=small, formats=_FP16)
    yield Configuration(operator="norm_gemm", kernel="triton_fused", shape=small, formats=_FP16, tiles=tiles)
    for operator in ("elementwise", "softmax", "rmsnorm"):
        shape = {"rows": 4, "columns": 32}
        yield Configuration(operator=operator, kernel="torch", shape=shape, formats={"a": "fp16", "out": "fp16"})


#: Each suite in parts; parts are measured in turn, so that a budget cuts all of them and none off.
SUITES: Registry[tuple[Callable[[], Iterator[Configuration]], ...]] = Registry("suite")
SUITES.register("attention", (_attention, _attention_tiles, _sparse))
SUITES.register("sparse", (_sparse_tiles,))
SUITES.register("scan", (_scan,))
SUITES.register("gemm", (_gemm, _gemm_tiles, _gemm_quantised_tiles))
SUITES.register("fusion", (_fusion,))
SUITES.register("elementwise", (_elementwise,))
SUITES.register("unseen", (_unseen,))
SUITES.register("energy", (_energy,))
SUITES.register("networks", (_networks,))
SUITES.register("tiny", (_tiny,))


def configurations(names: list[str]) -> list[Configuration]:
    """The configurations of the named suites, their parts in turn. Raises InputError for an unknown suite."""
    chosen = [SUITES.get(name, place="--suite") for name in dict.fromkeys(names)]
    parts = [part() for suite in chosen for part in suite]
    found = [each for each in chain.from_iterable(zip_longest(*parts)) if each is not None]
    return list({each.key: each for each in found}.values())
