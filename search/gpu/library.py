"""Which family of library kernels times a kernel of a network on a GPU: the calibrated one that comes nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from tilewright.errors import InputError
from tilewright.formats import element_format, format_bits
from tilewright.hw_models.gpu.calibration import CalibrationSpec, Operator, Parameters, calibration_of
from tilewright.hw_models.gpu.parameters import (
    AttentionParameters,
    GemmParameters,
    RowwiseParameters,
    ScanParameters,
    StreamParameters,
)
from tilewright.hw_models.spec import MachineSpec
from tilewright.search.gpu.stand_in import kernel_family, parameters_of
from tilewright.sim.gpu.attention import ATTENTION_FAMILIES, AttentionFamily
from tilewright.sim.gpu.device import GpuDevice, gpu_device
from tilewright.sim.gpu.families import GEMM_FAMILIES, GemmFamily
from tilewright.sim.gpu.launches.launch import AttentionShape, KernelClass, ProductShape, SequenceShape
from tilewright.sim.gpu.launches.times import Library
from tilewright.sim.gpu.rowwise import ROWWISE_FAMILIES, RowwiseFamily
from tilewright.sim.gpu.scans import ScanFamily
from tilewright.sim.gpu.streams import StreamFamily

__all__ = ["LibraryOfMachine", "has_library_kernels"]

_EIGHT_BITS, _SIXTEEN_BITS = 8, 16
_SEQUENCES = {"scan": "scans", "short_conv": "short convolutions", "state_step": "steps of a state"}
_ROWS = {"normalise": "layernorm_graph", "softmax": "softmax_graph"}
_ELEMENTWISE = "gelu_graph"


def has_library_kernels(machine: MachineSpec) -> bool:
    """Whether ``machine`` is a GPU whose library kernels are calibrated, by itself or by a stand-in."""
    if machine.gpu is None:
        return False
    try:
        return any(entry.operator == "gemm" for entry in calibration_of(machine).families)
    except InputError:
        return False


@dataclass(slots=True)
class LibraryOfMachine:
    """The families of a machine's calibration; ``notes`` collects where one stands in for another.

    ``free_launches``: their parameters with launches that take no time.
    """

    machine: MachineSpec
    free_launches: bool = False
    notes: dict[str, None] = field(default_factory=dict)
    device: GpuDevice = field(init=False)
    calibration: CalibrationSpec = field(init=False)
    _known: dict[tuple[Operator, tuple[str, ...]], tuple[str, Parameters]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.device, self.calibration = gpu_device(self.machine), calibration_of(self.machine)

    @property
    def has_attention(self) -> bool:
        """Whether a fused attention is calibrated."""
        return any(entry.operator == "attention" for entry in self.calibration.families)

    def kernels(self) -> Library:
        """What :func:`tilewright.sim.gpu.launches.times.kernel_times` asks."""
        return Library(product=self.product, attention=self.attention, rows=self.rows, sequence=self.sequence)

    def product(self, shape: ProductShape) -> tuple[GemmFamily, GemmParameters]:
        """The family of products in the formats of ``shape``."""
        name, parameters = self._chosen("gemm", _product_families(shape))
        return GEMM_FAMILIES.get(name), cast("GemmParameters", parameters)

    def attention(self, shape: AttentionShape) -> tuple[AttentionFamily, AttentionParameters]:
        """The family of attention for ``shape``: one query a sequence, causal, or all keys."""
        way = "decode" if shape.queries == 1 else "prefill" if shape.causal else "encoder"
        names: tuple[str, ...] = (f"torch_sdpa_{way}", f"fa3_{way}", "fa2_prefill")
        if shape.cache_bits == _EIGHT_BITS and way != "encoder":
            names = (f"fa3_{way}_fp8", *names)
        name, parameters = self._chosen("attention", names)
        return ATTENTION_FAMILIES.get(name), cast("AttentionParameters", parameters)

    def rows(self, kernel: KernelClass) -> tuple[RowwiseFamily, RowwiseParameters]:
        """The family of element-wise and row-wise kernels of a class."""
        name, parameters = self._chosen("rowwise", (_ROWS.get(kernel, _ELEMENTWISE),))
        return ROWWISE_FAMILIES.get(name), cast("RowwiseParameters", parameters)

    def sequence(
        self, shape: SequenceShape
    ) -> tuple[ScanFamily | StreamFamily, ScanParameters | StreamParameters] | None:
        """The family of scans, short convolutions or steps for ``shape``; None where none is calibrated."""
        try:
            name, parameters = self._chosen(shape.operator, shape.families)
        except InputError:
            self.notes[
                f"{_SEQUENCES[shape.operator]}: no such kernels are calibrated, timed by the bytes they move"
            ] = None
            return None
        return kernel_family(shape.operator, name), parameters  # type: ignore[return-value]

    def _chosen(self, operator: Operator, names: Sequence[str]) -> tuple[str, Parameters]:
        key = operator, tuple(names)
        if key not in self._known:
            name, parameters = self._found(operator, names)
            self._known[key] = name, replace(parameters, launch_us=0.0) if self.free_launches else parameters
        return self._known[key]

    def _found(self, operator: Operator, names: Sequence[str]) -> tuple[str, Parameters]:
        """The first of ``names`` that is calibrated, or that a relative's parameters can time."""
        fault: InputError | None = None
        for name in names:
            try:
                chosen = parameters_of(self.device, self.calibration, operator, name)
            except InputError as error:
                fault = error
                continue
            if chosen.stand_in:
                self.notes[f"kernels {name} are timed with the parameters of {chosen.stand_in}"] = None
            elif chosen.measured_on not in (self.device.name, self.machine.base_name):
                self.notes[f"kernels {name} are timed with the parameters of {chosen.measured_on}"] = None
            return name, chosen.parameters
        raise InputError(f"{self.machine.name}: {fault}; or --kernels engine")


def _product_families(shape: ProductShape) -> tuple[str, ...]:
    a, b = (element_format(one) for one in (shape.a_format, shape.b_format))
    a_bits, b_bits = format_bits(a), format_bits(b)
    if max(a_bits, b_bits) > _SIXTEEN_BITS and min(a_bits, b_bits) > _EIGHT_BITS:
        return _wide_families(a, b)
    if a_bits > _EIGHT_BITS >= b_bits:
        return ("int4_wo", "int8_wo", "bf16") if b_bits < _EIGHT_BITS else ("int8_wo", "bf16")
    if a_bits <= _EIGHT_BITS:
        kinds = ("fp8_cublas", "fp8_trtllm", "fp8") if a.startswith("fp8") else ("int8_cublas", "int8_sq")
        return (*kinds, "bf16", "fp16_host")
    return ("bf16", "fp16_host")


def _wide_families(a: str, b: str) -> tuple[str, ...]:
    """Where an operand has 32 bits: on the tensor cores where both may be rounded to tf32, else on the lanes."""
    wide = {one for one in (a, b) if format_bits(one) > _SIXTEEN_BITS}
    lacking = wide - {"tf32", "fp32"}
    if lacking:
        raise InputError(f"format: given {min(lacking)} for library kernels; allowed tf32, fp32, or at most 16 bits")
    return ("tf32",) if wide == {"tf32"} else ("fp32",)
