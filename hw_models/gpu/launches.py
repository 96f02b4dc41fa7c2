"""What a kernel of a network costs beside its calibrated family: launches, convolutions, kernels that move bytes.

One file a device in ``launch_figures/``. A device without one takes that of the machine whose calibration stands in for
its own, else that of the H100; results say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le, MinLen

from tilewright.errors import InputError
from tilewright.hw_models.shipped import Shipped
from tilewright.hw_models.spec import MachineSpec

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = ["ConvFigures", "LaunchFigures", "MovingFigures", "launch_figures_of"]

_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}
_USUAL = "h100"


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingFigures:
    """Kernels that read, do little, and write. ``launch_us``: one on a few values; ``bytes_per_cycle``: what passes
    through one multiprocessor when nothing else holds it up; ``taps_per_cycle``: of a depthwise convolution,
    multiply-adds of its windows. None: no such limit.
    """

    __pydantic_config__ = _STRICT

    launch_us: Annotated[float, Ge(0), Le(100)]
    bytes_per_cycle: Annotated[float, Gt(0), Le(256)] | None = None
    taps_per_cycle: Annotated[float, Gt(0), Le(256)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvFigures:
    """cuDNN's implicit products, otherwise timed as the calibrated 16-bit products.

    ``launch_us``: with the set-up of a kernel. ``step_cycles``: of each step along k, for the addresses of its window.
    ``feed_bytes_per_cycle``: operands that one multiprocessor takes from the L2, gathered.
    """

    __pydantic_config__ = _STRICT

    launch_us: Annotated[float, Ge(0), Le(100)]
    step_cycles: Annotated[float, Ge(0), Le(2000)]
    feed_bytes_per_cycle: Annotated[float, Gt(0), Le(128)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchFigures:
    """The figures of a device. ``measured``: what they were fitted to; ``sources``: the others.

    ``gap_us``: a kernel behind another one in a CUDA graph, beyond what it takes when the same one is repeated (its
    code and parameters are not there yet). ``host_us``: what the host takes to launch a kernel without a graph.
    ``memory_share``: share of the data sheet's DRAM bandwidth that the kernels of ``moving`` reach; ``cache_share``:
    share of the L2 that holds what was touched before. ``moving``: kernels without a calibrated family, by class.
    """

    __pydantic_config__ = _STRICT

    device: Annotated[str, MinLen(1)]
    measured: Annotated[str, MinLen(1)]
    sources: tuple[str, ...] = ()
    gap_us: Annotated[float, Ge(0), Le(50)]
    host_us: Annotated[float, Ge(0), Le(1000)]
    memory_share: Annotated[float, Gt(0), Le(1)]
    cache_share: Annotated[float, Gt(0), Le(2)]
    conv: ConvFigures
    moving: Mapping[str, MovingFigures] = field(hash=False)

    def without_launches(self) -> LaunchFigures:
        """The same with launches that take no time: for what-ifs."""
        moving = {name: replace(one, launch_us=0.0) for name, one in self.moving.items()}
        return replace(self, gap_us=0.0, host_us=0.0, conv=replace(self.conv, launch_us=0.0), moving=moving)


_FIGURES = Shipped("gpu/launch_figures", LaunchFigures, what="launch figures")


def launch_figures_of(machine: MachineSpec) -> LaunchFigures:
    """The figures of ``machine``, or those that stand in; raises InputError for a machine that is no GPU."""
    if machine.gpu is None:
        raise InputError(f"{machine.name}: is not a GPU (no section gpu); allowed for example h200, a100")
    known = _FIGURES.names()
    found = next((name for name in (machine.base_name, machine.gpu.calibrated_as) if name in known), _USUAL)
    return _FIGURES.named(str(found))
