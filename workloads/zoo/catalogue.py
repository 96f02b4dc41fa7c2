"""The networks of the zoo by name, their options, and the streams that they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tilewright.errors import InputError, unknown
from tilewright.formats import tensor_format
from tilewright.workloads.attention import LARGEST_EXTENT
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo import (
    boxes,
    compact,
    convnext,
    convolutional,
    deformable,
    diffusion,
    edge,
    fourier,
    hybrids,
    image_ends,
    inception,
    joint_diffusion,
    large_chunks,
    mobile,
    pyramid,
    single_head,
    state_space,
    transformers,
    vision,
    windowed,
)
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.video_networks import VIDEO_NETWORKS, known_mask, need_multiple

__all__ = ["build_network", "network_names", "network_options", "network_source"]

Options = Mapping[str, int]
Build = Callable[[Layers, Options], OperatorStream]

_FORMATS = ("weights", "activations", "cache")
_LOGITS = ("last", "all")
_MAY_BE_ZERO = (
    "multiplied",
    "whole_pixels",
    "prefill",
    "decode",
    "context",
    "rotary",
    "concatenated",
    "fused",
    "head_rank",
)
_USUAL_FORMAT = "fp16"
_USUAL_MASK = "none"
_STATE_FORMAT = "fp32"  # of the states of scans; those of convolutions are activations' numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A network: how it is built, the options it has with their usual values, and where its figures come from."""

    build: Build
    options: Mapping[str, int]
    source: str
    generates: bool = False  # has a key/value cache
    has_logits: bool = False
    has_states: bool = False  # of a fixed size, whatever came before
    masks: bool = False  # its self-attention takes the mask that is asked for


_PICTURE = {"batch": 1, "image": 224, "classes": 1000}
_WIDTH = {"width": 100}
_BOXES = {"batch": 1, "image": 640, "classes": 80}
_PIXELS = {"batch": 1, "height": 540, "width": 960}
_TEXT = {"batch": 1, "seq": 128}
_STATES = {"batch": 1, "seq": 2048, "decode": 0}
_MAMBA_SIZES = (("130m", 768, 24), ("370m", 1024, 48), ("790m", 1536, 48), ("1.4b", 2048, 48), ("2.8b", 2560, 64))
_MAMBA_2_SIZES = (("130m", 768, 24), ("370m", 1024, 48), ("780m", 1536, 48), ("1.3b", 2048, 48), ("2.7b", 2560, 64))
_GENERATE = {"batch": 1, "prefill": 2048, "decode": 0, "context": 0}


_CODENET = (("1x", (24, 116, 232, 464, 1024)), ("2x", (24, 244, 488, 976, 2153)))


def _picture(options: Options) -> dict[str, int]:
    return {key: options[key] for key in ("batch", "image", "classes")}


def _resnet(*depths: int, bottleneck: bool, groups: int = 1) -> Build:
    return lambda b, o: vision.resnet(b, depths=depths, bottleneck=bottleneck, groups=groups, **_picture(o))


def _resnet_v2(*depths: int) -> Build:
    return lambda b, o: vision.resnet_v2(b, depths=depths, **_picture(o))


def _regnet(depths: tuple[int, ...], widths: tuple[int, ...], of_group: int) -> Build:
    return lambda b, o: vision.regnet_x(b, depths=depths, widths=widths, of_group=of_group, **_picture(o))


def _densenet(*depths: int) -> Build:
    return lambda b, o: inception.densenet(b, depths=depths, growth=32, **_picture(o))


def _efficientnet(width: float, depth: float) -> Build:
    return lambda b, o: vision.efficientnet(b, width=width, depth=depth, **_picture(o))


def _efficientnet_lite(width: float, depth: float) -> Build:
    return lambda b, o: vision.efficientnet_lite(b, width=width, depth=depth, **_picture(o))


def _efficientnet_edgetpu(width: float, depth: float) -> Build:
    return lambda b, o: compact.efficientnet_edgetpu(b, width=width, depth=depth, **_picture(o))


def _mobilenet_v3(*, small: bool) -> Build:
    return lambda b, o: convolutional.mobilenet_v3(b, small=small, **_picture(o))


def _mnasnet(*, squeezed: bool) -> Build:
    return lambda b, o: mobile.mnasnet(b, squeezed=squeezed, width=o["width"], **_picture(o))


def _vgg(*depths: int) -> Build:
    def build(b: Layers, options: Options) -> OperatorStream:
        need_multiple(b.name, options, "image", 32)
        return convolutional.vgg(b, depths=depths, **_picture(options))

    return build


def _of_32(make: Callable[..., OperatorStream], **settings: Any) -> Build:
    """Networks that halve a picture five times and join what they had before."""

    def build(b: Layers, options: Options) -> OperatorStream:
        need_multiple(b.name, options, "image", 32)
        return make(b, **settings, **_picture(options))

    return build


def _plain(widths: tuple[int, ...], kernels: tuple[int, ...], n_channels: int) -> Build:
    return lambda b, o: convolutional.plain_convolutions(b, widths=widths, kernels=kernels, n_channels=n_channels, **o)


def _shvit(size: str) -> Build:
    def build(b: Layers, options: Options) -> OperatorStream:
        need_multiple(b.name, options, "image", 16)
        return single_head.shvit(b, single_head.SHVIT_SIZES[size], **_picture(options))

    return build


def _pvt(size: str, *, multiplies: bool) -> Build:
    config = pyramid.PVT_SIZES[size]

    def build(b: Layers, options: Options) -> OperatorStream:
        need_multiple(b.name, options, "image", 32)
        share = options.get("multiplied", 100)
        if not 0 <= share <= 100:
            raise InputError(f"{b.name}: multiplied: given {share}; allowed 0 to 100 (per cent of the tokens)")
        primitives = None if multiplies else pyramid.Primitives(multiplied=share)
        return pyramid.pvt_v2(b, config, primitives, **_picture(options))

    return build


def _swin(size: str) -> Build:
    config = windowed.SWIN_SIZES[size]

    def build(b: Layers, options: Options) -> OperatorStream:
        need_multiple(b.name, options, "image", 32 * config.window)
        return windowed.swin(b, config, **_picture(options))

    return build


def _codenet(widths: tuple[int, ...], *, pooled: bool) -> Build:
    def build(b: Layers, options: Options) -> OperatorStream:
        need_multiple(b.name, options, "image", 32)
        whole = options["whole_pixels"]
        if whole > 1:
            raise InputError(f"{b.name}: whole_pixels: given {whole}; allowed 0 (between pixels), 1 (on them)")
        return deformable.codenet(b, widths=widths, pooled=pooled, whole_pixels=whole == 1, **_picture(options))

    return build


def _vision_transformer(
    hidden: int, heads: int, layers: int = 12, patch: int = 16, *, as_module: bool = False
) -> Build:
    """``as_module``: those of torchvision, whose attention is the framework's own module."""

    def build(b: Layers, options: Options) -> OperatorStream:
        need_multiple(b.name, options, "image", patch)
        return vision.vision_transformer(
            b, hidden=hidden, heads=heads, layers=layers, patch=patch, as_module=as_module, **_picture(options)
        )

    return build


def _convnext(depths: tuple[int, ...], widths: tuple[int, ...]) -> Build:
    def build(b: Layers, options: Options) -> OperatorStream:
        need_multiple(b.name, options, "image", 32)
        return convnext.convnext(b, depths=depths, widths=widths, **_picture(options))

    return build


def _fno(b: Layers, options: Options) -> OperatorStream:
    names = ("batch", "image", "modes", "width", "products")
    return fourier.fno_2d(b, **{name: options[name] for name in names})


def _bert(layers: int, hidden: int, heads: int) -> Build:
    def build(b: Layers, options: Options) -> OperatorStream:
        config = transformers.EncoderConfig(
            hidden=hidden,
            heads=heads,
            intermediate=4 * hidden,
            rank=options.get("rank", 0),
            block=options.get("block", 0),
            fused="fused" in options and _flag(b.name, options, "fused"),
            head_rank=options.get("head_rank", 0),
        )
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


def _mamba(config: state_space.MambaConfig) -> Build:
    def build(b: Layers, options: Options) -> OperatorStream:
        n_new = options["decode"] or options.get("seq") or options.get("prefill", 0)
        return state_space.mamba(
            b,
            config,
            batch=options["batch"],
            n_new=n_new,
            with_state=bool(options["decode"] or options.get("context")),
            context=options.get("context", 0),
            logits=_LOGITS[options["logits"]],
        )

    return build


def _mamba_2(hidden: int, layers: int, attention: state_space.StateAttention | None = None) -> Build:
    config = state_space.MambaConfig(
        hidden=hidden, layers=layers, states=128, vocabulary=50288, head_dim=64, attention=attention
    )
    return _mamba(config)


_JAMBA = hybrids.JambaConfig(
    mixer=state_space.MambaConfig(hidden=4096, layers=32, states=16, vocabulary=65536, normed=True),
    heads=32,
    kv_heads=8,
    intermediate=14336,
)
_ZAMBA_2 = hybrids.ZambaConfig(
    mixer=state_space.MambaConfig(hidden=2560, layers=54, states=64, vocabulary=32000, head_dim=64),
    heads=32,
    intermediate=10240,
    hybrid=(6, 12, 18, 24, 30, 36, 42, 47, 51),
    blocks=2,
    adapter=128,
)


def _lact(b: Layers, options: Options) -> OperatorStream:
    config = large_chunks.LargeChunkConfig(hidden=options["hidden"], heads=options["heads"], inner=options["inner"])
    return large_chunks.large_chunk_layer(
        b, config, batch=options["batch"], tokens=options["seq"], chunk=options["chunk"]
    )


def _hybrid(make: Callable[..., OperatorStream], config: Any) -> Build:
    """One with caches of ``context`` tokens beside its states."""

    def build(b: Layers, options: Options) -> OperatorStream:
        return make(
            b,
            config,
            batch=options["batch"],
            n_new=options["decode"] or options["prefill"],
            context=options["context"],
            logits=_LOGITS[options["logits"]],
        )

    return build


def _llama_block(config: transformers.DecoderConfig) -> Build:
    def build(b: Layers, options: Options) -> OperatorStream:
        return transformers.llama_block(
            b,
            config,
            batch=options["batch"],
            prefill=options["prefill"],
            decode=options["decode"],
            context=options["context"],
            rotary=_flag(b.name, options, "rotary"),
            in_place=not _flag(b.name, options, "concatenated"),
        )

    return build


def _flag(what: str, options: Options, key: str) -> bool:
    if options[key] not in (0, 1):
        raise InputError(f"{what}: {key}: given {options[key]}; allowed 0, 1")
    return bool(options[key])


def _dit(b: Layers, options: Options) -> OperatorStream:
    config = diffusion.DiffusionConfig(hidden=1152, heads=16, layers=28, patch=2, channels=4)
    need_multiple(b.name, options, "image", 16)
    b.n_steps = options["steps"]
    return diffusion.dit(b, config, batch=options["batch"], latent=options["image"] // 8)


def _pixart(b: Layers, options: Options) -> OperatorStream:
    config = diffusion.DiffusionConfig(hidden=1152, heads=16, layers=28, patch=2, channels=4)
    need_multiple(b.name, options, "image", 16)
    b.n_steps = options["steps"]
    latent = options["image"] // 8
    return diffusion.pixart(b, config, batch=options["batch"], latent=latent, text=options["text"], text_width=4096)


def _unet(b: Layers, options: Options) -> OperatorStream:
    need_multiple(b.name, options, "image", 64)
    b.n_steps = options["steps"]
    latent = options["image"] // 8
    return diffusion.unet(b, batch=options["batch"], latent=latent, text=options["text"], text_width=768)


def _sdxl(b: Layers, options: Options) -> OperatorStream:
    need_multiple(b.name, options, "image", 32)
    b.n_steps = options["steps"]
    sizes = {"batch": options["batch"], "latent": options["image"] // 8, "text": options["text"]}
    return diffusion.unet(b, diffusion.SDXL, **sizes, text_width=2048)


def _vae_decoder(b: Layers, options: Options) -> OperatorStream:
    need_multiple(b.name, options, "image", 8)
    sizes = {"batch": options["batch"], "latent": options["image"] // 8, "channels": options["channels"]}
    return image_ends.vae_decoder(b, **sizes)


def _joint(make: Callable[..., OperatorStream], config: joint_diffusion.JointConfig) -> Build:
    """A transformer over text and the rows of a packed latent image, 16 pixels to a row's side."""

    def build(b: Layers, options: Options) -> OperatorStream:
        need_multiple(b.name, options, "image", 16)
        b.n_steps = options["steps"]
        n_image = (options["image"] // 16) ** 2
        return make(b, config, batch=options["batch"], n_image=n_image, text=options["text"])

    return build


_FLUX = joint_diffusion.JointConfig(
    hidden=3072, head_dim=128, double=19, single=38, channels=64, text_width=4096, pooled=768, guidance=True
)
_QWEN_IMAGE = joint_diffusion.JointConfig(hidden=3072, head_dim=128, double=60, single=0, channels=64, text_width=3584)


_LLAMA_3_8B = transformers.DecoderConfig(
    hidden=4096, heads=32, kv_heads=8, head_dim=128, intermediate=14336, layers=32, vocabulary=128256
)


def _language_model(name: str) -> Build:
    """A decoder of Llama's kind with the widths of ``workloads/language/models.yaml``, read when it is built."""

    def build(b: Layers, options: Options) -> OperatorStream:
        from tilewright.workloads.language.catalogue import language_model

        one = language_model(name)
        config = transformers.DecoderConfig(
            hidden=one.hidden,
            heads=one.heads,
            kv_heads=one.kv_heads,
            head_dim=one.head_dim,
            intermediate=one.intermediate,
            layers=one.layers,
            vocabulary=one.vocabulary,
            tied=one.tied,
        )
        return _llama(config)(b, options)

    return build


_LLAMA_3_2_1B = transformers.DecoderConfig(
    hidden=2048, heads=32, kv_heads=8, head_dim=64, intermediate=8192, layers=16, vocabulary=128256, tied=True
)

_RESNET_SOURCE = "arXiv 1512.03385, Table 1"
_VGG_SOURCE = "arXiv 1409.1556, Table 1, column"
_YOLO_V5_SOURCE = "ultralytics/yolov5, release 6"
_YOLO_V8_SOURCE = "ultralytics/ultralytics, yolov8.yaml; up to its boxes as distributions, which are not decoded"

_NETWORKS: Mapping[str, _Entry] = {
    "resnet-18": _Entry(build=_resnet(2, 2, 2, 2, bottleneck=False), options=_PICTURE, source=_RESNET_SOURCE),
    "resnet-34": _Entry(build=_resnet(3, 4, 6, 3, bottleneck=False), options=_PICTURE, source=_RESNET_SOURCE),
    "resnet-50": _Entry(build=_resnet(3, 4, 6, 3, bottleneck=True), options=_PICTURE, source=_RESNET_SOURCE),
    "resnet-101": _Entry(build=_resnet(3, 4, 23, 3, bottleneck=True), options=_PICTURE, source=_RESNET_SOURCE),
    "resnet-152": _Entry(build=_resnet(3, 8, 36, 3, bottleneck=True), options=_PICTURE, source=_RESNET_SOURCE),
    "resnet-50-v2": _Entry(build=_resnet_v2(3, 4, 6, 3), options=_PICTURE, source="arXiv 1603.05027, as Keras has it"),
    "resnet-101-v2": _Entry(
        build=_resnet_v2(3, 4, 23, 3), options=_PICTURE, source="arXiv 1603.05027, as Keras has it"
    ),
    "resnet-152-v2": _Entry(
        build=_resnet_v2(3, 8, 36, 3), options=_PICTURE, source="arXiv 1603.05027, as Keras has it"
    ),
    "resnext-50": _Entry(
        build=_resnet(3, 4, 6, 3, bottleneck=True, groups=32), options=_PICTURE, source="arXiv 1611.05431, Table 1"
    ),
    "regnetx-400mf": _Entry(
        build=_regnet((1, 2, 7, 12), (32, 64, 160, 400), 16), options=_PICTURE, source="arXiv 2003.13678, figure 16"
    ),
    "regnetx-800mf": _Entry(
        build=_regnet((1, 3, 7, 5), (64, 128, 288, 672), 16), options=_PICTURE, source="arXiv 2003.13678, figure 16"
    ),
    "regnetx-1.6gf": _Entry(
        build=_regnet((2, 4, 10, 2), (72, 168, 408, 912), 24), options=_PICTURE, source="arXiv 2003.13678, figure 16"
    ),
    "alexnet": _Entry(
        build=lambda b, o: convolutional.alexnet(b, **_picture(o)),
        options=_PICTURE,
        source="arXiv 1404.5997, as torchvision has it",
    ),
    "vgg-11": _Entry(build=_vgg(1, 1, 2, 2, 2), options=_PICTURE, source=f"{_VGG_SOURCE} A"),
    "vgg-13": _Entry(build=_vgg(2, 2, 2, 2, 2), options=_PICTURE, source=f"{_VGG_SOURCE} B"),
    "vgg-16": _Entry(build=_vgg(2, 2, 3, 3, 3), options=_PICTURE, source=f"{_VGG_SOURCE} D"),
    "vgg-19": _Entry(build=_vgg(2, 2, 4, 4, 4), options=_PICTURE, source=f"{_VGG_SOURCE} E"),
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
    "mobilenet-v1": _Entry(
        build=lambda b, o: edge.mobilenet_v1(b, width=o["width"], **_picture(o)),
        options=_PICTURE | _WIDTH,
        source="arXiv 1704.04861, Table 1; width in per cent",
    ),
    "mobilenet-v2": _Entry(
        build=lambda b, o: vision.mobilenet_v2(b, width=o["width"], **_picture(o)),
        options=_PICTURE | _WIDTH,
        source="arXiv 1801.04381, Table 2; width in per cent",
    ),
    "mobilenet-v3-large": _Entry(
        build=_mobilenet_v3(small=False), options=_PICTURE, source="arXiv 1905.02244, Table 1"
    ),
    "mobilenet-v3-small": _Entry(build=_mobilenet_v3(small=True), options=_PICTURE, source="arXiv 1905.02244, Table 2"),
    "mnasnet-a1": _Entry(
        build=_mnasnet(squeezed=True), options=_PICTURE | _WIDTH, source="arXiv 1807.11626, figure 7; width in per cent"
    ),
    "mnasnet-b1": _Entry(
        build=_mnasnet(squeezed=False),
        options=_PICTURE | _WIDTH,
        source="arXiv 1807.11626, without squeezing, as torchvision has it; width in per cent",
    ),
    "yolov3": _Entry(
        build=_of_32(boxes.yolo_v3), options=_BOXES | {"image": 416}, source="AlexeyAB/darknet, cfg/yolov3.cfg"
    ),
    "yolov3-tiny": _Entry(
        build=_of_32(boxes.yolo_v3_tiny),
        options=_BOXES | {"image": 416},
        source="AlexeyAB/darknet, cfg/yolov3-tiny.cfg",
    ),
    "yolov4-tiny": _Entry(
        build=_of_32(compact.yolov4_tiny),
        options=_BOXES | {"image": 416},
        source="AlexeyAB/darknet, cfg/yolov4-tiny.cfg",
    ),
    **{
        f"yolov5{size}": _Entry(
            build=_of_32(edge.yolo_v5, depth=depth, width=width),
            options=_BOXES,
            source=f"{_YOLO_V5_SOURCE}, yolov5{size}.yaml",
        )
        for size, depth, width in (
            ("n", 1 / 3, 0.25),
            ("s", 1 / 3, 0.5),
            ("m", 2 / 3, 0.75),
            ("l", 1, 1),
            ("x", 4 / 3, 1.25),
        )
    },
    **{
        f"yolov8{size}": _Entry(
            build=_of_32(boxes.yolo_v8, depth=depth, width=width, most=most), options=_BOXES, source=_YOLO_V8_SOURCE
        )
        for size, depth, width, most in (
            ("n", 1 / 3, 0.25, 1024),
            ("s", 1 / 3, 0.5, 1024),
            ("m", 2 / 3, 0.75, 768),
            ("l", 1, 1, 512),
            ("x", 1, 1.25, 512),
        )
    },
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
    "inception-v2": _Entry(
        build=lambda b, o: inception.inception_v2(b, **_picture(o)),
        options=_PICTURE,
        source="arXiv 1502.03167, as tensorflow/models has it",
    ),
    "inception-v3": _Entry(
        build=lambda b, o: inception.inception_v3(b, **_picture(o)),
        options=_PICTURE | {"image": 299},
        source="arXiv 1512.00567, as torchvision has it, without the auxiliary head",
    ),
    "inception-resnet-v2": _Entry(
        build=lambda b, o: inception.inception_resnet_v2(b, **_picture(o)),
        options=_PICTURE | {"image": 299},
        source="arXiv 1602.07261, as tensorflow/models has it, without the auxiliary head",
    ),
    "densenet-121": _Entry(build=_densenet(6, 12, 24, 16), options=_PICTURE, source="arXiv 1608.06993, Table 1"),
    "densenet-169": _Entry(build=_densenet(6, 12, 32, 32), options=_PICTURE, source="arXiv 1608.06993, Table 1"),
    "densenet-201": _Entry(build=_densenet(6, 12, 48, 32), options=_PICTURE, source="arXiv 1608.06993, Table 1"),
    "facenet": _Entry(
        build=lambda b, o: inception.facenet(b, batch=o["batch"], image=o["image"], width=o["width"]),
        options={"batch": 1, "image": 160, "width": 512},
        source="arXiv 1503.03832 on Inception-ResNet v1 of arXiv 1602.07261; width of the embedding",
    ),
    **{
        f"efficientnet-edgetpu-{size}": _Entry(
            build=_efficientnet_edgetpu(width, depth),
            options=_PICTURE | {"image": image},
            source="tensorflow/tpu, efficientnet_edgetpu_builder.py",
        )
        for size, width, depth, image in (("s", 1, 1, 224), ("m", 1, 1.1, 240), ("l", 1.2, 1.4, 300))
    },
    **{
        f"efficientnet-lite{size}": _Entry(
            build=_efficientnet_lite(width, depth),
            options=_PICTURE | {"image": image},
            source=f"tensorflow/tpu, efficientnet/lite, width {width} and depth {depth}",
        )
        for size, width, depth, image in (
            (0, 1.0, 1.0, 224),
            (1, 1.0, 1.1, 240),
            (2, 1.1, 1.2, 260),
            (3, 1.2, 1.4, 280),
            (4, 1.4, 1.8, 300),
        )
    },
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
    **{
        f"efficientnet-b{size}": _Entry(
            build=_efficientnet(width, depth),
            options=_PICTURE | {"image": image},
            source=f"arXiv 1905.11946, Table 1, width {width} and depth {depth}",
        )
        for size, width, depth, image in (
            (0, 1.0, 1.0, 224),
            (1, 1.0, 1.1, 240),
            (2, 1.1, 1.2, 260),
            (3, 1.2, 1.4, 300),
            (4, 1.4, 1.8, 380),
        )
    },
    "ssdlite-mobilenet-v2": _Entry(
        build=lambda b, o: mobile.ssdlite_mobilenet_v2(b, **_picture(o)),
        options=_BOXES | {"image": 300, "classes": 90},
        source="arXiv 1801.04381, section 6.2, as tensorflow/models' ssdlite_mobilenet_v2_coco",
    ),
    "deeplabv3-mobilenet-v2": _Entry(
        build=lambda b, o: mobile.deeplab_v3_mobilenet_v2(b, **_picture(o)),
        options=_PICTURE | {"image": 513, "classes": 21},
        source="arXiv 1801.04381, section 6.3, stride 8",
    ),
    "unet-mobilenet-v2": _Entry(
        build=_of_32(mobile.unet_mobilenet_v2),
        options=_PICTURE | {"image": 128, "classes": 3},
        source="tensorflow.org/tutorials/images/segmentation",
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
    "cnv": _Entry(
        build=lambda b, o: mobile.cnv(b, **o),
        options={"batch": 1, "classes": 10} | _WIDTH,
        source="arXiv 1612.07119 (CNV is 50 per cent of this width), as QuTiBench has it",
    ),
    "mlp": _Entry(
        build=lambda b, o: mobile.mlp(b, **o),
        options={"batch": 1, "classes": 10} | _WIDTH,
        source="arXiv 1612.07119 (LFC is 50 per cent of this width), as QuTiBench has it",
    ),
    **{
        f"convnext-{size}": _Entry(
            build=_convnext(depths, widths), options=_PICTURE, source="arXiv 2201.03545, section 3 and Table 12"
        )
        for size, depths, widths in (
            ("tiny", (3, 3, 9, 3), (96, 192, 384, 768)),
            ("small", (3, 3, 27, 3), (96, 192, 384, 768)),
            ("base", (3, 3, 27, 3), (128, 256, 512, 1024)),
        )
    },
    "vit-b-16": _Entry(
        build=_vision_transformer(768, 12, as_module=True), options=_PICTURE, source="arXiv 2010.11929, Table 1"
    ),
    "vit-b-32": _Entry(
        build=_vision_transformer(768, 12, patch=32, as_module=True),
        options=_PICTURE,
        source="arXiv 2010.11929, Table 1",
    ),
    "vit-l-16": _Entry(
        build=_vision_transformer(1024, 16, 24, as_module=True), options=_PICTURE, source="arXiv 2010.11929, Table 1"
    ),
    "deit-t": _Entry(build=_vision_transformer(192, 3), options=_PICTURE, source="arXiv 2012.12877, Table 1"),
    "deit-s": _Entry(build=_vision_transformer(384, 6), options=_PICTURE, source="arXiv 2012.12877, Table 1"),
    **{
        f"shvit-{size}": _Entry(
            build=_shvit(size),
            options=_PICTURE | {"image": 256 if size == "s4" else 224},
            source="arXiv 2401.16456, Table 1, and ysj9909/SHViT",
        )
        for size in single_head.SHVIT_SIZES
    },
    **{
        f"swin-{size}": _Entry(build=_swin(size), options=_PICTURE, source="arXiv 2103.14030, section 3.3")
        for size in windowed.SWIN_SIZES
    },
    **{
        f"pvt-v2-{size}": _Entry(
            build=_pvt(size, multiplies=True), options=_PICTURE, source="arXiv 2106.13797, Table 1"
        )
        for size in pyramid.PVT_SIZES
    },
    **{
        f"shiftaddvit-{size}": _Entry(
            build=_pvt(size, multiplies=False),
            options=_PICTURE | {"multiplied": 50},
            source="arXiv 2306.06446 and GATECH-EIC/ShiftAddViT: PVTv2 of this size, reparameterised; the share of "
            "tokens that are multiplied is an option, assumed",
        )
        for size in pyramid.PVT_SIZES
    },
    **{
        f"codenet-{size}{'-pooled' * pooled}": _Entry(
            build=_codenet(widths, pooled=pooled),
            options=_PICTURE | {"image": 512, "classes": 20, "whole_pixels": 0},
            source="arXiv 2006.08357; layers as in the released Zhen-Dong/CoDeNet",
        )
        for size, widths in _CODENET
        for pooled in (False, True)
    },
    "fno-2d": _Entry(
        build=_fno,
        options={"batch": 1, "image": 64, "modes": 12, "width": 32, "products": 4},
        source="arXiv 2010.08895, section 4; its widths and modes are options, as in its code",
    ),
    "bert-base": _Entry(build=_bert(12, 768, 12), options=_TEXT, source="arXiv 1810.04805, section 3"),
    "bert-base-svd": _Entry(
        build=_bert(12, 768, 12),
        options=_TEXT | {"rank": 256, "head_rank": 0, "fused": 0},
        source="arXiv 2508.01506: BERT with every weight of a layer as two of a rank; the rank is an option, assumed; "
        "with head_rank those of Q, K and V head by head, as its released code has them",
    ),
    "bert-base-kronecker": _Entry(
        build=_bert(12, 768, 12),
        options=_TEXT | {"block": 2},
        source="arXiv 2109.06243: BERT with every weight of a layer as a Kronecker product (embeddings stay whole); "
        "the side of the second factor is an option, assumed",
    ),
    "bert-large": _Entry(build=_bert(24, 1024, 16), options=_TEXT, source="arXiv 1810.04805, section 3"),
    "llama-3-8b": _Entry(
        build=_llama(_LLAMA_3_8B),
        options=_GENERATE,
        source="arXiv 2407.21783, Table 3",
        generates=True,
        has_logits=True,
    ),
    "llama-3-8b-block": _Entry(
        build=_llama_block(_LLAMA_3_8B),
        options=_GENERATE | {"rotary": 1, "concatenated": 0},
        source="arXiv 2407.21783, Table 3, one layer; concatenated=1 copies the cache to append to it",
        generates=True,
    ),
    "llama-3.2-1b": _Entry(
        build=_llama(_LLAMA_3_2_1B),
        options=_GENERATE,
        source="Llama 3.2 1B, its published configuration",
        generates=True,
        has_logits=True,
    ),
    "llama-3.2-3b": _Entry(
        build=_language_model("llama-3.2-3b"),
        options=_GENERATE,
        source="Llama 3.2 3B, its published configuration",
        generates=True,
        has_logits=True,
    ),
    **{
        f"mamba-{size}": _Entry(
            build=_mamba(state_space.MambaConfig(hidden=hidden, layers=layers, states=16, vocabulary=50280)),
            options=_STATES,
            source="arXiv 2312.00752, Table 12; the published checkpoints, whose vocabulary is padded to 50,280",
            has_logits=True,
            has_states=True,
        )
        for size, hidden, layers in _MAMBA_SIZES
    },
    **{
        f"mamba2-{size}": _Entry(
            build=_mamba_2(hidden, layers),
            options=_STATES,
            source="arXiv 2405.21060, Table 9; the published checkpoints, whose vocabulary is padded to 50,288",
            has_logits=True,
            has_states=True,
        )
        for size, hidden, layers in _MAMBA_2_SIZES
    },
    "mamba2-attention-2.7b": _Entry(
        build=_mamba_2(2560, 64, state_space.HYBRID_ATTENTION),
        options=_GENERATE,
        source="arXiv 2405.21060, section 9.2.3, the published checkpoint; without its rotary embeddings",
        generates=True,
        has_logits=True,
    ),
    "jamba-v0.1": _Entry(
        build=_hybrid(hybrids.jamba, _JAMBA),
        options=_GENERATE,
        source="arXiv 2403.19887; the published configuration of Jamba-v0.1; rows spread evenly over experts",
        generates=True,
        has_logits=True,
    ),
    "zamba2-2.7b": _Entry(
        build=_hybrid(hybrids.zamba_2, _ZAMBA_2),
        options=_GENERATE,
        source="arXiv 2411.15242; layers and widths as transformers has them, two shared blocks in turn",
        generates=True,
        has_logits=True,
    ),
    "lact-layer": _Entry(
        build=_lact,
        options={"batch": 1, "seq": 32768, "chunk": 2048, "hidden": 1024, "heads": 4, "inner": 256},
        source="arXiv 2505.23884, a layer of test-time training in large chunks; widths are options, assumed",
    ),
    "dit-xl-2": _Entry(build=_dit, options={"batch": 1, "image": 256, "steps": 1}, source="arXiv 2212.09748, Table 1"),
    "pixart-sigma": _Entry(
        build=_pixart,
        options={"batch": 1, "image": 1024, "text": 300, "steps": 1},
        source="arXiv 2403.04692; widths as in arXiv 2310.00426",
    ),
    "pixart-alpha": _Entry(
        build=_pixart,
        options={"batch": 1, "image": 1024, "text": 120, "steps": 1},
        source="arXiv 2310.00426, the model for 1,024 pixels, without its embeddings of size and aspect ratio",
    ),
    "flux-dev": _Entry(
        build=_joint(joint_diffusion.flux, _FLUX),
        options={"batch": 1, "image": 1024, "text": 512, "steps": 1},
        source="black-forest-labs/flux, src/flux/util.py, flux-dev",
    ),
    "qwen-image": _Entry(
        build=_joint(joint_diffusion.qwen_image, _QWEN_IMAGE),
        options={"batch": 1, "image": 1024, "text": 128, "steps": 1},
        source="arXiv 2508.02324 and its published configuration",
    ),
    "t5-xxl-encoder": _Entry(
        build=lambda b, o: image_ends.t5_encoder(
            b, batch=o["batch"], seq=o["seq"], hidden=4096, heads=(64, 64), wide=10240, layers=24, vocabulary=32128
        ),
        options={"batch": 1, "seq": 512},
        source="arXiv 1910.10683 and the published configuration of version 1.1",
    ),
    "vae-decoder": _Entry(
        build=_vae_decoder,
        options={"batch": 1, "image": 1024, "channels": 16},
        source="arXiv 2112.10752; the published configurations (4 channels of Stable Diffusion, 16 of FLUX.1)",
    ),
    "sdxl-unet": _Entry(
        build=_sdxl,
        options={"batch": 1, "image": 1024, "text": 77, "steps": 1},
        source="arXiv 2307.01952, Table 1; the published configuration of the base model",
    ),
    "sd-1.5-unet": _Entry(
        build=_unet,
        options={"batch": 1, "image": 512, "text": 77, "steps": 1},
        source="arXiv 2112.10752; widths of the published configuration of version 1.5",
    ),
    **{
        name: _Entry(build=one.build, options=one.options, source=one.source, masks=one.masks)
        for name, one in VIDEO_NETWORKS.items()
    },
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
    if entry.has_logits:
        usual["logits"] = "last"
    if entry.masks:
        usual["mask"] = _USUAL_MASK
    formats = {key: _USUAL_FORMAT for key in _FORMATS if key != "cache" or entry.generates}
    return usual | formats | ({"cache": _STATE_FORMAT} if entry.has_states else {})


def build_network(name: str, options: Mapping[str, str]) -> OperatorStream:
    """The stream of the built-in network ``name`` with ``options`` as a person wrote them.

    Whole numbers: batch, image (side in pixels), classes, seq, text (tokens), prefill, decode, context (tokens), steps.
    ``rotary`` and ``concatenated`` are 0 or 1. ``logits`` is last or all; ``mask`` is that of self-attention;
    ``weights``, ``activations`` and ``cache`` are number formats. Raises InputError that names the option, what was
    given and what is allowed.
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
    if entry.has_logits:
        numbers["logits"] = _logits(what, options.get("logits", "last"))
    if entry.generates:
        _settle_tokens(what, numbers, options)
    if entry.has_states and numbers["decode"] and "seq" in options:
        raise InputError(f"{what}: seq: is another run than decode; given both; allowed one of seq, decode")
    formats = {key: options[key] for key in _FORMATS if key in options}
    for key, value in formats.items():
        _need_format(what, key, value)
    b = Layers(what)
    if entry.masks:
        b.mask = known_mask(what, options.get("mask", _USUAL_MASK))
    stream = entry.build(b, numbers)
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
            name, n_new = what.partition(":")[0], numbers["decode"]
            raise InputError(
                f"{what}: prefill: is another run than decode; given both; allowed one of prefill, decode, or a run "
                f"over time, {name}:prompt={numbers['prefill']},generate={n_new}"
            )
        if not numbers["context"]:
            raise InputError(f"{what}: context: missing; decode needs the number of cached tokens; allowed 1 or more")
    elif not numbers["prefill"]:
        raise InputError(f"{what}: prefill: nothing to run; given 0; allowed prefill or decode of 1 or more")


def _need_format(what: str, key: str, value: str) -> None:
    try:
        tensor_format(value)
    except InputError as fault:
        raise InputError(f"{what}: {key}: {fault}") from None
