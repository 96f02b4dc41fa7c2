"""An operator that a processor beside the accelerator does: how much there is to do, and to move."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FallbackLayer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackLayer:
    """``operations``: basic ones, a multiply-add as two. The bytes are read from and written to the DRAM once."""

    name: str
    operations: int
    read_bytes: int
    write_bytes: int

    @property
    def n_groups(self) -> int:
        return 1
