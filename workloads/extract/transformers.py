"""Hugging Face configurations as operator streams: the model is built on the meta device, and nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tilewright.errors import InputError, did_you_mean
from tilewright.formats import tensor_format
from tilewright.workloads.extract.torch import stream_from_torch
from tilewright.workloads.stream import OperatorStream

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
    ``cache`` as number formats. Raises InputError, one sentence, for a file that is none, a model that transformers
    does not know or torch cannot export, and options that do not fit.
    """
    data, what = (dict(source), name or "configuration") if isinstance(source, Mapping) else _read(Path(source), name)
    numbers, formats, logits = _checked(what, options or {})
    transformers, torch = _libraries()
    model = _model(what, transformers, torch, data)
    if numbers.get("prefill") or numbers.get("decode"):
        stream = _generating(what, transformers, torch, model, numbers, logits, unknown)
    else:
        inputs = _inputs(what, torch, model, numbers)
        stream = stream_from_torch(
            _Plain.of(torch, model, tuple(inputs)), list(inputs.values()), name=what, unknown=unknown
        )
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
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; allowed the path of a config.json") from None
    except json.JSONDecodeError as fault:
        raise InputError(f"{path}:{fault.lineno}:{fault.colno}: not valid JSON ({fault.msg.lower()})") from None
    except (OSError, ValueError, RecursionError) as fault:
        raise InputError(f"{path}: cannot be read ({str(fault).lower()})") from None
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
            hint = did_you_mean(key, _OPTIONS)
            raise InputError(f'{what}: unknown option; given "{key}"; allowed {", ".join(_OPTIONS)}{hint}')
    if "prefill" in numbers and "decode" in numbers:
        raise InputError(f"{what}: prefill: is another run than decode; given both; allowed one of prefill, decode")
    if "decode" in numbers and "context" not in numbers:
        raise InputError(f"{what}: context: missing; decode needs the number of cached tokens; allowed 1 or more")
    logits = str(options.get("logits", "last"))
    if logits not in ("last", "all"):
        raise InputError(f'{what}: logits: unknown choice; given "{logits}"; allowed last, all')
    return numbers, formats, logits


# --- the model ------------------------------------------------------------------------------------------------------


def _model(what: str, transformers: Any, torch: Any, data: Mapping[str, Any]) -> Any:
    """The model of a configuration on the meta device, with fused attention where it has that."""
    kind = data.get("model_type")
    if "_class_name" in data:
        raise InputError(
            f"{what}: is a configuration of diffusers; allowed those of transformers, which have model_type"
        )
    if not kind:
        raise InputError(f"{what}: model_type: missing; allowed the name of a model that transformers knows")
    try:
        settings = {key: value for key, value in data.items() if key not in ("model_type", "auto_map")}
        config = transformers.AutoConfig.for_model(kind, **settings)
    except Exception as fault:
        raise InputError(f"{what}: transformers {transformers.__version__} refuses it ({_first_line(fault)})") from None
    builder = getattr(transformers, (data.get("architectures") or [""])[0], None)
    fault_text = ""
    for attention in ("sdpa", "eager"):
        config._attn_implementation = attention
        try:
            with torch.device("meta"):
                made = builder._from_config(config) if builder else transformers.AutoModel.from_config(config)
        except Exception as fault:
            fault_text = fault_text or _first_line(fault)
            continue
        return made.eval()
    raise InputError(f"{what}: the model cannot be built ({fault_text})")


def _first_line(fault: Exception) -> str:
    text = str(fault).strip() or type(fault).__name__
    return text.splitlines()[0].rstrip(".:")[:200]


def _inputs(what: str, torch: Any, model: Any, numbers: Mapping[str, int]) -> dict[str, Any]:
    """Inputs of a model that is run once: tokens or pixels, on the meta device."""
    batch, main = numbers.get("batch", 1), model.main_input_name
    if main == "pixel_values":
        size = numbers.get("image") or _first_number(getattr(model.config, "image_size", 224))
        shape = (batch, int(getattr(model.config, "num_channels", 3)), size, size)
        return {main: torch.empty(shape, device="meta", dtype=model.dtype)}
    if main != "input_ids":
        raise InputError(
            f"{what}: its main input is {main}; allowed models of tokens (input_ids) or pixels (pixel_values)"
        )
    tokens = torch.empty((batch, numbers.get("seq", 128)), device="meta", dtype=torch.long)
    found = {main: tokens}
    if getattr(model.config, "is_encoder_decoder", False):
        found["decoder_input_ids"] = tokens
    return found


def _first_number(value: Any) -> int:
    return int(value[0] if isinstance(value, list | tuple) else value)


class _Plain:
    """Makes a module whose arguments are in order and whose results are plain tensors."""

    @staticmethod
    def of(torch: Any, model: Any, names: tuple[str, ...]) -> Any:
        """A module that calls ``model`` with arguments of these names and keeps no cache."""

        class Plain(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, *tensors: Any) -> Any:
                keywords = dict(zip(names, tensors, strict=True))
                if hasattr(model.config, "use_cache"):
                    keywords["use_cache"] = False
                results = self.model(**keywords, return_dict=True)
                return [one for one in results.values() if isinstance(one, torch.Tensor)]

        return Plain()


# --- models that generate -------------------------------------------------------------------------------------------


def _generating(
    what: str,
    transformers: Any,
    torch: Any,
    model: Any,
    numbers: Mapping[str, int],
    logits: str,
    unknown: str | Mapping[str, str],
) -> OperatorStream:
    """A prefill, or a step of decoding behind cached keys and values that are inputs of the stream."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None)
    if heads is None or getattr(config, "num_hidden_layers", None) is None:
        raise InputError(f"{what}: has no layers of key/value heads; allowed prefill and decode for decoder models")
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    batch, context = numbers.get("batch", 1), numbers.get("context", 0) if numbers.get("decode") else 0
    tokens = torch.empty((batch, numbers.get("decode") or numbers["prefill"]), device="meta", dtype=torch.long)
    shape = (batch, heads, context, width)
    cached = [
        torch.empty(shape, device="meta", dtype=model.dtype)
        for _ in range(2 * config.num_hidden_layers if context else 0)
    ]

    class Step(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, cached: Any) -> Any:
            cache = transformers.DynamicCache()
            for layer in range(len(cached) // 2):
                cache.update(cached[2 * layer], cached[2 * layer + 1], layer)
            extra = {"logits_to_keep": 1} if logits == "last" else {}
            result = self.model(input_ids=input_ids, past_key_values=cache, use_cache=True, **extra)
            kept = [one for layer in result.past_key_values.layers for one in (layer.keys, layer.values)]
            return [result[0], *kept]

    n_kept = 2 * int(config.num_hidden_layers)
    return stream_from_torch(Step(), (tokens, cached), name=what, caches=("cached",), n_kept=n_kept, unknown=unknown)
