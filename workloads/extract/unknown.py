"""What becomes of operators that an extractor does not understand: they are named, mapped, or counted as memory
traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilewright.errors import InputError, unknown
from tilewright.workloads.extract.draft import Draft
from tilewright.workloads.extract.emit import emit_elementwise, emit_memory
from tilewright.workloads.kinds.kind import KINDS, OfShapes

__all__ = ["Unknown"]

_MOST_SHOWN = 8
_CHOICES = "memory, view, elementwise:FUNCTION, kind:NAME"


def _shaped(place: str, name: str) -> tuple[str, OfShapes]:
    """The operator kind ``name``, and how it finds its attributes in shapes."""
    known = {kind.name: kind.of_shapes for kind in KINDS.values() if kind.of_shapes is not None}
    of_shapes = known.get(name)
    if of_shapes is None:
        fault = "is no operator kind that finds its attributes in shapes"
        raise unknown("operator kind", name, known, place=place, fault=fault)
    return name, of_shapes


class Unknown:
    """The user's choice for operators that are not understood, and those that were met without one.

    ``choice`` is "error", "memory", or a mapping from operator name to "memory", "view",
    "elementwise:FUNCTION" or "kind:NAME" (an operator kind that finds its attributes in shapes); the name "*" stands
    for all others ("error" without it). Attention is never among these others: it is mapped by name.
    Raises InputError for a choice that is none.
    """

    def __init__(self, what: str, choice: str | Mapping[str, str]) -> None:
        self.what = what
        self._chosen = {"*": choice} if isinstance(choice, str) else dict(choice)
        self._usual = self._chosen.pop("*", "error")
        self._places: dict[str, list[str]] = {}
        self._met: set[str] = set()
        if self._usual not in ("error", "memory"):
            raise InputError(
                f'{what}: unknown: given "{self._usual}"; allowed error, memory, or a mapping of operators'
            )
        for name, wanted in self._chosen.items():
            self._check(name, wanted)

    def _check(self, name: str, wanted: str) -> None:
        from tilewright.workloads.vector_work import ELEMENTWISE

        kind, _, function = wanted.partition(":")
        if kind == "kind":
            _shaped(f"{self.what}: unknown: {name}", function)
            return
        if kind not in ("memory", "view", "elementwise") or bool(function) != (kind == "elementwise"):
            raise InputError(f'{self.what}: unknown: {name}: given "{wanted}"; allowed {_CHOICES}')
        if function and function not in ELEMENTWISE:
            raise unknown("function", function, ELEMENTWISE, place=f"{self.what}: unknown: {name}")

    @property
    def counts_all(self) -> bool:
        """Whether everything that is not understood is counted as memory traffic."""
        return self._usual == "memory"

    def wanted(self, name: str) -> str:
        """What the user wants for the operator ``name``: empty where nothing was said about it."""
        self._met.add(name)
        return self._chosen.get(name, "")

    def handle(self, draft: Draft, name: str, path: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Write down an operator that is not understood as chosen; without a choice, remember its place."""
        self._met.add(name)
        wanted = self._chosen.get(name, "error" if "attention" in name.lower() else self._usual)
        if wanted == "error":
            self._places.setdefault(name, []).append(path or "(top)")
        if wanted == "view" and inputs and draft.values[inputs[0]].n_elements >= draft.values[outputs[0]].n_elements:
            draft.values[outputs[0]].view_of = inputs[0]
            draft.values[outputs[0]].view_kind = "part"
        elif wanted.startswith("elementwise:"):
            emit_elementwise(draft, path, wanted.partition(":")[2], inputs, outputs[0])
        elif wanted.startswith("kind:"):
            kind, of_shapes = _shaped(f"{self.what}: unknown: {name}", wanted.partition(":")[2])
            attributes = of_shapes([draft.shape(one) for one in inputs], draft.shape(outputs[0]))
            draft.step(kind, path, inputs, outputs, attributes)
        else:
            emit_memory(draft, path, name, inputs, outputs)

    def complain(self) -> None:
        """Raise InputError that names every operator left over with its first place in the model, or one that was
        chosen for and is not there.
        """
        absent = next((name for name in self._chosen if name not in self._met), None)
        if absent is not None and not self._places:
            fault = "no operator of this name in the model"
            raise unknown("operator", absent, sorted(self._met), place=f"{self.what}: unknown", fault=fault)
        if not self._places:
            return
        shown = [
            f"{name} at {places[0]}" + (f" and {len(places) - 1} more" if len(places) > 1 else "")
            for name, places in self._places.items()
        ]
        more = f", and {len(shown) - _MOST_SHOWN} others" if len(shown) > _MOST_SHOWN else ""
        raise InputError(
            f"{self.what}: operators not understood: {', '.join(shown[:_MOST_SHOWN])}{more}; allowed: count them as "
            f'memory traffic with unknown="memory" (--unknown memory), or map each by name ({_CHOICES}; --map A=B)'
        )
