"""The tiles of a kernel's schedule: what a measurement varies and a simulation is asked about."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from tilewright.errors import InputError

__all__ = ["AttentionTiles", "MlpTiles", "ProductTiles", "ScanTiles"]


def _check(tiles: object, powers: tuple[str, ...]) -> None:
    for name in powers:
        value = getattr(tiles, name)
        if value < 16 or value & (value - 1):
            raise InputError(f"tile {name}: given {value}; allowed 16, 32, 64, 128, 256, ...")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionTiles:
    """Rows of queries and of keys in a tile (powers of two), tiles in flight, warps of 32 threads."""

    query: int = 64
    key: int = 64
    stages: int = 2
    warps: int = 4

    def __post_init__(self) -> None:
        _check(self, ("query", "key"))

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductTiles:
    """A tile of C (m x n) and of the depth (k), in elements; ``group`` tiles of rows go before the next column."""

    m: int = 64
    n: int = 64
    k: int = 32
    group: int = 8
    stages: int = 3
    warps: int = 4

    def __post_init__(self) -> None:
        _check(self, ("m", "n", "k"))

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpTiles:
    """Rows of the input and hidden values in a tile."""

    row: int = 64
    hidden: int = 64
    stages: int = 2
    warps: int = 4

    def __post_init__(self) -> None:
        _check(self, ("row", "hidden"))

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanTiles:
    """Tokens of a chunk, and of a tile in it (all or a part that divides it); values of a head in a tile."""

    chunk: int = 128
    rows: int = 64
    value: int = 64
    stages: int = 2
    warps: int = 4

    def __post_init__(self) -> None:
        _check(self, ("chunk", "rows", "value"))
        if self.rows > self.chunk:
            raise InputError(f"tile rows: given {self.rows}; allowed up to the {self.chunk} tokens of a chunk")

    def to_dict(self) -> dict[str, int]:
        return asdict(self)
