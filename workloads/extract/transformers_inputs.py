"""What models of transformers are called with: inputs on the meta device, and caches of what they have seen already."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tilewright.errors import InputError
from tilewright.workloads.extract.torch import first_line

__all__ = ["cache_module", "encoder_decoder", "model_inputs", "plain_module"]

_USUAL_TOKENS, _USUAL_SAMPLES, _USUAL_IMAGE = 128, 16000, 224
_FILLED = 16  # tokens that a cache is filled with to see its shapes; more are added to them
_ALLOWED = "allowed models of tokens (input_ids), pixels (pixel_values) or sound (input_features, input_values)"


def encoder_decoder(model: Any) -> bool:
    """Whether a model reads one sequence and writes another."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


# --- inputs ---------------------------------------------------------------------------------------------------------


def model_inputs(what: str, torch: Any, model: Any, numbers: Mapping[str, int]) -> dict[str, Any]:
    """Inputs of a model that is run once, by the names of its arguments, on the meta device.

    Raises InputError for a model whose main input is none of tokens, pixels and sound.
    """
    found = _main_input(what, torch, model, numbers)
    if "input_ids" in found and _reads_images_too(model):
        found["pixel_values"] = _pixels(torch, model, numbers)
    if encoder_decoder(model):
        found["decoder_input_ids"] = _tokens(torch, numbers.get("batch", 1), _n_tokens(model, numbers, "decoder"))
    return found


def _main_input(what: str, torch: Any, model: Any, numbers: Mapping[str, int]) -> dict[str, Any]:
    main = model.main_input_name
    if main == "pixel_values":
        return {main: _pixels(torch, model, numbers)}
    if main == "input_ids":
        return {main: _tokens(torch, numbers.get("batch", 1), _n_tokens(model, numbers, "text"))}
    shape = _sound_shape(model.config, numbers) if main in ("input_features", "input_values") else None
    if shape is None:
        raise InputError(f"{what}: its main input is {main}; {_ALLOWED}")
    return {main: torch.empty((numbers.get("batch", 1), *shape), device="meta", dtype=model.dtype)}


def _tokens(torch: Any, batch: int, count: int) -> Any:
    return torch.empty((batch, count), device="meta", dtype=torch.long)


def _n_tokens(model: Any, numbers: Mapping[str, int], side: str) -> int:
    """The tokens asked for, or the usual number as far as the model's positions go."""
    names = ("decoder", "text_config") if side == "decoder" else ("text_config", "text_encoder", "encoder")
    parts = (getattr(model.config, name, None) for name in names)
    config = next((part for part in parts if hasattr(part, "model_type")), model.config)
    limits = (
        getattr(config, name, None) for name in ("max_target_positions", "max_position_embeddings", "n_positions")
    )
    most = next((limit for limit in limits if isinstance(limit, int) and limit > 1), _USUAL_TOKENS)
    return numbers.get("seq", min(_USUAL_TOKENS, most))


def _reads_images_too(model: Any) -> bool:
    """Whether a model compares texts with images (others take images as tokens of the text, and run without)."""
    config = model.config
    has_tokens = any(getattr(config, name, None) is not None for name in ("image_token_id", "image_token_index"))
    takes_both = "pixel_values" in inspect.signature(model.forward).parameters
    return takes_both and hasattr(config, "vision_config") and not has_tokens


def _pixels(torch: Any, model: Any, numbers: Mapping[str, int]) -> Any:
    config = getattr(model.config, "vision_config", None) or getattr(model.config, "encoder", None) or model.config
    size = numbers.get("image") or getattr(config, "image_size", None) or _USUAL_IMAGE
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = int(getattr(config, "num_channels", 3))
    shape = (numbers.get("batch", 1), channels, int(height), int(width))
    return torch.empty(shape, device="meta", dtype=model.dtype)


def _sound_shape(config: Any, numbers: Mapping[str, int]) -> tuple[int, ...] | None:
    """One recording: bands by frames (Whisper), frames by features, or samples."""
    n_bands, n_positions = getattr(config, "num_mel_bins", None), getattr(config, "max_source_positions", None)
    if n_bands and n_positions and not hasattr(config, "input_feat_per_channel"):
        return (n_bands, 2 * n_positions)
    if n_bands and getattr(config, "max_length", None) and hasattr(config, "frequency_stride"):
        return (config.max_length, n_bands)
    for name in ("feature_projection_input_dim", "input_feat_per_channel"):
        if getattr(config, name, None):
            return (numbers.get("seq", _USUAL_TOKENS), getattr(config, name))
    return (numbers.get("seq", _USUAL_SAMPLES),) if hasattr(config, "conv_stride") else None


def plain_module(torch: Any, model: Any, names: Sequence[str]) -> Any:
    """A module that calls ``model`` with arguments of these names, keeps no cache and returns plain tensors."""

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


# --- caches ---------------------------------------------------------------------------------------------------------


def cache_module(
    what: str, transformers: Any, torch: Any, model: Any, numbers: Mapping[str, int], *, all_logits: bool
) -> tuple[Any, tuple[Any, ...], int]:
    """A module that prefills, or decodes behind, a cache: the module, its inputs, and how many of its last results are
    the cache afterwards.

    Its inputs are the tokens, the cached tensors, and what an encoder gives or reads. Raises InputError for a model
    that keeps no cache, or cannot be run with one.
    """
    keyword = _cache_keyword(what, model)
    batch, context = numbers.get("batch", 1), numbers.get("context", 0) if numbers.get("decode") else 0
    tokens = _tokens(torch, batch, numbers.get("decode") or numbers["prefill"])
    template = _empty_cache(transformers, model)
    extra = _main_input(what, torch, model, numbers) if encoder_decoder(model) else {}
    if context:
        states = _fill(what, torch, model, template, keyword, extra, _tokens(torch, batch, min(_FILLED, context)))
        cached = [_grown(torch, one, context) for one in _slots(template)]
        extra = {"encoder_outputs": states} if encoder_decoder(model) else {}
    else:
        cached = []
    names = list(extra)
    token_name = "decoder_input_ids" if encoder_decoder(model) else "input_ids"
    can_cut = "logits_to_keep" in inspect.signature(model.forward).parameters and not all_logits
    own = {"use_cache": True} | ({"logits_to_keep": 1} if can_cut else {})

    class Step(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Any, cached: Any, extra: Any) -> Any:
            cache = _with_tensors(template, cached) if cached else _empty_cache(transformers, model)
            given = dict(zip(names, extra, strict=True))
            if "encoder_outputs" in given:
                given["encoder_outputs"] = transformers.modeling_outputs.BaseModelOutput(given["encoder_outputs"])
            result = self.model(**{token_name: tokens, keyword: cache}, **given, **own, return_dict=True)
            return [result[0], *(slot[1] for slot in _slots(cache))]

    n_kept = len(_slots(template)) if context else _n_slots(what, torch, model, template, keyword, extra, tokens)
    return Step(), (tokens, cached, list(extra.values())), n_kept


def _cache_keyword(what: str, model: Any) -> str:
    parameters = inspect.signature(model.forward).parameters
    found = next((name for name in ("past_key_values", "cache_params") if name in parameters), None)
    if found is None:
        raise InputError(
            f"{what}: {type(model).__name__} keeps no cache; allowed prefill and decode for decoder models"
        )
    return found


def _empty_cache(transformers: Any, model: Any) -> Any:
    """A cache of keys and values; of the model's own kind where some of its layers keep states instead."""
    if encoder_decoder(model):
        return transformers.EncoderDecoderCache(transformers.DynamicCache(), transformers.DynamicCache())
    own = transformers.DynamicCache(config=model.config)
    if any(hasattr(layer, "recurrent_states") for layer in own.layers):
        return own
    return transformers.DynamicCache()


def _parts(cache: Any) -> list[Any]:
    """The caches of a cache: one, or that of the decoder and that of what the encoder gave."""
    pair = [getattr(cache, name, None) for name in ("self_attention_cache", "cross_attention_cache")]
    return pair if pair[0] is not None else [cache]


def _slots(cache: Any) -> list[tuple[str, Any]]:
    """Every tensor in a cache, with what it is: keys, values or state of the decoder, or one that does not grow."""
    found = []
    for number, part in enumerate(_parts(cache)):
        for layer in part.layers:
            kind = "grows" if number == 0 else "fixed"
            found += [
                (kind, one) for one in (getattr(layer, "keys", None), getattr(layer, "values", None)) if one is not None
            ]
            for states in (getattr(layer, "conv_states", {}), getattr(layer, "recurrent_states", {})):
                found += [("fixed", one) for one in states.values() if one is not None]
    return found


def _grown(torch: Any, slot: tuple[str, Any], context: int) -> Any:
    kind, tensor = slot
    shape = (*tensor.shape[:-2], context, tensor.shape[-1]) if kind == "grows" else tensor.shape
    return torch.empty(shape, device="meta", dtype=tensor.dtype)


def _with_tensors(template: Any, tensors: Sequence[Any]) -> Any:
    """A cache like ``template`` that holds other tensors, in the order of :func:`_slots`."""
    cache, given = copy.copy(template), iter(tensors)
    parts = [copy.copy(part) for part in _parts(template)]
    for part in parts:
        part.layers = [_layer_with(layer, given) for layer in part.layers]
    if len(parts) > 1:
        cache.self_attention_cache, cache.cross_attention_cache = parts
        cache.is_updated = dict.fromkeys(range(len(parts[1].layers)), True)
        return cache
    return parts[0]


def _layer_with(layer: Any, given: Any) -> Any:
    layer = copy.copy(layer)
    for name in ("keys", "values"):
        if getattr(layer, name, None) is not None:
            setattr(layer, name, next(given))
    for name in ("conv_states", "recurrent_states"):
        if hasattr(layer, name):
            setattr(
                layer, name, {key: None if one is None else next(given) for key, one in getattr(layer, name).items()}
            )
    return layer


def _fill(what: str, torch: Any, model: Any, cache: Any, keyword: str, extra: Mapping[str, Any], tokens: Any) -> Any:
    """Run the model once on the meta device, which fills ``cache``; returns what its encoder gives, if it has one."""
    name = "decoder_input_ids" if encoder_decoder(model) else "input_ids"
    try:
        with torch.no_grad(), _experts_of_any_format(model):
            result = model(**{name: tokens, keyword: cache}, **extra, use_cache=True, return_dict=True)
    except Exception as fault:
        raise InputError(f"{what}: cannot be run with a cache ({first_line(fault)})") from None
    return getattr(result, "encoder_last_hidden_state", None)


@contextlib.contextmanager
def _experts_of_any_format(model: Any) -> Iterator[None]:
    """Experts done by products in batches, which take every number format without a kernel."""
    before = model.get_experts_implementation() if hasattr(model, "get_experts_implementation") else None
    if not before:
        yield
        return
    model.set_experts_implementation("batched_mm")
    try:
        yield
    finally:
        model.set_experts_implementation(before)


def _n_slots(
    what: str, torch: Any, model: Any, template: Any, keyword: str, extra: Mapping[str, Any], tokens: Any
) -> int:
    few = tokens[:, : min(_FILLED, tokens.shape[1])]
    _fill(what, torch, model, template, keyword, extra, few)
    return len(_slots(template))
