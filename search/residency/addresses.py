"""Addresses in the memory of a plan: no two tensors that live at the same time overlap, nor does a job's tile room.

First fit from the largest down settles most plans; where it needs more than there is, CP-SAT packs the rectangles of
time and addresses, or shows that they cannot be packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tilewright.search.cp_sat import has_answer, new_solver

__all__ = ["Block", "lowest_address", "packed"]


class Block(NamedTuple):
    """``n_bytes`` that are taken from job ``first`` to job ``last``."""

    first: int
    last: int
    n_bytes: int

    def meets(self, other: Block) -> bool:
        """Whether both are taken at some time."""
        return self.first <= other.last and other.first <= self.last


def packed(blocks: Sequence[Block], capacity: int, *, seconds: float = 5.0) -> list[int] | None:
    """An address of each block within ``capacity``; None where none was found (or there is none)."""
    for key in (_longest, _largest, _earliest):
        found = _first_fit(blocks, sorted(range(len(blocks)), key=[key(block) for block in blocks].__getitem__))
        if all(address + block.n_bytes <= capacity for address, block in zip(found, blocks, strict=True)):
            return found
    return _by_constraints(blocks, capacity, seconds)


def _longest(block: Block) -> tuple[int, ...]:
    return (block.first - block.last, -block.n_bytes, block.first)


def _largest(block: Block) -> tuple[int, ...]:
    return (-block.n_bytes, block.first)


def _earliest(block: Block) -> tuple[int, ...]:
    return (block.first, -block.n_bytes)


def _first_fit(blocks: Sequence[Block], order: Sequence[int]) -> list[int]:
    """Each block at the lowest address where nothing of what stands already meets it."""
    found = [0] * len(blocks)
    placed: list[int] = []
    for number in order:
        block = blocks[number]
        found[number] = lowest_address(block, [(blocks[i], found[i]) for i in placed])
        placed.append(number)
    return found


def lowest_address(block: Block, placed: Sequence[tuple[Block, int]]) -> int:
    """The lowest address of ``block`` at which nothing of what is ``placed`` (blocks and their addresses) meets it."""
    address = 0
    for begin, end in sorted((at, at + other.n_bytes) for other, at in placed if other.meets(block)):
        if address + block.n_bytes <= begin:
            break
        address = max(address, end)
    return address


def _by_constraints(blocks: Sequence[Block], capacity: int, seconds: float) -> list[int] | None:
    from ortools.sat.python import cp_model

    if any(block.n_bytes > capacity for block in blocks):
        return None
    model = cp_model.CpModel()
    starts = [model.new_int_var(0, capacity - block.n_bytes, "") for block in blocks]
    times = [model.new_fixed_size_interval_var(block.first, block.last - block.first + 1, "") for block in blocks]
    rooms = [
        model.new_fixed_size_interval_var(start, block.n_bytes, "") for start, block in zip(starts, blocks, strict=True)
    ]
    model.add_no_overlap_2d(times, rooms)
    solver = new_solver(seed=1, seconds=seconds)
    if not has_answer(solver, model):
        return None
    return [solver.value(start) for start in starts]
