"""Programs that run language models, by name: those of ``runtimes.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le, MinLen

from tilewright.document import STRICT_FIELDS, parse_document
from tilewright.errors import unknown
from tilewright.workloads.language.model import LanguageModel

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = ["Runtime", "runtime_named", "runtime_names"]

_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}
_Kernels = Annotated[int, Ge(0), Le(1000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """``kernels`` of a dense layer, ``mixture_kernels``, ``state_kernels`` more where a layer has experts or a state,
    ``cache_kernels`` more where its cache is narrow, ``end_kernels`` behind the layers. ``lane_operations``: slots
    of a GPU's 32-bit lane for a narrow weight in a matrix-vector kernel; ``processor_operations``: of a lane of a
    processor that has dot products of int8. ``unpacks_each_row``:
    in a batch, weights in narrow integers are turned anew for each row. ``storage``: its usual way to store weights.
    ``sequence_us``: what its program takes of a server's step for each request in it.
    """

    __pydantic_config__ = _STRICT

    name: Annotated[str, MinLen(1)]
    names: tuple[str, ...] = ()
    source: Annotated[str, MinLen(1)]
    kernels: _Kernels
    mixture_kernels: _Kernels
    state_kernels: _Kernels
    end_kernels: _Kernels
    cache_kernels: _Kernels
    lane_operations: Annotated[float, Ge(0), Le(100)]
    processor_operations: Annotated[float, Ge(0), Le(100)]
    storage: Annotated[str, MinLen(1)]
    unpacks_each_row: bool = False
    sequence_us: Annotated[float, Ge(0), Le(1e6)] = 0.0

    def launches(self, model: LanguageModel, *, narrow_cache: bool = False) -> int:
        """Kernels of one step."""
        mixtures = sum(model.has_experts(layer) for layer in range(model.layers))
        states = model.layers - model.n_cached_layers
        narrow = self.cache_kernels * model.n_cached_layers if narrow_cache else 0
        layers = model.layers * self.kernels + mixtures * self.mixture_kernels + states * self.state_kernels
        return layers + narrow + self.end_kernels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runtimes:
    __pydantic_config__ = STRICT_FIELDS

    runtimes: tuple[Runtime, ...]


@cache
def _known() -> dict[str, Runtime]:
    text = files(__package__).joinpath("runtimes.yaml").read_text(encoding="utf-8")
    found = parse_document(text, _Runtimes, what="runtimes", name="runtimes.yaml").runtimes
    return {name: runtime for runtime in found for name in (runtime.name, *runtime.names)}


def runtime_names() -> tuple[str, ...]:
    """Names of all runtimes."""
    return tuple(dict.fromkeys(runtime.name for runtime in _known().values()))


def runtime_named(name: str) -> Runtime:
    """The runtime called ``name``, or as a table calls it; raises InputError for one that is not known."""
    found = _known().get(name.strip().lower())
    if found is None:
        raise unknown("runtime", name, runtime_names())
    return found
