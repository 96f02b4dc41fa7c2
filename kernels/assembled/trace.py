"""From a disassembled kernel to what its warps issue: the path through the loop, and what each instruction needs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tilewright.errors import InputError
from tilewright.hw_models.gpu.warp_trace import COLUMNS, InstructionKind, WarpTrace
from tilewright.kernels.assembled.sass import Disassembly, Instruction, parse_sass

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["trace_of"]

Kind = InstructionKind
Turns = Mapping[str, float]

_KINDS: dict[str, Kind] = (
    dict.fromkeys(("FADD", "FMUL", "FFMA", "HADD2", "HMUL2", "HFMA2"), Kind.FLOAT)
    | dict.fromkeys(
        ("BMSK", "CS2R", "F2FP", "FMNMX", "FSEL", "FSETP", "I2FP", "IABS", "IADD3", "ISETP", "LEA", "LOP", "LOP3"),
        Kind.INTEGER,
    )
    | dict.fromkeys(
        ("MOV", "P2R", "PLOP3", "PRMT", "R2P", "SEL", "SGXT", "SHF", "VIADD", "VIMNMX", "VOTE"), Kind.INTEGER
    )
    | dict.fromkeys(("F2F", "F2I", "FLO", "I2F", "MUFU", "POPC"), Kind.SPECIAL)
    | dict.fromkeys(("HMMA", "IMMA", "QMMA"), Kind.OLD_PRODUCT)
    | dict.fromkeys(("HGMMA", "IGMMA", "QGMMA"), Kind.PRODUCT)
    | dict.fromkeys(("LDS", "LDSM", "SHFL"), Kind.SHARED_LOAD)
    | dict.fromkeys(("STS", "STSM"), Kind.SHARED_STORE)
    | dict.fromkeys(("LDL", "STL"), Kind.LOCAL)
    | dict.fromkeys(("FENCE", "MEMBAR"), Kind.FENCE)
    | {
        "IMAD": Kind.MULTIPLY,
        "LDGSTS": Kind.COPY,
        "LDGDEPBAR": Kind.COPY_COMMIT,
        "DEPBAR": Kind.COPY_WAIT,
        "LDG": Kind.LOAD,
        "STG": Kind.STORE,
        "BAR": Kind.BARRIER,
    }
)
_WARP = 32
_TURN_BYTES = 128
_WARPS_OF_PRODUCT = 4  # an asynchronous product is one of four warps, 64 rows
_PRODUCT_SHAPE = re.compile(r"\.(\d+)x(\d+)x(\d+)")
_OLD_SHAPES = {"16816": 16 * 8 * 16, "1688": 16 * 8 * 8, "16832": 16 * 8 * 32}
_HEXADECIMAL = re.compile(r"0x([0-9a-f]+)")
_REGISTER = re.compile(r"\bR(\d+)")
_NARROW = ("IGMMA", "QGMMA", "IMMA", "QMMA")  # operands of 8 bits: twice the multiply-adds a cycle
_STORES = ("STS", "STG", "STSM", "STL")
_NO_REGISTERS = (Kind.BARRIER, Kind.COPY_WAIT, Kind.PRODUCT)
_N_SOURCES = 4


def trace_of(
    sass: str, turns: tuple[Turns, Turns], *, warps: int, registers: int, spill_bytes: int, shared_bytes: int
) -> WarpTrace:
    """The trace of a kernel; ``turns`` at the shared memory by kind of access, in the loop and outside.

    Raises :class:`InputError` where the kernel has no loop.
    """
    import numpy as np

    code = parse_sass(sass)
    loop = code.longest_loop()
    if loop is None:
        raise InputError("compiled kernel: has no loop; allowed kernels that walk over tiles")
    path = list(_path(code, loop))
    inside = [at for at, place in enumerate(path) if loop[0] <= place <= loop[1]]
    within = set(inside)
    rows = [
        _row(code.instructions[place], {**turns[1], **turns[0]} if at in within else {**turns[0], **turns[1]})
        for at, place in enumerate(path)
    ]
    names = Counter(code.instructions[path[at]].name for at in inside)
    return WarpTrace(
        rows=np.array(rows, dtype=np.float64),
        loop_first=inside[0],
        loop_last=inside[-1],
        warps=warps,
        registers=registers,
        spill_bytes=spill_bytes,
        shared_bytes=shared_bytes,
        instructions=dict(sorted(names.items())),
    )


def _path(code: Disassembly, loop: tuple[int, int]) -> Iterator[int]:
    """The instructions that a warp meets which enters the loop and is never outside the matrix; the loop once."""
    at = 0
    while at < len(code.instructions):
        yield at
        instruction, target = code.instructions[at], code.target(at)
        if target is not None and at != loop[1]:
            if not instruction.predicate:
                if target <= at:
                    return
                at = target
                continue
            if at < loop[0] and at < target <= loop[0] and _leaves(code, at + 1, target, loop[1]):
                at = target
                continue
        if instruction.base == "EXIT" and not instruction.predicate:
            return
        at += 1


def _leaves(code: Disassembly, first: int, end: int, loop_last: int) -> bool:
    """Whether the instructions from ``first`` to before ``end`` go past the loop."""
    for at in range(first, end):
        instruction, target = code.instructions[at], code.target(at)
        if not instruction.predicate and (instruction.base == "EXIT" or (target is not None and target > loop_last)):
            return True
    return False


def _row(instruction: Instruction, turns: Turns) -> list[float]:
    base = instruction.base
    kind = _kind(instruction)
    amount, wavefronts, commits = 0.0, 0.0, 0.0
    if kind is Kind.OLD_PRODUCT:
        amount = next((macs for shape, macs in _OLD_SHAPES.items() if f".{shape}." in f"{instruction.name}."), 2048)
        amount /= 2 if base in _NARROW else 1
    elif kind is Kind.PRODUCT:
        amount, wavefronts = _product(instruction)
        commits = 1.0 if "gsb0" in instruction.operands else 0.0
    elif kind in (Kind.PRODUCT_WAIT, Kind.COPY_WAIT):
        found = _HEXADECIMAL.search(instruction.operands)
        amount = float(int(found[1], 16)) if found else 0.0
    elif kind in (Kind.SHARED_LOAD, Kind.SHARED_STORE):
        wavefronts = _shared_turns(instruction, turns)
    elif kind in (Kind.COPY, Kind.LOAD, Kind.STORE, Kind.LOCAL):
        each = _bytes_each(instruction.name)
        amount = float(each * _WARP)
        wavefronts = turns.get(f"copy{each}", amount / _TURN_BYTES) if kind is Kind.COPY else amount / _TURN_BYTES
    result, sources = _registers(instruction, kind)
    row = {
        "kind": float(kind),
        "amount": amount,
        "wavefronts": wavefronts,
        "commits": commits,
        "stall": float(max(instruction.stall, 1)),
        "write_barrier": -1.0 if kind is Kind.COPY_COMMIT else float(instruction.write_barrier),
        "read_barrier": float(instruction.read_barrier),
        "wait_mask": float(instruction.wait_mask),
        "result": result,
    } | {f"source_{number}": register for number, register in enumerate(sources)}
    return [row[column] for column in COLUMNS]


def _kind(instruction: Instruction) -> Kind:
    if instruction.predicate in ("@!PT", "@!UPT"):
        return Kind.OTHER  # never carried out; it only fills a slot
    if instruction.base == "WARPGROUP":
        return Kind.PRODUCT_WAIT if "DEPBAR" in instruction.name else Kind.PRODUCT_ARRIVE
    if instruction.base in _KINDS:
        return _KINDS[instruction.base]
    special = ("S2R", "S2UR", "R2UR", "LDC", "ULDC")
    return Kind.UNIFORM if instruction.base.startswith("U") and instruction.base not in special else Kind.OTHER


def _product(instruction: Instruction) -> tuple[float, float]:
    """Multiply-adds of one warp, as of 16 bits, and its share of the turns at the shared memory."""
    shape = _PRODUCT_SHAPE.search(instruction.name)
    assert shape is not None
    rows, columns, depth = (int(size) for size in shape.groups())
    narrow = instruction.base in _NARROW
    from_registers = not instruction.operands.split(",")[1].strip().startswith("gdesc")
    read = ((0 if from_registers else rows) + columns) * depth * (1 if narrow else 2)
    macs = rows * columns * depth / _WARPS_OF_PRODUCT / (2 if narrow else 1)
    return macs, read / _TURN_BYTES / _WARPS_OF_PRODUCT


def _shared_turns(instruction: Instruction, turns: Turns) -> float:
    if instruction.base == "SHFL":
        return 1.0
    if instruction.base in ("LDSM", "STSM"):
        matrices = int(instruction.name[-1])
        return turns.get(f"{'ldmatrix' if instruction.base == 'LDSM' else 'stmatrix'}{matrices}", float(matrices))
    each = _bytes_each(instruction.name)
    return turns.get(f"{'load' if instruction.base == 'LDS' else 'store'}{each}", max(1.0, each * _WARP / _TURN_BYTES))


def _bytes_each(name: str) -> int:
    """Bytes of a lane."""
    suffixes = name.split(".")
    for suffix, size in (("128", 16), ("64", 8), ("U16", 2), ("S16", 2), ("U8", 1), ("S8", 1)):
        if suffix in suffixes:
            return size
    return 4


def _registers(instruction: Instruction, kind: Kind) -> tuple[float, list[float]]:
    """The first register that a product of one warp writes, and registers that are read (the last four of them)."""
    found = [int(number) for number in _REGISTER.findall(instruction.operands)]
    result, sources = -1, found[1:]
    if kind in _NO_REGISTERS or not found:
        sources = []
    elif kind is Kind.OLD_PRODUCT:
        result, sources = found[0], found[3:4]
    elif instruction.base in _STORES:
        n_more = 4 if instruction.base == "STSM" else max(1, _bytes_each(instruction.name) // 4)
        sources = found + [found[-1] + number for number in range(1, n_more)]
    sources = sources[-_N_SOURCES:]
    return float(result), [float(number) for number in sources] + [-1.0] * (_N_SOURCES - len(sources))
