"""Tables of LLMCompass (ISCA 2024): operators measured from PyTorch, named OPERATOR_DEVICE.csv, without a header."""

from __future__ import annotations

from pathlib import Path

from tilewright.errors import InputError
from tilewright.kernels.measured import MeasuredTable

__all__ = ["is_llmcompass", "read_llmcompass"]

_SOURCE = "LLMCompass (BSD-3-Clause), measured from PyTorch with the host's time"
_OPERATORS = ("matmul", "softmax", "layernorm", "gelu")
_DEVICES = {"A100": "a100", "MI210": "mi210"}
_MOST = 2**31  # of a size, and of seconds
_GELU_ROW = 1024  # how a flat array of elements is cut into rows


def is_llmcompass(path: Path) -> bool:
    """Whether the name is one of LLMCompass's operator tables."""
    operator, _, device = path.stem.partition("_")
    return operator in _OPERATORS and device in _DEVICES


def read_llmcompass(path: Path) -> list[MeasuredTable]:
    """The table of one file; the number of values a second becomes seconds."""
    import numpy as np

    operator, _, device = path.stem.partition("_")
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; allowed a CSV table of LLMCompass") from None
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = _row(operator, [part.strip() for part in text.split(",")])
            if not (min(row) > 0 and max(row) < _MOST):
                raise ValueError
            rows.append(row)
        except (ValueError, IndexError, ArithmeticError):
            raise InputError(
                f"{path}:{line}: not a row of LLMCompass's {operator} table; given {text[:60]!r}"
            ) from None
    names = ("m", "n", "k") if operator == "matmul" else ("m", "n")
    table = np.array(rows, dtype=np.float64).reshape(-1, len(names) + 1)
    return [
        MeasuredTable(
            name=f"{path.stem}: {operator}",
            operator="gemm" if operator == "matmul" else "rowwise",
            family="fp16_host" if operator == "matmul" else operator,
            device=_DEVICES[device],
            columns={name: table[:, i].astype(np.int64) for i, name in enumerate(names)},
            seconds=table[:, -1],
            source=_SOURCE,
        )
    ]


def _row(operator: str, parts: list[str]) -> tuple[float, ...]:
    if operator == "matmul":
        return int(parts[0]), int(parts[1]), int(parts[2]), float(parts[3].removesuffix("ms")) * 1e-3
    if operator == "gelu":
        n_elements = int(parts[0])
        row = min(n_elements, _GELU_ROW)
        return -(-n_elements // row), row, n_elements / float(parts[-1]) * 1e-9
    m, n = int(parts[0]), int(parts[1])
    return m, n, m * n / float(parts[2]) * 1e-9
