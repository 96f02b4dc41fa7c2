"""Names, options and sizes of the diffusion transformers of videos, and of SANA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from tilewright.errors import InputError, unknown
from tilewright.workloads.attention import MASKS
from tilewright.workloads.masks.family import FAMILIES, check_mask, extents_text
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo import sana, video
from tilewright.workloads.zoo.layers import Layers

__all__ = [
    "VIDEO_NETWORKS",
    "VideoNetwork",
    "completed_mask",
    "known_mask",
    "latent_canvas",
    "latent_image",
    "need_multiple",
]

Options = Mapping[str, int]

_OF_SPACE, _OF_TIME = 8, 4  # pixels on each side, and frames, that the autoencoders of videos take together
_OF_IMAGE = 32  # pixels on each side of SANA's


class VideoNetwork(NamedTuple):
    """How a network is built, its options with their usual values, where its figures come from, and whether its
    self-attention takes a mask.
    """

    build: Callable[[Layers, Options], OperatorStream]
    options: Options
    source: str
    masks: bool = True


def latent_canvas(what: str, options: Options) -> video.Canvas:
    """Latent frames, rows and columns of ``frames`` pictures of ``height`` x ``width`` pixels; raises InputError for
    sizes that the autoencoder or the patches do not divide.
    """
    if options["frames"] % _OF_TIME != 1:
        raise InputError(f"{what}: frames: must be 1 more than a multiple of {_OF_TIME}; given {options['frames']}; "
                         f"allowed 1, {_OF_TIME + 1}, {2 * _OF_TIME + 1}, ...")  # fmt: skip
    for key in ("height", "width"):
        need_multiple(what, options, key, 2 * _OF_SPACE)
    frames = (options["frames"] - 1) // _OF_TIME + 1
    return video.Canvas(frames, options["height"] // _OF_SPACE, options["width"] // _OF_SPACE)


def latent_image(what: str, options: Options) -> tuple[int, int]:
    """Latent rows and columns of SANA's autoencoder; raises InputError for sizes that it does not divide."""
    for key in ("height", "width"):
        need_multiple(what, options, key, _OF_IMAGE)
    return options["height"] // _OF_IMAGE, options["width"] // _OF_IMAGE


def need_multiple(what: str, options: Options, key: str, of: int) -> None:
    """Refuse an option that is no multiple of ``of``."""
    if options[key] % of:
        allowed = f"{of}, {2 * of}, ..."
        raise InputError(f"{what}: {key}: must be a multiple of {of}; given {options[key]}; allowed {allowed}")


def known_mask(what: str, text: str) -> str:
    """``text`` where it is none or begins with a family of masks, whose options are checked with the sizes."""
    family = text.partition(":")[0].strip()
    if text != "none" and family not in dict(FAMILIES.items()):
        raise unknown("mask", family, ("none", *dict(FAMILIES.items())), place=f"{what}: mask")
    return text


def completed_mask(what: str, mask: str, canvas: Sequence[int], n_text: int) -> str:
    """The mask, told the canvas, frames and text of a network where its family asks for them; raises InputError for
    options that it cannot have.
    """
    if mask in MASKS:
        return mask
    family, _, rest = mask.partition(":")
    known = {"canvas": extents_text(canvas), "frames": str(canvas[0]), "text": str(n_text)}
    given = [item.strip() for item in rest.split(",") if item.strip()]
    keys = {item.partition("=")[0].strip() for item in given}
    options = {option.name for option in FAMILIES.get(family.strip()).options}
    given += [f"{key}={value}" for key, value in known.items() if key in options - keys and value != "0"]
    completed = f"{family.strip()}:{','.join(given)}"
    check_mask(completed, what=what)
    return completed


def _wan(config: video.WanConfig) -> Callable[[Layers, Options], OperatorStream]:
    def build(b: Layers, options: Options) -> OperatorStream:
        canvas = latent_canvas(b.name, options)
        b.n_steps = options["steps"]
        b.mask = completed_mask(b.name, b.mask, canvas.tokens, 0)
        return video.wan(b, config, batch=options["batch"], canvas=canvas, text=options["text"])

    return build


def _cogvideox(config: video.CogVideoXConfig) -> Callable[[Layers, Options], OperatorStream]:
    def build(b: Layers, options: Options) -> OperatorStream:
        canvas = latent_canvas(b.name, options)
        b.n_steps = options["steps"]
        frames = -(-canvas.frames // max(1, config.patch_frames))
        b.mask = completed_mask(b.name, b.mask, (frames, *canvas.tokens[1:]), options["text"])
        return video.cogvideox(b, config, batch=options["batch"], canvas=canvas, text=options["text"])

    return build


def _hunyuan(config: video.HunyuanVideoConfig) -> Callable[[Layers, Options], OperatorStream]:
    def build(b: Layers, options: Options) -> OperatorStream:
        canvas = latent_canvas(b.name, options)
        b.n_steps = options["steps"]
        b.mask = completed_mask(b.name, b.mask, canvas.tokens, options["text"])
        return video.hunyuan_video(b, config, batch=options["batch"], canvas=canvas, text=options["text"])

    return build


def _sana(config: sana.SanaConfig) -> Callable[[Layers, Options], OperatorStream]:
    def build(b: Layers, options: Options) -> OperatorStream:
        rows, columns = latent_image(b.name, options)
        b.n_steps = options["steps"]
        return sana.sana(b, config, batch=options["batch"], rows=rows, columns=columns, text=options["text"])

    return build


def _sizes(frames: int, height: int, width: int, text: int) -> Options:
    return {"batch": 1, "frames": frames, "height": height, "width": width, "text": text, "steps": 1}


_IMAGE = {"batch": 1, "height": 1024, "width": 1024, "text": 300, "steps": 1}
_COG = "arXiv 2408.06072; the published configuration"

VIDEO_NETWORKS: Mapping[str, VideoNetwork] = {
    "wan-2.1-1.3b": VideoNetwork(
        build=_wan(video.WanConfig(hidden=1536, heads=12, layers=30, intermediate=8960)),
        options=_sizes(81, 480, 832, 512),
        source="arXiv 2503.20314; the published configuration of Wan2.1-T2V-1.3B",
    ),
    "wan-2.1-14b": VideoNetwork(
        build=_wan(video.WanConfig(hidden=5120, heads=40, layers=40, intermediate=13824)),
        options=_sizes(81, 720, 1280, 512),
        source="arXiv 2503.20314; the published configuration of Wan2.1-T2V-14B",
    ),
    "cogvideox-2b": VideoNetwork(
        build=_cogvideox(video.CogVideoXConfig(hidden=1920, heads=30, layers=30, rotary=False)),
        options=_sizes(49, 480, 720, 226),
        source=f"{_COG} of CogVideoX-2b",
    ),
    "cogvideox-5b": VideoNetwork(
        build=_cogvideox(video.CogVideoXConfig(hidden=3072, heads=48, layers=42, rotary=True)),
        options=_sizes(49, 480, 720, 226),
        source=f"{_COG} of CogVideoX-5b",
    ),
    "cogvideox-1.5-5b": VideoNetwork(
        build=_cogvideox(video.CogVideoXConfig(hidden=3072, heads=48, layers=42, rotary=True, patch_frames=2)),
        options=_sizes(81, 768, 1360, 226),
        source=f"{_COG} of CogVideoX1.5-5B; an odd last latent frame is padded to a patch of two",
    ),
    "hunyuan-video": VideoNetwork(
        build=_hunyuan(video.HunyuanVideoConfig(hidden=3072, heads=24, double=20, single=40)),
        options=_sizes(129, 720, 1280, 256),
        source="arXiv 2412.03603, Table 2; the published configuration; 256 tokens of text, all of them seen",
    ),
    "sana-0.6b": VideoNetwork(
        build=_sana(sana.SanaConfig(hidden=1152, heads=36, cross_heads=16, layers=28)),
        options=_IMAGE,
        source="arXiv 2410.10629, Table 1; the published configuration of Sana_600M_1024px",
        masks=False,
    ),
    "sana-1.6b": VideoNetwork(
        build=_sana(sana.SanaConfig(hidden=2240, heads=70, cross_heads=20, layers=20)),
        options=_IMAGE,
        source="arXiv 2410.10629, Table 1; the published configuration of Sana_1600M_1024px",
        masks=False,
    ),
}
