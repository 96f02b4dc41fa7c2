"""The zoo: parameters and multiply-accumulates as published, options, what is refused."""

from __future__ import annotations

import pytest

from tilewright.errors import InputError
from tilewright.workloads.network import load_network, network_names, network_options, network_source

# Trained parameters, and multiply-accumulates of one run in units of 1e9, with the width of their last digit.
# torchvision's model table (IMAGENET1K_V1): ResNet, VGG, SqueezeNet, MobileNetV2, EfficientNet-B3, ViT-B/16; DeepLabV3
# there has an auxiliary head of 3,851 parameters and 0.016e9 multiply-accumulates more. FSRCNN, DMCNN-VD and MC-CNN:
# weights of 15.6, 651.4 and 108.6 KiB at 8 bit and the layers of arXiv 2212.05344; of DMCNN-VD, that study's first
# layers are 10 pixels narrower than its last ones ask for, which makes 276.0e9 there. timm: DeiT-S. Parameters of
# GoogLeNet (without auxiliary heads) and DenseNet are torchvision's too, Inception v4 and EfficientNet-EdgeTPU-S timm's
# (whose multiply-accumulates have pools in them), FaceNet's parameters those of its PyTorch port; YOLOv4-tiny: 6.06 M,
# 6.91e9 operations of darknet. DS-CNN: MLPerf Tiny's 24,908 less two statistics and a bias for each of 576 channels.
# BERT, Llama and Stable Diffusion: the published checkpoints. DiT: arXiv 2212.09748, Table 4 (its 118.6 Gflops are
# multiply-accumulates), without its fixed sine table. PixArt: 610.86 M parameters in arXiv 2310.00426.
PUBLISHED = {
    "resnet-18": (11_689_512, 1.814, 0.001),
    "resnet-50": (25_557_032, 4.089, 0.001),
    "resnet-152": (60_192_808, 11.514, 0.001),
    "vgg-16": (138_357_544, 15.470, 0.001),
    "squeezenet": (1_248_424, 0.819, 0.001),
    "mobilenet-v2": (3_504_872, 0.301, 0.001),
    "mobilenet-v1": (4_231_976, 0.569, 0.001),
    "yolov5n": (1_872_157, 2.234, 0.001),
    "yolov5s": (7_235_389, 8.217, 0.001),
    "yolov5m": (21_190_557, 24.436, 0.001),
    "resnet-8": (77_946, 0.0125, 0.0001),
    "squeezenet-1.1": (1_235_496, 0.349, 0.001),
    "ds-cnn": (24_908 - 3 * 576, 0.00266, 0.00001),
    "inception-v1": (6_624_904, 1.498, 0.001),
    "inception-v4": (42_679_816, 12.28, 0.03),
    "densenet-121": (7_978_856, 2.834, 0.001),
    "facenet": (23_482_624, 1.418, 0.001),
    "efficientnet-edgetpu-s": (5_438_392, 1.81, 0.03),
    "yolov4-tiny": (6_056_606, 6.91 / 2, 0.005),
    "ssd-mobilenet-v1": (6_819_839, 1.237, 0.001),
    "ultraface-slim": (260_188, 0.0814, 0.0001),
    "autoencoder": (265_864, 0.000264, 0.000001),
    "efficientnet-b3": (12_233_232, 1.827, 0.001),
    "deeplabv3-mobilenet-v3:image=520": (11_029_328 - 3_851, 10.452 - 0.016, 0.001),
    "fsrcnn": (15_992, 8.3626, 0.0001),
    "dmcnn-vd": (667_008, 278.8, 0.1),
    "mc-cnn": (111_168, 52.2788, 0.0001),
    "vit-b-16": (86_567_656, 17.564, 0.001),
    "deit-s": (22_050_664, 4.6, 0.05),
    "bert-base": (109_482_240, 11.17, 0.01),
    "bert-large": (335_141_888, 39.46, 0.01),
    "llama-3-8b:prefill=512,logits=all": (8_030_261_248, 3876.8, 0.1),
    "llama-3.2-1b:prefill=512": (1_235_814_400, 507.1, 0.1),
    "dit-xl-2": (674_834_720, 118.6, 0.05),
    "pixart-sigma:image=512,text=120": (610_856_096, 618.0, 0.5),
    "sd-1.5-unet": (859_520_964, 401.6, 0.5),
}


@pytest.mark.parametrize("network", PUBLISHED)
def test_parameters_and_macs_are_those_published(network: str) -> None:
    n_parameters, gmacs, last_digit = PUBLISHED[network]
    stream = load_network(network)
    assert stream.n_parameters == n_parameters
    assert stream.macs / 1e9 == pytest.approx(gmacs, abs=last_digit)
    assert stream.name == network


def test_every_network_is_covered_and_has_a_source() -> None:
    assert {name.partition(":")[0] for name in PUBLISHED} == set(network_names())
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
