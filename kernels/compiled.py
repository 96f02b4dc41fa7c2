"""What Triton made of the kernels that a call launches: registers, spilled values, shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["Resources", "resources_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Of one call: most ``registers`` of a thread and bytes of shared memory of a block, ``spills`` of all kernels."""

    registers: int
    spills: int
    shared_bytes: int


def resources_of(call: Callable[[], Any]) -> Resources | None:
    """What the Triton kernels of one ``call`` need; None where it launches none, or in the interpreter."""
    with _launched() as kernels:
        call()
    compiled = [kernel for kernel in kernels if getattr(kernel, "n_regs", None) is not None]
    if not compiled:
        return None
    return Resources(
        registers=max(int(kernel.n_regs) for kernel in compiled),
        spills=sum(int(kernel.n_spills or 0) for kernel in compiled),
        shared_bytes=max(int(kernel.metadata.shared) for kernel in compiled),
    )


@contextmanager
def _launched() -> Iterator[list[Any]]:
    """Collects what launches give back: the compiled kernel."""
    from triton.runtime.jit import JITFunction

    plain, found = JITFunction.run, []

    def run(self: Any, *arguments: Any, **options: Any) -> Any:
        kernel = plain(self, *arguments, **options)
        found.append(kernel)
        return kernel

    JITFunction.run = run
    try:
        yield found
    finally:
        JITFunction.run = plain
