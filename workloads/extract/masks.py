"""What the mask of an attention says: a band of keys around each query, a bias, or both.

A mask is read from its construction. Its known parts (comparisons of positions, joined by and, chosen by where, filled
with a large negative number) are runs of keys in each row, whatever their length; what else is added to the scores is
a bias: numbers of the run such as a padding mask, trained tables, or known numbers that hide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tilewright.errors import InputError
from tilewright.workloads.extract.draft import Draft, Step
from tilewright.workloads.extract.runs import OuterSum, Runs, constant_runs, runs_of, visible_runs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tilewright.workloads.extract.runs import Known

    Array = NDArray[np.generic]

__all__ = ["HIDDEN_BELOW", "split_mask", "turned_mask"]

#: A score this low, or lowered by as much, leaves a weight of zero.
HIDDEN_BELOW = -1e4

_AND = ("__and__", "bitwise_and", "logical_and", "And")
_OR = ("__or__", "bitwise_or", "logical_or", "Or")
_NOT = ("bitwise_not", "logical_not", "Not")
_PAIR, _CHOICE = 2, 3
_ALLOWED = 'allowed causal, windows and full; unknown="memory" counts the mask as a bias and every score as computed'


def _visible(data: Known, keys: int) -> Runs | None:
    """Where a mask of truths, or of zeros and large negative numbers, lets a key be seen."""
    import numpy as np

    if isinstance(data, OuterSum):
        return None
    seen: Known
    if not isinstance(data, Runs):
        if data.dtype != np.bool_:
            numbers = data.astype(np.float64)
            if not ((numbers == 0) | (numbers <= HIDDEN_BELOW)).all():
                return None
            data = numbers == 0
        seen = data
        return runs_of(seen, keys)
    if data.values.dtype == np.bool_:
        return data
    numbers = data.values.astype(np.float64)
    if not ((numbers == 0) | (numbers <= HIDDEN_BELOW) | (data.starts >= data.shape[-1])).all():
        return None
    return Runs(shape=data.shape, starts=data.starts, values=numbers == 0)


def _band_of(planes: list[Runs], rows: int, keys: int) -> dict[str, Any] | None:
    """The band of keys that all of ``planes`` show; None when they show something else."""
    import numpy as np

    seen = visible_runs(planes, rows, keys) if planes else constant_runs((rows, keys), value=True)
    if seen is None:
        return None
    starts = np.broadcast_to(seen.starts, (rows, seen.starts.shape[-1]))
    values = np.broadcast_to(seen.values, starts.shape).astype(bool) & (starts < keys)
    if not (values.sum(axis=1) == 1).all():
        return None
    ends = np.concatenate([starts[:, 1:], np.full_like(starts[:, :1], keys)], axis=1)
    first, stop = starts[values], ends[values]
    position = np.arange(rows) + keys - rows
    cut_right, cut_left = bool((stop < keys).any()), bool((first > 0).any())
    after = int((stop - 1 - position).max()) if cut_right else None
    before = int((position - first).max()) if cut_left else None
    return _band(position, first, stop, keys, before, after)


def _band(
    position: Array, first: Array, stop: Array, keys: int, before: int | None, after: int | None
) -> dict[str, Any] | None:
    """The band with these reaches, when it is the one that the rows show."""
    import numpy as np

    if before is None and after is None:
        return {"mask": "none"}
    starts = np.zeros_like(first) if before is None else np.maximum(0, position - before)
    stops = np.full_like(stop, keys) if after is None else np.minimum(keys, position + after + 1)
    if not ((starts == first).all() and (stops == stop).all()):
        return None
    if before is None and after == 0:
        return {"mask": "causal"}
    window = {"window_left": before, "window_right": after}
    return {"mask": "banded", **{key: value for key, value in window.items() if value is not None}}


def turned_mask(draft: Draft, mask: str) -> str:
    """A value that is true where the truths of ``mask`` are not."""
    turned = draft.view(f"{mask}.turned", mask, draft.shape(mask), "cast")
    step = Step(kind="elementwise", path="", inputs=[mask], outputs=[turned], attributes={"function": "compare"})
    step.operator = _NOT[0]
    draft.folded[turned] = step
    if draft.known(mask) is not None:
        draft.values[turned].data = lambda: _negated(draft.known(mask))
    return turned


def _negated(known: Known | None) -> Known | None:
    import numpy as np

    if known is None or isinstance(known, OuterSum):
        return None
    if isinstance(known, Runs):
        return Runs(shape=known.shape, starts=known.starts, values=np.logical_not(known.values))
    return np.logical_not(known)


# --- a mask in a draft ----------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Parts:
    """What a mask is made of: planes of seen keys, and the values that are added to the scores."""

    planes: list[Runs] = field(default_factory=list)
    biases: list[str] = field(default_factory=list)

    def __add__(self, other: _Parts) -> _Parts:
        return _Parts(planes=self.planes + other.planes, biases=self.biases + other.biases)


class _UnreadableError(Exception):
    """A part of a mask is known beforehand, but not what it says; the text names what made it."""


def split_mask(draft: Draft, path: str, masks: Sequence[str], rows: int, keys: int) -> tuple[dict[str, Any], str]:
    """The band that masks in a draft say together, as attributes, and the value that they add to the scores, empty for
    none.

    Raises InputError that names the place when they say something that no band can say, or cannot be understood,
    unless ``draft.masks_as_biases``.
    """
    reader = _MaskReader(draft, keys)
    parts = _Parts()
    try:
        for mask in masks:
            parts += reader.added(mask)
        band = _band_of(parts.planes, rows, keys)
        problem = f"its mask of {rows} queries and {keys} keys is no band"
    except _UnreadableError as fault:
        band, problem = None, f"its mask cannot be understood ({fault})"
    if band is None and draft.masks_as_biases:
        return {"mask": "none"}, _sum_of(draft, path, masks)
    if band is None:
        raise InputError(f"{draft.name}: {path}: attention: {problem}; {_ALLOWED}")
    biases = list(dict.fromkeys(parts.biases))
    return band, _sum_of(draft, path, masks if len(masks) == 1 and len(biases) > 1 else biases)


def _sum_of(draft: Draft, path: str, names: Sequence[str]) -> str:
    """The sum of several biases, added up before the attention reads it."""
    if not names:
        return ""
    total = names[0]
    for name in names[1:]:
        pairs = zip_longest(reversed(draft.shape(total)), reversed(draft.shape(name)), fillvalue=1)
        shape = tuple(max(pair) for pair in pairs)[::-1]
        out = draft.value(f"{total}.sum", shape, draft.values[total].number_format)
        attributes = {"function": "add", "n_elements": draft.values[out].n_elements}
        draft.step("elementwise", path, [total, name], [out], attributes)
        total = out
    return total


class _MaskReader:
    """Takes a mask apart, from its last step back to what is known and what is data."""

    def __init__(self, draft: Draft, keys: int) -> None:
        self._draft = draft
        self._keys = keys
        self._makers = draft.folded | draft.makers()

    def added(self, name: str) -> _Parts:
        """Planes and biases of a mask that is added to the scores, or of one of truths."""
        known = self._draft.known(name)
        if known is not None:
            return self._of_numbers(name, known)
        step = self._maker(name)
        if step is not None and step.operator in (*_AND, *_OR, *_NOT):
            return self.truths(name)
        if step is not None and step.kind == "elementwise" and len(step.inputs) == _PAIR and step.function == "add":
            return self.added(step.inputs[0]) + self.added(step.inputs[1])
        found = self._of_choice(step) if step is not None else None
        if found is not None:
            return found
        wider = self._before_expansion(name)
        return self.added(wider) if wider != name else self._data(name, step)

    def truths(self, name: str, *, is_turned: bool = False) -> _Parts:
        """Planes and biases of a mask that is true where a key is seen; ``is_turned``: where it is hidden."""
        known = self._draft.known(name)
        if known is not None:
            negated = _negated(known) if is_turned else known
            plane = None if negated is None else _visible(negated, self._keys)
            if plane is None:
                raise _UnreadableError(self._shown(name, self._maker(name)))
            return _Parts(planes=[plane])
        step = self._maker(name)
        if step is not None and step.operator in _NOT:
            return self.truths(step.inputs[0], is_turned=not is_turned)
        if step is not None and step.operator in (_OR if is_turned else _AND) and len(step.inputs) == _PAIR:
            first, second = (self.truths(one, is_turned=is_turned) for one in step.inputs)
            return first + second
        wider = self._before_expansion(name)
        return self.truths(wider, is_turned=is_turned) if wider != name else self._data(name, step)

    def _data(self, name: str, step: Step | None) -> _Parts:
        """A mask that depends on the run's data or on what was trained is a bias."""
        if self._is_unknown_constant(name):
            raise _UnreadableError(self._shown(name, step))
        return _Parts(biases=[name])

    def _maker(self, name: str) -> Step | None:
        return self._makers.get(name) or self._makers.get(self._draft.whole(name))

    def _shown(self, name: str, step: Step | None) -> str:
        if step is None:
            base = self._draft.base(name).name
            return f'the numbers of "{base}" are not there; build the module on the CPU to have them read'
        return f"{step.operator or step.function or step.kind} at {step.path or name}"

    def _is_unknown_constant(self, name: str) -> bool:
        """Whether a value follows from positions alone, or from numbers that are not there: it may hide keys."""
        ahead, seen = [self._draft.base(name).name], set[str]()
        while ahead:
            here = ahead.pop()
            if here in seen:
                continue
            seen.add(here)
            step = self._makers.get(here)
            if step is not None:
                ahead += [self._draft.base(one).name for one in step.inputs]
            elif self._draft.role(here) != "constant":
                return False
        return True

    def _of_numbers(self, name: str, known: Known) -> _Parts:
        """A band, or a bias of known numbers, or one that hides some keys."""
        import numpy as np

        plane = _visible(known, self._keys)
        if plane is not None:
            return _Parts(planes=[plane])
        numbers = known.values if isinstance(known, Runs) else None if isinstance(known, OuterSum) else known
        if numbers is None or numbers.dtype == np.bool_:
            raise _UnreadableError(self._shown(name, self._maker(name)))
        hidden = numbers.astype(np.float64) <= HIDDEN_BELOW
        if not hidden.any():
            return _Parts(biases=[name])
        seen: Known = (
            Runs(shape=known.shape, starts=known.starts, values=~hidden) if isinstance(known, Runs) else ~hidden
        )
        plane = runs_of(seen, self._keys)
        if plane is None:
            raise _UnreadableError(self._shown(name, self._maker(name)))
        return _Parts(planes=[plane], biases=[name])

    def _of_choice(self, step: Step) -> _Parts | None:
        """where(condition, value, large negative number), either way round."""
        if step.function != "where" or len(step.inputs) != _CHOICE:
            return None
        condition, *choices = step.inputs
        hidden = [self._is_hiding(one) for one in choices]
        if sum(hidden) != 1:
            return None
        shown = choices[hidden.index(False)]
        rest = _Parts() if self._is_zero(shown) else self.added(shown)
        return self.truths(condition, is_turned=hidden[0]) + rest

    def _is_hiding(self, name: str) -> bool:
        number = self._draft.numbers(name) if self._draft.is_number(name) else None
        return number is not None and float(number.reshape(-1)[0]) <= HIDDEN_BELOW

    def _is_zero(self, name: str) -> bool:
        number = self._draft.numbers(name) if self._draft.is_number(name) else None
        return number is not None and float(number.reshape(-1)[0]) == 0

    def _before_expansion(self, name: str) -> str:
        """What a value was before it was repeated along dimensions of size 1, which a bias needs no more."""
        draft = self._draft
        value = draft.values[name]
        while value.view_of is not None and value.view_kind in ("expand", "cast"):
            above = draft.values[value.view_of]
            pairs = zip(reversed(above.shape), reversed(value.shape), strict=False)
            if len(above.shape) > len(value.shape) or not all(one in (1, other) for one, other in pairs):
                break
            value = above
        return value.name
