"""What a dataflow is to the rest of the house: phases, each with a tiling space and a lowering.

A *phase* runs alone: the next one starts when everything has drained. Fused dataflows have one phase;
`layerwise` has one per operator. Register your own dataflow through :func:`register`, the door that the
built-in ones use too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tilewright.errors import InputError, did_you_mean
from tilewright.hw_models.spec import MachineSpec
from tilewright.sim.core import Core
from tilewright.units import ceil_div
from tilewright.workloads.attention import AttentionLayer

__all__ = [
    "Dataflow",
    "Parameter",
    "Phase",
    "Tiling",
    "check_tiling",
    "dataflow_names",
    "get_dataflow",
    "register",
    "tile_sizes",
]

Tiling = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One number of a mapping: its meaning, and the candidates for a layer on a machine.

    ``least`` is the value that needs the least room on chip (default: the smallest candidate); ``largest``
    is the largest value that a user may give (the extent it tiles, say).
    """

    name: str
    meaning: str
    candidates: Callable[[AttentionLayer, MachineSpec], tuple[int, ...]]
    smallest: int = 1
    largest: Callable[[AttentionLayer], int] = lambda layer: 2**31
    least: Callable[[AttentionLayer, MachineSpec], int] | None = None

    def least_value(self, layer: AttentionLayer, machine: MachineSpec) -> int:
        """The value that needs the least room on chip."""
        if self.least is not None:
            return self.least(layer, machine)
        return min(self.candidates(layer, machine))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """``lower(core, tiling)`` writes the phase's commands; ``legal`` refuses senseless combinations."""

    name: str
    parameters: tuple[Parameter, ...]
    lower: Callable[[Core, Tiling], None]
    legal: Callable[[AttentionLayer, Tiling], bool] = lambda layer, tiling: True

    def space(self, layer: AttentionLayer, machine: MachineSpec) -> Iterator[dict[str, int]]:
        """Every candidate tiling of this phase (capacity not yet checked)."""

        def extend(chosen: dict[str, int], left: tuple[Parameter, ...]) -> Iterator[dict[str, int]]:
            if not left:
                if self.legal(layer, chosen):
                    yield dict(chosen)
                return
            for value in left[0].candidates(layer, machine):
                chosen[left[0].name] = value
                yield from extend(chosen, left[1:])

        yield from extend({}, self.parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataflow:
    """A named way to compute an attention layer."""

    name: str
    summary: str
    source: str
    phases: tuple[Phase, ...]
    assumptions: tuple[str, ...] = ()

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(parameter for phase in self.phases for parameter in phase.parameters)


_REGISTRY: dict[str, Dataflow] = {}


def register(dataflow: Dataflow) -> Dataflow:
    """Make ``dataflow`` known under its name (a second one of the same name is refused)."""
    if dataflow.name in _REGISTRY:
        raise InputError(f'dataflow "{dataflow.name}" is registered already')
    names = [parameter.name for parameter in dataflow.parameters]
    if len(set(names)) != len(names):
        raise InputError(f'dataflow "{dataflow.name}": parameters of its phases share a name: {names}')
    _REGISTRY[dataflow.name] = dataflow
    return dataflow


def dataflow_names() -> tuple[str, ...]:
    """The registered dataflows, in the order in which comparisons show them."""
    _load_built_in()
    return tuple(_REGISTRY)


def get_dataflow(name: str) -> Dataflow:
    """The dataflow of that name, or an InputError with the nearest one."""
    _load_built_in()
    if name not in _REGISTRY:
        known = ", ".join(_REGISTRY)
        raise InputError(f'dataflow: unknown name "{name}"; allowed: {known}{did_you_mean(name, _REGISTRY)}')
    return _REGISTRY[name]


def _load_built_in() -> None:
    import tilewright.sim.dataflows.attention  # noqa: F401  (registers on import)


def check_tiling(dataflow: Dataflow, layer: AttentionLayer, tiling: Tiling) -> None:
    """Refuse names that the dataflow does not have and values outside their range."""
    parameters = {parameter.name: parameter for parameter in dataflow.parameters}
    for name, value in tiling.items():
        if name not in parameters:
            allowed = ", ".join(parameters)
            raise InputError(
                f'tile "{name}": {dataflow.name} has no such parameter; allowed: {allowed}'
                f"{did_you_mean(name, parameters)}"
            )
        parameter = parameters[name]
        largest = parameter.largest(layer)
        if not parameter.smallest <= value <= largest:
            raise InputError(
                f'tile "{name}": given {value}, allowed {parameter.smallest} to {largest} ({parameter.meaning})'
            )


def tile_sizes(extent: int, granule: int, *, most: int = 40) -> tuple[int, ...]:
    """Tile sizes worth trying for ``extent``: for every number of tiles the smallest multiple of ``granule``
    that makes that number (a larger one would only unbalance the tiles), at most ``most``, largest first.

    With more than ``most`` of them, the ones nearest to a geometric series are kept.
    """
    if extent <= granule:
        return (extent,)
    n_granules = ceil_div(extent, granule)
    sizes = []
    per_tile = n_granules
    while per_tile > 0:
        sizes.append(min(extent, per_tile * granule))
        # The next number of tiles for which a smaller tile will do.
        n_tiles = ceil_div(n_granules, per_tile)
        per_tile = ceil_div(n_granules, n_tiles + 1) if per_tile > 1 else 0
        while per_tile and ceil_div(n_granules, n_tiles) == per_tile:
            n_tiles += 1
            per_tile = ceil_div(n_granules, n_tiles + 1)
    sizes = sorted(set(sizes))
    if len(sizes) > most:
        ratio = (len(sizes) - 1) / (most - 1)
        sizes = [sizes[round(i * ratio)] for i in range(most)]
    return tuple(reversed(sizes))
