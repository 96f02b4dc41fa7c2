"""Where the figures in a file come from: machine, workload, formats, version and command.

A JSON file has it as the object ``header``; a CSV file in its last columns, the same in every row, so that pandas reads
the file without any option and rows of several files can be put together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilewright.hw_models.spec import MachineSpec
    from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["Origin", "WorkloadFacts", "layer_facts", "network_facts"]

_FORMAT = "_format"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadFacts:
    """A workload in words: ``size`` as ``name=value`` pairs, ``formats`` as ``part format`` with commas."""

    name: str
    size: str
    formats: str
    column: str = "workload"

    def to_dict(self) -> dict[str, str]:
        """Plain data, ready for JSON."""
        return {"name": self.name, "size": self.size, "formats": self.formats}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What stands behind the figures of one file. ``facts``: what else was chosen, for example the dataflow."""

    machines: tuple[MachineSpec, ...] = ()
    workloads: tuple[WorkloadFacts, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""

    def header(self) -> dict[str, Any]:
        """The object ``header`` of a JSON file."""
        from tilewright import __version__
        from tilewright.hw_models.describe import figures_hash

        data: dict[str, Any] = {"tilewright_version": __version__, "command": self.command}
        if self.machines:
            data["machines"] = [{"name": m.name, "hash": figures_hash(m)} for m in self.machines]
        if self.workloads:
            data["workloads"] = [workload.to_dict() for workload in self.workloads]
        return {**data, **self.facts}

    def completed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """``row`` with the columns of the origin behind its own, which stay as they are."""
        from tilewright import __version__
        from tilewright.hw_models.describe import figures_hash

        found = dict(row)
        workload = self._workload_of(row)
        if workload is not None:
            found.setdefault(workload.column, workload.name)
            found.setdefault("size", workload.size)
            found.setdefault("formats", workload.formats)
        for name, value in self.facts.items():
            found.setdefault(name, value)
        machine = _named(row.get("machine"), self.machines)
        if machine is not None:
            found.setdefault("machine", machine.name)
            found["machine_hash"] = figures_hash(machine)
        return {**found, "tilewright_version": __version__, "command": self.command}

    def _workload_of(self, row: Mapping[str, Any]) -> WorkloadFacts | None:
        found: WorkloadFacts | None = _named(row.get("workload", row.get("network")), self.workloads)
        return found


def _named(name: Any, things: tuple[Any, ...]) -> Any:
    """The thing of that name; without a name the only one there is."""
    if name is None:
        return things[0] if len(things) == 1 else None
    return next((thing for thing in things if thing.name == name), None)


def layer_facts(layer: Any) -> WorkloadFacts:
    """``layer`` (a frozen dataclass with a ``name``) by its fields: extents and choices, and every ``…_format``."""
    extents, formats = [], []
    for entry in fields(layer):
        value = getattr(layer, entry.name)
        if entry.name == "name" or value is None or value is False or is_dataclass(value) or isinstance(value, tuple):
            continue
        if entry.name.endswith(_FORMAT):
            formats.append(f"{entry.name.removesuffix(_FORMAT).replace('_', ' ')} {value}")
        else:
            extents.append(f"{entry.name}={value}")
    return WorkloadFacts(name=layer.name, size=" ".join(extents), formats=", ".join(formats))


def network_facts(stream: OperatorStream) -> WorkloadFacts:
    """A network by its counts, and the formats in which it stores tensors of each role, most bytes first."""
    counts = {"n_operators": len(stream.operators), "macs": stream.macs, "weight_bytes": stream.weight_bytes}
    if stream.n_steps > 1:
        counts["n_steps"] = stream.n_steps
    stored: dict[tuple[str, str], int] = {}
    for tensor in stream.tensors:
        if tensor.view_of is None and tensor.role != "constant":
            key = (tensor.role, tensor.number_format)
            stored[key] = stored.get(key, 0) + tensor.n_bytes
    roles = dict.fromkeys(role for role, _ in stored)
    formats = [
        f"{role} {'/'.join(name for (of, name), _ in sorted(stored.items(), key=lambda kv: -kv[1]) if of == role)}"
        for role in roles
    ]
    return WorkloadFacts(
        name=stream.name,
        size=" ".join(f"{name}={count}" for name, count in counts.items()),
        formats=", ".join(formats),
        column="network",
    )
