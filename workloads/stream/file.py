"""Operator streams as JSON files: one tensor or operator a line, with the version of the form they are in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from tilewright.document import validate_data
from tilewright.document_text import parse_json, read_json, read_text
from tilewright.errors import InputError
from tilewright.workloads.operators import Operator, Role, TensorSpec
from tilewright.workloads.stream.graph import OperatorStream

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "is_stream_file",
    "load_stream",
    "save_stream",
    "stream_from_json",
    "stream_to_json",
]

SCHEMA = "tilewright.operator_stream"
SCHEMA_VERSION = 1

_Name = Annotated[str, Field(min_length=1)]
_Count = Annotated[int, Field(strict=True, ge=1)]
_Place = Annotated[int, Field(strict=True, ge=0)]
_Attribute = StrictBool | StrictInt | StrictFloat | StrictStr | list[StrictInt]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _TensorEntry(_Entry):
    name: _Name
    shape: list[_Count]
    number_format: _Name
    role: Role = "activation"
    view_of: str | None = None
    density: float = 1.0
    as_shape: list[_Count] = []
    order: list[_Place] = []
    start: list[_Place] = []


class _OperatorEntry(_Entry):
    name: _Name
    kind: _Name
    inputs: list[_Name]
    outputs: list[_Name]
    attributes: dict[str, _Attribute] = {}
    path: str = ""


class _StreamFile(_Entry):
    """A stream file."""

    schema_name: Annotated[Literal["tilewright.operator_stream"], Field(alias="schema")]
    version: Literal[1]
    name: _Name
    source: str = ""
    n_steps: _Count = 1
    n_parameters: _Count | None = None
    inputs: list[_Name]
    outputs: list[_Name]
    tensors: list[_TensorEntry]
    operators: list[_OperatorEntry]


def stream_to_json(stream: OperatorStream) -> str:
    """``stream`` as JSON text that :func:`stream_from_json` reads back to an equal stream."""
    head: dict[str, Any] = {"schema": SCHEMA, "version": SCHEMA_VERSION, "name": stream.name}
    for key, usual in (("source", ""), ("n_steps", 1), ("n_parameters", None)):
        if getattr(stream, key) != usual:
            head[key] = getattr(stream, key)
    head |= {"inputs": list(stream.inputs), "outputs": list(stream.outputs)}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    lines += [_block("tensors", [_tensor_entry(tensor) for tensor in stream.tensors])]
    lines += [_block("operators", [_operator_entry(operator) for operator in stream.operators])]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _block(key: str, entries: list[dict[str, Any]]) -> str:
    return f"{json.dumps(key)}: [\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in entries) + "\n]"


def _tensor_entry(tensor: TensorSpec) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": tensor.name, "shape": tensor.shape, "number_format": tensor.number_format}
    if tensor.role != "activation":
        entry["role"] = tensor.role
    if tensor.view_of is not None:
        entry["view_of"] = tensor.view_of
    if tensor.density != 1:
        entry["density"] = tensor.density
    for key in ("as_shape", "order", "start"):
        if getattr(tensor, key):
            entry[key] = getattr(tensor, key)
    return entry


def _operator_entry(operator: Operator) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": operator.name,
        "kind": operator.kind,
        "inputs": operator.inputs,
        "outputs": operator.outputs,
        "attributes": dict(operator.attributes),
    }
    return entry | ({"path": operator.path} if operator.path else {})


def stream_from_json(text: str, *, name: str) -> OperatorStream:
    """The stream in JSON ``text``; ``name`` stands for the file in error texts.

    Raises InputError with the line and column of a fault in the JSON, the version when it is another, every field
    that is wrong, or the operator or tensor that does not fit the others.
    """
    data = parse_json(text, what="operator stream", name=name)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InputError(f'{name}: schema: this JSON file is no operator stream; allowed "schema": "{SCHEMA}"')
    if data.get("version") != SCHEMA_VERSION:
        raise InputError(
            f"{name}: version: given {data.get('version')}; allowed {SCHEMA_VERSION} (save the stream anew)"
        )
    entry = validate_data(data, _StreamFile, what="operator stream", name=name)
    try:
        return _stream(entry)
    except InputError as fault:
        raise InputError(f"{name}: {fault}") from None


def _stream(entry: _StreamFile) -> OperatorStream:
    return OperatorStream(
        name=entry.name,
        tensors=tuple(
            TensorSpec(
                name=one.name,
                shape=tuple(one.shape),
                number_format=one.number_format,
                role=one.role,
                view_of=one.view_of,
                density=one.density,
                as_shape=tuple(one.as_shape),
                order=tuple(one.order),
                start=tuple(one.start),
            )
            for one in entry.tensors
        ),
        operators=tuple(
            Operator(
                name=one.name,
                kind=one.kind,
                inputs=tuple(one.inputs),
                outputs=tuple(one.outputs),
                attributes=one.attributes,
                path=one.path,
            )
            for one in entry.operators
        ),
        inputs=tuple(entry.inputs),
        outputs=tuple(entry.outputs),
        n_steps=entry.n_steps,
        n_parameters=entry.n_parameters,
        source=entry.source,
    )


def load_stream(path: str | Path) -> OperatorStream:
    """The stream in the JSON file ``path``; raises InputError as :func:`stream_from_json` does, or when it cannot be
    read.
    """
    text = read_text(path, what="operator stream", allowed="the path of an operator stream in JSON")
    return stream_from_json(text, name=str(path))


def is_stream_file(path: str | Path) -> bool:
    """Whether a JSON file is, or was meant to be, an operator stream: another mapping, such as a configuration, is
    none.
    """
    try:
        data = read_json(path, what="operator stream", allowed="the path of an operator stream in JSON")
    except InputError:
        return True
    return not isinstance(data, dict) or "schema" in data or "operators" in data


def save_stream(stream: OperatorStream, path: str | Path) -> None:
    """Write ``stream`` to the JSON file ``path``; raises InputError when that cannot be done."""
    try:
        Path(path).write_text(stream_to_json(stream), encoding="utf-8")
    except (OSError, ValueError) as fault:
        raise InputError(f"{path}: cannot be written ({_reason(fault)})") from None


def _reason(fault: Exception) -> str:
    return (getattr(fault, "strerror", None) or str(fault)).lower()
