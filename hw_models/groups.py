"""Unlike groups of cores in one machine: each is the machine with its own parts in place of the main group's.

A machine's own cores are its main group; ``groups`` stand beside them on the same DRAM. A file may give the parts of
the main group among ``groups`` too, under the name that ``main`` says (of a file without parts of its own: under the
first name); they are read as if they stood at the top.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from math import ceil
from typing import Any

from tilewright.document_yaml import Document, FieldPath, Place
from tilewright.errors import unknown
from tilewright.hw_models.energy_table import TableFigure
from tilewright.hw_models.spec import (
    EVERYTHING,
    WITH,
    BufferSpec,
    EnergySpec,
    GroupSpec,
    MachineSpec,
    SourceSpec,
)

__all__ = ["check_groups", "group_machine", "lifted", "main_alone", "main_path", "other_groups", "with_parts_of_shared"]

GROUPS, MAIN = "groups", "main"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
_BY_KEY = (
    "multiply_accumulate_pj",
    "matrix_elementwise_pj",
    "vector_pj",
    "buffer_read_pj_per_byte",
    "buffer_write_pj_per_byte",
)
#: Where fields of a group stand at the top, where they are called otherwise there.
_ELSEWHERE: Mapping[str, tuple[str, ...]] = {"per_layer_us": ("overheads", "per_layer_us")}


def group_machine(machine: MachineSpec, name: str) -> MachineSpec:
    """``machine`` with the cores of group ``name`` alone; constant power is that of the whole machine.

    A group that is a processor of a published rate is a machine whose cores lack every operator. Raises InputError for
    a name that is none of ``machine.group_names``.
    """
    if name not in machine.group_names:
        raise unknown("group", name, machine.group_names, place=machine.base_name)
    called = f"{machine.name}{', ' if WITH in machine.name else WITH}group={name}"
    if name == machine.main:
        return replace(machine, name=called, groups={})
    own = machine.groups[name]
    private = tuple(buffer for buffer in machine.buffers if not buffer.shared_by_cores)
    return replace(
        machine,
        name=called,
        clock_ghz=machine.clock_ghz if own.clock_ghz is None else own.clock_ghz,
        n_cores=own.n_cores,
        matrix=machine.matrix if own.matrix is None else own.matrix,
        vector=machine.vector if own.vector is None else own.vector,
        buffers=(*(own.buffers or private), *_reached(machine, own)),
        energy=_energy(machine, own),
        links=own.links,
        dma=machine.dma if own.dma is None else own.dma,
        lacks=own.lacks if own.processor is None else (EVERYTHING,),
        fallback=own.processor,
        overheads=machine.overheads
        if own.per_layer_us is None
        else replace(machine.overheads, per_layer_us=own.per_layer_us),
        area=None,
        main=name,
        groups={},
        sources=_sources(machine.sources, name),
    )


def main_alone(machine: MachineSpec) -> MachineSpec:
    """``machine``, of unlike groups of cores the main one alone: for what asks about one set of equal cores."""
    return group_machine(machine, machine.main) if machine.groups else machine


def other_groups(machine: MachineSpec, *, reaching: bool = True) -> tuple[MachineSpec, ...]:
    """The groups beside the main one as machines; constant power is left to the main one.

    ``reaching``: with their part of the buffers that they reach; else without these.
    """
    found = []
    for name, own in machine.groups.items():
        apart = machine if reaching else replace(machine, groups={name: replace(own, reaches=())})
        one = group_machine(apart, name)
        found.append(with_parts_of_shared(replace(one, energy=replace(one.energy, static_mw=0.0)), machine))
    return tuple(found)


def with_parts_of_shared(group: MachineSpec, machine: MachineSpec) -> MachineSpec:
    """``group`` (one of ``machine``, or its main one with all) with its part of each buffer that several groups reach:
    an equal one of the half that is for tiles. A byte costs there what it costs in the whole.
    """
    n_groups = {
        buffer.name: 1 + sum(buffer.name in own.reaches for own in machine.groups.values())
        for buffer in machine.buffers
    }
    several = {name: n for name, n in n_groups.items() if n > 1}
    if not several or not any(buffer.name in several and buffer.shared_by_cores for buffer in group.buffers):
        return group
    changes: dict[str, Any] = {}
    for label in ("buffer_read_pj_per_byte", "buffer_write_pj_per_byte"):
        costs = getattr(group.energy, label)
        changes[label] = {name: float(pj) if name in several else pj for name, pj in costs.items()}
    buffers = tuple(
        replace(one, capacity_kib=one.capacity_kib / (2 * several[one.name]))
        if one.shared_by_cores and one.name in several
        else one
        for one in group.buffers
    )
    groups = {name: replace(own, reaches=()) for name, own in group.groups.items()}
    return replace(group, buffers=buffers, energy=replace(group.energy, **changes), groups=groups)


def _reached(machine: MachineSpec, own: GroupSpec) -> tuple[BufferSpec, ...]:
    """The buffers of the main group that a group reaches, in cycles of its clock."""
    scale = 1.0 if own.clock_ghz is None else machine.clock_ghz / own.clock_ghz
    shared = {
        buffer.name: buffer
        for buffer in machine.buffers
        if buffer.shared_by_cores and None not in (buffer.read_bytes_per_cycle, buffer.write_bytes_per_cycle)
    }
    found = []
    for name in own.reaches:
        if name not in shared:
            fault = "no buffer with both bandwidths that the main group's cores share"
            raise ValueError(f"reaches: {unknown('buffer', name, shared, fault=fault)}")
        one = shared[name]
        rates: dict[str, Any] = {
            field_name: (getattr(one, field_name) or 0.0) * scale
            for field_name in ("read_bytes_per_cycle", "write_bytes_per_cycle")
        }
        found.append(replace(one, **rates, latency_cycles=ceil(one.latency_cycles / scale)))
    return tuple(found)


def check_groups(machine: MachineSpec) -> None:
    """Raise ValueError, with the field, for groups that cannot be: one that is called as the main one, parts that do
    not fit together, or beside what only one group of cores can have.
    """
    beside: dict[str, Any] = {
        "gpu": machine.gpu,
        "pim": machine.pim,
        "residency": None if machine.residency == "none" else machine.residency,
    }
    for field_name, given in beside.items():
        if given is not None:
            raise ValueError(f"{field_name}: given beside groups; allowed in a machine with one group of cores")
    for name in machine.groups:
        here = f"{GROUPS}.{name}"
        if not _NAME.fullmatch(name):
            raise ValueError(f"{here}: has characters that cannot be used; allowed letters, digits, _ + -")
        if name == machine.main:
            raise ValueError(f"{here}: the main group is called so, whose parts are given too; allowed another name")
        try:
            group_machine(machine, name)
        except ValueError as fault:
            raise ValueError(f"{here}.{fault}") from None


def _energy(machine: MachineSpec, own: GroupSpec) -> EnergySpec:
    """What an action costs in a group: as it says, else as in the main group by name, else by the node's tables."""
    energy, given = machine.energy, own.energy
    matrix = machine.matrix if own.matrix is None else own.matrix
    vector = machine.vector if own.vector is None else own.vector
    buffers = own.buffers or tuple(buffer for buffer in machine.buffers if not buffer.shared_by_cores)
    buffers = (*buffers, *_reached(machine, own))
    names = [buffer.name for buffer in buffers]
    keys: dict[str, Sequence[str]] = {
        "multiply_accumulate_pj": list(matrix.multiplies_per_pe_per_cycle),
        "matrix_elementwise_pj": list(matrix.elementwise_cycles),
        "vector_pj": list(vector.cycles),
        "buffer_read_pj_per_byte": names,
        "buffer_write_pj_per_byte": names,
    }
    changes: dict[str, Any] = {}
    for label in _BY_KEY:
        theirs, here = getattr(energy, label), getattr(given, label)
        known = {key: theirs[key] for key in keys[label] if key in theirs and not isinstance(theirs[key], TableFigure)}
        changes[label] = {**known, **here}
    for label in ("shift_pj", "add_pj"):
        theirs = getattr(energy, label)
        changes[label] = {key: pj for key, pj in theirs.items() if key in matrix.multiplies_per_pe_per_cycle}
    if given.register_pj_per_multiply_accumulate is not None:
        changes["register_pj_per_multiply_accumulate"] = given.register_pj_per_multiply_accumulate
    single = [changes.get(entry.name, getattr(energy, entry.name)) for entry in fields(energy)]
    left_out = any(set(keys[label]) - set(changes[label]) for label in _BY_KEY)
    if energy.node_nm is not None and not left_out and not any(isinstance(one, TableFigure) for one in single):
        changes |= {"node_nm": None, "dram_kind": None}  # nothing is left to tables
    return replace(energy, **changes)


def _sources(sources: Sequence[SourceSpec], name: str) -> tuple[SourceSpec, ...]:
    """The sources of a group's own figures by their names in its machine, then those of what it shares."""
    own = []
    for entry in sources:
        starts = (f"{GROUPS}.{name}.", f"{GROUPS}.*.")
        paths = tuple(path[len(start) :] for path in entry.fields for start in starts if path.startswith(start))
        if paths:
            own.append(replace(entry, fields=paths))
    return (*own, *sources)


def main_path(machine: MachineSpec, path: str) -> str:
    """``groups.NAME.matrix.rows`` of the main group as what it is, ``matrix.rows``; other paths as they are.

    Raises InputError for a group that is none of the machine's.
    """
    first, _, rest = path.partition(".")
    name, _, below = rest.partition(".")
    if first == GROUPS and name and machine.groups and name not in machine.group_names:
        raise unknown("group", name, machine.group_names, place=f"{machine.base_name}: {path}")
    if first != GROUPS or name != machine.main or not below:
        return path
    return ".".join(_ELSEWHERE.get(below, (below,)))


def lifted(document: Document, file: str, main: object = None) -> Document:
    """``document`` with the parts of the main group at the top, each with its place; as it is where they stand there.

    ``main``: what a base calls its main group. Parts that are given twice are left for the check of fields to refuse;
    raises InputError for a main group that is not there, placed in ``file``.
    """
    data = document.data
    groups = data.get(GROUPS) if isinstance(data, Mapping) else None
    if not isinstance(groups, Mapping):
        return document
    is_whole = "base" not in data and not {"matrix", "vector", "buffers"} & data.keys()
    name = data.get(MAIN, main) or (next(iter(groups), None) if is_whole else None)
    if is_whole and isinstance(name, str) and name not in groups:
        at = document.places[MAIN,]
        raise unknown("group", name, groups, place=f"{file}:{at.line}:{at.column}: {MAIN}")
    if not isinstance(name, str) or not isinstance(groups.get(name), Mapping) or "processor" in groups[name]:
        return document
    found: dict[str, Any] = {key: value for key, value in data.items() if key != GROUPS}
    places = {path: place for path, place in document.places.items() if path[:2] != (GROUPS, name)}
    for key, value in groups[name].items():
        to = _ELSEWHERE.get(key, (key,))
        if not _put(found, to, value):
            return document
        _move(document.places, places, (GROUPS, name, key), to)
    if MAIN not in data:
        found[MAIN] = name
        place = document.places.get((GROUPS, name))
        if place is not None:
            places[MAIN,] = replace(place, given=name)
    found[GROUPS] = {key: value for key, value in groups.items() if key != name}
    return Document(data=found, places=places)


def _put(data: dict[str, Any], path: FieldPath, value: Any) -> bool:
    """Set ``path``; mappings are joined. False where something else stands there."""
    *parents, last = path
    here: Any = data
    for step in parents:
        here[step] = dict(here.get(step) or {})
        here = here[step]
    old = here.get(last)
    if isinstance(old, Mapping) and isinstance(value, Mapping) and not old.keys() & value.keys():
        here[last] = {**old, **value}
        return True
    if old is not None:
        return False
    here[last] = value
    return True


def _move(old: Mapping[FieldPath, Place], new: dict[FieldPath, Place], source: FieldPath, to: FieldPath) -> None:
    for path, place in old.items():
        if path[: len(source)] == source:
            new.setdefault((*to, *path[len(source) :]), place)
