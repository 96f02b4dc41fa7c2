"""A machine as the YAML text of a machine file: what it reads back is equal to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tilewright.document_yaml import scalar_rules
from tilewright.hw_models.energy_table import TableFigure
from tilewright.hw_models.spec import EnergySpec, MachineSpec

if TYPE_CHECKING:
    import yaml

__all__ = ["machine_yaml"]


def machine_yaml(machine: MachineSpec) -> str:
    """The text of a file that describes ``machine``; what is as if left out is left out."""
    import yaml

    text: str = yaml.dump(
        _plain(machine), Dumper=_dumper(), sort_keys=False, width=120, allow_unicode=True, default_flow_style=None
    )
    return text


@lru_cache(maxsize=1)
def _dumper() -> type[yaml.SafeDumper]:
    """PyYAML's safe writer, which puts text into quotes that YAML 1.2 reads as a number, too: ``"1e9"``."""
    import yaml

    class Dumper(yaml.SafeDumper):
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: list(rules) for first, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()
        }

    for tag, pattern, first in scalar_rules():
        Dumper.add_implicit_resolver(tag, re.compile(pattern), first)
    return Dumper


def _plain(value: Any) -> Any:
    if isinstance(value, EnergySpec) and value.node_nm is not None:  # what tables give is left to them; a 0 counts
        own = {entry.name: getattr(value, entry.name) for entry in fields(value)}
        given = {name: _own_figures(item) for name, item in own.items()}
        return {name: _plain(item) for name, item in given.items() if item is not None and item != {}}
    if is_dataclass(value):
        kept = ((entry, getattr(value, entry.name)) for entry in fields(value))
        return {entry.name: _plain(item) for entry, item in kept if item is not None and item != _default(entry)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _own_figures(value: Any) -> Any:
    """``value`` without figures of tables."""
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if not isinstance(item, TableFigure)}
    return None if isinstance(value, TableFigure) else value


def _default(entry: Any) -> Any:
    if entry.default is not MISSING:
        return entry.default
    return entry.default_factory() if entry.default_factory is not MISSING else MISSING
