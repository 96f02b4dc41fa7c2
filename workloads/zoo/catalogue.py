"""The networks of the zoo by name, their options, and the streams that they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tilewright.errors import InputError, unknown
from tilewright.formats import tensor_format
from tilewright.workloads.attention import LARGEST_EXTENT
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo import compact, convolutional, diffusion, edge, inception, transformers, vision
from tilewright.workloads.zoo.layers import Layers

__all__ = ["build_network", "network_names", "network_options", "network_source"]

Options = Mapping[str, int]
Build = Callable[[Layers, Options], OperatorStream]

_FORMATS = ("weights", "activations", "cache")
_LOGITS = ("last", "all")
_MAY_BE_ZERO = ("prefill", "decode", "context")
_USUAL_FORMAT = "fp16"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A network: how it is built, the options it has with their usual values, and where its figures come from."""

    build: Build
    options: Mapping[str, int]
    source: str
    generates: bool = False  # has a key/value cache and logits


_PICTURE = {"batch": 1, "image": 224, "classes": 1000}
_BOXES = {"batch": 1, "image": 640, "classes": 80}
_PIXELS = {"batch": 1, "height": 540, "width": 960}
_TEXT = {"batch": 1, "seq": 128}
_GENERATE = {"batch": 1, "prefill": 2048, "decode": 0, "context": 0}


def _picture(options: Options) -> dict[str, int]:
    return {key: options[key] for key in ("batch", "image", "classes")}


def _resnet(*depths: int, bottleneck: bool) -> Build:
    return lambda b, o: vision.resnet(b, depths=depths, bottleneck=bottleneck, **_picture(o))


def _vgg(b: Layers, options: Options) -> OperatorStream:
    _need_multiple(b.name, options, "image", 32)
    return convolutional.vgg(b, **_picture(options))


def _yolo(depth: float, width: float) -> Build:
    def build(b: Layers, options: Options) -> OperatorStream:
        _need_multiple(b.name, options, "image", 32)
        return edge.yolo_v5(b, depth=depth, width=width, **_picture(options))

    return build


def _yolov4_tiny(b: Layers, options: Options) -> OperatorStream:
    _need_multiple(b.name, options, "image", 32)
    return compact.yolov4_tiny(b, **_picture(options))


def _plain(widths: tuple[int, ...], kernels: tuple[int, ...], n_channels: int) -> Build:
    return lambda b, o: convolutional.plain_convolutions(b, widths=widths, kernels=kernels, n_channels=n_channels, **o)


def _vision_transformer(hidden: int, heads: int) -> Build:
    def build(b: Layers, options: Options) -> OperatorStream:
        _need_multiple(b.name, options, "image", 16)
        return vision.vision_transformer(b, hidden=hidden, heads=heads, layers=12, patch=16, **_picture(options))

    return build


def _bert(layers: int, hidden: int, heads: int) -> Build:
    config = transformers.EncoderConfig(hidden=hidden, heads=heads, intermediate=4 * hidden)

    def build(b: Layers, options: Options) -> OperatorStream:
        if options["seq"] > 512:
            raise InputError(f"{b.name}: seq: BERT has 512 positions; given {options['seq']}; allowed 1 to 512")
        return transformers.bert(b, config, layers=layers, batch=options["batch"], seq=options["seq"])

    return build


def _llama(config: transformers.DecoderConfig) -> Build:
    def build(b: Layers, options: Options) -> OperatorStream:
        return transformers.llama(
            b,
            config,
            batch=options["batch"],
            prefill=options["prefill"],
            decode=options["decode"],
            context=options["context"],
            logits=_LOGITS[options["logits"]],
        )

    return build


def _dit(b: Layers, options: Options) -> OperatorStream:
    config = diffusion.DiffusionConfig(hidden=1152, heads=16, layers=28, patch=2, channels=4)
    _need_multiple(b.name, options, "image", 16)
    b.n_steps = options["steps"]
    return diffusion.dit(b, config, batch=options["batch"], latent=options["image"] // 8)


def _pixart(b: Layers, options: Options) -> OperatorStream:
    config = diffusion.DiffusionConfig(hidden=1152, heads=16, layers=28, patch=2, channels=4)
    _need_multiple(b.name, options, "image", 16)
    b.n_steps = options["steps"]
    latent = options["image"] // 8
    return diffusion.pixart(b, config, batch=options["batch"], latent=latent, text=options["text"], text_width=4096)


def _unet(b: Layers, options: Options) -> OperatorStream:
    _need_multiple(b.name, options, "image", 64)
    b.n_steps = options["steps"]
    latent = options["image"] // 8
    return diffusion.unet(b, batch=options["batch"], latent=latent, text=options["text"], text_width=768)


_LLAMA_3_8B = transformers.DecoderConfig(
    hidden=4096, heads=32, kv_heads=8, head_dim=128, intermediate=14336, layers=32, vocabulary=128256
)
_LLAMA_3_2_1B = transformers.DecoderConfig(
    hidden=2048, heads=32, kv_heads=8, head_dim=64, intermediate=8192, layers=16, vocabulary=128256, tied=True
)

_NETWORKS: Mapping[str, _Entry] = {
    "resnet-18": _Entry(
        build=_resnet(2, 2, 2, 2, bottleneck=False), options=_PICTURE, source="arXiv 1512.03385, Table 1"
    ),
    "resnet-50": _Entry(
        build=_resnet(3, 4, 6, 3, bottleneck=True), options=_PICTURE, source="arXiv 1512.03385, Table 1"
    ),
    "resnet-152": _Entry(
        build=_resnet(3, 8, 36, 3, bottleneck=True), options=_PICTURE, source="arXiv 1512.03385, Table 1"
    ),
    "vgg-16": _Entry(build=_vgg, options=_PICTURE, source="arXiv 1409.1556, Table 1, column D"),
    "squeezenet": _Entry(
        build=lambda b, o: convolutional.squeezenet(b, small=False, **_picture(o)),
        options=_PICTURE,
        source="arXiv 1602.07360, Table 1 (version 1.0)",
    ),
    "squeezenet-1.1": _Entry(
        build=lambda b, o: convolutional.squeezenet(b, small=True, **_picture(o)),
        options=_PICTURE,
        source="arXiv 1602.07360, version 1.1 of forresti/SqueezeNet",
    ),
    "mobilenet-v2": _Entry(
        build=lambda b, o: vision.mobilenet_v2(b, **_picture(o)),
        options=_PICTURE,
        source="arXiv 1801.04381, Table 2",
    ),
    "mobilenet-v1": _Entry(
        build=lambda b, o: edge.mobilenet_v1(b, width=o["width"], **_picture(o)),
        options=_PICTURE | {"width": 100},
        source="arXiv 1704.04861, Table 1; width in per cent",
    ),
    "yolov5n": _Entry(build=_yolo(1 / 3, 0.25), options=_BOXES, source="ultralytics/yolov5, release 6, yolov5n.yaml"),
    "yolov5s": _Entry(build=_yolo(1 / 3, 0.5), options=_BOXES, source="ultralytics/yolov5, release 6, yolov5s.yaml"),
    "yolov5m": _Entry(build=_yolo(2 / 3, 0.75), options=_BOXES, source="ultralytics/yolov5, release 6, yolov5m.yaml"),
    "resnet-8": _Entry(
        build=lambda b, o: edge.resnet_8(b, **_picture(o)),
        options=_PICTURE | {"image": 32, "classes": 10},
        source="MLPerf Tiny, image classification",
    ),
    "autoencoder": _Entry(
        build=lambda b, o: edge.autoencoder(b, batch=o["batch"]),
        options={"batch": 1},
        source="MLPerf Tiny, anomaly detection",
    ),
    "ds-cnn": _Entry(
        build=lambda b, o: compact.ds_cnn(b, batch=o["batch"], classes=o["classes"]),
        options={"batch": 1, "classes": 12},
        source="MLPerf Tiny, keyword spotting",
    ),
    "inception-v1": _Entry(
        build=lambda b, o: inception.inception_v1(b, **_picture(o)),
        options=_PICTURE,
        source="arXiv 1409.4842, Table 1, with norms and without the auxiliary heads",
    ),
    "inception-v4": _Entry(
        build=lambda b, o: inception.inception_v4(b, **_picture(o)),
        options=_PICTURE | {"image": 299},
        source="arXiv 1602.07261, figures 3 to 9",
    ),
    "densenet-121": _Entry(
        build=lambda b, o: inception.densenet(b, depths=(6, 12, 24, 16), growth=32, **_picture(o)),
        options=_PICTURE,
        source="arXiv 1608.06993, Table 1",
    ),
    "facenet": _Entry(
        build=lambda b, o: inception.facenet(b, batch=o["batch"], image=o["image"], width=o["width"]),
        options={"batch": 1, "image": 160, "width": 512},
        source="arXiv 1503.03832 on Inception-ResNet v1 of arXiv 1602.07261; width of the embedding",
    ),
    "efficientnet-edgetpu-s": _Entry(
        build=lambda b, o: compact.efficientnet_edgetpu(b, **_picture(o)),
        options=_PICTURE,
        source="tensorflow/tpu, efficientnet_edgetpu_builder.py",
    ),
    "yolov4-tiny": _Entry(
        build=_yolov4_tiny, options=_BOXES | {"image": 416}, source="AlexeyAB/darknet, cfg/yolov4-tiny.cfg"
    ),
    "ssd-mobilenet-v1": _Entry(
        build=lambda b, o: compact.ssd_mobilenet_v1(b, **_picture(o)),
        options=_BOXES | {"image": 300, "classes": 90},
        source="arXiv 1512.02325 on arXiv 1704.04861, as tensorflow/models' ssd_mobilenet_v1_coco",
    ),
    "ultraface-slim": _Entry(
        build=lambda b, o: compact.ultraface_slim(b, batch=o["batch"], height=o["height"], width=o["width"]),
        options={"batch": 1, "height": 240, "width": 320},
        source="Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB, mb_tiny_fd.py",
    ),
    "efficientnet-b3": _Entry(
        build=lambda b, o: vision.efficientnet(b, width=1.2, depth=1.4, **_picture(o)),
        options=_PICTURE | {"image": 300},
        source="arXiv 1905.11946, Table 1, width 1.2 and depth 1.4",
    ),
    "deeplabv3-mobilenet-v3": _Entry(
        build=lambda b, o: convolutional.deeplab_v3(b, **_picture(o)),
        options=_PICTURE | {"image": 513, "classes": 21},
        source="arXiv 1706.05587; arXiv 1905.02244, Table 1; joined as in torchvision",
    ),
    "fsrcnn": _Entry(
        build=_plain((56, 12, 12, 12, 12, 12, 56, 16), (5, 1, 3, 3, 3, 3, 1, 3), 1),
        options=_PIXELS,
        source="arXiv 1608.00367, FSRCNN(56, 12, 4), its last layer as 16 sub-pixel maps (arXiv 2212.05344)",
    ),
    "dmcnn-vd": _Entry(
        build=_plain((64,) * 19 + (3,), (3,) * 20, 3),
        options=_PIXELS | {"height": 512, "width": 768},
        source="arXiv 1802.03769, DMCNN-VD; picture as in arXiv 2212.05344",
    ),
    "mc-cnn": _Entry(
        build=_plain((64,) * 4, (3,) * 4, 1),
        options=_PIXELS | {"height": 376, "width": 1242},
        source="arXiv 1510.05970, fast architecture; picture as in arXiv 2212.05344",
    ),
    "vit-b-16": _Entry(build=_vision_transformer(768, 12), options=_PICTURE, source="arXiv 2010.11929, Table 1"),
    "deit-s": _Entry(build=_vision_transformer(384, 6), options=_PICTURE, source="arXiv 2012.12877, Table 1"),
    "bert-base": _Entry(build=_bert(12, 768, 12), options=_TEXT, source="arXiv 1810.04805, section 3"),
    "bert-large": _Entry(build=_bert(24, 1024, 16), options=_TEXT, source="arXiv 1810.04805, section 3"),
    "llama-3-8b": _Entry(
        build=_llama(_LLAMA_3_8B), options=_GENERATE, source="arXiv 2407.21783, Table 3", generates=True
    ),
    "llama-3.2-1b": _Entry(
        build=_llama(_LLAMA_3_2_1B),
        options=_GENERATE,
        source="Llama 3.2 1B, its published configuration",
        generates=True,
    ),
    "dit-xl-2": _Entry(build=_dit, options={"batch": 1, "image": 256, "steps": 1}, source="arXiv 2212.09748, Table 1"),
    "pixart-sigma": _Entry(
        build=_pixart,
        options={"batch": 1, "image": 1024, "text": 300, "steps": 1},
        source="arXiv 2403.04692; widths as in arXiv 2310.00426",
    ),
    "sd-1.5-unet": _Entry(
        build=_unet,
        options={"batch": 1, "image": 512, "text": 77, "steps": 1},
        source="arXiv 2112.10752; widths of the published configuration of version 1.5",
    ),
}


def network_names() -> tuple[str, ...]:
    """Names of the built-in networks, in the order in which they are listed."""
    return tuple(_NETWORKS)


def network_source(name: str) -> str:
    """Where the figures of the built-in network ``name`` come from; raises InputError when there is none so called."""
    return _entry(name).source


def network_options(name: str) -> dict[str, int | str]:
    """The options of the built-in network ``name`` with their usual values; raises InputError for an unknown name."""
    entry = _entry(name)
    usual: dict[str, int | str] = dict(entry.options)
    if entry.generates:
        usual["logits"] = "last"
    return usual | {key: _USUAL_FORMAT for key in _FORMATS if key != "cache" or entry.generates}


def build_network(name: str, options: Mapping[str, str]) -> OperatorStream:
    """The stream of the built-in network ``name`` with ``options`` as a person wrote them.

    Whole numbers: batch, image (side in pixels), classes, seq, text (tokens), prefill, decode, context (tokens), steps.
    ``logits`` is last or all; ``weights``, ``activations`` and ``cache`` are number formats. Raises InputError that
    names the option, what was given and what is allowed.
    """
    entry = _entry(name)
    allowed = network_options(name)
    changes = ",".join(f"{key}={value}" for key, value in options.items())
    what = f"{name}:{changes}" if changes else name
    for key in options:
        if key not in allowed:
            raise unknown("option", key, allowed, place=what)
    numbers = dict(entry.options)
    numbers |= {key: _number(what, key, options[key]) for key in entry.options if key in options}
    if entry.generates:
        numbers["logits"] = _logits(what, options.get("logits", "last"))
        _settle_tokens(what, numbers, options)
    formats = {key: options[key] for key in _FORMATS if key in options}
    for key, value in formats.items():
        _need_format(what, key, value)
    stream = entry.build(Layers(what), numbers)
    return stream.with_formats(**formats) if formats else stream


def _entry(name: str) -> _Entry:
    if name not in _NETWORKS:
        raise unknown("network", name, _NETWORKS)
    return _NETWORKS[name]


def _number(what: str, key: str, text: str) -> int:
    least = 0 if key in _MAY_BE_ZERO else 1
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not least <= value <= LARGEST_EXTENT:
        allowed = f"whole numbers from {least} to {LARGEST_EXTENT}"
        raise InputError(f'{what}: {key}: must be a whole number; given "{text}"; allowed {allowed}')
    return value


def _logits(what: str, text: str) -> int:
    if text not in _LOGITS:
        raise unknown("choice", text, _LOGITS, place=f"{what}: logits")
    return _LOGITS.index(text)


def _settle_tokens(what: str, numbers: dict[str, int], options: Mapping[str, str]) -> None:
    """Either prefill or decode; decode alone continues behind its context, or behind a prefill's length."""
    if numbers["decode"]:
        if "prefill" in options and numbers["prefill"]:
            raise InputError(f"{what}: prefill: is another run than decode; given both; allowed one of prefill, decode")
        if not numbers["context"]:
            raise InputError(f"{what}: context: missing; decode needs the number of cached tokens; allowed 1 or more")
    elif not numbers["prefill"]:
        raise InputError(f"{what}: prefill: nothing to run; given 0; allowed prefill or decode of 1 or more")


def _need_format(what: str, key: str, value: str) -> None:
    try:
        tensor_format(value)
    except InputError as fault:
        raise InputError(f"{what}: {key}: {fault}") from None


def _need_multiple(what: str, options: Options, key: str, of: int) -> None:
    if options[key] % of:
        allowed = f"{of}, {2 * of}, ..."
        raise InputError(f"{what}: {key}: must be a multiple of {of}; given {options[key]}; allowed {allowed}")
