"""The zoo: parameters and multiply-accumulates as published, options, what is refused."""

from __future__ import annotations

import pytest

from tilewright.errors import InputError
from tilewright.workloads.network import load_network, network_names, network_options, network_source

# Trained parameters, and multiply-accumulates of one run in units of 1e9, with the width of their last digit.
# torchvision's model table (IMAGENET1K_V1): ResNet, VGG, SqueezeNet, MobileNetV2, EfficientNet-B0 and B3, ViT-B/16,
# ConvNeXt, Swin;
# DeepLabV3 has an auxiliary head of 3,851 parameters and 0.016e9 multiply-accumulates there. FSRCNN, DMCNN-VD, MC-CNN:
# weights of 15.6, 651.4 and 108.6 KiB at 8 bit and the layers of arXiv 2212.05344; of DMCNN-VD, that study's first
# layers are 10 pixels narrower than its last ones ask for, which makes 276.0e9 there. timm: DeiT-S. Parameters of
# GoogLeNet (without auxiliary heads) and DenseNet are torchvision's too, Inception v4 and EfficientNet-EdgeTPU-S timm's
# (whose multiply-accumulates have pools in them), FaceNet's parameters those of its PyTorch port; YOLOv4-tiny: 6.06 M,
# 6.91e9 operations of darknet. DS-CNN: MLPerf Tiny's 24,908 less two statistics and a bias for each of 576 channels.
# Parameters of EfficientNet-Lite, EdgeTPU-M and -L, MNASNet-A1, MobileNetV2 at other widths, Inception v3 (without its
# auxiliary head), Inception-ResNet v2 and DeiT-T are timm's, their multiply-accumulates those of its modules, run at
# the size given. ResNet v2: Keras' trainable parameters; multiply-accumulates follow. YOLOv3: darknet's 65.86e9 and
# 5.571e9 operations, of the tiny one with its pools, and its 8,858,734 numbers less two for each of 3,184 channels.
# YOLOv8: the published 8.7, 28.6, 78.9, 165.2 and 257.8e9 operations, 16 fixed parameters less.
# BERT, Llama and Stable Diffusion: the published checkpoints; Llama's block is one of its layers. DiT: arXiv
# 2212.09748, Table 4 (its 118.6 Gflops are multiply-accumulates), without its fixed sine table. PixArt: 610.86 M
# parameters in arXiv 2310.00426.
PUBLISHED = {
    "resnet-18": (11_689_512, 1.814, 0.001),
    "resnet-50": (25_557_032, 4.089, 0.001),
    "resnet-34": (21_797_672, 3.664, 0.001),
    "resnet-101": (44_549_160, 7.801, 0.001),
    "resnet-152": (60_192_808, 11.514, 0.001),
    "resnet-50-v2": (25_568_360, 3.482, 0.001),
    "resnet-101-v2": (44_577_896, 7.195, 0.001),
    "resnet-152-v2": (60_236_904, 10.907, 0.001),
    "resnext-50": (25_028_904, 4.23, 0.001),
    "regnetx-400mf": (5_495_976, 0.414, 0.001),
    "regnetx-800mf": (7_259_656, 0.8, 0.001),
    "regnetx-1.6gf": (9_190_136, 1.603, 0.001),
    "alexnet": (61_100_840, 0.714, 0.001),
    "vgg-11": (132_863_336, 7.609, 0.001),
    "vgg-13": (133_047_848, 11.308, 0.001),
    "vgg-19": (143_667_240, 19.632, 0.001),
    "vgg-16": (138_357_544, 15.470, 0.001),
    "squeezenet": (1_248_424, 0.819, 0.001),
    "mobilenet-v2": (3_504_872, 0.301, 0.001),
    "mobilenet-v2:width=140": (6_108_776, 0.5822, 0.0001),
    "mobilenet-v2:width=75": (2_636_424, 0.2091, 0.0001),
    "mobilenet-v2:width=35": (1_677_128, 0.0593, 0.0001),
    "mobilenet-v3-large": (5_483_032, 0.217, 0.001),
    "mobilenet-v3-small": (2_542_856, 0.057, 0.001),
    "swin-tiny": (28_288_354, 4.491, 0.001),
    "swin-small": (49_606_258, 8.741, 0.001),
    "swin-base": (87_768_224, 15.431, 0.001),
    "mnasnet-a1": (3_887_038, 0.3116, 0.0001),
    "mnasnet-a1:width=75": (2_912_278, 0.2234, 0.0001),
    "mnasnet-b1": (4_383_312, 0.314, 0.001),
    "mnasnet-b1:width=50": (2_218_512, 0.104, 0.001),
    "yolov3": (61_949_149, 65.86 / 2, 0.005),
    "yolov3-tiny": (8_858_734 - 2 * 3_184, 5.571 / 2, 0.005),
    "yolov5l": (46_563_709, 54.5, 0.05),
    "yolov5x": (86_749_405, 102.72, 0.05),
    "yolov8n": (3_157_200 - 16, 8.7 / 2, 0.03),
    "yolov8s": (11_166_560 - 16, 28.6 / 2, 0.03),
    "yolov8m": (25_902_640 - 16, 78.9 / 2, 0.03),
    "yolov8l": (43_691_520 - 16, 165.2 / 2, 0.03),
    "yolov8x": (68_229_648 - 16, 257.8 / 2, 0.03),
    "mobilenet-v1": (4_231_976, 0.569, 0.001),
    "yolov5n": (1_872_157, 2.234, 0.001),
    "yolov5s": (7_235_389, 8.217, 0.001),
    "yolov5m": (21_190_557, 24.436, 0.001),
    "resnet-8": (77_946, 0.0125, 0.0001),
    "squeezenet-1.1": (1_235_496, 0.349, 0.001),
    "ds-cnn": (24_908 - 3 * 576, 0.00266, 0.00001),
    "inception-v1": (6_624_904, 1.498, 0.001),
    "inception-v3": (23_834_568, 5.713, 0.001),
    "inception-resnet-v2": (55_843_464, 13.156, 0.001),
    "densenet-169": (14_149_480, 3.36, 0.001),
    "densenet-201": (20_013_928, 4.291, 0.001),
    "inception-v4": (42_679_816, 12.28, 0.03),
    "densenet-121": (7_978_856, 2.834, 0.001),
    "facenet": (23_482_624, 1.418, 0.001),
    "efficientnet-edgetpu-s": (5_438_392, 1.81, 0.03),
    "efficientnet-edgetpu-m": (6_899_496, 3.0133, 0.0001),
    "efficientnet-edgetpu-l": (10_589_712, 7.9361, 0.0001),
    "efficientnet-lite0": (4_652_008, 0.3852, 0.0001),
    "efficientnet-lite1": (5_416_680, 0.6002, 0.0001),
    "efficientnet-lite2": (6_092_072, 0.8597, 0.0001),
    "efficientnet-lite3:image=300": (8_197_096, 1.6076, 0.0001),
    "efficientnet-lite4:image=380": (13_006_568, 3.9436, 0.0001),
    "efficientnet-b0": (5_288_548, 0.386, 0.001),
    "efficientnet-b1": (7_794_184, 0.687, 0.001),
    "efficientnet-b2:image=288": (9_109_994, 1.088, 0.001),
    "efficientnet-b4": (19_341_616, 4.394, 0.001),
    "yolov4-tiny": (6_056_606, 6.91 / 2, 0.005),
    "ssd-mobilenet-v1": (6_819_839, 1.237, 0.001),
    "ultraface-slim": (260_188, 0.0814, 0.0001),
    "autoencoder": (265_864, 0.000264, 0.000001),
    "efficientnet-b3": (12_233_232, 1.827, 0.001),
    "deeplabv3-mobilenet-v3:image=520": (11_029_328 - 3_851, 10.452 - 0.016, 0.001),
    "fsrcnn": (15_992, 8.3626, 0.0001),
    "dmcnn-vd": (667_008, 278.8, 0.1),
    "mc-cnn": (111_168, 52.2788, 0.0001),
    "convnext-tiny": (28_589_128, 4.456, 0.002),
    "convnext-small": (50_223_688, 8.684, 0.003),
    "convnext-base": (88_591_464, 15.355, 0.005),
    "vit-b-16": (86_567_656, 17.564, 0.001),
    "vit-b-32": (88_224_232, 4.409, 0.001),
    "vit-l-16": (304_326_632, 61.555, 0.001),
    "deit-t": (5_717_416, 1.25, 0.05),
    "deit-s": (22_050_664, 4.6, 0.05),
    "bert-base": (109_482_240, 11.17, 0.01),
    "bert-large": (335_141_888, 39.46, 0.01),
    "llama-3-8b:prefill=512,logits=all": (8_030_261_248, 3876.8, 0.1),
    "llama-3-8b-block:prefill=512": (218_112_000, 112.745, 0.001),
    "llama-3.2-1b:prefill=512": (1_235_814_400, 507.1, 0.1),
    "llama-3.2-3b:prefill=512": (3_212_749_824, 1466.0, 0.2),
    "dit-xl-2": (674_834_720, 118.6, 0.05),
    "pixart-sigma:image=512,text=120": (610_856_096, 618.0, 0.5),
    "sd-1.5-unet": (859_520_964, 401.6, 0.5),
    # 3,719.50 TFLOP in 50 steps; 2.98876 and 2.14062 T multiply-adds without those of attention's two products
    "flux-dev": (11_901_408_320, 37_195.0, 3),
    "sdxl-unet": (2_567_463_684, 2_988.76 + 391.96, 0.2),
    "pixart-alpha": (610_856_096, 2_140.62 + 1_114.04, 0.2),
}
# Published in a few digits only. SSDLite and DeepLabV3 on MobileNetV2: arXiv 1801.04381, Tables 6 and 7 (80 classes);
# Inception v2: tensorflow/models' 3.883e9 operations. CNV and MLP: QuTiBench's table of topologies. The U-Net:
# TensorFlow's tutorial says 4,660,323 parameters, beside those of MobileNetV2 without its head; its
# multiply-accumulates are not published, nor are those of Mamba (tests/unit/test_state_space_models.py). Videos and
# SANA: the published checkpoints, exactly in tests/unit/test_video_networks.py.
ROUGHLY = {
    "ssdlite-mobilenet-v2:image=320,classes=80": (4.3, 0.8),
    "deeplabv3-mobilenet-v2": (2.11, 8.8),
    "unet-mobilenet-v2": ((4_660_323 + 1_811_712) / 1e6, None),
    "inception-v2": (11.2, 3.883 / 2),
    "cnv": (6.16, 0.47 / 2),
    "mlp": (10.01, 0.02 / 2),
    "mamba-130m:seq=1": (129.135, None),
    "mamba-370m:seq=1": (371.516, None),
    "mamba-790m:seq=1": (793.204, None),
    "mamba-1.4b:seq=1": (1_372.178, None),
    "mamba-2.8b:seq=1": (2_768.346, None),
    "mamba2-130m:seq=1": (130, None),
    "mamba2-370m:seq=1": (370, None),
    "mamba2-780m:seq=1": (780, None),
    "mamba2-1.3b:seq=1": (1_344, None),
    "mamba2-2.7b:seq=1": (2_703, None),
    "mamba2-attention-2.7b:prefill=1": (2_700, None),
    "t5-xxl-encoder": (4_762.3, None),
    "vae-decoder:channels=4": (49.49, None),
    "qwen-image:text=27": (20_430.4, 274.33e3 / 4 / 2),  # prompts of the published count are of some 27 tokens
    "lact-layer": (
        4 * 1.024**2 + 12 * 1.025e-3 + 3 * 4 * 0.256**2,
        (4 * 1024 + 12 + 9 * 256) * 1024 * 32768 / 1e9,
    ),
    "jamba-v0.1:prefill=1": (51_570, None),
    "zamba2-2.7b:prefill=1": (2_662, None),
    "wan-2.1-1.3b:frames=1": (1_419, None),
    "wan-2.1-14b:frames=1": (14_288, None),
    "cogvideox-2b:frames=1": (1_694, None),
    "cogvideox-5b:frames=1": (5_570, None),
    "cogvideox-1.5-5b:frames=1": (5_570, None),
    "hunyuan-video:frames=1": (12_821, None),
    "sana-0.6b:height=32": (592, None),
    "sana-1.6b:height=32": (1_604, None),
    # BERT less the weights of its layers, and two of rank 256 for each; of its multiply-adds as many less
    "bert-base-svd": (109.482 - 84.935 + 12 * 13.824e-3 * 256, 11.17 - 128 * (84.935 - 42.467) / 1e3),
    # a quarter of these weights, and half of their multiply-adds, 2 x 384 x 386 and 768 x 1538 of a row
    "bert-base-kronecker": (
        109.482 - 84.935 * 3 / 4,
        11.17 - 128 * (84.935 - 12 * (4 * 2 * 384 * 386 + 2 * 768 * 1538) / 1e6) / 1e3,
    ),
    # four layers: 2 x 12 x 12 complex matrices of 32 x 32 and a layer of 32; transforms of 32 maps of 64 x 64
    "fno-2d": (
        (4 * 2 * 288 * 32**2 + 5 * 33 * 32 + 129 * 33) / 1e6,
        4 * (2 * 2 * 2048 * 64 * 12 + 2 * 4 * 384 * 64 * 24 + 4 * 288 * 32**2 + 4096 * 32**2) / 1e9
        + 4096 * 33 * 128 / 1e9,
    ),
    # arXiv 2401.16456, Table 1
    "shvit-s1": (6.3, 0.241),
    "shvit-s2": (11.4, 0.366),
    "shvit-s3": (14.2, 0.601),
    "shvit-s4": (16.5, 0.986),
    # arXiv 2106.13797, Table 1 and whai362/PVT; ShiftAddViT publishes neither (two sets of weights in most layers; its
    # layers count as PVTv2's, attention in linear time): what was counted here once
    "pvt-v2-b0": (3.67, 0.57),
    "pvt-v2-b1": (14.0, 2.1),
    "pvt-v2-b2": (25.4, 4.0),
    "shiftaddvit-b0": (4.985, None),
    "shiftaddvit-b1": (19.194, None),
    "shiftaddvit-b2": (35.075, None),
    # arXiv 2006.08357, Table 5; parameters follow from its layers (its sizes: tests/validation/test_operators.py)
    "codenet-1x": (1.588, 1.14),
    "codenet-1x-pooled:image=256": (1.588, 0.29),
    "codenet-2x": (6.082, 3.54),
    "codenet-2x-pooled": (6.082, 3.58),
}


@pytest.mark.parametrize("network", PUBLISHED)
def test_parameters_and_macs_are_those_published(network: str) -> None:
    n_parameters, gmacs, last_digit = PUBLISHED[network]
    stream = load_network(network)
    assert stream.n_parameters == n_parameters
    assert stream.macs / 1e9 == pytest.approx(gmacs, abs=last_digit)
    assert stream.name == network


@pytest.mark.parametrize("network", ROUGHLY)
def test_parameters_and_macs_where_few_digits_are_published(network: str) -> None:
    million, gmacs = ROUGHLY[network]
    stream = load_network(network)
    assert stream.n_parameters is not None
    assert stream.n_parameters / 1e6 == pytest.approx(million, rel=0.01)
    assert gmacs is None or stream.macs / 1e9 == pytest.approx(gmacs, rel=0.07)


def test_every_network_is_covered_and_has_a_source() -> None:
    assert {name.partition(":")[0] for name in [*PUBLISHED, *ROUGHLY]} == set(network_names())
    assert all(network_source(name) for name in network_names())


def test_weights_hold_all_parameters_but_what_inference_folds_away() -> None:
    for name in ("vit-b-16", "llama-3-8b", "sd-1.5-unet"):
        stream = load_network(name)
        assert stream.n_weights == stream.n_parameters
    resnet = load_network("resnet-50")
    # of each batch norm, the scale goes into the convolution and the shift becomes its bias
    n_norm_channels = sum(op.count("out_channels") for op in resnet.operators if op.kind == "conv")
    assert resnet.n_parameters is not None
    assert resnet.n_weights == resnet.n_parameters - n_norm_channels


def test_identical_layers_are_one_distinct_operator() -> None:
    llama = load_network("llama-3-8b")
    assert len(llama.operators) == 515
    assert len(llama.distinct()) == 14
    assert max(group.count for group in llama.distinct()) == 65
    assert sum(group.count for group in llama.distinct()) == 515


def test_decode_reads_the_cache_and_writes_one_token() -> None:
    step = load_network("llama-3-8b:decode=1,context=8192")
    attention = next(op for op in step.operators if op.kind == "attention")
    assert (attention.count("query_len"), attention.count("key_len")) == (1, 8193)
    assert attention.text("mask") == "none"
    assert step.cache_bytes == 2 * 32 * 8 * 128 * 8192 * 2
    append = next(op for op in step.operators if op.text("function") == "append")
    assert step.read_bytes(append) == step.write_bytes(append) == 8 * 128 * 2
    # every weight but the embedding table once, one row of that, and both products of 32 heads of attention
    macs = 8_030_261_248 - 128_256 * 4096 - 65 * 4096 + 32 * 32 * 8193 * 2 * 128
    assert step.macs == macs


def test_decode_of_several_tokens_is_causal_behind_the_context() -> None:
    step = load_network("llama-3.2-1b:decode=4,context=100")
    attention = next(op for op in step.operators if op.kind == "attention")
    assert (attention.count("query_len"), attention.count("key_len"), attention.text("mask")) == (4, 104, "causal")


def test_prefill_fills_the_cache() -> None:
    stream = load_network("llama-3.2-1b:prefill=64")
    kept = [stream.base(name) for name in stream.outputs[1:]]
    assert len(kept) == 2 * 16
    assert all(tensor.role == "cache" and tensor.n_elements == 64 * 8 * 64 for tensor in kept)


def test_formats_are_those_asked_for() -> None:
    stream = load_network("llama-3.2-1b:decode=1,context=64,weights=int4,activations=int8,cache=fp8_e4m3")
    product = next(op for op in stream.operators if op.kind == "matmul")
    assert [stream.tensor(name).number_format for name in product.inputs] == ["int8", "int4"]
    attention = next(op for op in stream.operators if op.kind == "attention")
    assert [stream.tensor(name).number_format for name in attention.inputs] == ["int8", "fp8_e4m3", "fp8_e4m3"]
    norm = next(op for op in stream.operators if op.kind == "norm")
    assert stream.tensor(norm.inputs[1]).number_format == "fp16"
    assert stream.tensor("tokens").number_format == "int32"


def test_steps_are_kept_beside_the_totals_of_one() -> None:
    one, twenty = load_network("dit-xl-2"), load_network("dit-xl-2:steps=20")
    assert (one.n_steps, twenty.n_steps) == (1, 20)
    assert one.macs == twenty.macs


def test_batch_scales_products_and_not_weights() -> None:
    for name in ("mobilenet-v2", "vit-b-16", "bert-base", "dit-xl-2"):
        one, four = load_network(name), load_network(f"{name}:batch=4")
        assert four.macs == 4 * one.macs
        assert four.n_weights == one.n_weights


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resnet50", 'unknown network; given "resnet50"'),
        ("resnet-50:bach=2", 'resnet-50:bach=2: unknown option; given "bach"; allowed batch, image'),
        ("resnet-50:batch=0", 'batch: must be a whole number; given "0"'),
        ("resnet-50:batch", 'expected key=value; given "batch"'),
        ("resnet-50:batch=1,batch=2", "batch: given twice"),
        ("resnet-50:weights=int99", "weights: unknown number format"),
        ("vgg-16:image=225", "image: must be a multiple of 32; given 225"),
        ("vit-b-16:image=225", "image: must be a multiple of 16; given 225"),
        ("bert-base:seq=513", "seq: BERT has 512 positions; given 513"),
        ("llama-3-8b:decode=1", "context: missing"),
        ("llama-3-8b:decode=1,context=8,prefill=8", "prefill: is another run than decode"),
        ("llama-3-8b:logits=first", "logits: unknown choice"),
        ("no/such/net.json", "no/such/net.json: no such file"),
    ],
)
def test_refused(text: str, says: str) -> None:
    with pytest.raises(InputError) as fault:
        load_network(text)
    assert says in str(fault.value)
    assert "\n" not in str(fault.value)


def test_options_are_listed_with_their_usual_values() -> None:
    assert network_options("resnet-50") == {
        "batch": 1,
        "image": 224,
        "classes": 1000,
        "weights": "fp16",
        "activations": "fp16",
    }
    assert network_options("llama-3-8b")["logits"] == "last"


def test_pools_that_round_up_count_the_partial_window() -> None:
    pools = [op for op in load_network("squeezenet").operators if op.kind == "pool"]
    assert [pool.sizes("in_size")[0] for pool in pools] == [109, 54, 27]
    assert [pool.sizes("out_size")[0] for pool in pools] == [54, 27, 13]
    assert [pool.sizes("padding") for pool in pools] == [(0, 0, 0, 0), (0, 0, 1, 1), (0, 0, 0, 0)]


def test_dilated_convolutions_keep_the_map() -> None:
    rates = [op for op in load_network("deeplabv3-mobilenet-v3").operators if "pyramid.dilated" in op.name]
    dilated = [op for op in rates if op.kind == "conv"]
    assert [op.sizes("dilation")[0] for op in dilated] == [12, 24, 36]
    assert all(op.sizes("in_size") == op.sizes("out_size") == (33, 33) for op in dilated)
