"""A machine as rows for a person: each figure with its unit, its kind and its source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from tilewright.errors import did_you_mean
from tilewright.formats import format_bits
from tilewright.hw_models.dram_grades import GRADE_SOURCES
from tilewright.hw_models.energy_table import TableFigure, table_source
from tilewright.hw_models.spec import BufferSpec, GroupSpec, MachineSpec
from tilewright.units import KIB, bits_to_bytes

__all__ = ["FieldRow", "describe", "figures", "figures_hash", "too_small", "unused_sources"]

_UNITS = (
    ("_gb_per_s", "GB/s"),
    ("_pj_per_byte", "pJ/byte"),
    ("_pj_per_multiply_accumulate", "pJ"),
    ("_bytes_per_cycle", "bytes/cycle"),
    ("_mt_per_s", "MT/s"),
    ("_per_pe_per_cycle", "per cycle"),
    ("_ghz", "GHz"),
    ("_kib", "KiB"),
    ("_bytes", "bytes"),
    ("_bits", "bits"),
    ("_cycles", "cycles"),
    ("_ns", "ns"),
    ("_pj", "pJ"),
    ("_mw", "mW"),
    ("_tb_per_s", "TB/s"),
    ("_mb", "MB"),
    ("_us", "us"),
    ("_w", "W"),
    ("_mm2", "mm2"),
)
# What stands for "there is none": all of the bandwidth, no fixed cost.
_NO_FIGURES = (
    ("matrix", "partial_use", False),
    ("matrix", "sparsity.kept", 1),
    ("matrix", "sparsity.of", 1),
    ("matrix", "sparsity.most_speedup", 1),
    ("matrix", "block.sums", "joined"),
    ("matrix", "block.joined_values", 0),
    ("matrix", "block.joined_rows", 1),
    ("matrix", "block.pixels", "any"),
    ("matrix", "block.patch_columns", 1),
    ("matrix", "block.strided_rows", 0),
    ("matrix", "block.finish_cycles", 0),
    ("matrix", "block.finish_column_cycles", 0),
    ("matrix", "block.inputs_first", False),
    ("vector", "lines.input_cycles", 0),
    ("vector", "lines.result_cycles", 0),
    ("vector", "lines.behind_products", False),
    ("vector", "arrangement", "lanes"),
    ("vector", "passes_results", False),
    ("dram", "sustained_share", 1),
    ("overheads", "per_inference_us", 0),
    ("overheads", "per_layer_us", 0),
    ("weights", "compression", 1),
    ("weights", "kept_kib", 0),
    ("weights", "beside_activations", False),
    ("weights", "memory.first_access_latency_ns", 0),
    ("weights", "memory.burst_bytes", 1),
    ("weights", "memory.read_pj_per_byte", 0),
    ("fallback", "per_operator_us", 0),
    ("processor", "per_operator_us", 0),
    ("host", "per_transfer_us", 0),
    ("links", "hop_cycles", 0),
    ("dma", "start_cycles", 0),
)
_NO_SOURCE = ("", "no source given")


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRow:
    """One figure: ``section`` and ``field`` as in the file, ``value``, ``unit``, ``kind`` and ``source``."""

    section: str
    field: str
    value: Any
    unit: str
    kind: str
    source: str

    @property
    def path(self) -> str:
        """The dotted path that ``sources`` refer to."""
        return self.field if self.section == "machine" else f"{self.section}.{self.field}"


def describe(machine: MachineSpec) -> list[FieldRow]:
    """Rows for all figures and choices of ``machine``, in the order of the file; what is not set is left out.

    The row timing of a named DRAM grade follows as section ``dram.timing`` with the grade's own sources.
    """
    rows = [_row(machine, section, name, value) for section, name, value in figures(machine)]
    grade = machine.dram.grade
    if grade is not None and machine.dram.row_timing is not None:
        for name, value in _leaves(machine.dram.row_timing, ""):
            kind, source = next(
                (kind, source) for pattern, kind, source in GRADE_SOURCES[grade] if fnmatchcase(name, pattern)
            )
            rows.append(
                FieldRow(section="dram.timing", field=name, value=value, unit=_unit(name), kind=kind, source=source)
            )
    return rows


def unused_sources(machine: MachineSpec) -> list[str]:
    """Sentences on paths in ``sources`` that are those of no figure."""
    paths = [row.path for row in describe(machine)]
    return [
        f'a source names "{pattern}", and no figure is called so{did_you_mean(pattern, paths)}'
        for entry in machine.sources
        for pattern in entry.fields
        if "changed from" not in entry.source and not any(fnmatchcase(path, pattern) for path in paths)
    ]


def too_small(machine: MachineSpec) -> list[str]:
    """A sentence on a working buffer without room for one tile of the whole array: then no command ever fills it."""
    unit, buffer = machine.matrix, machine.working_buffer
    depth = 1 if unit.block is None else unit.block.depth
    bits = min(format_bits(name) for name in unit.multiplies_per_pe_per_cycle)
    n_elements = depth * (unit.rows + unit.columns) + unit.rows * unit.columns
    need = bits_to_bytes(n_elements * bits)
    if buffer.capacity_bytes >= need:
        return []
    return [
        f"buffers.{buffer.name}.capacity_kib: {buffer.capacity_bytes:,} bytes hold no tile of the whole array "
        f"({unit.size_text}, with operands and results {need:,} bytes), so that it is never filled; "
        f"with {need / KIB:g} KiB it can be"
    ]


def figures(machine: MachineSpec) -> Iterator[tuple[str, str, Any]]:
    """(section, field, value) of every figure and choice that the file gives and that needs a source."""
    yield "machine", "clock_ghz", machine.clock_ghz
    yield "machine", "n_cores", machine.n_cores
    for section in ("matrix", "vector"):
        for name, value in _leaves(getattr(machine, section), ""):
            if (section, name, value) not in _NO_FIGURES:
                yield section, name, value
    for buffer in machine.buffers:
        yield from _of_buffer(buffer)
    if machine.residency != "none":
        yield "machine", "residency", machine.residency
    if machine.lacks:
        yield "machine", "lacks", ", ".join(machine.lacks)
    if machine.pim is not None:
        yield "machine", "pim", machine.pim
    for section in ("dram", "energy", "area", "gpu", "overheads", "weights", "fallback", "host", "links", "dma"):
        for name, value in _leaves(getattr(machine, section), ""):
            if (section, name, value) not in _NO_FIGURES:
                yield section, name, value

    for name, group in machine.groups.items():
        yield from _of_group(f"groups.{name}", group)


def _of_group(section: str, group: GroupSpec) -> Iterator[tuple[str, str, Any]]:
    """Of a group of cores beside the main one; what is as there has no rows."""
    if group.processor is None:
        yield section, "n_cores", group.n_cores
    for name, value in _leaves(replace(group, n_cores=1, buffers=(), lacks=()), ""):
        below, _, rest = name.partition(".")
        if name != "n_cores" and (below, rest, value) not in _NO_FIGURES:
            yield section, name, value
    for buffer in group.buffers:
        for part, name, value in _of_buffer(buffer):
            yield f"{section}.{part}", name, value
    if group.lacks:
        yield section, "lacks", ", ".join(group.lacks)


def _of_buffer(buffer: BufferSpec) -> Iterator[tuple[str, str, Any]]:
    for name, value in _leaves(buffer, ""):
        if name != "name" and not name.startswith("holds.") and (name, value) != ("latency_cycles", 0):
            yield f"buffers.{buffer.name}", name, value
    if buffer.holds != BufferSpec.__dataclass_fields__["holds"].default:
        yield f"buffers.{buffer.name}", "holds", ", ".join(buffer.holds)


def figures_hash(machine: MachineSpec) -> str:
    """Sixteen hexadecimal digits that two machines share only when all their figures are the same.

    Names of buffers count, for figures refer to them; the machine's own name, its description and sources do not.
    """
    rows = [[section, name, value] for section, name, value in figures(machine)]
    names = [buffer.name for buffer in machine.buffers]
    names += [f"{name}.{buffer.name}" for name, group in machine.groups.items() for buffer in group.buffers]
    text = json.dumps([names, rows], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _row(machine: MachineSpec, section: str, name: str, value: Any) -> FieldRow:
    path = name if section == "machine" else f"{section}.{name}"
    if isinstance(value, TableFigure) and machine.energy.node_nm is not None:
        said = f"{table_source(name)}, at {machine.energy.node_nm:g} nm"
        return FieldRow(section=section, field=name, value=float(value), unit=_unit(path), kind="derived", source=said)
    kind, source = next(
        (
            (entry.kind, entry.source)
            for entry in machine.sources
            if any(fnmatchcase(path, pattern) for pattern in entry.fields)
        ),
        _NO_SOURCE,
    )
    return FieldRow(section=section, field=name, value=value, unit=_unit(path), kind=kind, source=source)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of everything set below ``value``."""
    if is_dataclass(value):
        for entry in fields(value):
            yield from _leaves(getattr(value, entry.name), f"{path}.{entry.name}" if path else entry.name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, tuple):
        for position, item in enumerate(value):
            yield from _leaves(item, f"{path}.{position}")
    elif value is not None:
        yield path, value


def _unit(path: str) -> str:
    for step in reversed(path.split(".")):
        for suffix, unit in _UNITS:
            if step.endswith(suffix):
                return unit
        if step == "cycles":
            return "cycles"
    return ""
