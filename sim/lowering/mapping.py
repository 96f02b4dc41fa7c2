"""What a dataflow is to the rest of the house: phases, each with a tiling space and a lowering.

A *phase* runs alone: the next one starts when everything has drained. Fused dataflows have one phase;
`layerwise` has one per operator. Register your own dataflow through :func:`register`, the door that the
built-in ones use too.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Integral
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tilewright.errors import InputError, unknown
from tilewright.hw_models.spec import MachineSpec
from tilewright.registry import LAST, Registry
from tilewright.sim.lowering.core import TileCore, WorkTotals
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.lowering.family import FAMILIES, Family, family_of
from tilewright.sim.lowering.pace import check_pace, is_pace
from tilewright.sim.lowering.screen import Column, Flags, Screened, Shortlist
from tilewright.sim.result import LowerBound
from tilewright.units import ceil_div

__all__ = [
    "DATAFLOWS",
    "Dataflow",
    "Layer",
    "Parameter",
    "Phase",
    "Tiling",
    "check_tiling",
    "dataflow_names",
    "get_dataflow",
    "plain_mapping",
    "register",
    "tile_sizes",
    "usual_dataflows",
]

Tiling = Mapping[str, int]

#: The tilings of a layer that are searched.
SpaceOf = Callable[[Any], Sequence[dict[str, int]]]


class Layer(Protocol):
    """What can be mapped: it has a name, and so many independent pieces to deal out to cores."""

    @property
    def name(self) -> str: ...

    @property
    def n_groups(self) -> int: ...


L = TypeVar("L", bound=Layer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One number of a mapping: its meaning, and the candidates for a layer on a machine.

    ``least`` is the value that needs the least room on chip (default: the smallest candidate); ``largest``
    is the largest value that a user may give (the extent it tiles, say). ``changes_work`` is false when
    only the order and the room on chip depend on it, not what is computed and moved. ``finer``: values for
    little room; they are tried with each other, not with the candidates. None for the candidates themselves.
    """

    name: str
    meaning: str
    candidates: Callable[[Any, MachineSpec], tuple[int, ...]]
    smallest: int = 1
    largest: Callable[[Any], int] = lambda layer: 2**31
    least: Callable[[Any, MachineSpec], int] | None = None
    changes_work: bool = True
    finer: Callable[[Any, MachineSpec], tuple[int, ...]] | None = None

    def least_value(self, layer: Layer, machine: MachineSpec) -> int:
        """The value that needs the least room on chip."""
        if self.least is not None:
            return self.least(layer, machine)
        return min(self.candidates(layer, machine))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """``lower(core, tiling)`` writes the phase's commands to a ``core``; ``legal`` refuses senseless combinations.

    ``distinct``: false for a tiling that does the same as another one, so that only a user who gives it gets it.
    ``core``: the class of that core; in a dataflow, its family's where none is given.
    ``floor(costs, tiling)``: work that counting the lowering never undercuts, where that is told much faster; a search
    then counts only tilings that could be the best. ``screen(costs, tilings, most_cycles)``: which fit, and their
    floors, for all at once; of those that take more cycles only that they do; None for layers for which it cannot tell.
    ``distinct_of_all``: ``distinct`` over columns of tilings, for a phase in which all are legal. ``shortlist(costs,
    most_cycles, space, what)``: of the ``space(layer)`` those that fit and may take no more cycles, told sooner than by
    ``screen`` for a layer that is searched again with other homes; ``what`` space it is. None where it cannot tell.
    ``image(phase, costs, tiling)``: the packed program of a tiling that fits, written sooner than it is lowered; None
    where it must be. ``port_bytes(phase, costs, tiling)``: bytes through the working buffer's ports of each of its
    commands that ends no sooner than these pass and than it does anyhow (None: not known).
    """

    name: str
    parameters: tuple[Parameter, ...]
    lower: Callable[[Any, Tiling], None]
    legal: Callable[[Any, Tiling], bool] = lambda layer, tiling: True
    distinct: Callable[[Any, Tiling], bool] = lambda layer, tiling: True
    core: type[TileCore[Any]] = TileCore
    floor: Callable[[Any, Tiling], WorkTotals] | None = None
    screen: Callable[[Any, Sequence[dict[str, int]], int | None], Screened | None] | None = None
    distinct_of_all: Callable[[Any, Mapping[str, Column]], Flags] | None = None
    shortlist: Callable[[Any, int, SpaceOf, Hashable], Shortlist | None] | None = None
    image: Callable[[Phase, Any, Tiling], npt.NDArray[np.int64] | None] | None = None
    port_bytes: Callable[[Phase, Any, Tiling], npt.NDArray[np.int64] | None] | None = None

    def space(self, layer: Layer, machine: MachineSpec) -> Iterator[dict[str, int]]:
        """Every candidate tiling of this phase (capacity not yet checked)."""

        def extend(chosen: dict[str, int], left: tuple[Parameter, ...]) -> Iterator[dict[str, int]]:
            if not left:
                if self.legal(layer, chosen) and self.distinct(layer, chosen):
                    yield dict(chosen)
                return
            for value in left[0].candidates(layer, machine):
                chosen[left[0].name] = value
                yield from extend(chosen, left[1:])

        yield from extend({}, self.parameters)


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The lowering of a first phase, which its core knows that it is."""

    lower: Callable[[Any, Tiling], None]

    def __call__(self, core: Any, tiling: Tiling) -> None:
        core.begins = True
        self.lower(core, tiling)
        core.ended()


@dataclass(frozen=True, slots=True)
class _NoLists:
    """The refusal of a dataflow that follows no lists of key blocks; such as hide nothing are none."""

    own: Callable[[Any, MachineSpec], str]

    def __call__(self, layer: Any, machine: MachineSpec) -> str:
        lists = getattr(layer, "blocks", None)
        if lists is not None and not lists.is_full:
            return "follows no lists of key blocks (flash2 does)"
        if getattr(layer, "takes_cached", False):
            return "adds nothing that an earlier step left (flash2 does)"
        return self.own(layer, machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataflow:
    """A named way to compute a layer of one kind (``operator``: the name of a family, as attention or gemm).

    What a tile costs, and what no schedule can beat, is the family's. ``refusal(layer, machine)`` says why it cannot
    run, behind its name; empty where it can. ``is_native``: machines that have what it needs are made for it, so it is
    the usual one there. ``ahead(layer, tiling)``: the tiles (depth, columns) of the weights with which a run may begin
    on chip (its parameter ``prefetched``). ``fills_buffers``: it keeps data in the buffers behind the working one.
    ``pieces(layer, machine)``: its own ways to cut a layer for the cores; None for its family's.
    ``heeds_homes``: its programs take operands from where they live and leave results there (the ``homes`` of a layer);
    any other runs layers whose operands are all in the DRAM. ``heeds_lists``: it follows a mask of lists of key blocks,
    and takes in what an earlier step left for the result; any other refuses both.
    """

    name: str
    summary: str
    source: str
    phases: tuple[Phase, ...]
    assumptions: tuple[str, ...] = ()
    operator: str = "attention"
    refusal: Callable[[Any, MachineSpec], str] = lambda layer, machine: ""
    is_native: bool = False
    ahead: Callable[[Any, Tiling], tuple[tuple[int, int], ...]] | None = None
    fills_buffers: bool = False
    heeds_homes: bool = False
    heeds_lists: bool = False
    pieces: Callable[[Any, MachineSpec], tuple[Any, ...]] | None = None

    def __post_init__(self) -> None:
        core = self.family.core
        phases = [replace(phase, core=core) if phase.core is TileCore else phase for phase in self.phases]
        if phases and not isinstance(phases[0].lower, _Beginning):
            phases[0] = replace(phases[0], lower=_Beginning(phases[0].lower))
        object.__setattr__(self, "phases", tuple(phases))
        if not self.heeds_lists and not isinstance(self.refusal, _NoLists):
            object.__setattr__(self, "refusal", _NoLists(self.refusal))

    def can_take(self, layer: Any) -> bool:
        """Whether its programs find the operands of ``layer`` where they live."""
        homes = getattr(layer, "homes", None)
        return self.heeds_homes or homes is None or homes == type(homes)()

    @property
    def family(self) -> Family:
        """What the dataflow shares with the others of its kind."""
        return FAMILIES.get(self.operator)

    def costs(self, layer: Any, machine: MachineSpec) -> TileCosts:
        """What tiles of ``layer`` cost on ``machine``."""
        return self.family.costs(layer, machine)

    def bound(self, layer: Any, machine: MachineSpec) -> LowerBound:
        """What no schedule of ``layer`` on ``machine`` can beat."""
        return self.family.bound(layer, machine)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(parameter for phase in self.phases for parameter in phase.parameters)


DATAFLOWS: Registry[Dataflow] = Registry("dataflow", rooms=("tilewright.sim.dataflows",))


def register(dataflow: Dataflow, *, rank: int = LAST) -> Dataflow:
    """Make ``dataflow`` known under its name (a second one of the same name is refused).

    ``rank``: its place among those of its kind of operator, in comparisons and lists.
    """
    names = [parameter.name for parameter in dataflow.parameters]
    if len(set(names)) != len(names):
        raise InputError(f'dataflow "{dataflow.name}": parameters of its phases share a name: {names}')
    return DATAFLOWS.register(dataflow.name, dataflow, rank=rank)


def dataflow_names(operator: str = "attention") -> tuple[str, ...]:
    """The registered dataflows for one kind of operator, in the order in which comparisons show them."""
    return tuple(name for name, dataflow in DATAFLOWS.items() if dataflow.operator == operator)


def get_dataflow(name: str, operator: str = "attention") -> Dataflow:
    """The dataflow of that name and kind of operator, or an InputError with the nearest one."""
    return DATAFLOWS.get(name, among=dataflow_names(operator))


def usual_dataflows(layer: Layer, machine: MachineSpec) -> tuple[Dataflow, ...]:
    """What runs ``layer`` on ``machine`` where nothing else is said: the native dataflows, else the family's usual."""
    family = family_of(layer)
    known = [flow for flow in DATAFLOWS.values() if flow.operator == family.operator and flow.can_take(layer)]
    native = tuple(flow for flow in known if flow.is_native and not flow.refusal(layer, machine))
    usual = DATAFLOWS.get(family.usual)
    if not native and usual.refusal(layer, machine):
        able = [flow for flow in known if not flow.refusal(layer, machine)]
        best = [flow for flow in able if flow.name in family.in_networks]
        return tuple(best or able)[:1] or (usual,)
    return native or (usual,)


def check_tiling(dataflow: Dataflow, layer: Layer, tiling: Tiling) -> None:
    """Refuse names that the dataflow does not have and values outside their range, the pace of ports included."""
    parameters = {parameter.name: parameter for parameter in dataflow.parameters}
    for name, value in tiling.items():
        if is_pace(name):
            check_pace(name, value, [phase.name for phase in dataflow.phases])
            continue
        if name not in parameters:
            raise unknown("tile", name, parameters, place=dataflow.name)
        parameter = parameters[name]
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise InputError(f'tile "{name}": not a whole number; given {value!r}; allowed {parameter.meaning}')
        largest = parameter.largest(layer)
        if not parameter.smallest <= value <= largest:
            raise InputError(
                f'tile "{name}": given {value}, allowed {parameter.smallest} to {largest} ({parameter.meaning})'
            )


def plain_mapping(dataflow: Dataflow, layer: L, tiling: Tiling) -> tuple[L, dict[str, int]]:
    """``layer`` in its plain form, and ``tiling`` for it.

    A tile that is as large as the layer allows, but larger than what is left of it, covers all that is left. Raises
    InputError as :func:`check_tiling` does.
    """
    simple = dataflow.family.plain(layer)
    tiles = dict(tiling)
    if simple is not layer:
        for parameter in dataflow.parameters:
            largest = parameter.largest(simple)
            if largest < tiles.get(parameter.name, 0) <= parameter.largest(layer):
                tiles[parameter.name] = largest
    check_tiling(dataflow, simple, tiles)
    return simple, tiles


@lru_cache(maxsize=4096)
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
    while per_tile > 1:
        sizes.append(min(extent, per_tile * granule))
        n_tiles = ceil_div(n_granules, per_tile - 1)  # the next number of tiles for which a smaller tile will do
        per_tile = ceil_div(n_granules, n_tiles)
    sizes.append(min(extent, granule))
    sizes = sorted(set(sizes))
    if len(sizes) > most:
        ratio = (len(sizes) - 1) / (most - 1)
        sizes = [sizes[round(i * ratio)] for i in range(most)]
    return tuple(reversed(sizes))
