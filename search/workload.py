"""What a name, a text or an object asks a machine to run: an attention layer, or a single operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tilewright.errors import InputError, unknown
from tilewright.hw_models.spec import EVERYTHING, MachineSpec
from tilewright.sim.jobs import JobLayer, jobs_of, stored_on
from tilewright.sim.lowering import mapping
from tilewright.sim.lowering.family import family_of
from tilewright.sim.lowering.mapping import Dataflow
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.load import load_workload
from tilewright.workloads.naming import layer_text
from tilewright.workloads.rated_formats import FORMAT_NOTE, own_format, with_rated_formats
from tilewright.workloads.single_operator import is_operator, operator_stream

__all__ = ["Workload", "able", "dataflow_for", "dataflows_for", "kind_of", "layer_of", "layer_on", "pieces"]

Workload = str | JobLayer
_FORMAT_KEY = "format="
_FILES = (".yaml", ".yml")


def layer_of(workload: Workload) -> JobLayer:
    """The layer that ``workload`` names: ``bert-base``, ``attention:...``, ``gemm:m=512,n=768,k=768``, a YAML file.

    Raises InputError for a text that is none of these.
    """
    if not isinstance(workload, str):
        return workload
    if not is_operator(workload):
        return load_workload(layer_text(workload))
    stream = operator_stream(workload)
    job, *others = jobs_of(stream)
    if others:
        raise InputError(f"{stream.name}: is {1 + len(others)} operators; given for one layer; allowed as a network")
    return replace(job.layer, name=stream.name)


def layer_on(workload: Workload, machine: MachineSpec) -> tuple[JobLayer, str]:
    """:func:`layer_of` on ``machine``, and a note where its own number format stands in.

    A name or a text that says no format is in fp16; where the machine has no rate for that, it is in the machine's own.
    Objects, files and texts that say a format stay as they are. Raises InputError for a machine that is but a
    processor of a published rate.
    """
    layer = layer_of(workload)
    if EVERYTHING in machine.lacks:
        raise InputError(
            f"{machine.name}: a processor of a published rate; given the layer {layer.name}; allowed operators of "
            "networks, or a group of cores with units"
        )
    rated = tuple(machine.matrix.multiplies_per_pe_per_cycle)
    if not isinstance(workload, str) or _FORMAT_KEY in workload or workload.strip().endswith(_FILES):
        return stored_on(layer, machine) if isinstance(workload, str) else layer, ""
    if is_operator(workload):
        stream, said = with_rated_formats(operator_stream(workload), rated)
        (job,) = jobs_of(stream)
        return replace(stored_on(job.layer, machine), name=layer.name), said
    if not isinstance(layer, AttentionLayer):
        return layer, ""
    own = own_format(rated, layer.qkv_format)
    if own == layer.qkv_format:
        return layer, ""
    given = layer.qkv_format
    names = (
        "qkv_format",
        "score_format",
        "probability_format",
        "key_format",
        "value_format",
        "output_format",
        "bias_format",
        "sink_format",
    )
    narrow: dict[str, Any] = {name: own for name in names if getattr(layer, name) == given}
    said = f"{FORMAT_NOTE}{own}, the machine's own, instead of {given}, for which it has no multiply rate"
    return replace(layer, **narrow), f"{said} (others are given with qkv_format)"


def kind_of(layer: JobLayer) -> str:
    """Which dataflows can run it: ``attention``, ``gemm`` or ``vector``."""
    return family_of(layer).operator


def dataflow_for(layer: JobLayer, name: str | None, machine: MachineSpec) -> Dataflow:
    """The dataflow ``name`` (None: the usual one); raises InputError for one that cannot run ``layer`` there."""
    kind = kind_of(layer)
    if name is None:
        return mapping.usual_dataflows(layer, machine)[0]
    others = {flow.name: flow.operator for flow in mapping.DATAFLOWS.values() if flow.operator != kind}
    if name in others:
        allowed = ", ".join(mapping.dataflow_names(kind))
        raise InputError(f"dataflow: {name} is one of {others[name]}; given {layer.name}; allowed {allowed}")
    flow = mapping.get_dataflow(name, kind)
    reason = flow.refusal(layer, machine)
    if reason:
        raise InputError(f"dataflow: {name} {reason}; given {layer.name} on {machine.name}")
    return flow


def dataflows_for(
    layers: list[JobLayer], names: list[str] | None, machine: MachineSpec | None = None
) -> dict[JobLayer, tuple[Dataflow, ...]]:
    """The dataflows of each layer: those of ``names`` that its kind has; all of its kind where none of them is one.

    ``machine``: those that cannot run the layer there are left out. Raises InputError for a name that is a dataflow of
    none of the layers, and where only such are named as cannot run one.
    """
    given = names or []
    by_kind = {kind: mapping.dataflow_names(kind) for kind in dict.fromkeys(map(kind_of, layers))}
    known = list(dict.fromkeys(name for own in by_kind.values() for name in own))
    for name in given:
        if name not in known:
            raise unknown("dataflow", name, known)
    found = {}
    for layer in layers:
        kind = kind_of(layer)
        own = [name for name in dict.fromkeys(given) if name in by_kind[kind]] or by_kind[kind]
        flows = tuple(mapping.get_dataflow(name, kind) for name in own)
        found[layer] = flows if machine is None else able(flows, layer, machine)
    return found


def able(flows: Sequence[Dataflow], layer: JobLayer, machine: MachineSpec) -> tuple[Dataflow, ...]:
    """Those of ``flows`` that can run ``layer`` on ``machine``; raises InputError where none can."""
    reasons = {flow.name: flow.refusal(layer, machine) for flow in flows}
    found = tuple(flow for flow in flows if not reasons[flow.name])
    if not found:
        said = "; ".join(f"{name} {reason}" for name, reason in reasons.items())
        raise InputError(f"dataflow: {said}; given {layer.name} on {machine.name}")
    return found


def pieces(layer: JobLayer, machine: MachineSpec, flow: Dataflow | None = None) -> tuple[JobLayer, ...]:
    """The ways to cut ``layer`` for the machine's cores, those that ``flow`` can run. Each is as the machine does it
    (its own formats and engines).
    """
    family = family_of(layer)
    layer = family.adapted(layer, machine)
    own = family.pieces if flow is None or flow.pieces is None else flow.pieces
    cuts: tuple[JobLayer, ...] = own(layer, machine)
    if flow is None:
        return cuts
    return tuple(cut for cut in cuts if not flow.refusal(cut, machine)) or (layer,)
