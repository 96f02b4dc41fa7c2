"""Where a kernel's warps touch the shared memory: its address arithmetic in PTX, carried out for one thread block.

Only integers are followed; numbers that are computed with, and what is loaded, are zero. Branches go the way of the
first thread, so loops run as often as the arguments say.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tilewright.kernels.assembled.banks import wavefronts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Lanes = NDArray[np.int64]

__all__ = ["shared_wavefronts"]

_WARP = 32
_MOST_STEPS = 60_000
_INTEGER = re.compile(r"^-?\d+$|^0x[0-9a-fA-F]+$")
_PREDICATED = re.compile(r"^@(!?)(%p\d+)\s+(.*)$")
_LABEL = re.compile(r"^(\$\w+):$")
_OPERANDS = re.compile(r"\{[^}]*\}|\[[^\]]*\]|[^,{}\[\]]+")
_ADDRESS = re.compile(r"^(\S+)\s*\+\s*(-?\d+)$")
_BYTES = {"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "b32": 4, "u32": 4, "f32": 4, "b64": 8}
_MATRICES = {"x1": 1, "x2": 2, "x4": 4}
_MATRIX_ROWS, _ROW_BYTES = 8, 16
_SHARED = ("ld.shared", "st.shared", "ldmatrix", "stmatrix", "cp.async.cg", "cp.async.ca")
_NOTHING = ("bar", "wgmma", "fence", "membar", "mma", "st", "prefetch", "mbarrier", "griddepcontrol")
_FLOATS = ("f16", "f32", "f64", "f16x2", "bf16", "bf16x2")
_LOW = 0xFFFFFFFF

_Binary = Callable[["Lanes", "Lanes"], "Lanes"]
_BINARY: dict[str, _Binary] = {
    "add": np.add,
    "sub": np.subtract,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "min": np.minimum,
    "max": np.maximum,
    "shl": lambda a, b: a << np.minimum(b, 62),
    "div": lambda a, b: a // np.where(b == 0, 1, b),
    "rem": lambda a, b: a % np.where(b == 0, 1, b),
}
_COMPARED: dict[str, _Binary] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
}


def shared_wavefronts(ptx: str, arguments: Sequence[int], warps: int) -> tuple[dict[str, float], dict[str, float]]:
    """Mean turns at the shared memory of a warp's access, by kind: in the loop, and outside.

    Kinds: ``load4`` and ``store16`` (with the bytes of a lane), ``ldmatrix4`` (with its matrices), ``copy16``.
    ``arguments``: values of the kernel's parameters.
    """
    block = _Block(ptx, arguments, warps)
    block.run()
    most = max((len(each) for _, each in block.turns.values()), default=1)
    parts: tuple[defaultdict[str, list[float]], defaultdict[str, list[float]]] = defaultdict(list), defaultdict(list)
    for kind, each in block.turns.values():
        parts[0 if len(each) >= max(2, most) else 1][kind].append(float(np.mean(each)))
    inside, outside = ({kind: float(np.mean(each)) for kind, each in part.items()} for part in parts)
    return inside, outside


class _Block:
    """One thread block: a value a thread and register."""

    def __init__(self, ptx: str, arguments: Sequence[int], warps: int) -> None:
        self.n_threads = _WARP * warps
        self.arguments = arguments
        self.registers: dict[str, Lanes] = {}
        self.turns: dict[int, tuple[str, list[float]]] = {}
        self.lines: list[str] = []
        self.labels: dict[str, int] = {}
        for text in ptx[ptx.index("{") :].splitlines():
            line = text.split("//")[0].strip()
            if label := _LABEL.match(line):
                self.labels[label[1]] = len(self.lines)
            elif line and line not in "{}" and not line.startswith("."):
                self.lines.append(line.rstrip(";").strip())

    def run(self) -> None:
        at = 0
        for _ in range(_MOST_STEPS):
            if at >= len(self.lines):
                return
            line, here = self.lines[at], at
            at += 1
            mask = None
            if predicated := _PREDICATED.match(line):
                true = self.value(predicated[2]).astype(bool)
                mask, line = (~true if predicated[1] else true), predicated[3]
            name, rest = [*line.split(None, 1), ""][:2]
            if name in ("ret", "exit"):
                if mask is None or mask.all():
                    return
            elif name.startswith("bra"):
                if mask is None or mask[0]:
                    at = self.labels[rest.strip()]
            else:
                operands = [part.strip() for part in _OPERANDS.findall(rest) if part.strip()]
                self.step(here, name, operands, mask)

    def value(self, text: str) -> Lanes:
        text = text.strip()
        if _INTEGER.match(text):
            return np.full(self.n_threads, int(text, 0), dtype=np.int64)
        if text == "%tid.x":
            return np.arange(self.n_threads, dtype=np.int64)
        if text == "%laneid":
            return np.arange(self.n_threads, dtype=np.int64) % _WARP
        if text.startswith("%nctaid"):
            return np.full(self.n_threads, 64, dtype=np.int64)
        found = self.registers.get(text)
        return np.zeros(self.n_threads, dtype=np.int64) if found is None else found

    def address(self, text: str) -> Lanes:
        text = text.strip("[] ")
        if offset := _ADDRESS.match(text):
            return self.value(offset[1]) + int(offset[2])
        return self.value(text)

    def put(self, register: str, values: Lanes, mask: NDArray[np.bool_] | None, bits: int) -> None:
        if bits == 32:
            values = ((values + 2**31) % 2**32) - 2**31
        elif bits == 16:
            values = values % 2**16
        self.registers[register] = values if mask is None else np.where(mask, values, self.value(register))

    def zero(self, operand: str) -> None:
        for register in operand.strip("{}").split(","):
            self.registers[register.strip().split("|")[0]] = np.zeros(self.n_threads, dtype=np.int64)

    def step(self, at: int, name: str, operands: list[str], mask: NDArray[np.bool_] | None) -> None:
        words = name.split(".")
        if name.startswith(_SHARED):
            self.access(at, name, words, operands, mask)
        elif words[0] in _NOTHING or name.startswith("cp.async") or len(operands) < 2:
            return
        elif name.startswith("ld.param"):
            number = int(operands[1].strip("[]").rpartition("_")[2])
            given = self.arguments[number] if number < len(self.arguments) else 0
            self.registers[operands[0]] = np.full(self.n_threads, given, dtype=np.int64)
        elif name.startswith("ld.") or words[-1] in _FLOATS or (words[0] == "cvt" and words[-2] in _FLOATS):
            self.zero(operands[0])
        elif words[0] == "mov":
            self.move(words[-1], operands, mask)
        else:
            self.compute(words, operands, mask)

    def move(self, kind: str, operands: list[str], mask: NDArray[np.bool_] | None) -> None:
        bits = 64 if kind.endswith("64") else 32
        if operands[0].startswith("{"):
            parts = operands[0].strip("{}").split(",")
            whole, each = self.value(operands[1]), bits // len(parts)
            for number, register in enumerate(parts):
                self.registers[register.strip()] = (whole >> (each * number)) & ((1 << each) - 1)
        elif operands[1].startswith("{"):
            parts = operands[1].strip("{}").split(",")
            each = bits // len(parts)
            whole = np.zeros(self.n_threads, dtype=np.int64)
            for number, text in enumerate(parts):
                whole |= (self.value(text) & ((1 << each) - 1)) << (each * number)
            self.put(operands[0], whole, mask, bits)
        else:
            self.put(operands[0], self.value(operands[1]), mask, bits)

    def compute(self, words: list[str], operands: list[str], mask: NDArray[np.bool_] | None) -> None:
        name, kind = words[0], words[-1]
        bits = 64 if kind.endswith("64") else 16 if kind.endswith("16") else 32
        unsigned = kind[:1] in ("u", "b")
        values = [self.value(text) for text in operands[1:]]
        if name == "setp":
            if unsigned and bits == 32:
                values = [each & _LOW for each in values]
            self.registers[operands[0].split("|")[0]] = _COMPARED[words[1]](values[0], values[1]).astype(np.int64)
            return
        if "wide" in words:
            bits = 64
            if kind == "u32":
                values = [each & _LOW for each in values[:2]] + values[2:]
        self.put(operands[0], _result(words, values, unsigned and bits == 32), mask, bits)

    def access(self, at: int, name: str, words: list[str], operands: list[str], mask: NDArray[np.bool_] | None) -> None:
        loads = words[0] in ("ld", "ldmatrix")
        addresses = self.address(operands[1] if loads else operands[0])
        lanes = _WARP
        if words[0] in ("ldmatrix", "stmatrix"):
            matrices = next(count for word, count in _MATRICES.items() if word in words)
            kind, each, lanes = f"{words[0]}{matrices}", _ROW_BYTES, _MATRIX_ROWS * matrices
        elif words[0] == "cp":
            each = int(operands[2], 0)
            kind, mask = f"copy{each}", None
        else:
            each = _BYTES[words[-1]] * (4 if "v4" in words else 2 if "v2" in words else 1)
            kind = f"{'load' if loads else 'store'}{each}"
        turns = []
        for first in range(0, self.n_threads, _WARP):
            chosen = addresses[first : first + lanes]
            if mask is not None:
                chosen = chosen[mask[first : first + lanes]]
            if len(chosen):
                turns.append(wavefronts(chosen, each))
        self.turns.setdefault(at, (kind, []))[1].append(float(np.mean(turns)) if turns else 0.0)
        if loads:
            self.zero(operands[0])


def _result(words: list[str], values: list[Lanes], low_word: bool) -> Lanes:
    """What an integer instruction computes; zero where it is none that addresses are made of."""
    name = words[0]
    if name in _BINARY:
        return _BINARY[name](values[0], values[1])
    if name in ("mul", "mad"):
        product = values[0] * values[1]
        product = product >> 32 if "hi" in words else product
        return product + values[2] if name == "mad" else product
    if name == "shr":
        return np.asarray((values[0] & _LOW if low_word else values[0]) >> values[1])
    if name == "selp":
        return np.where(values[2].astype(bool), values[0], values[1])
    if name in ("cvt", "cvta"):
        return values[0] & _LOW if words[-1] == "u32" else values[0]
    other: dict[str, Callable[[], Lanes]] = {
        "neg": lambda: -values[0],
        "not": lambda: ~values[0],
        "abs": lambda: np.abs(values[0]),
        "bfe": lambda: _field(values, signed=words[-1].startswith("s")),
        "bfi": lambda: _inserted(values),
        "lop3": lambda: _any_logic(values),
        "prmt": lambda: _bytes_permuted(values),
    }
    return other[name]() if name in other else np.zeros_like(values[0])


def _field(values: list[Lanes], *, signed: bool) -> Lanes:
    field = (values[0] >> values[1]) & ((1 << values[2]) - 1)
    return np.asarray(field - (((field >> (values[2] - 1)) & 1) << values[2]) if signed else field)


def _inserted(values: list[Lanes]) -> Lanes:
    mask = ((1 << values[3]) - 1) << values[2]
    return np.asarray((values[1] & ~mask) | ((values[0] << values[2]) & mask))


def _any_logic(values: list[Lanes]) -> Lanes:
    table = int(values[3][0])
    result = np.zeros_like(values[0])
    for row in range(8):
        if table >> row & 1:
            chosen = [each if row & bit else ~each for each, bit in zip(values, (4, 2, 1), strict=False)]
            result |= chosen[0] & chosen[1] & chosen[2]
    return result


def _bytes_permuted(values: list[Lanes]) -> Lanes:
    sources = [(each >> (8 * number)) & 255 for each in values[:2] for number in range(4)]
    result = np.zeros_like(values[0])
    for number in range(4):
        result |= np.choose((values[2] >> (4 * number)) & 7, sources) << (8 * number)
    return result
