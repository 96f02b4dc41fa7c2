"""Workloads by name, by ``key=value`` text, or from a YAML file."""

from __future__ import annotations

import functools
import os
from importlib import resources
from pathlib import Path

from tilewright.errors import unknown
from tilewright.workloads.attention import AttentionLayer
from tilewright.workloads.fields import Fields, layer_from_fields, override_fields, parse_fields

__all__ = ["load_workload", "workload_names", "workload_source"]

_OWN_LAYER = "attention"
_BUILT_IN = "networks/attention.yaml"
_FILE_ENDINGS = (".yaml", ".yml")
_WAYS = f"a built-in name, NAME:key=value,..., {_OWN_LAYER}:key=value,... or a YAML file"


def load_workload(workload: str | Path) -> AttentionLayer:
    """The attention layer that ``workload`` names.

    A built-in name (``bert-base``), a built-in name with changes (``bert-base:seq=4096,mask=causal``), a layer of your
    own (``attention:heads=12,seq=512,head_dim=64``), or the path of a YAML file with the same keys and a ``name``.
    Raises InputError that names the file or text, the key, what was given and what is allowed.
    """
    if isinstance(workload, Path) or _looks_like_a_path(workload):
        return _from_file(Path(workload))
    text = workload.strip()
    name, colon, changes = (part.strip() for part in text.partition(":"))
    if name == _OWN_LAYER:
        what = _name_of(name, changes)
        return layer_from_fields(what, parse_fields(changes, what=what))
    networks = _networks()
    if name not in networks:
        if os.path.isfile(text):  # where Path.is_file() raises for a name too long, this does not
            return _from_file(Path(text))
        raise unknown("workload", text, [*networks, _OWN_LAYER], shown=_WAYS)
    base, _ = networks[name]
    if not colon:
        return layer_from_fields(name, base)
    what = _name_of(name, changes)
    return layer_from_fields(what, override_fields(base, parse_fields(changes, what=what)))


def workload_names() -> tuple[str, ...]:
    """Names of the built-in workloads, in the order of their files."""
    return tuple(_networks())


def workload_source(name: str) -> str:
    """Where the figures of the built-in workload ``name`` come from; raises InputError when there is none so called."""
    networks = _networks()
    if name not in networks:
        raise unknown("workload", name, networks)
    return networks[name][1]


def _looks_like_a_path(text: str) -> bool:
    head = text.partition("=")[0]
    return text.endswith(_FILE_ENDINGS) or "/" in head


def _name_of(name: str, changes: str) -> str:
    return f"{name}:{''.join(changes.split())}".rstrip(":")


def _from_file(path: Path) -> AttentionLayer:
    from tilewright.document import load_document
    from tilewright.workloads.schema import AttentionFile

    return load_document(path, AttentionFile, what="workload").layer()


@functools.cache
def _networks() -> dict[str, tuple[Fields, str]]:
    """Built-in networks: name to (fields, source)."""
    from tilewright.document import parse_document
    from tilewright.workloads.schema import NetworksFile

    text = resources.files("tilewright.workloads").joinpath(_BUILT_IN).read_text(encoding="utf-8")
    document = parse_document(text, NetworksFile, what="built-in networks", name=_BUILT_IN)
    return {name: (entry.fields(), entry.source) for name, entry in document.networks.items()}
