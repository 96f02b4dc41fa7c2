"""Whole networks as operator streams: by name, from a stream file, from a model file or from a configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tilewright import errors
from tilewright.errors import InputError
from tilewright.workloads.masks.family import items_with_mask
from tilewright.workloads.single_operator import is_operator, operator_stream
from tilewright.workloads.stream.graph import OperatorStream

__all__ = [
    "Module",
    "load_network",
    "network_names",
    "network_options",
    "network_source",
    "network_stream",
    "parse_options",
    "split_options",
]

#: A PyTorch module (``torch.nn.Module``); the library is optional.
Module: TypeAlias = Any

_WAYS = "a built-in name, NAME:key=value,..., a stream (.json), an ONNX file (.onnx) or a config.json"
_PREFIX = "network:"  # where a layer could be meant, too; here it always is a network
_ENDINGS = (".json", ".onnx")
_OF_CONFIGURATIONS = ("batch", "frames", "height", "width", "text", "mask")  # not options of a mask's family


def network_names() -> tuple[str, ...]:
    """Names of the built-in networks."""
    from tilewright.workloads.zoo.catalogue import network_names as names

    return names()


def network_source(name: str) -> str:
    """Where the figures of the built-in network ``name`` come from; raises InputError when there is none so called."""
    from tilewright.workloads.zoo.catalogue import network_source as source

    return source(name)


def network_options(name: str) -> dict[str, int | str]:
    """The options of the built-in network ``name`` with their usual values; raises InputError for an unknown name."""
    from tilewright.workloads.zoo.catalogue import network_options as options

    return options(name)


def load_network(network: str | Path, *, unknown: str | Mapping[str, str] = "error") -> OperatorStream:
    """The operator stream that ``network`` names.

    A built-in name (``resnet-50``), a built-in name with options (``llama-3-8b:decode=1,context=8192,weights=int4``), a
    saved stream (``net.json``), an ONNX file, with sizes for its open dimensions where it has some
    (``model.onnx:batch=1,sequence=128``), or a Hugging Face configuration with options (``config.json:seq=128``,
    ``path/config.json:decode=1,context=512``); ``network:`` may stand before each. ``unknown`` says what
    becomes of operators of a model file or configuration that are not understood: "error" (they are listed with their
    places), "memory" (each counts as the traffic of its inputs and results), or a mapping from operator name to
    "memory", "view", "elementwise:FUNCTION" or "kind:NAME" (an operator kind that finds its attributes in shapes), with
    "*" for all others. Raises InputError that names the file or text
    and what is wrong with it.
    """
    text = str(network).strip().removeprefix(_PREFIX).strip()
    if is_operator(text):
        return operator_stream(text)
    from tilewright.workloads.zoo.catalogue import build_network
    from tilewright.workloads.zoo.catalogue import network_names as names

    place, options_text = split_options(text)
    if place in names():
        _refuse_choice(text, unknown)
        return build_network(place, parse_options(text, options_text, own=tuple(network_options(place))))
    if place.endswith(_ENDINGS) or "/" in place or os.path.isfile(place):
        own = _OF_CONFIGURATIONS if place.endswith(".json") else ()
        return _from_file(Path(place), parse_options(text, options_text, own=own), unknown)
    raise errors.unknown("network", text, names(), shown=_WAYS)


def network_stream(
    network: str | Path | OperatorStream | Module, inputs: Any = None, *, unknown: str | Mapping[str, str] = "error"
) -> OperatorStream:
    """The stream of a network given in any way: a stream, what :func:`load_network` takes, or a PyTorch module.

    ``inputs`` are what a module is called with: a tensor, a list of them, or a mapping by the names of its arguments.
    Raises InputError for a module without inputs, inputs without a module, and what is neither of these.
    """
    is_module = hasattr(network, "named_parameters") and hasattr(network, "forward")
    if inputs is not None and not is_module:
        raise InputError(f"inputs: are for PyTorch modules; given {type(network).__name__}")
    if isinstance(network, OperatorStream):
        return network
    if isinstance(network, str | Path):
        return load_network(network, unknown=unknown)
    kind = type(network).__name__
    if not is_module:
        raise InputError(f"network: given {kind}; allowed a name, a file, an operator stream or a PyTorch module")
    if inputs is None:
        raise InputError(f"{kind}: inputs: missing; a PyTorch module needs the tensors that it is called with")
    from tilewright.workloads.extract.torch import stream_from_torch

    if isinstance(inputs, Mapping):
        return stream_from_torch(network, (), keywords=inputs, unknown=unknown)
    given = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    return stream_from_torch(network, given, unknown=unknown)


def split_options(text: str) -> tuple[str, str]:
    """Name or path, and the options behind it: of a built-in name all behind the first colon, of a file all behind
    that of its ending, else the last colon that is followed by ``key=value`` parts them.
    """
    name, _, behind = (part.strip() for part in text.partition(":"))
    if name in network_names():
        return name, behind
    for ending in _ENDINGS:
        file, found, behind = text.partition(f"{ending}:")
        if found and "=" in behind:
            return f"{file}{ending}".strip(), behind.strip()
    place, colon, options = text.rpartition(":")
    if colon and ("=" in options or not options.strip()) and "/" not in options.partition("=")[0]:
        return place.strip(), options.strip()
    return (place.strip(), options.strip()) if colon and not text.endswith(_ENDINGS) and "/" not in text else (text, "")


def parse_options(what: str, text: str, *, own: Sequence[str] = ()) -> dict[str, str]:
    """``key=value,key=value`` as a mapping; raises InputError for an item that is none, or a key given twice.

    Options of a mask's family stay behind its name, where they are none of the network's ``own``.
    """
    options: dict[str, str] = {}
    for item in filter(None, items_with_mask(text, own) if "mask" in own else map(str.strip, text.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key or not value:
            raise InputError(f'{what}: expected key=value; given "{item}"')
        if key in options:
            raise InputError(f'{what}: {key}: given twice; given "{options[key]}" and "{value}"; allowed once')
        options[key] = value
    return options


def _refuse_choice(what: str, unknown: str | Mapping[str, str]) -> None:
    if unknown != "error":
        raise InputError(f"{what}: unknown: is for ONNX files and configurations; every operator here is understood")


def _from_file(path: Path, options: Mapping[str, str], unknown: str | Mapping[str, str]) -> OperatorStream:
    if path.suffix == ".onnx":
        from tilewright.workloads.extract.onnx import stream_from_onnx

        return stream_from_onnx(path, sizes=_sizes(path, options), unknown=unknown)
    if path.suffix != ".json":
        raise InputError(f'{path}: unknown kind of file; given "{path.suffix}"; allowed .json or .onnx')
    from tilewright.workloads.stream.file import is_stream_file, load_stream

    if path.is_file() and not is_stream_file(path):
        from tilewright.workloads.extract.transformers import stream_from_config

        return stream_from_config(path, options, unknown=unknown)
    if options:
        raise InputError(f"{path}: a saved stream has no options; given {', '.join(options)}")
    _refuse_choice(str(path), unknown)
    return load_stream(path)


def _sizes(path: Path, options: Mapping[str, str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for key, text in options.items():
        if not text.isdecimal() or int(text) < 1:
            raise InputError(f'{path}: {key}: must be a whole number; given "{text}"; allowed 1 or more')
        sizes[key] = int(text)
    return sizes
