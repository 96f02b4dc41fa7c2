"""Whether a name means an attention layer, a single operator or a whole network."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tilewright.errors import InputError, unknown

__all__ = ["Named", "layer_text", "what_is_named"]

_NETWORK_FILE = re.compile(r"\.(json|onnx)(:|$)")
_LAYER_FILE = re.compile(r"\.ya?ml$")
_PREFIX = re.compile(r"(attention|network):([^=:]+(:.*)?)$")
_WAYS = (
    "a built-in name, NAME:key=value,..., attention:key=value,..., an operator as gemm:m=512,n=768,k=768, a YAML file, "
    "or a model as .onnx or .json"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a text names: of which ``kind``, the ``text`` for its loader, and a ``note`` where it could be either."""

    kind: Literal["attention", "operator", "network"]
    text: str
    note: str = ""


def what_is_named(text: str, *, network_options: Sequence[str] = ()) -> Named:
    """Tell an attention layer from a single operator and from a whole network.

    A prefix decides (``network:bert-base``, ``attention:bert-base``); then the ending of a file (.onnx and .json are
    networks, .yaml is a layer); then the lists of built-in names. A name in both lists is the layer, unless an option
    behind it (``llama-3-8b:prefill=2048``) or one of ``network_options``, the options given that only networks have,
    says otherwise. Raises InputError for a name that is in neither list.
    """
    from tilewright.workloads.load import workload_names
    from tilewright.workloads.network import network_names
    from tilewright.workloads.single_operator import is_operator, operator_kinds, operator_texts

    text = text.strip()
    if is_operator(text):
        several = operator_texts()[text.partition(":")[0].strip()][1].is_network
        return Named(kind="network" if several else "operator", text=text)
    prefixed = _PREFIX.match(text)
    if prefixed:
        return Named(kind="network" if prefixed[1] == "network" else "attention", text=prefixed[2].strip())
    if _NETWORK_FILE.search(text):
        return Named(kind="network", text=text)
    name, _, changes = (part.strip() for part in text.partition(":"))
    layers, networks = (*workload_names(), "attention"), network_names()
    if name in layers and name in networks:
        return _one_of_both(text, name, changes, network_options)
    if name in networks:
        return Named(kind="network", text=text)
    if name not in layers and not _LAYER_FILE.search(text) and "/" not in name and not os.path.isfile(text):
        raise unknown("workload", text, [*layers, *networks, *operator_kinds()], shown=_WAYS)
    return Named(kind="attention", text=text)


def _one_of_both(text: str, name: str, changes: str, network_options: Sequence[str]) -> Named:
    from tilewright.workloads.fields import KEYS
    from tilewright.workloads.network import network_options as options_of

    keys = {item.partition("=")[0].strip() for item in changes.split(",")} if changes else set()
    if not keys <= set(KEYS) and keys & set(options_of(name)):
        return Named(kind="network", text=text)
    if network_options:
        note = f"{name} is taken as the whole network, because of {network_options[0]}"
        return Named(kind="network", text=text, note=note)
    note = f"{name} is taken as its attention layer; the whole network is network:{text}"
    return Named(kind="attention", text=text, note=note)


def layer_text(text: str) -> str:
    """``text`` for the loader of layers and single operators, without the prefix; raises InputError for a network."""
    from tilewright.workloads.load import workload_names
    from tilewright.workloads.network import network_names

    prefixed = _PREFIX.match(text.strip())
    if prefixed and prefixed[1] == "attention":
        return prefixed[2].strip()
    name = text.partition(":")[0].strip()
    if prefixed or _NETWORK_FILE.search(text) or (name in network_names() and name not in workload_names()):
        raise InputError(
            f'this takes attention layers and single operators; given the network "{text}"; '
            "networks go into simulate, compare and why (in Python: simulate_network, compare with a list of machines, "
            "why_network)"
        )
    return text
