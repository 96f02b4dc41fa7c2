"""ONNX files as operator streams: shapes by ONNX's own inference, formats from quantise and dequantise nodes.

Only the graph is read: weights kept in a file beside it are not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilewright.document_text import check_regular
from tilewright.errors import InputError
from tilewright.errors import unknown as unknown_name
from tilewright.workloads.extract.draft import Draft
from tilewright.workloads.extract.onnx_guard import LibraryError, ask, start
from tilewright.workloads.extract.onnx_nodes import NodeReader
from tilewright.workloads.extract.onnx_quantised import settle_quantised
from tilewright.workloads.extract.onnx_values import GraphValues
from tilewright.workloads.extract.simplify import simplify
from tilewright.workloads.extract.unknown import Unknown
from tilewright.workloads.stream.graph import OperatorStream

if TYPE_CHECKING:
    import onnx

__all__ = ["NEWEST_OPSET", "OLDEST_OPSET", "stream_from_onnx"]

#: Versions of the standard operator set that are understood.
OLDEST_OPSET, NEWEST_OPSET = 7, 26
#: What is older is read as far as the ONNX library can bring it to a newer one.
_OLDEST_READ = 9

_STANDARD = ("", "ai.onnx")
_FEW_BYTES = 4096
_MOST_BYTES = 2**31  # a protobuf message cannot have more
_WHOLE_TYPES = (6, 7, 9)  # int32, int64, bool
#: A graph that is older than this and cannot be read as it is, is brought to the second version first.
_OLDEST_CURRENT, _CONVERTED_TO = 13, 17
#: What reading a file raises whose parts contradict each other.
_FAULTS_OF_A_FILE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError)


def stream_from_onnx(
    source: str | Path | onnx.ModelProto,
    *,
    sizes: Mapping[str, int] | None = None,
    unknown: str | Mapping[str, str] = "error",
    fold_batch_norm: bool = True,
    name: str = "",
) -> OperatorStream:
    """The operator stream of an ONNX model.

    ``sizes`` gives the open dimensions of its inputs by their names (``{"batch": 1}``). ``unknown`` says what becomes
    of operators that are not understood: "error" (they are listed), "memory" (each counts as the traffic of its
    inputs and results), or a mapping from operator name to "memory", "view", "elementwise:FUNCTION" or "kind:NAME".
    Raises InputError, one sentence, for a file that is none or is cut short, an operator set that is too old or too
    new, a dimension that is not given, and operators that are not understood.
    """
    onnx = _onnx()
    start()
    what = name or (Path(source).name if isinstance(source, str | Path) else source.graph.name or "onnx model")
    model = _read(onnx, Path(source)) if isinstance(source, str | Path) else source
    _check_version(what, model)
    choice, given = Unknown(what, unknown), dict(sizes or {})
    try:
        model = _inlined(onnx, what, model)
        if _opset(model) < _OLDEST_READ:
            model = _converted(onnx, what, model)
        try:
            return _stream(what, model, source, given, choice, fold_batch_norm)
        except InputError:
            newer = _newer(onnx, what, model)
            if newer is None:
                raise
        return _stream(what, newer, source, given, Unknown(what, unknown), fold_batch_norm)
    except InputError as fault:
        raise InputError(" ".join(str(fault).split())) from None  # names in a file may hold anything
    except _FAULTS_OF_A_FILE as fault:
        raise InputError(f"{what}: is not a valid ONNX model ({_first_line(fault)})") from None


def _newer(onnx: Any, what: str, model: Any) -> Any:
    """The model in a newer operator set, where the ONNX library can bring it there; else None."""
    if not _OLDEST_READ <= _opset(model) < _OLDEST_CURRENT:
        return None
    try:
        return _converted(onnx, what, model)
    except InputError:
        return None


def _converted(onnx: Any, what: str, model: Any) -> Any:
    light, kept = _without_numbers(onnx, model)
    try:
        data = ask("convert", light.SerializeToString(), _CONVERTED_TO)
        return _with_numbers(onnx.ModelProto.FromString(data), kept)
    except LibraryError as fault:
        raise InputError(
            f"{what}: operator set {_opset(model)} cannot be brought to {_CONVERTED_TO} by the ONNX library ({fault})"
        ) from None


def _stream(
    what: str,
    model: Any,
    source: str | Path | onnx.ModelProto,
    sizes: dict[str, int],
    choice: Unknown,
    fold_batch_norm: bool,
) -> OperatorStream:
    draft = Draft(what)
    draft.masks_as_biases = choice.counts_all
    folder = Path(source).parent if isinstance(source, str | Path) else Path()
    values = GraphValues(model, draft, _open_sizes(what, model, sizes), folder)
    reader = NodeReader(draft, values, choice)
    reader.note_read(model.graph)
    for node in model.graph.node:
        reader.read(node)
    choice.complain()
    draft.outputs = [values.name_of(one.name) for one in model.graph.output]
    settle_quantised(draft, reader.scalings)
    simplify(draft, fold_batch_norm=fold_batch_norm)
    draft.n_parameters = values.count_parameters()
    if not draft.steps:
        raise InputError(f"{what}: nothing to run: its results are inputs or are known beforehand")
    return draft.finish(source=f"ONNX, operator set {_opset(model)}")


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise InputError("reading ONNX files needs onnx; install it with: pip install 'tilewright[onnx]'") from None
    return onnx


def _read(onnx: Any, path: Path) -> onnx.ModelProto:
    check_regular(path, allowed="the path of an ONNX file", most_bytes=_MOST_BYTES)
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise InputError(f"{path}: cannot be read ({reason.lower()})") from None
    try:
        model = onnx.load_model_from_string(data)
    except Exception as fault:
        # protobuf's own error class differs between its implementations
        raise InputError(f"{path}: is no ONNX file, or is cut short ({_first_line(fault)})") from None
    if not model.graph.node or not model.opset_import:
        raise InputError(f"{path}: is no ONNX file, or is cut short (it holds no graph)")
    return model


def _first_line(fault: Exception) -> str:
    return (str(fault).strip() or type(fault).__name__).splitlines()[0].rstrip(".")[:160]


def _opset(model: Any) -> int:
    return next((entry.version for entry in model.opset_import if entry.domain in _STANDARD), 0)


def _check_version(what: str, model: Any) -> None:
    version = _opset(model)
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise InputError(
            f"{what}: unsupported ONNX operator set; given {version}; allowed {OLDEST_OPSET} to {NEWEST_OPSET}"
        )


def _inlined(onnx: Any, what: str, model: Any) -> Any:
    """The model without functions of its own."""
    if not model.functions:
        return model
    light, kept = _without_numbers(onnx, model)
    try:
        return _with_numbers(onnx.ModelProto.FromString(ask("inline", light.SerializeToString())), kept)
    except LibraryError as fault:
        raise InputError(f"{what}: its functions cannot be put in their places ({fault})") from None


def _without_numbers(onnx: Any, model: Any) -> tuple[Any, dict[str, Any]]:
    """A copy of a model whose large tensors are said to be elsewhere, and those tensors."""
    kept: dict[str, Any] = {}
    light = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _copy_field(light, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _copy_field(light.graph, field.name, value)
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= _FEW_BYTES or tensor.external_data:
            light.graph.initializer.append(tensor)
            continue
        kept[tensor.name] = tensor
        stub = light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        stub.data_location = onnx.TensorProto.EXTERNAL
        stub.external_data.add(key="location", value="kept")
    return light, kept


def _copy_field(message: Any, name: str, value: Any) -> None:
    if hasattr(value, "CopyFrom"):
        getattr(message, name).CopyFrom(value)
    elif hasattr(value, "append"):
        getattr(message, name).extend(value)
    else:
        setattr(message, name, value)


def _with_numbers(model: Any, kept: Mapping[str, Any]) -> Any:
    """Put the large tensors back."""
    for tensor in model.graph.initializer:
        if tensor.external_data and tensor.name in kept:
            tensor.CopyFrom(kept[tensor.name])
    return model


def _open_sizes(what: str, model: Any, sizes: dict[str, int]) -> dict[str, int]:
    """Check that every open dimension of an input is given, and that nothing else is.

    A name sets every dimension that has it; INPUT.INDEX sets one of them; the name of an input of one whole number or
    truth sets its value.
    """
    needed, numbers = _open_places(model)
    names = list(dict.fromkeys(needed.values()))
    for key in sizes:
        if key not in needed and key not in names and key not in numbers:
            shown = ", ".join(names) or "none: all dimensions of this model are fixed"
            raise unknown_name("dimension", key, [*names, *needed, *numbers], place=what, shown=shown)
    missing = {name: place for place, name in needed.items() if not {place, name} & sizes.keys()}
    if missing:
        shown = ", ".join(f"{name} (of {place.rpartition('.')[0]})" for name, place in missing.items())
        example = ",".join(f"{name}=1" for name in names)
        each = [place for place, name in needed.items() if name in missing and list(needed.values()).count(name) > 1]
        more = f" (one of those that share a name by its place: {each[0]}=1)" if each else ""
        raise InputError(f"{what}: dimensions left open: {shown}; give their sizes, such as {example}{more}")
    return sizes


def _open_places(model: Any) -> tuple[dict[str, str], set[str]]:
    """Open dimensions of inputs, INPUT.INDEX, with the names that say their sizes; and inputs of one whole number."""
    known = {tensor.name for tensor in model.graph.initializer}
    needed: dict[str, str] = {}
    numbers: set[str] = set()
    for tensor in model.graph.input:
        if tensor.name in known:
            continue
        kind = tensor.type.tensor_type
        fixed = [one.dim_value if one.HasField("dim_value") else 0 for one in kind.shape.dim]
        if kind.elem_type in _WHOLE_TYPES and kind.HasField("shape") and all(size == 1 for size in fixed):
            numbers.add(tensor.name)
        for index, dimension in enumerate(kind.shape.dim):
            if fixed[index] < 1:
                place = f"{tensor.name}.{index}"
                needed[place] = dimension.dim_param or place
    return needed, numbers
