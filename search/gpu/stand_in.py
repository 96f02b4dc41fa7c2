"""The parameters of a family of kernels on a device: its own, else those of its nearest relative."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tilewright.errors import InputError
from tilewright.hw_models.gpu.calibration import CalibrationSpec, FamilySpec, Operator, Parameters
from tilewright.hw_models.gpu.parameters import (
    AttentionParameters,
    GemmParameters,
    LatentParameters,
    ScheduledParameters,
)
from tilewright.hw_models.load import load_machine, machine_names
from tilewright.registry import Registry
from tilewright.sim.gpu.attention import ATTENTION_FAMILIES, AttentionFamily
from tilewright.sim.gpu.device import GpuDevice, gpu_device
from tilewright.sim.gpu.experts import EXPERTS_FAMILIES, ExpertsFamily
from tilewright.sim.gpu.families import GEMM_FAMILIES, GemmFamily
from tilewright.sim.gpu.latent import LATENT_FAMILIES, LatentFamily
from tilewright.sim.gpu.row_lists import BLOCK_LIST_FAMILIES, TOKEN_TOP_K_FAMILIES, RowListFamily
from tilewright.sim.gpu.rowwise import ROWWISE_FAMILIES, RowwiseFamily
from tilewright.sim.gpu.scans import SCAN_FAMILIES, ScanFamily
from tilewright.sim.gpu.streams import SHORT_CONV_FAMILIES, STATE_STEP_FAMILIES, StreamFamily
from tilewright.sim.gpu.transfer import transferred

__all__ = ["LISTED_OPERATORS", "ChosenParameters", "family_names", "kernel_family", "parameters_of"]

_FAMILIES: dict[Operator, Registry[Any]] = {
    "gemm": GEMM_FAMILIES,
    "attention": ATTENTION_FAMILIES,
    "rowwise": ROWWISE_FAMILIES,
    "experts": EXPERTS_FAMILIES,
    "latent": LATENT_FAMILIES,
    "scan": SCAN_FAMILIES,
    "short_conv": SHORT_CONV_FAMILIES,
    "state_step": STATE_STEP_FAMILIES,
    "token_top_k": TOKEN_TOP_K_FAMILIES,
    "block_lists": BLOCK_LIST_FAMILIES,
}
#: Operators whose families say which parameters mean something for them.
LISTED_OPERATORS: tuple[Operator, ...] = ("scan", "short_conv", "state_step", "token_top_k", "block_lists")
_LEAST_LAUNCH_US = 0.5  # of a parameter
_VALUE_CYCLES = 18.0  # no device without fp8 can tell; both fp8 kernels of FlashAttention-3 on an H200 take 17 to 19
_QUANTISED_CHUNK_BYTES = 2048 * (2 + 2 + 1)  # 2,048 values, read for their magnitude and again, written in 8 bits
Family = (
    GemmFamily
    | AttentionFamily
    | RowwiseFamily
    | ExpertsFamily
    | LatentFamily
    | ScanFamily
    | StreamFamily
    | RowListFamily
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenParameters:
    """``parameters`` for a family; ``stand_in``: the relative that they are of, empty where they are its own.

    ``measured``: the table that they were fitted to, on the device ``measured_on``.
    """

    parameters: Parameters
    stand_in: str
    measured: str
    measured_on: str


def kernel_family(operator: Operator, name: str) -> Family:
    """The family called ``name``; raises :class:`InputError` for another word."""
    found: Family = _FAMILIES[operator].get(name)
    return found


def family_names(operator: Operator) -> tuple[str, ...]:
    """Every family of ``operator`` that has parameters."""
    return _FAMILIES[operator].names()


def parameters_of(device: GpuDevice, calibration: CalibrationSpec, operator: Operator, name: str) -> ChosenParameters:
    """The parameters that time the family ``name`` on ``device``: its own, else those of its nearest relative.

    What was fitted on another device is carried over by the published figures of both
    (:mod:`tilewright.sim.gpu.transfer`). Raises :class:`InputError` where neither the family nor a relative is
    calibrated.
    """
    family = kernel_family(operator, name)
    if calibration.has(operator, name):
        return _chosen(device, calibration, calibration.family(operator, name), family)
    return _relative_parameters(device, calibration, operator, name)


def _relative_parameters(
    device: GpuDevice, calibration: CalibrationSpec, operator: Operator, name: str
) -> ChosenParameters:
    family = kernel_family(operator, name)
    entries = [
        calibration.family(operator, relative) for relative in family.relatives if calibration.has(operator, relative)
    ]
    nearest = list(dict.fromkeys(each.device for each in calibration.families))  # the device itself, then its stand-ins
    for entry in sorted(entries, key=lambda entry: nearest.index(entry.device)):
        chosen = _chosen(device, calibration, entry, family)
        own = _adapted(device, family, kernel_family(operator, entry.family), chosen.parameters)
        return replace(chosen, parameters=own)
    known = [each.family for each in calibration.families if each.operator == operator]
    raise InputError(
        f"{calibration.device}: no calibrated {operator} kernels {name} nor a relative of them; "
        f"allowed {', '.join(known) or 'none'}"
    )


def _adapted(device: GpuDevice, family: Family, relative: Family, parameters: Parameters) -> Parameters:
    """A relative's parameters for ``family``, as far as what it does beyond the relative follows from the device.

    A family of single kernels has the launch of the device's shortest kernel where the relative's launch holds what its
    framework does. A kernel of its own before the product, or behind split keys, is one more launch, the one that
    writes new keys into a cache one less; one that quantises reads the activations twice and writes them once.
    """
    launch_us = device.launch_s * 1e6
    if family.alone and not relative.alone and not isinstance(parameters, LatentParameters):
        parameters = replace(parameters, launch_us=max(launch_us, _LEAST_LAUNCH_US))
    if isinstance(family, AttentionFamily) and isinstance(parameters, AttentionParameters):
        fewer = isinstance(relative, AttentionFamily) and relative.writes_cache and not family.writes_cache
        if fewer and not family.alone:
            parameters = replace(parameters, launch_us=max(parameters.launch_us - launch_us, _LEAST_LAUNCH_US))
        return _adapted_attention(device, family, parameters)
    if isinstance(family, GemmFamily) and isinstance(parameters, GemmParameters) and family.quantises:
        chunk_ns = _QUANTISED_CHUNK_BYTES / device.dram_bytes_per_s * 1e9
        if not parameters.quantise_chunk_ns:
            more = launch_us if relative.alone else 0.0
            return replace(parameters, launch_us=parameters.launch_us + more, quantise_chunk_ns=chunk_ns)
    return parameters


def _adapted_attention(device: GpuDevice, family: AttentionFamily, parameters: AttentionParameters) -> Parameters:
    """Another library's attention: adding split keys is one more launch, and keys are streamed at a fair share."""
    parameters = replace(parameters, combine_us=min(parameters.combine_us, device.launch_s * 1e6))
    if family.splits_keys:
        share = device.dram_bytes_per_s * parameters.memory_share / device.n_sms / 1e9
        parameters = replace(parameters, sm_memory_gb_per_s=min(parameters.sm_memory_gb_per_s, share))
    if family.turns_values and not parameters.value_cycles:
        parameters = replace(parameters, value_cycles=_VALUE_CYCLES)
    return parameters


def _chosen(device: GpuDevice, calibration: CalibrationSpec, entry: FamilySpec, family: Family) -> ChosenParameters:
    measured_on = entry.device or calibration.device
    source, measured = _shipped_device(measured_on), kernel_family(entry.operator, entry.family)
    parameters = entry.typed()
    if source is not None and not isinstance(parameters, ScheduledParameters):
        hides_steps = _is_asynchronous(measured), _is_asynchronous(family)
        parameters = transferred(parameters, source, device, hides_steps=hides_steps, alone=measured.alone)
    return ChosenParameters(
        parameters=parameters,
        stand_in="" if entry.family == family.name else entry.family,
        measured=entry.measured,
        measured_on=measured_on,
    )


def _is_asynchronous(family: Family) -> bool:
    """Whether the kernels' products work by themselves on a device that has such."""
    if isinstance(family, GemmFamily):
        return not family.older_products and not family.convert_weights and not family.on_lanes
    return not (isinstance(family, AttentionFamily) and family.older_products)


@cache
def _shipped_device(name: str) -> GpuDevice | None:
    """The device of the machine called ``name``; None where no machine that comes with the package is called so."""
    return gpu_device(load_machine(name)) if name in machine_names() else None
