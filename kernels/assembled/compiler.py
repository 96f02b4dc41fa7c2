"""Triton's compiler for a target that need not be there, and its assembler's tools."""

from __future__ import annotations

import re
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.gpu.warp_trace import WarpTrace
from tilewright.kernels.assembled.addresses import shared_wavefronts
from tilewright.kernels.assembled.trace import trace_of

__all__ = ["KernelSource", "compiled_trace", "compiler_name"]

_DIVISIBLE = 16
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
_WARP = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSource:
    """A kernel of ``module`` (of :mod:`tilewright.kernels.triton_kernels`) with its compile-time constants.

    ``types``: of the other parameters, as Triton writes them; sizes and pointers count as multiples of 16, as those of
    a measurement are. ``arguments``: values by name that the loop runs a few times with.
    """

    module: str
    function: str
    types: Mapping[str, str] = field(hash=False)
    constants: Mapping[str, Any] = field(hash=False)
    arguments: Mapping[str, int] = field(hash=False)
    warps: int
    stages: int


def compiler_name() -> str:
    """Which Triton compiles here; raises :class:`InputError` where it is not installed."""
    return f"triton {_triton().__version__}"


def compiled_trace(source: KernelSource, capability: int = 90) -> WarpTrace:
    """``source`` compiled for GPUs of ``capability`` (90: Hopper), as its warps issue it.

    Raises :class:`InputError` where Triton is not installed or cannot compile it.
    """
    kernel = _compiled(source, capability)
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "kernel.cubin"
        binary.write_bytes(kernel.asm["cubin"])
        usage = _USAGE.search(_tool("cuobjdump", "-res-usage", str(binary)))
        sass = _tool("nvdisasm", "-c", "-hex", str(binary))
    if usage is None:
        raise InputError("compiled kernel: the assembler does not tell its registers")
    names = [name for name in source.types if name not in source.constants]
    arguments = [source.arguments.get(name, (1 + place) << 24) for place, name in enumerate(names)]
    return trace_of(
        sass,
        shared_wavefronts(kernel.asm["ptx"], arguments, source.warps),
        warps=source.warps,
        registers=int(usage[1]),
        spill_bytes=int(usage[2]),
        shared_bytes=int(kernel.metadata.shared),
    )


def _compiled(source: KernelSource, capability: int) -> Any:
    triton = _triton()
    from importlib import import_module

    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(import_module(f"tilewright.kernels.triton_kernels.{source.module}"), source.function)
    if not hasattr(function, "cache_key"):
        raise InputError("compiling a schedule: kernels are interpreted; unset TRITON_INTERPRET")
    names = function.arg_names
    signature = {name: source.types.get(name, "constexpr") for name in names}
    constants = {(names.index(name),): value for name, value in source.constants.items()}
    attributes = {
        (place,): [["tt.divisibility", _DIVISIBLE]]
        for place, name in enumerate(names)
        if signature[name].startswith("*") or signature[name] == "i32"
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return triton.compile(
                ASTSource(function, signature, constants, attributes),
                target=GPUTarget("cuda", capability, _WARP),
                options={"num_warps": source.warps, "num_stages": source.stages},
            )
    except Exception as fault:  # Triton has many ways to say that a schedule cannot be
        raise InputError(
            f"{source.function}: cannot be compiled ({type(fault).__name__}: {' '.join(str(fault).split())[:120]})"
        ) from None


def _triton() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its coming versions
            import triton
    except ImportError:
        raise InputError("compiling a schedule needs Triton; install it with: pip install 'tilewright[gpu]'") from None
    return triton


def _tool(name: str, *arguments: str) -> str:
    folder = Path(_triton().__file__).parent / "backends" / "nvidia" / "bin"
    command = [str(folder / name), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        raise InputError(f"{folder / name}: cannot be run; it comes with Triton for Linux") from None
