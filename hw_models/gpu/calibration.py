"""Calibrated parameters as data: what was fitted, to which measurements, by which split, with which error.

One file a device in ``calibrations/``, as ``tilewright calibrate`` wrote it from public tables. A is the folder of
aiconfigurator's tables, L that of LLMCompass's; the first table of a family counts::

    tilewright calibrate A/h200_gemm_vllm_0.24.0__bfloat16.csv A/h200_gemm_vllm_0.24.0__fp8.csv \\
        A/h200_gemm_trtllm_1.2.0rc5_quant.csv A/h200_gemm_vllm_0.22.0_power.csv \\
        A/h200_context_attention_vllm_0.24.0_fa3.csv A/h200_generation_attention_vllm_0.24.0_fa3.csv \\
        A/h200_encoder_attention_vllm_0.22.0_power.csv A/h200_quant_scalematrix_vllm_0.22.0_power.csv \\
        A/h200_quant_computescale_vllm_0.22.0_power.csv A/h200_moe_vllm_0.22.0_power.csv -a h200 -o h200.yaml
    tilewright calibrate A/a100_gemm_sglang_0.5.10.csv A/a100_gemm_trtllm_1.0.0_quant.csv \\
        A/a100_context_attention_vllm_0.14.0.csv A/a100_generation_attention_vllm_0.14.0.csv \\
        L/matmul_A100.csv L/softmax_A100.csv L/layernorm_A100.csv L/gelu_A100.csv -a a100 -o a100.yaml
    tilewright calibrate L/matmul_MI210.csv L/softmax_MI210.csv L/layernorm_MI210.csv L/gelu_MI210.csv \\
        -a mi210 -o mi210.yaml
    tilewright calibrate h100_own A/h100_context_mla_vllm_0.14.0.csv A/h100_generation_mla_vllm_0.14.0.csv \\
        -a h100 -o h100.yaml

Families of scans, short convolutions, single steps and lists: S is the folder of the wide tables, for each device D of
h100, h200, h800, b200, l40s, rtxpro6000 and a100 (``fa2_blocks`` of the last one is fitted to ratios by hand)::

    tilewright calibrate S/gdn_prefill_chunk_ms.csv S/gdn_decode_ms.csv S/conv1d_channel_last_prefill_ms.csv \\
        S/conv1d_channel_first_prefill_ms.csv S/kda_prefill_ms.csv S/kda_decode_ms.csv \\
        S/mamba2_chunk_scan_b200_trtllm.csv S/mamba2_conv1d_update_decode_ms.csv S/dsa_glm5_sparse_attention_ms.csv \\
        S/mamba2_chunk_scan_h800.csv S/nsa_kernel_ms.csv h100_block_sparse_attention.csv -a D -o D.yaml

Of the H100's own, families that the H200's tables hold with more rows were left out (bf16). What such a command finds
of a board's energy, where tables hold power, is kept in ``boards/``: the H200's by the first one, the H100's with
``h100_energy.csv``, rows of its energy counter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, MinLen

from tilewright.document import load_document, validate_data
from tilewright.errors import InputError, unknown
from tilewright.hw_models.gpu.parameters import (
    AttentionParameters,
    ExpertsParameters,
    GemmParameters,
    LatentParameters,
    RowListParameters,
    RowwiseParameters,
    ScanParameters,
    ScheduledParameters,
    StreamParameters,
)
from tilewright.hw_models.gpu.power import PowerSpec
from tilewright.hw_models.shipped import Shipped, is_path
from tilewright.hw_models.spec import MachineSpec

if TYPE_CHECKING:
    from pydantic import ConfigDict

__all__ = [
    "PARAMETERS_OF_OPERATOR",
    "CalibrationSpec",
    "FamilySpec",
    "Operator",
    "Parameters",
    "calibration_of",
    "calibration_text",
    "known_calibration",
    "load_calibration",
]

_STRICT: ConfigDict = {"extra": "forbid", "allow_inf_nan": False}

Operator = Literal[
    "gemm",
    "attention",
    "rowwise",
    "experts",
    "latent",
    "scheduled",
    "scan",
    "short_conv",
    "state_step",
    "token_top_k",
    "block_lists",
]
Parameters = (
    GemmParameters
    | AttentionParameters
    | RowwiseParameters
    | ExpertsParameters
    | LatentParameters
    | ScheduledParameters
    | ScanParameters
    | StreamParameters
    | RowListParameters
)
PARAMETERS_OF_OPERATOR: dict[Operator, type[Parameters]] = {
    "gemm": GemmParameters,
    "attention": AttentionParameters,
    "rowwise": RowwiseParameters,
    "experts": ExpertsParameters,
    "latent": LatentParameters,
    "scheduled": ScheduledParameters,
    "scan": ScanParameters,
    "short_conv": StreamParameters,
    "state_step": StreamParameters,
    "token_top_k": RowListParameters,
    "block_lists": RowListParameters,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilySpec:
    """The parameters of one family of kernels on one device.

    ``measured``: the table they were fitted to; ``split``: the rule that chose the calibration part;
    ``n_calibration`` and ``n_held_out`` rows; ``held_out_error``: mean absolute percentage error on the other part
    when the file was written. ``fixed``: parameters that were not fitted. ``device``: measured there, where it is not
    the calibration's.
    """

    __pydantic_config__ = _STRICT

    operator: Operator
    family: Annotated[str, MinLen(1)]
    kind: Literal["calibrated", "assumed"]
    measured: Annotated[str, MinLen(1)]
    split: str = ""
    n_calibration: Annotated[int, Ge(0)] = 0
    n_held_out: Annotated[int, Ge(0)] = 0
    held_out_error: Annotated[float, Ge(0)] | None = None
    device: str = ""
    fixed: tuple[str, ...] = ()
    parameters: Mapping[str, float] = field(hash=False)

    def __post_init__(self) -> None:
        self.typed()

    def typed(self) -> Parameters:
        """The parameters as the class of the operator."""
        try:
            return validate_data(
                dict(self.parameters), PARAMETERS_OF_OPERATOR[self.operator], what="parameters", name="parameters"
            )
        except InputError as fault:
            raise ValueError(str(fault)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSpec:
    """All families of a device. ``power``: energy figures of its board, and of those that stand in for it.

    ``stand_in``: the device whose calibration has what this one lacks; only with the ones that come with a machine.
    """

    __pydantic_config__ = _STRICT

    device: Annotated[str, MinLen(1)]
    stand_in: str = ""
    families: Annotated[tuple[FamilySpec, ...], MinLen(1)]
    power: tuple[PowerSpec, ...] = ()

    def family(self, operator: Operator, name: str) -> FamilySpec:
        """The family ``name`` of ``operator``; raises :class:`InputError` when it is not calibrated."""
        for entry in self.families:
            if (entry.operator, entry.family) == (operator, name):
                return entry
        known = [entry.family for entry in self.families if entry.operator == operator]
        fault = f"no calibration of these {operator} kernels (tilewright calibrate makes one from measurements)"
        raise unknown("family", name, known, place=self.device, fault=fault)

    def has(self, operator: Operator, name: str) -> bool:
        """Whether the family is calibrated."""
        return any((entry.operator, entry.family) == (operator, name) for entry in self.families)

    def with_families(self, other: CalibrationSpec) -> CalibrationSpec:
        """With the families of ``other`` that this one lacks, each with the device that it was measured on."""
        more = tuple(
            replace(entry, device=entry.device or other.device)
            for entry in other.families
            if not self.has(entry.operator, entry.family)
        )
        return replace(self, families=(*self.families, *more))

    def power_of(self, device: str) -> PowerSpec | None:
        """The energy figures of the machine called ``device``; None where its board was not measured."""
        return next((entry for entry in self.power if entry.device == device), None)


_CALIBRATIONS = Shipped("gpu/calibrations", CalibrationSpec, what="calibration")


def calibration_of(machine: MachineSpec) -> CalibrationSpec:
    """The calibration of ``machine``, and what that of the machine that it names as a stand-in has beyond it."""
    if machine.gpu is None:
        raise InputError(f"{machine.name}: is not a GPU (no section gpu); allowed for example h200, a100")
    wanted = (machine.base_name, machine.gpu.calibrated_as)
    names = [name for name in wanted if name is not None and name in _CALIBRATIONS.names()]
    found: CalibrationSpec | None = None
    for name in names:  # grows while it is gone through
        entry = _CALIBRATIONS.named(name)
        found = entry if found is None else found.with_families(entry)
        if entry.stand_in and entry.stand_in not in names:
            names.append(entry.stand_in)
    if found is not None:
        return found
    raise InputError(
        f"{machine.name}: comes without a calibration; allowed {', '.join(_CALIBRATIONS.names())}, "
        "a file by --calibration, or a machine that names one of them in gpu.calibrated_as"
    )


def known_calibration(machine: MachineSpec) -> CalibrationSpec | None:
    """The calibration of :func:`calibration_of`, None where there is none."""
    try:
        return calibration_of(machine)
    except InputError:
        return None


def load_calibration(name_or_path: str | Path) -> CalibrationSpec:
    """The calibration that comes with a machine of that name, or in the YAML file at that path."""
    if str(name_or_path) in _CALIBRATIONS.names():
        return _CALIBRATIONS.named(str(name_or_path))
    if isinstance(name_or_path, Path) or is_path(name_or_path) or Path(name_or_path).exists():
        return load_document(name_or_path, CalibrationSpec, what="calibration")
    return _CALIBRATIONS.load(name_or_path)


def calibration_text(calibration: CalibrationSpec) -> str:
    """``calibration`` as YAML, numbers to four significant digits."""
    import yaml

    families: list[dict[str, Any]] = []
    for entry in calibration.families:
        data: dict[str, Any] = {
            "operator": entry.operator,
            "family": entry.family,
            "kind": entry.kind,
            "measured": entry.measured,
            "split": entry.split,
            "n_calibration": entry.n_calibration,
            "n_held_out": entry.n_held_out,
        }
        if entry.held_out_error is not None:
            data["held_out_error"] = float(f"{entry.held_out_error:.4g}")
        if entry.device:
            data["device"] = entry.device
        data["fixed"] = list(entry.fixed)
        data["parameters"] = {name: float(f"{value:.4g}") for name, value in entry.parameters.items()}
        families.append(data)
    document: dict[str, Any] = {"device": calibration.device}
    if calibration.stand_in:
        document["stand_in"] = calibration.stand_in
    document["families"] = families
    if calibration.power:
        document["power"] = [_power_data(entry) for entry in calibration.power]
    return yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)


def _power_data(entry: PowerSpec) -> dict[str, Any]:
    from dataclasses import asdict

    data = {name: value for name, value in asdict(entry).items() if value is not None}
    if entry.held_out_error is not None:
        data["held_out_error"] = float(f"{entry.held_out_error:.4g}")
    figures = asdict(entry.parameters)
    figures["multiply_pj"] = {
        name: float(f"{value:.4g}") for name, value in sorted(entry.parameters.multiply_pj.items())
    }
    return data | {
        "measured": list(entry.measured),
        "parameters": {
            name: value if isinstance(value, dict) else float(f"{value:.4g}") for name, value in figures.items()
        },
    }
