"""The words for what a GPU runs and how it is launched."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = ["KERNELS", "LAUNCHES", "LIBRARY_KERNELS", "KernelChoice", "LaunchChoice"]

#: ``eager``: library kernels one operator at a time; ``fused``: element-wise chains made one kernel by a compiler;
#: ``engine``: the exact schedules of the engine, as on every other machine.
KernelChoice: TypeAlias = Literal["eager", "fused", "engine"]
#: ``graph``: recorded once and replayed (CUDA graph); ``host``: the host launches each kernel.
LaunchChoice: TypeAlias = Literal["graph", "host"]
KERNELS: tuple[str, ...] = get_args(KernelChoice)
LAUNCHES: tuple[str, ...] = get_args(LaunchChoice)
#: Those that are no schedules of the engine.
LIBRARY_KERNELS = ("eager", "fused")
