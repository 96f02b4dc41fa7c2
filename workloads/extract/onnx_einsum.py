"""Einstein's notation in all its forms, brought to products of two tensors, sums, and products value by value."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from string import ascii_letters

from tilewright.workloads.extract.draft import Draft
from tilewright.workloads.extract.emit import emit_einsum, emit_elementwise, emit_reduction

__all__ = ["write_einsum"]

_PAIR = 2


def write_einsum(draft: Draft, path: str, equation: str, inputs: Sequence[str], out: str) -> bool:
    """Write down an Einstein sum of any number of tensors; False for one that is no such thing.

    Of more than two, the pair with the smallest result is multiplied first.
    """
    terms = _terms(equation, [len(draft.shape(name)) for name in inputs])
    if terms is None:
        return False
    operands, result = terms
    size: dict[str, int] = {}
    for labels, name in zip(operands, inputs, strict=True):
        if len(set(labels)) != len(labels):
            return False
        for label, extent in zip(labels, draft.shape(name), strict=True):
            size[label] = max(size.get(label, 1), extent)
    left = list(zip(operands, inputs, strict=True))
    while len(left) > _PAIR:
        left = _multiplied(draft, path, left, result, size, out)
    return _last(draft, path, left, result, size, out)


def _terms(equation: str, n_dims: Sequence[int]) -> tuple[list[str], str] | None:
    """Labels of each operand and of the result, "..." spelled out."""
    sides, arrow, result = equation.replace(" ", "").partition("->")
    operands = sides.split(",")
    if len(operands) != len(n_dims):
        return None
    used = set(sides + result)
    free = [letter for letter in ascii_letters if letter not in used]
    most = max(n - len(one.replace("...", "")) for one, n in zip(operands, n_dims, strict=True))
    dots = "".join(free[: max(0, most)])
    spelled = []
    for one, n in zip(operands, n_dims, strict=True):
        missing = n - len(one.replace("...", ""))
        if missing < 0 or (missing and "..." not in one):
            return None
        spelled.append(one.replace("...", dots[len(dots) - missing :]))
    if not arrow:
        times = Counter("".join(spelled))
        result = dots + "".join(sorted(label for label in times if times[label] == 1 and label not in dots))
    return spelled, result.replace("...", dots)


def _multiplied(
    draft: Draft, path: str, left: list[tuple[str, str]], result: str, size: dict[str, int], out: str
) -> list[tuple[str, str]]:
    """The operands with the pair multiplied whose result is smallest."""

    def kept(first: int, second: int) -> str:
        others = result + "".join(labels for at, (labels, _) in enumerate(left) if at not in (first, second))
        return "".join(label for label in dict.fromkeys(left[first][0] + left[second][0]) if label in others)

    pairs = [(first, second) for second in range(len(left)) for first in range(second)]
    first, second = min(pairs, key=lambda pair: math.prod(size[label] for label in kept(*pair)))
    labels = kept(first, second)
    number_format = draft.values[left[first][1]].number_format
    made = draft.value(f"{out}.part", [size[label] for label in labels], number_format)
    _last(draft, path, [left[first], left[second]], labels, size, made)
    return [(labels, made), *(one for at, one in enumerate(left) if at not in (first, second))]


def _last(draft: Draft, path: str, left: list[tuple[str, str]], result: str, size: dict[str, int], out: str) -> bool:
    """One or two tensors into ``out``."""
    others = [set("".join(labels for labels, _ in left if labels is not own)) | set(result) for own, _ in left]
    left = [_summed(draft, path, one, other, size) for one, other in zip(left, others, strict=True)]
    if len(left) == 1:
        labels, name = left[0]
        value = draft.values[out]
        value.view_of = name
        return sorted(labels) == sorted(result)
    (first, a), (second, b) = left
    if not [label for label in first if label in second and label not in result]:
        emit_elementwise(draft, path, "mul", [a, b], out)
        return True
    a, b = (_spread(draft, name, labels, size) for labels, name in left)
    return emit_einsum(draft, path, f"{first},{second}->{result}", [a, b], out)


def _summed(draft: Draft, path: str, one: tuple[str, str], others: set[str], size: dict[str, int]) -> tuple[str, str]:
    """An operand without the dimensions that nothing else has: they are summed first."""
    labels, name = one
    kept = "".join(label for label in labels if label in others)
    if kept == labels:
        return one
    made = draft.value(f"{name}.sum", [size[label] for label in kept], draft.values[name].number_format)
    emit_reduction(draft, path, "sum", name, made)
    return kept, made


def _spread(draft: Draft, name: str, labels: str, size: dict[str, int]) -> str:
    """An operand whose dimensions of size 1 are repeated as the other's are long."""
    shape = tuple(size[label] for label in labels)
    return name if draft.shape(name) == shape else draft.view(f"{name}.spread", name, shape, "expand")
