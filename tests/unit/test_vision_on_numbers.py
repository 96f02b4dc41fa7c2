"""Whole networks on numbers, held to the same networks in PyTorch: SHViT, Swin, ShiftAddViT and BERT of low rank."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tilewright.sim.fusion.reference import network_on_numbers, random_values
from tilewright.workloads.network import load_network
from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo.convnext import convnext
from tilewright.workloads.zoo.layers import Layers
from tilewright.workloads.zoo.pyramid import Primitives, PyramidConfig, pvt_v2
from tilewright.workloads.zoo.single_head import SHVIT_SIZES, ShvitConfig
from tilewright.workloads.zoo.transformers import EncoderConfig, bert
from tilewright.workloads.zoo.vision import vision_transformer
from tilewright.workloads.zoo.windowed import SwinConfig, swin

pytestmark = pytest.mark.extras
torch = pytest.importorskip("torch")
Values = Mapping[str, Any]


def moderate(stream: OperatorStream, seed: int) -> dict[str, Any]:
    """Values of which no sum grows: weights by the root of what each result sums."""
    found = random_values(stream, seed)
    return {
        name: value / math.sqrt(value[0].size) if stream.tensor(name).role == "weight" and value.ndim > 1 else value
        for name, value in found.items()
    }


def tensors(values: Values) -> dict[str, Any]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def same(found: Any, wanted: Any) -> None:
    wanted = wanted.detach().numpy()
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-6, atol=1e-9 + 1e-7 * np.abs(wanted).max())


# --- SHViT ----------------------------------------------------------------------------------------------------------


def shvit_in_torch(w: dict[str, Any], x: Any, config: ShvitConfig) -> Any:
    """From the paper's figure 4, batch norms folded."""
    act = torch.nn.functional

    def conv(name: str, x: Any, **how: Any) -> Any:
        return act.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **how)

    def near(at: str, x: Any) -> Any:
        return conv(f"{at}.near", x, padding=1, groups=x.shape[1])

    def ffn(at: str, x: Any) -> Any:
        return x + conv(f"{at}.narrow", conv(f"{at}.wide", x).relu())

    def attend(at: str, x: Any, seen: int) -> Any:
        mine, rest = torch.split(x, [seen, x.shape[1] - seen], dim=1)
        mine = act.group_norm(mine, 1, w[f"{at}.pre_norm.weight"], w[f"{at}.pre_norm.bias"])
        q, k, v = conv(f"{at}.qkv", mine).flatten(2).split([config.key_dim, config.key_dim, seen], dim=1)
        scores = (q.transpose(1, 2) @ k) * config.key_dim**-0.5
        mine = (v @ scores.softmax(dim=-1).transpose(1, 2)).reshape(mine.shape)
        return conv(f"{at}.proj", torch.cat([mine, rest], dim=1).relu())

    for i in range(4):
        x = conv(f"stem{i}", x, stride=2, padding=1)
        x = x.relu() if i < 3 else x
    for stage, (depth, seen) in enumerate(zip(config.depths, config.seen, strict=True)):
        at = f"stages.{stage}"
        if stage:
            x = ffn(f"{at}.before", near(f"{at}.before", x))
            y = conv(f"{at}.expand", x).relu()
            y = conv(f"{at}.halve", y, stride=2, padding=1, groups=y.shape[1]).relu()
            gate = conv(f"{at}.squeeze.reduce", y.mean((2, 3), keepdim=True)).relu()
            y = conv(f"{at}.merge", y * conv(f"{at}.squeeze.expand", gate).sigmoid())
            x = ffn(f"{at}.after", near(f"{at}.after", y))
        for index in range(depth):
            x = near(f"{at}.{index}", x)
            x = x + attend(f"{at}.{index}", x, seen) if stage else x
            x = ffn(f"{at}.{index}", x)
    return act.linear(x.mean((2, 3)), w["classifier.weight"], w["classifier.bias"])


def test_shvit_is_the_network_in_torch() -> None:
    """All of SHViT-S1, on a picture whose maps have odd sizes: 5 x 5, 3 x 3 and 2 x 2 pixels."""
    stream = load_network("shvit-s1:image=80,classes=11,batch=2")
    values = moderate(stream, 3)
    found = network_on_numbers(stream, values)[stream.outputs[0]]
    weights = tensors(values)
    same(found, shvit_in_torch(weights, weights["image"], SHVIT_SIZES["s1"]))


# --- Swin -----------------------------------------------------------------------------------------------------------


def test_swin_is_the_one_of_transformers() -> None:
    """Shifted windows, their masks and places, the joined patches: four windows in the first stage, one in the last."""
    transformers = pytest.importorskip("transformers")
    config = SwinConfig(width=64, depths=(2, 2))
    stream = swin(Layers("swin"), config, batch=2, image=56, classes=5)
    settings = transformers.SwinConfig(
        image_size=56, embed_dim=64, depths=[2, 2], num_heads=[2, 4], hidden_act="gelu_new", num_labels=5
    )
    model = transformers.SwinForImageClassification(settings).double().eval()
    values, wanted = moderate(stream, 5), model.state_dict()
    for name, value in values.items():
        kind = name.split(".")[-1]
        if name == "image" or kind == "places":
            continue
        for target, part in swin_names(name):
            whole = torch.tensor(value)
            wanted[f"{target}.{kind}"] = whole if part is None else whole.chunk(3)[part]
    model.load_state_dict(wanted)
    for stage in range(2):
        for block in range(2):
            values[f"stages.{stage}.{block}.attention.places"] = places(model, stage, block)
    found = network_on_numbers(stream, values)[stream.outputs[0]]
    same(found, model(torch.tensor(values["image"])).logits)


def swin_names(name: str) -> list[tuple[str, int | None]]:
    """The parameters of the library's model that a weight of ours is, or the thirds of one for Q, K and V are."""
    owner = name.rpartition(".")[0]
    fixed = {
        "patches": "swin.embeddings.patch_embeddings.projection",
        "patches.norm": "swin.embeddings.norm",
        "norm": "swin.layernorm",
        "classifier": "classifier",
        "stages.1.merge.norm": "swin.encoder.layers.0.downsample.norm",
        "stages.1.merge.reduce": "swin.encoder.layers.0.downsample.reduction",
    }
    if owner in fixed:
        return [(fixed[owner], None)]
    _, stage, block, *rest = owner.split(".")
    at = f"swin.encoder.layers.{stage}.blocks.{block}"
    if rest == ["attention", "qkv"]:
        return [(f"{at}.attention.{part}_proj", index) for index, part in enumerate("qkv")]
    own = {
        "attention.norm": "layernorm_before",
        "attention.output": "attention.o_proj",
        "mlp.norm": "layernorm_after",
        "mlp.up": "mlp.fc1",
        "mlp.down": "mlp.fc2",
    }
    return [(f"{at}.{own['.'.join(rest)]}", None)]


def places(model: Any, stage: int, block: int) -> Any:
    """What a block of the library's model adds to its scores: its table at relative places, and its mask."""
    layer = model.swin.encoder.layers[stage].blocks[block]
    own = layer.attention.relative_position_bias
    torch.nn.init.normal_(own.relative_position_bias_table)
    bias = own()
    side = 14 >> stage
    layer.set_shift_and_window_size((side, side))
    mask = layer.get_attn_mask(side, side, dtype=torch.float64, device="cpu")
    return (bias if mask is None else bias + mask[:, None]).detach().numpy()


# --- ShiftAddViT ----------------------------------------------------------------------------------------------------

SMALL = PyramidConfig(widths=(24, 32), depths=(2, 1), heads=(3, 2), wider=(3, 2), smaller=(2, 1))


def shiftaddvit_in_torch(w: dict[str, Any], x: Any, config: PyramidConfig, how: Primitives) -> Any:
    """Its released layers: hashed linear attention of sums, and layers whose weights are powers of two."""
    act = torch.nn.functional

    def norm(name: str, x: Any) -> Any:
        return act.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def shifted(name: str, x: Any) -> Any:
        weight = w[f"{name}.weight"]
        return x @ (weight.sign() * torch.exp2(weight.abs().log2().round())) + w[f"{name}.bias"]

    def linear(name: str, x: Any) -> Any:
        if how.multiplied == 100:
            return act.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])
        if not how.multiplied:
            return shifted(name, x)
        rows = x.flatten(0, 1)
        scores = act.linear(rows, w[f"{name}.router.weight"], w[f"{name}.router.bias"])
        liked = (scores[:, 1] - scores[:, 0]).sort(stable=True).indices[: round(len(rows) * how.multiplied / 100)]
        y = shifted(f"{name}.shift", rows)
        y[liked] = act.linear(rows[liked], w[f"{name}.multiply.weight"], w[f"{name}.multiply.bias"])
        return y.unflatten(0, x.shape[:2])

    def attend(at: str, x: Any, heads: int) -> Any:
        batch, n, width = x.shape
        dim = width // heads
        qk, v = (
            linear(f"{at}.{name}", x).view(batch, n, heads, dim).transpose(1, 2) for name in ("query_key", "value")
        )
        unit = qk / (qk.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        by_head = {
            name: w[f"{at}.hash.{name}.weight"].view(heads, -1, w[f"{at}.hash.{name}.weight"].shape[1])
            for name in ("anchors", "bits")
        }
        biases = {name: w[f"{at}.hash.{name}.bias"].view(heads, 1, -1) for name in ("anchors", "bits")}
        far = torch.einsum("bhnd,hmd->bhnm", unit, by_head["anchors"]) + biases["anchors"]
        kernel = (far / far.mean((2, 3), keepdim=True)).exp()
        codes = torch.einsum("bhnm,hkm->bhnk", kernel, by_head["bits"]) + biases["bits"]
        codes = torch.where(codes < 0, -1.0, 1.0).double()
        y = w[f"{at}.half"] * v + w[f"{at}.over_pi"] * (codes @ (codes.transpose(2, 3) @ v))
        y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{at}.unit.scale"]
        y = y + act.conv2d(v, w[f"{at}.near.weight"], padding=(4, 0), groups=heads)
        return linear(f"{at}.output", y.transpose(1, 2).reshape(batch, n, width))

    def softmax_attend(at: str, x: Any, heads: int) -> Any:
        qkv = act.linear(x, w[f"{at}.qkv.weight"], w[f"{at}.qkv.bias"])
        q, k, v = (one.unflatten(2, (heads, -1)).transpose(1, 2) for one in qkv.chunk(3, dim=2))
        y = act.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return act.linear(y, w[f"{at}.output.weight"], w[f"{at}.output.bias"])

    for stage, heads in enumerate(config.heads):
        at = f"stages.{stage}"
        kernel, stride = (3, 2) if stage else (7, 4)
        x = act.conv2d(x, w[f"{at}.patches.weight"], w[f"{at}.patches.bias"], stride=stride, padding=kernel // 2)
        size = x.shape[2:]
        x = norm(f"{at}.patches.norm", x.flatten(2).transpose(1, 2))
        for index in range(config.depths[stage]):
            own = f"{at}.{index}"
            attention = attend if stage < len(config.heads) - 1 else softmax_attend
            x = x + attention(f"{own}.attention", norm(f"{own}.norm1", x), heads)
            y = linear(f"{own}.mlp.up", norm(f"{own}.norm2", x))
            y = y.transpose(1, 2).unflatten(2, size)
            y = act.conv2d(y, w[f"{own}.mlp.near.weight"], w[f"{own}.mlp.near.bias"], padding=1, groups=y.shape[1])
            x = x + linear(f"{own}.mlp.down", act.gelu(y.flatten(2).transpose(1, 2), approximate="tanh"))
        x = norm(f"{at}.norm", x).transpose(1, 2).unflatten(2, size)
    return act.linear(x.mean((2, 3)), w["classifier.weight"], w["classifier.bias"])


@pytest.mark.parametrize("multiplied", [0, 40, 100])
def test_shiftaddvit_is_the_network_in_torch(multiplied: int) -> None:
    """Three blocks in two stages: shifts alone, shifts and products by a router, products; additions on codes."""
    how = Primitives(multiplied=multiplied, code_bits=5, anchors=7)
    stream = pvt_v2(Layers("shiftaddvit"), SMALL, how, batch=2, image=36, classes=6)
    values = moderate(stream, 11 + multiplied)
    found = network_on_numbers(stream, values)[stream.outputs[0]]
    weights = tensors(values)
    same(found, shiftaddvit_in_torch(weights, weights["image"], SMALL, how))


# --- ViT and ConvNeXt -----------------------------------------------------------------------------------------------


def test_vit_is_the_one_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden": 48, "heads": 3, "layers": 2, "patch": 8, "image": 40, "classes": 5}
    stream = vision_transformer(Layers("vit"), batch=2, **sizes)
    values = moderate(stream, 13)
    settings = transformers.ViTConfig(
        hidden_size=48, num_attention_heads=3, num_hidden_layers=2, intermediate_size=192, image_size=40, patch_size=8,
        hidden_act="gelu_new", layer_norm_eps=1e-5, num_labels=5,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(settings).double().eval()
    take(model, values, stream, VIT)
    found = network_on_numbers(stream, values)
    same(found[stream.outputs[0]], model(torch.tensor(values["image"])).logits)


def test_convnext_is_the_one_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    stream = convnext(Layers("convnext"), depths=(1, 2, 1, 1), widths=(8, 12, 16, 20), batch=2, image=64, classes=5)
    values = moderate(stream, 17)
    settings = transformers.ConvNextConfig(
        hidden_sizes=[8, 12, 16, 20], depths=[1, 2, 1, 1], hidden_act="gelu_new", layer_norm_eps=1e-5, num_labels=5
    )
    model = transformers.ConvNextForImageClassification(settings).double().eval()
    take(model, values, stream, CONVNEXT)
    for part in model.modules():  # the library has 1e-6 for some
        if hasattr(part, "eps"):
            part.eps = 1e-5
    found = network_on_numbers(stream, values)
    same(found[stream.outputs[0]], model(torch.tensor(values["image"])).logits)


VIT = {
    r"embeddings\.patch": "vit.embeddings.patch_embeddings.projection",
    r"embeddings\.class": "vit.embeddings.cls_token",
    r"embeddings\.position": "vit.embeddings.position_embeddings",
    r"layers\.(\d+)\.attention\.(q|k|v|o)[a-z]*": r"vit.layers.\1.attention.\2_proj",
    r"layers\.(\d+)\.norm1": r"vit.layers.\1.layernorm_before",
    r"layers\.(\d+)\.norm2": r"vit.layers.\1.layernorm_after",
    r"layers\.(\d+)\.mlp\.up": r"vit.layers.\1.mlp.fc1",
    r"layers\.(\d+)\.mlp\.down": r"vit.layers.\1.mlp.fc2",
    r"^norm": "vit.layernorm",
}
CONVNEXT = {
    r"stages\.0\.stem\.conv": "convnext.embeddings.patch_embeddings",
    r"stages\.0\.stem\.norm": "convnext.embeddings.layernorm",
    r"stages\.(\d+)\.downsample\.norm": r"convnext.encoder.stages.\1.downsampling_layer.0",
    r"stages\.(\d+)\.downsample\.conv": r"convnext.encoder.stages.\1.downsampling_layer.1",
    r"stages\.(\d+)\.blocks\.(\d+)\.scale": r"convnext.encoder.stages.\1.layers.\2.layer_scale_parameter",
    r"^stages\.(\d+)\.blocks\.(\d+)\.": r"convnext.encoder.stages.\1.layers.\2.",
    r"\.depthwise": ".dwconv",
    r"(layers\.\d+)\.norm": r"\1.layernorm",
    r"\.up": ".pwconv1",
    r"\.down\b": ".pwconv2",
    r"^norm": "convnext.layernorm",
}


def take(model: Any, values: Values, stream: OperatorStream, names: Mapping[str, str]) -> None:
    """Give ``model`` the weights of ``stream``, whose ``names`` are replaced one after the other."""
    left = dict(model.named_parameters())
    for spec in stream.tensors:
        if spec.role == "weight" and spec.view_of is None:
            name = spec.name
            for mine, theirs in names.items():
                name = re.sub(mine, theirs, name)
            target = left.pop(name)
            target.data.copy_(torch.tensor(values[spec.name]).reshape(target.shape))
    assert not left, list(left)


# --- BERT of low rank -----------------------------------------------------------------------------------------------


def test_bert_of_low_rank_is_bert_with_the_products_of_its_factors() -> None:
    transformers = pytest.importorskip("transformers")
    config = EncoderConfig(hidden=48, heads=3, intermediate=112, rank=13)
    stream = bert(Layers("bert"), config, layers=2, batch=2, seq=9)
    values = moderate(stream, 7)
    settings = transformers.BertConfig(
        hidden_size=48, num_attention_heads=3, intermediate_size=112, num_hidden_layers=2, hidden_act="gelu_new",
        layer_norm_eps=1e-5,
    )  # fmt: skip
    model = transformers.BertModel(settings).double().eval()
    wanted = model.state_dict()
    of_layer = {
        "attention.query": "attention.self.query",
        "attention.key": "attention.self.key",
        "attention.value": "attention.self.value",
        "attention.output": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "mlp.up": "intermediate.dense",
        "mlp.down": "output.dense",
        "norm2": "output.LayerNorm",
    }
    for layer in range(2):
        for ours, theirs in of_layer.items():
            right = values.get(f"layers.{layer}.{ours}.right.weight")
            for kind in ("weight", "bias"):
                value = values[f"layers.{layer}.{ours}.{kind}"]
                value = value @ right if kind == "weight" and right is not None else value
                wanted[f"encoder.layer.{layer}.{theirs}.{kind}"] = torch.tensor(value)
    wanted["embeddings.word_embeddings.weight"] = torch.tensor(values["embeddings.word.weight"])
    wanted["embeddings.position_embeddings.weight"][:9] = torch.tensor(values["embeddings.position"][0])
    wanted["embeddings.token_type_embeddings.weight"][0] = 0
    values["embeddings.segment"] = np.zeros((1, 9, 48))
    for kind in ("weight", "bias"):
        wanted[f"embeddings.LayerNorm.{kind}"] = torch.tensor(values[f"embeddings.norm.{kind}"])
        wanted[f"pooler.dense.{kind}"] = torch.tensor(values[f"pooler.dense.{kind}"])
    model.load_state_dict(wanted)
    found = network_on_numbers(stream, values)
    result = model(torch.tensor(values["tokens"].astype(int)))
    same(found[stream.outputs[0]], result.last_hidden_state)
    same(found[stream.outputs[1]], result.pooler_output)
