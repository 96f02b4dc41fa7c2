"""How much worse a network gets when a layer is quantised: a table per layer, kept as a JSON file.

Each layer has options: a format for its weights and one for the activations that it multiplies them with. The
sensitivity of an option is what it adds to the loss (any unit, the same for the whole file); sensitivities of layers
are added. A file::

    {
      "schema": "tilewright.sensitivity", "version": 1,
      "network": "resnet-18",
      "measured_by": "Hessian trace x squared weight error, 1,024 images",
      "layers": [
        {"name": "stages.0.0.conv1", "operators": ["stages.0.0.conv1"], "n_weights": 36864, "macs": 115605504,
         "options": [{"weights": "int8", "activations": "int8", "sensitivity": 0.0016},
                     {"weights": "int4", "activations": "int4", "sensitivity": 0.4624, "sqnr_db": 17.1}]}
      ],
      "tied": [["stages.1.0.conv1", "stages.1.0.shortcut"]],
      "pinned": {"stem.conv": {"weights": "int8", "activations": "int8"}}
    }

``operators`` are the operators of the stream that the layer is (left out: the one that is called as the layer is). A
scan has no weights (``n_weights`` 0): its ``weights`` are its state, and its ``activations`` may be said tensor by
tensor, as ``x=int8,B=int8,C=fp16,dt=fp16``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from tilewright.document import STRICT_FIELDS, validate_data
from tilewright.document_text import read_json
from tilewright.document_yaml import short
from tilewright.errors import InputError, unknown
from tilewright.workloads.stream.tensor_formats import check_formats, mean_bits

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "LayerSensitivity",
    "OptionSensitivity",
    "PinnedFormats",
    "Sensitivity",
    "load_sensitivity",
    "save_sensitivity",
    "sensitivity_from_data",
]

SCHEMA = "tilewright.sensitivity"
SCHEMA_VERSION = 1

_Name = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(ge=0, le=10**15)]
#: Wide enough for any loss; sums, and shares of them, stay finite.
_Loss = Annotated[float, Field(ge=-1e30, le=1e30)]


def _check_format(place: str, name: str) -> None:
    try:
        check_formats(name)
    except InputError as fault:
        raise ValueError(f"{place}: {fault}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionSensitivity:
    """One option of a layer. ``method`` tells options of the same formats apart (``uniform``, ``kmeans``); empty for
    the only one. ``sqnr_db``: signal over quantisation noise of what the layer gives, where it was measured.
    """

    __pydantic_config__: ClassVar[Any] = STRICT_FIELDS

    weights: _Name
    activations: _Name
    sensitivity: _Loss
    method: str = ""
    sqnr_db: float | None = None

    def __post_init__(self) -> None:
        _check_format("weights", self.weights)
        _check_format("activations", self.activations)

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two options of tied layers the same."""
        return (self.weights, self.activations, self.method)

    @property
    def n_bits(self) -> float:
        """Bits of one weight and one activation together: the order from wide to narrow."""
        return float(mean_bits(self.weights) + mean_bits(self.activations))


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFormats:
    """The option that a layer must take."""

    __pydantic_config__: ClassVar[Any] = STRICT_FIELDS

    weights: _Name
    activations: _Name
    method: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.weights, self.activations, self.method)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSensitivity:
    """One layer: values of its weights, its multiply-adds for one input, its options.

    ``kind`` and ``block`` serve explanations: what sort of layer it is and the part of the network that it stands in;
    empty where they are to be taken from the stream.
    """

    __pydantic_config__: ClassVar[Any] = STRICT_FIELDS

    name: _Name
    n_weights: _Count
    macs: _Count
    options: Annotated[tuple[OptionSensitivity, ...], Field(min_length=1)]
    operators: tuple[_Name, ...] = ()
    kind: str = ""
    block: str = ""

    def __post_init__(self) -> None:
        twice = [key for key, times in Counter(option.key for option in self.options).items() if times > 1]
        if twice:
            raise ValueError(f"options: {self.name}: the option {_told(twice[0])} stands there twice; allowed once")

    @property
    def operator_names(self) -> tuple[str, ...]:
        """The operators of the stream that the layer is."""
        return self.operators or (self.name,)

    @property
    def reference(self) -> OptionSensitivity:
        """The widest option; of several the least sensitive."""
        return max(self.options, key=lambda option: (option.n_bits, -option.sensitivity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """The table of a network. ``tied``: sets of layers that take the same option; ``pinned``: the option of a layer."""

    __pydantic_config__: ClassVar[Any] = STRICT_FIELDS

    network: str
    measured_by: str
    layers: Annotated[tuple[LayerSensitivity, ...], Field(min_length=1)]
    tied: tuple[Annotated[tuple[str, ...], Field(min_length=2)], ...] = ()
    pinned: dict[str, PinnedFormats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [layer.name for layer in self.layers]
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise ValueError(f'layers: "{twice[0]}" stands there twice; allowed once')
        self._check_names("tied", (name for group in self.tied for name in group))
        self._check_names("pinned", self.pinned)
        for name, times in Counter(name for group in self.tied for name in group).items():
            if times > 1:
                raise ValueError(f'tied: "{name}" stands there twice; allowed once (layers of two sets are one set)')
        for name, formats in self.pinned.items():
            if formats.key not in {option.key for option in self.layer(name).options}:
                allowed = ", ".join(_told(option.key) for option in self.layer(name).options)
                raise ValueError(f"pinned: {name}: given {_told(formats.key)}; allowed {allowed}")

    def _check_names(self, place: str, given: Iterable[str]) -> None:
        known = {layer.name for layer in self.layers}
        for name in given:
            if name not in known:
                raise ValueError(str(unknown("layer", name, known, place=place, shown="a name of layers")))

    def layer(self, name: str) -> LayerSensitivity:
        """The layer called ``name``; raises InputError, with the nearest name, when there is none."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise unknown("layer", name, [layer.name for layer in self.layers], place=self.network)

    def pin(self, name: str, weights: str, activations: str, method: str = "") -> Sensitivity:
        """The same table with one more layer pinned; raises InputError for a layer or an option that is none."""
        pinned = PinnedFormats(weights=weights, activations=activations, method=method)
        try:
            return replace(self, pinned={**self.pinned, name: pinned})
        except ValueError as fault:
            raise InputError(f"{self.network}: {fault}") from None


def _told(key: tuple[str, str, str]) -> str:
    return "/".join(part for part in key if part)


def sensitivity_from_data(data: Any, *, name: str) -> Sensitivity:
    """The table that plain ``data`` (as in the file) describes; ``name`` stands for the file in error texts.

    Raises InputError with one line per fault.
    """
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InputError(f'{name}: schema: this file holds no sensitivities; allowed "schema": "{SCHEMA}"')
    version = data.get("version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise InputError(f"{name}: version: given {short(json.dumps(version))}; allowed {SCHEMA_VERSION}")
    rest = {key: value for key, value in data.items() if key not in ("schema", "version")}
    return validate_data(rest, Sensitivity, what="sensitivity", name=name)


def load_sensitivity(path: str | Path) -> Sensitivity:
    """The table in the JSON file ``path``; raises InputError that names the file, the place and the fault."""
    if not str(path):
        raise InputError("sensitivity: the name of the file is empty; allowed the path of a sensitivity file in JSON")
    data = read_json(path, what="sensitivity", allowed="the path of a sensitivity file in JSON")
    return sensitivity_from_data(data, name=str(path))


def save_sensitivity(sensitivity: Sensitivity, path: str | Path) -> None:
    """Write the table as a JSON file, one layer a line; raises InputError when it cannot be written."""
    head: list[tuple[str, Any]] = [("schema", SCHEMA), ("version", SCHEMA_VERSION)]
    head += [("network", sensitivity.network), ("measured_by", sensitivity.measured_by)]
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head]
    layers = ",\n".join(f"  {json.dumps(_entry(layer))}" for layer in sensitivity.layers)
    lines.append(f'"layers": [\n{layers}\n]')
    lines.append(f'"tied": {json.dumps(sensitivity.tied)}')
    pinned = {name: _without_usual(asdict(formats)) for name, formats in sensitivity.pinned.items()}
    lines.append(f'"pinned": {json.dumps(pinned)}')
    try:
        Path(path).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise InputError(f"{path}: cannot be written ({reason.lower()})") from None


def _entry(layer: LayerSensitivity) -> dict[str, Any]:
    entry = _without_usual(asdict(layer))
    entry["options"] = [_without_usual(asdict(option)) for option in layer.options]
    return entry


def _without_usual(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value not in ("", None, ())}
