"""Transformers of videos as diffusers has them: configurations, modules that run and count, and the zoo agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tilewright.workloads.stream.graph import OperatorStream
from tilewright.workloads.zoo import sana, video
from tilewright.workloads.zoo.layers import Layers

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'tilewright[torch]'")
diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'tilewright[zoo]'")

from independent_counts import counted_macs, counted_parameters  # noqa: E402

from tilewright.workloads.extract.transformers import stream_from_config  # noqa: E402

pytestmark = [pytest.mark.extras, pytest.mark.slow]

TEXT = 7
CANVAS = video.Canvas(3, 8, 8)
SIZES = {"frames": 9, "height": 64, "width": 64, "text": TEXT}
_SMALL = {"num_attention_heads": 2, "in_channels": 4, "out_channels": 4}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "wan": _SMALL | {"_class_name": "WanTransformer3DModel", "attention_head_dim": 12, "text_dim": 16, "freq_dim": 16,
                     "ffn_dim": 48, "num_layers": 2},
    "cogvideox": _SMALL | {"_class_name": "CogVideoXTransformer3DModel", "attention_head_dim": 16, "time_embed_dim": 8,
                           "text_embed_dim": 16, "num_layers": 2, "sample_width": 8, "sample_height": 8,
                           "sample_frames": 9, "max_text_seq_length": TEXT},
    "cogvideox-rotary": _SMALL | {"_class_name": "CogVideoXTransformer3DModel", "attention_head_dim": 16,
                                  "time_embed_dim": 8, "text_embed_dim": 16, "num_layers": 2,
                                  "use_rotary_positional_embeddings": True, "patch_size_t": 2},
    "hunyuan": _SMALL | {"_class_name": "HunyuanVideoTransformer3DModel", "attention_head_dim": 16, "num_layers": 2,
                         "num_single_layers": 1, "num_refiner_layers": 1, "text_embed_dim": 16,
                         "pooled_projection_dim": 8, "rope_axes_dim": (4, 6, 6)},
    "sana": _SMALL | {"_class_name": "SanaTransformer2DModel", "attention_head_dim": 16, "num_layers": 2,
                      "num_cross_attention_heads": 2, "cross_attention_head_dim": 16, "cross_attention_dim": 32,
                      "caption_channels": 24, "sample_size": 2},
}  # fmt: skip


def _cogvideox(b: Layers, *, rotary: bool, patch_frames: int) -> OperatorStream:
    config = video.CogVideoXConfig(
        hidden=32, heads=2, layers=2, rotary=rotary, channels=4, text_width=16, time=8, patch_frames=patch_frames
    )
    return video.cogvideox(b, config, batch=1, canvas=CANVAS, text=TEXT)


def _wan(b: Layers) -> OperatorStream:
    config = video.WanConfig(hidden=24, heads=2, layers=2, intermediate=48, channels=4, text_width=16, frequencies=16)
    return video.wan(b, config, batch=1, canvas=CANVAS, text=TEXT)


def _hunyuan(b: Layers) -> OperatorStream:
    config = video.HunyuanVideoConfig(
        hidden=32, heads=2, double=2, single=1, refiners=1, channels=4, text_width=16, pooled_width=8
    )
    return video.hunyuan_video(b, config, batch=1, canvas=CANVAS, text=TEXT)


def _sana(b: Layers) -> OperatorStream:
    config = sana.SanaConfig(hidden=32, heads=2, cross_heads=2, layers=2, channels=4, text_width=24)
    return sana.sana(b, config, batch=1, rows=2, columns=2, text=TEXT)


ZOO: dict[str, Callable[[Layers], OperatorStream]] = {
    "wan": _wan,
    "cogvideox": lambda b: _cogvideox(b, rotary=False, patch_frames=0),
    "cogvideox-rotary": lambda b: _cogvideox(b, rotary=True, patch_frames=2),
    "hunyuan": _hunyuan,
    "sana": _sana,
}


def _module(name: str) -> tuple[Any, dict[str, Any]]:
    data = CONFIGURATIONS[name]
    model = getattr(diffusers, data["_class_name"]).from_config(data).eval()
    given: dict[str, Any] = {"hidden_states": torch.zeros(1, 4, 3, 8, 8), "timestep": torch.zeros(1, dtype=torch.long)}
    given["encoder_hidden_states"] = torch.zeros(1, TEXT, 24 if name == "sana" else 16)
    if name == "cogvideox":
        given["hidden_states"] = torch.zeros(1, 3, 4, 8, 8)
    if name == "cogvideox-rotary":
        given["hidden_states"] = torch.zeros(1, 4, 4, 8, 8)
        given["image_rotary_emb"] = (torch.zeros(32, 16), torch.zeros(32, 16))
    if name == "hunyuan":
        given |= {"pooled_projections": torch.zeros(1, 8), "guidance": torch.zeros(1)}
        given["encoder_attention_mask"] = torch.ones(1, TEXT, dtype=torch.long)
    if name == "sana":
        given |= {"hidden_states": torch.zeros(1, 4, 2, 2), "timestep": torch.zeros(1)}
    return model, given | {"return_dict": False}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration_zoo_and_a_run_of_the_module_agree(name: str) -> None:
    sizes = {key: value for key, value in SIZES.items() if key != "frames" or name != "sana"}
    stream = stream_from_config(CONFIGURATIONS[name], sizes, name=name)
    own = ZOO[name](Layers(name))
    model, given = _module(name)
    macs, visible = counted_macs(model, (), given)
    assert macs == visible == stream.macs == own.macs
    assert counted_parameters(model) == stream.n_parameters == own.n_parameters
    assert all(len(one.inputs) == 3 for one in stream.operators if one.kind == "attention")  # all of the text is seen


def test_masks_of_a_configuration() -> None:
    stream = stream_from_config(CONFIGURATIONS["wan"], SIZES | {"mask": "radial:block=4"}, name="wan")
    masks = [one.text("mask") for one in stream.operators if one.kind == "attention"]
    assert masks == ["radial:block=4,frames=3", "none"] * 2
