"""Masks from a file: ``.npy`` of blocks (true where kept), or ``.npz`` with row pointers and indices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.units import ceil_div
from tilewright.workloads.masks.family import MaskFamily, Option, Site, lists_of, register_mask
from tilewright.workloads.masks.lists import BlockMask, RowLists

if TYPE_CHECKING:
    import numpy.typing as npt


def _make(text: str, site: Site, values: Mapping[str, Any]) -> BlockMask:
    path = Path(values["path"])
    rows, keys = values["block"], values["keys"] or values["block"]
    shape = ceil_div(site.query_len, rows), ceil_div(site.key_len, keys)
    of_heads = _read(text, path, shape)
    if len(of_heads) not in (1, site.heads):
        raise InputError(f"mask {text}: {path} has lists of {len(of_heads)} heads; allowed 1 or {site.heads}")
    numbers: dict[RowLists, int] = {}
    own = [numbers.setdefault(lists, len(numbers)) for lists in of_heads]
    return BlockMask(
        text=text, query_len=site.query_len, key_len=site.key_len, block_rows=rows, block_keys=keys,
        patterns=tuple(numbers), of_head=tuple(own) if len(own) == site.heads else tuple(own * site.heads),
        causal=values["causal"],
    )  # fmt: skip


def _read(text: str, path: Path, shape: tuple[int, int]) -> list[RowLists]:
    import numpy as np

    try:
        loaded: Any = np.load(path, allow_pickle=False)
        arrays = dict(loaded) if path.suffix == ".npz" else {"blocks": loaded}
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"mask {text}: path: cannot read {path} ({reason}); allowed .npy of blocks, or .npz with pointers and "
            "indices"
        ) from None
    if set(arrays) == {"blocks"}:
        return _of_blocks(text, path, arrays["blocks"], shape)
    if set(arrays) == {"pointers", "indices"}:
        return _of_pointers(text, path, arrays["pointers"], arrays["indices"])
    raise InputError(
        f"mask {text}: {path} holds {', '.join(sorted(arrays)) or 'nothing'}; allowed blocks, or pointers and indices"
    )


def _of_blocks(text: str, path: Path, blocks: npt.NDArray[Any], shape: tuple[int, int]) -> list[RowLists]:
    found = blocks[None] if blocks.ndim == 2 else blocks
    if found.ndim != 3 or found.shape[1:] != shape or found.dtype.kind not in "bui":
        raise InputError(
            f"mask {text}: {path} has shape {blocks.shape} of {blocks.dtype}; allowed true or false, "
            f"([heads,] {shape[0]} rows of blocks, {shape[1]} blocks of keys)"
        )
    return [lists_of(one.astype(bool)) for one in found]


def _of_pointers(text: str, path: Path, pointers: npt.NDArray[Any], indices: npt.NDArray[Any]) -> list[RowLists]:
    """``pointers`` (rows + 1) or (heads, rows + 1), which count through ``indices`` head after head."""
    import numpy as np

    if (
        pointers.ndim not in (1, 2)
        or pointers.size == 0
        or indices.ndim != 1
        or {
            pointers.dtype.kind,
            indices.dtype.kind,
        }
        - set("ui")
    ):
        raise InputError(
            f"mask {text}: {path} has pointers {pointers.shape} and indices {indices.shape}; allowed whole numbers, "
            "([heads,] rows of blocks + 1) and (entries)"
        )
    heads = np.atleast_2d(pointers).astype(np.int64)
    ends = [0, *heads[:, -1].tolist()]
    if any(row[0] != end for row, end in zip(heads.tolist(), ends, strict=False)) or ends[-1] != len(indices):
        raise InputError(
            f"mask {text}: {path}: pointers must run through all {len(indices)} entries; given {heads[0, 0]} to "
            f"{ends[-1]}; allowed 0 to {len(indices)}, head after head"
        )
    entries = indices.astype(np.int64)
    return [RowLists(pointers=row - row[0], indices=entries[row[0] : row[-1]]) for row in heads]


register_mask(
    MaskFamily(
        name="file",
        summary="the lists of a file",
        source="the file",
        options=(
            Option(name="path", meaning="a .npy of blocks or a .npz with pointers and indices", kind="text"),
            Option(name="block", meaning="rows of a block, and keys where no others are given", default=64),
            Option(name="keys", meaning="keys of a block", kind="number", default=0),
            Option(name="causal", meaning="rows see no key behind their own", kind="flag", default=False),
        ),
        make=_make,
    ),
    rank=11,
)
