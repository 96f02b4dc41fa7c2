"""A machine as the YAML text of a machine file: what it reads back is equal to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from tilewright.hw_models.spec import MachineSpec

__all__ = ["machine_yaml"]


def machine_yaml(machine: MachineSpec) -> str:
    """The text of a file that describes ``machine``; what is as if left out is left out."""
    import yaml

    return yaml.safe_dump(_plain(machine), sort_keys=False, width=120, allow_unicode=True, default_flow_style=None)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        kept = ((entry, getattr(value, entry.name)) for entry in fields(value))
        return {entry.name: _plain(item) for entry, item in kept if item is not None and item != _default(entry)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _default(entry: Any) -> Any:
    if entry.default is not MISSING:
        return entry.default
    return entry.default_factory() if entry.default_factory is not MISSING else MISSING
