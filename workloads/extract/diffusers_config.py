"""Configurations of diffusers' transformers that make videos and images, built on the meta device and exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from tilewright.errors import InputError, unknown
from tilewright.formats import tensor_format
from tilewright.workloads.attention import MASKS
from tilewright.workloads.extract.torch import first_line, silence, stream_from_torch
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.video_networks import completed_mask, known_mask, latent_canvas, latent_image

__all__ = ["CLASSES", "stream_from_diffusers"]

_FORMATS = ("weights", "activations")
_INSTALL = (
    "reading configurations of diffusers needs torch and diffusers; install them with: pip install 'tilewright[zoo]'"
)


class _Call(NamedTuple):
    """What a model is called with (by the names of its arguments), its tokens on each axis, and tokens of text that
    attend with them.
    """

    keywords: dict[str, Any]
    canvas: tuple[int, ...]
    n_text: int = 0


class _Class(NamedTuple):
    """The usual sizes of a class, and how it is called at the sizes given."""

    usual: Mapping[str, int]
    call: Callable[[str, Any, Any, Mapping[str, int]], _Call]


def stream_from_diffusers(
    data: Mapping[str, Any],
    options: Mapping[str, str | int],
    *,
    what: str,
    unknown_operators: str | Mapping[str, str] = "error",
) -> OperatorStream:
    """One denoising step of the transformer that a ``config.json`` of diffusers describes.

    Options: ``batch``, ``frames`` (not of SANA), ``height`` and ``width`` in pixels, ``text`` tokens; ``mask`` of
    self-attention; ``weights`` and ``activations`` as number formats. Raises InputError, one sentence, for a class that
    is none of :data:`CLASSES`, fields that diffusers refuses, and options that do not fit.
    """
    name = str(data["_class_name"])
    if name not in CLASSES:
        raise unknown("class of diffusers", name, CLASSES, place=what)
    own = CLASSES[name]
    numbers, formats, mask = _checked(what, own, options)
    with silence():
        diffusers, torch = _libraries()
        model = _model(what, diffusers, torch, name, data)
        call = own.call(what, torch, model, numbers)
        module = _plain(torch, model, tuple(call.keywords))
        stream = stream_from_torch(module, list(call.keywords.values()), name=what, unknown=unknown_operators)
    if mask not in MASKS:
        stream = _masked(stream, completed_mask(what, mask, call.canvas, call.n_text), call)
    return stream.with_formats(**formats) if formats else stream


def _libraries() -> tuple[Any, Any]:
    try:
        import diffusers
        import torch
    except ImportError:
        raise InputError(_INSTALL) from None
    return diffusers, torch


def _checked(what: str, own: _Class, options: Mapping[str, str | int]) -> tuple[dict[str, int], dict[str, str], str]:
    numbers, formats, mask = dict(own.usual), {}, "none"
    allowed = (*own.usual, *(("mask",) if "frames" in own.usual else ()), *_FORMATS)
    for key, value in options.items():
        if key not in allowed:
            raise unknown("option", key, allowed, place=what)
        if key in _FORMATS:
            tensor_format(str(value))
            formats[key] = str(value)
        elif key == "mask":
            mask = known_mask(what, str(value))
        elif not str(value).isdecimal() or int(value) < 1:
            raise InputError(f'{what}: {key}: must be a whole number; given "{value}"; allowed 1 or more')
        else:
            numbers[key] = int(value)
    return numbers, formats, mask


def _model(what: str, diffusers: Any, torch: Any, name: str, data: Mapping[str, Any]) -> Any:
    try:
        with torch.device("meta"):
            return getattr(diffusers, name).from_config(dict(data)).eval()
    except Exception as fault:
        raise InputError(f"{what}: diffusers {diffusers.__version__} refuses it ({first_line(fault)})") from None


def _plain(torch: Any, model: Any, names: tuple[str, ...]) -> Any:
    """A module that calls ``model`` by keywords, sees all of the text, and returns a plain tensor."""

    class Plain(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            keywords = dict(zip(names, tensors, strict=True))
            if "rotary_cos" in keywords:
                keywords["image_rotary_emb"] = (keywords.pop("rotary_cos"), keywords.pop("rotary_sin"))
            if "pooled_projections" in keywords:
                text = keywords["encoder_hidden_states"]
                keywords["encoder_attention_mask"] = torch.ones(text.shape[:2], dtype=torch.long, device=text.device)
            return self.model(**keywords, return_dict=False)[0]

    return Plain()


def _masked(stream: OperatorStream, mask: str, call: _Call) -> OperatorStream:
    """With ``mask`` in the attentions of all tokens with each other."""
    tokens = call.n_text
    n = 1
    for extent in call.canvas:
        n *= extent
    tokens += n
    operators = tuple(
        replace(one, attributes={**dict(one.attributes), "mask": mask})
        if one.kind == "attention" and one.count("query_len") == one.count("key_len") == tokens
        else one
        for one in stream.operators
    )
    return replace(stream, operators=operators)


# --- what each class is called with -----------------------------------------------------------------------------------


def _empty(torch: Any, *shape: int, whole: bool = False) -> Any:
    return torch.empty(shape, device="meta", dtype=torch.long if whole else torch.float32)


def _need_patches(what: str, sizes: Mapping[str, int], patch: int) -> None:
    for key, size in sizes.items():
        if size % patch:
            raise InputError(f"{what}: {key}: {size} latent places; allowed multiples of the patch, {patch}")


def _wan(what: str, torch: Any, model: Any, numbers: Mapping[str, int]) -> _Call:
    config, canvas, batch = model.config, latent_canvas(what, numbers), numbers["batch"]
    patch = tuple(config.patch_size)
    for key, size, one in zip(("frames", "height", "width"), canvas, patch, strict=True):
        _need_patches(what, {key: size}, one)
    if config.image_dim or config.added_kv_proj_dim:
        raise InputError(f"{what}: image_dim: is for a picture that a video begins with; allowed null (text to video)")
    keywords = {
        "hidden_states": _empty(torch, batch, config.in_channels, *canvas),
        "timestep": _empty(torch, batch, whole=True),
        "encoder_hidden_states": _empty(torch, batch, numbers["text"], config.text_dim),
    }
    return _Call(keywords, tuple(size // one for size, one in zip(canvas, patch, strict=True)))


def _cogvideox(what: str, torch: Any, model: Any, numbers: Mapping[str, int]) -> _Call:
    config, canvas, batch = model.config, latent_canvas(what, numbers), numbers["batch"]
    patch, of_time = config.patch_size, config.patch_size_t or 1
    _need_patches(what, {"height": canvas.rows, "width": canvas.columns}, patch)
    frames = -(-canvas.frames // of_time)
    tokens = (frames, canvas.rows // patch, canvas.columns // patch)
    n = frames * tokens[1] * tokens[2]
    keywords = {
        "hidden_states": _empty(torch, batch, frames * of_time, config.in_channels, canvas.rows, canvas.columns),
        "timestep": _empty(torch, batch, whole=True),
        "encoder_hidden_states": _empty(torch, batch, numbers["text"], config.text_embed_dim),
    }
    if config.ofs_embed_dim:
        keywords["ofs"] = _empty(torch, batch)
    if config.use_rotary_positional_embeddings:
        keywords |= {f"rotary_{name}": _empty(torch, n, config.attention_head_dim) for name in ("cos", "sin")}
    return _Call(keywords, tokens, numbers["text"])


def _hunyuan(what: str, torch: Any, model: Any, numbers: Mapping[str, int]) -> _Call:
    config, canvas, batch = model.config, latent_canvas(what, numbers), numbers["batch"]
    patch, of_time = config.patch_size, config.patch_size_t
    sizes = {"frames": canvas.frames, "height": canvas.rows, "width": canvas.columns}
    for key, one in zip(sizes, (of_time, patch, patch), strict=True):
        _need_patches(what, {key: sizes[key]}, one)
    keywords = {
        "hidden_states": _empty(torch, batch, config.in_channels, *canvas),
        "timestep": _empty(torch, batch, whole=True),
        "encoder_hidden_states": _empty(torch, batch, numbers["text"], config.text_embed_dim),
        "pooled_projections": _empty(torch, batch, config.pooled_projection_dim),
    }
    if config.guidance_embeds:
        keywords["guidance"] = _empty(torch, batch)
    tokens = (canvas.frames // of_time, canvas.rows // patch, canvas.columns // patch)
    return _Call(keywords, tokens, numbers["text"])


def _sana(what: str, torch: Any, model: Any, numbers: Mapping[str, int]) -> _Call:
    config, batch = model.config, numbers["batch"]
    rows, columns = latent_image(what, numbers)
    _need_patches(what, {"height": rows, "width": columns}, config.patch_size)
    keywords = {
        "hidden_states": _empty(torch, batch, config.in_channels, rows, columns),
        "encoder_hidden_states": _empty(torch, batch, numbers["text"], config.caption_channels),
        "timestep": _empty(torch, batch),
    }
    if config.guidance_embeds:
        keywords["guidance"] = _empty(torch, batch)
    return _Call(keywords, (rows // config.patch_size, columns // config.patch_size))


def _video(frames: int, height: int, width: int, text: int) -> Mapping[str, int]:
    return {"batch": 1, "frames": frames, "height": height, "width": width, "text": text}


#: Classes of diffusers whose configurations are read, with the sizes that they have where none are given.
CLASSES: Mapping[str, _Class] = {
    "WanTransformer3DModel": _Class(_video(81, 480, 832, 512), _wan),
    "CogVideoXTransformer3DModel": _Class(_video(49, 480, 720, 226), _cogvideox),
    "HunyuanVideoTransformer3DModel": _Class(_video(129, 720, 1280, 256), _hunyuan),
    "SanaTransformer2DModel": _Class({"batch": 1, "height": 1024, "width": 1024, "text": 300}, _sana),
}
