"""Hugging Face configurations as operator streams: the model is built on the meta device, and nothing is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tilewright.document_text import read_json
from tilewright.errors import InputError, unknown
from tilewright.formats import tensor_format
from tilewright.workloads.extract.torch import first_line, silence, stream_from_torch
from tilewright.workloads.extract.transformers_inputs import cache_module, model_inputs, plain_module
from tilewright.workloads.stream.graph import OperatorStream

__all__ = ["stream_from_config"]

_COUNTS = ("batch", "seq", "image", "prefill", "decode", "context")
_FORMATS = ("weights", "activations", "cache")
_OPTIONS = (*_COUNTS, "logits", *_FORMATS)
_INSTALL = "reading configurations needs torch and transformers; install them with: pip install 'tilewright[zoo]'"


def stream_from_config(
    source: str | Path | Mapping[str, Any],
    options: Mapping[str, str | int] | None = None,
    *,
    unknown: str | Mapping[str, str] = "error",
    name: str = "",
) -> OperatorStream:
    """The operator stream of the model that a ``config.json`` of transformers describes.

    ``source`` is the file, its folder, or its content. Options: ``batch`` (1); ``seq`` tokens (128) or ``image``
    pixels (the configuration's); for models that generate, ``prefill`` tokens that fill a cache, or ``decode`` tokens
    behind a cache of ``context``, and ``logits`` of the last token or of all; ``weights``, ``activations`` and
    ``cache`` as number formats. One of diffusers (``_class_name``) has the options of
    :func:`~tilewright.workloads.extract.diffusers_config.stream_from_diffusers`. Raises InputError, one sentence, for
    a file that is none, a model that transformers does not know or torch cannot export, and options that do not fit.
    """
    data, what = (dict(source), name or "configuration") if isinstance(source, Mapping) else _read(Path(source), name)
    if "_class_name" in data:
        from tilewright.workloads.extract.diffusers_config import stream_from_diffusers

        return stream_from_diffusers(data, options or {}, what=what, unknown_operators=unknown)
    numbers, formats, logits = _checked(what, options or {})
    with silence():
        transformers, torch = _libraries()
        model = _model(what, transformers, torch, data)
        if numbers.get("prefill") or numbers.get("decode"):
            step, given, n_kept = cache_module(what, transformers, torch, model, numbers, all_logits=logits == "all")
            stream = stream_from_torch(step, given, name=what, caches=("cached",), n_kept=n_kept, unknown=unknown)
        else:
            inputs = model_inputs(what, torch, model, numbers)
            module = plain_module(torch, model, tuple(inputs))
            stream = stream_from_torch(module, list(inputs.values()), name=what, unknown=unknown)
    return stream.with_formats(**formats) if formats else stream


def _libraries() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError:
        raise InputError(_INSTALL) from None
    return transformers, torch


# --- what is asked for ----------------------------------------------------------------------------------------------


def _read(path: Path, name: str) -> tuple[dict[str, Any], str]:
    path = path / "config.json" if path.is_dir() else path
    data = read_json(path, what="configuration", allowed="the path of a config.json")
    if not isinstance(data, dict):
        raise InputError(f"{path}: is no configuration; allowed a mapping with model_type")
    return data, name or str(path)


def _checked(what: str, options: Mapping[str, str | int]) -> tuple[dict[str, int], dict[str, str], str]:
    """Sizes, formats and the choice of logits; raises InputError for what is none."""
    numbers: dict[str, int] = {}
    formats: dict[str, str] = {}
    for key, value in options.items():
        if key in _COUNTS:
            if not str(value).isdecimal() or int(value) < 1:
                raise InputError(f'{what}: {key}: must be a whole number; given "{value}"; allowed 1 or more')
            numbers[key] = int(value)
        elif key in _FORMATS:
            tensor_format(str(value))
            formats[key] = str(value)
        elif key != "logits":
            raise unknown("option", key, _OPTIONS, place=what)
    if "prefill" in numbers and "decode" in numbers:
        raise InputError(f"{what}: prefill: is another run than decode; given both; allowed one of prefill, decode")
    if "decode" in numbers and "context" not in numbers:
        raise InputError(f"{what}: context: missing; decode needs the number of cached tokens; allowed 1 or more")
    logits = str(options.get("logits", "last"))
    if logits not in ("last", "all"):
        raise unknown("choice", logits, ("last", "all"), place=f"{what}: logits")
    return numbers, formats, logits


# --- the model ------------------------------------------------------------------------------------------------------


def _model(what: str, transformers: Any, torch: Any, data: Mapping[str, Any]) -> Any:
    """The model of a configuration on the meta device, with fused attention where it has that."""
    kind = data.get("model_type")
    if not kind:
        raise InputError(f"{what}: model_type: missing; allowed the name of a model that transformers knows")
    try:
        settings = {key: value for key, value in data.items() if key not in ("model_type", "auto_map")}
        config = transformers.AutoConfig.for_model(kind, **settings)
    except Exception as fault:
        raise InputError(f"{what}: transformers {transformers.__version__} refuses it ({first_line(fault)})") from None
    builder = getattr(transformers, (data.get("architectures") or [""])[0], None)
    fault_text = ""
    for attention in ("sdpa", "eager"):
        config._attn_implementation = attention
        try:
            with torch.device("meta"):
                made = builder._from_config(config) if builder else transformers.AutoModel.from_config(config)
        except Exception as fault:
            fault_text = fault_text or first_line(fault)
            continue
        return made.eval()
    raise InputError(f"{what}: the model cannot be built ({fault_text})")
