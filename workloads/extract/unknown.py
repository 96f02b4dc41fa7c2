"""What becomes of operators that an extractor does not understand: they are named, mapped, or counted as memory
traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilewright.errors import InputError
from tilewright.workloads.extract.draft import Draft
from tilewright.workloads.extract.emit import emit_elementwise, emit_memory

__all__ = ["Unknown"]

_MOST_SHOWN = 8
_CHOICES = "memory, view, elementwise:FUNCTION"


class Unknown:
    """The user's choice for operators that are not understood, and those that were met without one.

    ``choice`` is "error", "memory", or a mapping from operator name to "memory", "view" or "elementwise:FUNCTION"
    (others are then errors). Raises InputError for a choice that is none.
    """

    def __init__(self, what: str, choice: str | Mapping[str, str]) -> None:
        self.what = what
        self._usual = choice if isinstance(choice, str) else "error"
        self._chosen = {} if isinstance(choice, str) else dict(choice)
        self._places: dict[str, list[str]] = {}
        if self._usual not in ("error", "memory"):
            raise InputError(f'{what}: unknown: given "{choice}"; allowed error, memory, or a mapping of operators')
        for name, wanted in self._chosen.items():
            if wanted not in ("memory", "view") and not wanted.startswith("elementwise:"):
                raise InputError(f'{what}: unknown: {name}: given "{wanted}"; allowed {_CHOICES}')

    @property
    def counts_all(self) -> bool:
        """Whether everything that is not understood is counted as memory traffic."""
        return self._usual == "memory"

    def wanted(self, name: str) -> str:
        """What the user wants for the operator ``name``: empty where nothing was said about it."""
        return self._chosen.get(name, "")

    def handle(self, draft: Draft, name: str, path: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Write down an operator that is not understood as chosen; without a choice, remember its place."""
        wanted = self._chosen.get(name, self._usual)
        if wanted == "error":
            self._places.setdefault(name, []).append(path or "(top)")
        if wanted == "view" and inputs and draft.values[inputs[0]].n_elements >= draft.values[outputs[0]].n_elements:
            draft.values[outputs[0]].view_of = inputs[0]
            draft.values[outputs[0]].view_kind = "part"
        elif wanted.startswith("elementwise:"):
            emit_elementwise(draft, path, wanted.partition(":")[2], inputs, outputs[0])
        else:
            emit_memory(draft, path, name, inputs, outputs)

    def complain(self) -> None:
        """Raise InputError that names every operator left over with its first place in the model."""
        if not self._places:
            return
        shown = [
            f"{name} at {places[0]}" + (f" and {len(places) - 1} more" if len(places) > 1 else "")
            for name, places in self._places.items()
        ]
        more = f", and {len(shown) - _MOST_SHOWN} others" if len(shown) > _MOST_SHOWN else ""
        raise InputError(
            f"{self.what}: operators not understood: {', '.join(shown[:_MOST_SHOWN])}{more}; allowed: count them as "
            f'memory traffic with unknown="memory", or map each by name ({_CHOICES})'
        )
