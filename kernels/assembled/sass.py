"""The assembler's output read back: instructions with the waits that the compiler wrote into them.

An instruction has 128 bits. Its upper word holds, from bit 41 on: cycles before the next one (4 bits), a hint (1),
the counter that its result holds (3; 7 for none), the counter that its operands hold (3), and the counters that it
waits for (6) (Jia et al., "Dissecting the NVIDIA Volta GPU Architecture via Microbenchmarking", section 2.1: the same
layout up to Hopper).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Disassembly", "Instruction", "parse_sass"]

_LABEL = re.compile(r"^(\.L_x_\d+):")
_FIRST = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z0-9_.a-z]+)\s*(.*?)\s*;\s*/\* 0x[0-9a-f]{16} \*/")
_SECOND = re.compile(r"^\s+/\* 0x([0-9a-f]{16}) \*/")
_TARGET = re.compile(r"\.L_x_\d+")
_CONTROL_BIT = 41


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """``predicate`` as ``@P0`` or empty; ``name`` with suffixes; ``write_barrier``, ``read_barrier`` -1 for none."""

    predicate: str
    name: str
    operands: str
    stall: int
    write_barrier: int
    read_barrier: int
    wait_mask: int

    @property
    def base(self) -> str:
        """The name without suffixes."""
        return self.name.split(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disassembly:
    """Instructions in the order of the file, and where labels stand."""

    instructions: tuple[Instruction, ...]
    labels: dict[str, int]

    def target(self, at: int) -> int | None:
        """Where the branch at ``at`` goes, None where that is no branch to a label."""
        instruction = self.instructions[at]
        found = _TARGET.search(instruction.operands) if instruction.base == "BRA" else None
        return self.labels[found[0]] if found else None

    def longest_loop(self) -> tuple[int, int] | None:
        """First and last instruction of the longest loop, None where there is none."""
        loops = []
        for at in range(len(self.instructions)):
            target = self.target(at)
            if target is not None and target < at:
                loops.append((at - target, target, at))
        return max(loops)[1:] if loops else None


def parse_sass(text: str) -> Disassembly:
    """The instructions in ``text``, as ``nvdisasm -c -hex`` prints them."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    pending: tuple[str, str, str] | None = None
    for line in text.splitlines():
        if label := _LABEL.match(line.strip()):
            labels[label[1]] = len(instructions)
        elif first := _FIRST.match(line):
            pending = (first[1] or "").strip(), first[2], first[3]
        elif pending is not None and (second := _SECOND.match(line)):
            instructions.append(_instruction(*pending, control=int(second[1], 16) >> _CONTROL_BIT))
            pending = None
    return Disassembly(instructions=tuple(instructions), labels=labels)


def _instruction(predicate: str, name: str, operands: str, *, control: int) -> Instruction:
    return Instruction(
        predicate=predicate,
        name=name,
        operands=operands,
        stall=control & 15,
        write_barrier=_counter(control >> 5),
        read_barrier=_counter(control >> 8),
        wait_mask=(control >> 11) & 63,
    )


def _counter(bits: int) -> int:
    number = bits & 7
    return number if number < 6 else -1
