"""How a GPU is asked to run a network: which kernels, and how they are launched."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.errors import InputError, unknown
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.gpu.kernel_words import KERNELS, LAUNCHES, KernelChoice, LaunchChoice
from tilewright.search.gpu.library import has_library_kernels

__all__ = ["KernelOptions", "kernel_options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelOptions:
    """``kernels`` and ``launch`` as asked for; where the engine's schedules are run, the ``note`` says why."""

    kernels: KernelChoice = "eager"
    launch: LaunchChoice = "graph"
    note: str = ""

    @property
    def is_engine(self) -> bool:
        return self.kernels == "engine"


def kernel_options(machine: MachineSpec, kernels: str | None = None, launch: str | None = None) -> KernelOptions:
    """What is run on ``machine``: on a GPU library kernels unless the engine is asked for, elsewhere the engine.

    A GPU for which no library kernels are calibrated has the engine's schedules, which the note says. Raises InputError
    for another word, and where they are given for a machine that is no GPU.
    """
    for option, given, allowed in (("kernels", kernels, KERNELS), ("launch", launch, LAUNCHES)):
        if given is not None and given not in allowed:
            raise unknown(option, given, allowed, place=option)
    if machine.gpu is None:
        if kernels not in (None, "engine"):
            raise InputError(f"kernels: {machine.name} is not a GPU (no section gpu); given {kernels}; allowed engine")
        if launch is not None:
            raise InputError(f"launch: {machine.name} is not a GPU (no section gpu); given {launch}; allowed none")
        return KernelOptions(kernels="engine")
    if kernels == "engine":
        if launch is not None:
            raise InputError(f"launch: is for library kernels; given {launch} with kernels engine; allowed none")
        return KernelOptions(kernels="engine", note=_ENGINE)
    if not has_library_kernels(machine):
        if kernels is not None:
            raise InputError(
                f"kernels: {machine.name} has no calibrated library kernels (gpu.calibrated_as names a machine that "
                f"has); given {kernels}; allowed engine"
            )
        return KernelOptions(kernels="engine", note=f"{_ENGINE}; no library kernels are calibrated for {machine.name}")
    return KernelOptions(kernels=kernels or "eager", launch=launch or "graph")  # type: ignore[arg-type]


_ENGINE = "kernels: the engine's exact schedules on the multiprocessors as cores, not the library's kernels"
