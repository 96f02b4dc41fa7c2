"""Computers by what a table calls them: those of ``systems.yaml``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from annotated_types import Ge, Gt, MinLen

from tilewright.document import STRICT_FIELDS, parse_document
from tilewright.errors import InputError
from tilewright.hw_models.load import load_machine
from tilewright.hw_models.settings import changed_by_text, parted_name
from tilewright.hw_models.spec import HostLinkSpec, MachineSpec

__all__ = ["System", "system_named"]

_Text = Annotated[str, MinLen(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSpec:
    """What does the work: ``named`` so in tables (a regular expression), as the ``machine``; ``kind``: only as that."""

    __pydantic_config__ = STRICT_FIELDS

    named: _Text
    machine: _Text
    kind: Literal["GPU", "CPU", ""] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """What is around a part that is a card: the link of its results, and power that flows all the time."""

    __pydantic_config__ = STRICT_FIELDS

    named: _Text
    link_gb_per_s: Annotated[float, Gt(0)]
    power_w: Annotated[float, Ge(0)]
    source: _Text


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedSpec:
    """What is not described, and why."""

    __pydantic_config__ = STRICT_FIELDS

    named: _Text
    reason: _Text


@dataclass(frozen=True, slots=True, kw_only=True)
class _Systems:
    __pydantic_config__ = STRICT_FIELDS

    parts: tuple[PartSpec, ...]
    hosts: tuple[HostSpec, ...]
    refused: tuple[RefusedSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A computer: the ``machine`` that does the work, with its link where results cross one, and the host's power."""

    machine: MachineSpec
    host_w: float = 0.0


@cache
def _known() -> _Systems:
    text = files(__package__).joinpath("systems.yaml").read_text(encoding="utf-8")
    return parse_document(text, _Systems, what="systems", name="systems.yaml")


@cache
def _machine(text: str) -> MachineSpec:
    name, settings = parted_name(text)
    return changed_by_text(load_machine(name), settings)


@cache
def system_named(name: str, kind: str = "") -> System:
    """The computer that a table calls ``name``, whose ``kind`` of part ("GPU", "CPU") does the work.

    Raises InputError with the reason for one that is not described.
    """
    known = _known()
    for refused in known.refused:
        if re.search(refused.named, f"{name} {kind}"):
            raise InputError(f"{name}: not described: {refused.reason}")
    kinds = ("", "GPU" if "GPU" in kind else kind) if kind else ("", "GPU", "CPU")
    part = next((one for one in known.parts if one.kind in kinds and re.search(one.named, name)), None)
    if part is None:
        raise InputError(f"{name}: not described: no data sheet of it is in systems.yaml")
    machine = _machine(part.machine)
    if part.kind == "CPU":
        return System(machine=machine)
    host = next((one for one in known.hosts if re.search(one.named, name)), None)
    if host is None:
        return System(machine=machine)
    link = HostLinkSpec(name="the link to the host", bandwidth_gb_per_s=host.link_gb_per_s)
    return System(machine=replace(machine, host=link), host_w=host.power_w)
