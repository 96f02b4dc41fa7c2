"""What all dataflows of one kind of operator share: what its tiles cost, what no schedule can beat, how it is cut.

A *family* belongs to a kind of layer (attention, gemm, vector). It says everything that the rest of the house would
otherwise have to know about that kind; dataflows name their family, and get from it what they do not bring themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.spec import MachineSpec
from tilewright.registry import Registry
from tilewright.sim.lowering.core import TileCore
from tilewright.sim.lowering.costs import TileCosts
from tilewright.sim.result import LengthLimit, LowerBound

__all__ = ["FAMILIES", "Family", "family_of", "register_family"]


def _as_it_is(layer: Any) -> Any:
    return layer


def _as_on_any(layer: Any, machine: MachineSpec) -> Any:
    return layer


def _nothing(layer: Any) -> tuple[str, ...]:
    return ()


def _no_cycles(layer: Any, machine: MachineSpec) -> int:
    return 0


def _not_dealt(layer: Any, n_cores: int, tiling: Mapping[str, int]) -> tuple[tuple[Any, int], ...]:
    raise InputError(f"layer: pieces that are not alike cannot be dealt; given {layer.name}; allowed like pieces")


def _whole(layer: Any, machine: MachineSpec) -> tuple[Any, ...]:
    return (layer,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of operator, called ``operator``, whose layers are of the type ``layer``.

    ``costs(layer, machine)`` gives what tiles cost, ``bound(layer, machine)`` what no schedule can beat; it raises
    InputError for a number format that the machine cannot multiply. ``core`` is the class that lowerings write to.
    ``usual``: the dataflow where none is named; ``in_networks``: those of which an operator of a network takes the
    best where none is named (without any: the usual one); ``baseline``: what speed-ups are told against, where it is
    among the results. ``plain(layer)``: the simplest layer with the same result.
    ``adapted(layer, machine)``: the layer as the machine does it, where that has ways of its own (formats, engines).
    ``pieces(layer, machine)``: the ways to cut it for the cores, the most promising first; ``least(piece, machine)``:
    cycles that no run of a piece undercuts (``bound`` is about the whole). ``assumptions(layer)``: what its costs take
    for granted. ``limit(dataflow, layer, machine, fixed tiles)``: how long the sequence can grow, where it has one.
    ``remedy``: what else would help, beyond buffers and formats, where no tiling fits. ``uses_array``: whether its
    layers have products at all. ``dealt(layer, n_cores, tiling)``: shares of a layer whose pieces are not alike, as
    (kinds and how many of each, cores that do so), most work first.
    """

    operator: str
    layer: type
    costs: Callable[[Any, MachineSpec], TileCosts]
    bound: Callable[[Any, MachineSpec], LowerBound]
    usual: str
    in_networks: tuple[str, ...] = ()
    baseline: str = ""
    core: type[TileCore[Any]] = TileCore
    plain: Callable[[Any], Any] = _as_it_is
    adapted: Callable[[Any, MachineSpec], Any] = _as_on_any
    pieces: Callable[[Any, MachineSpec], tuple[Any, ...]] = _whole
    least: Callable[[Any, MachineSpec], int] = _no_cycles
    assumptions: Callable[[Any], tuple[str, ...]] = _nothing
    limit: Callable[[Any, Any, MachineSpec, Mapping[str, int]], LengthLimit] | None = None
    remedy: str = ""
    dealt: Callable[[Any, int, Mapping[str, int]], tuple[tuple[Any, int], ...]] = _not_dealt
    uses_array: bool = True


FAMILIES: Registry[Family] = Registry("kind of operator", rooms=("tilewright.sim.dataflows",))


def register_family(family: Family) -> Family:
    """Make ``family`` known; the dataflows that name its operator come after it."""
    return FAMILIES.register(family.operator, family)


def family_of(layer: object) -> Family:
    """The family whose layers are of the type of ``layer``. Raises InputError where there is none."""
    for family in FAMILIES.values():
        if isinstance(layer, family.layer):
            return family
    known = ", ".join(FAMILIES.names())
    raise InputError(f"layer: no dataflow maps it; given {type(layer).__name__}; allowed layers of {known}")
