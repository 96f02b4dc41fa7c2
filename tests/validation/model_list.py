"""Small models of many kinds: configurations of transformers, modules of diffusers and PyTorch with their inputs."""

from __future__ import annotations

from typing import Any

__all__ = ["CONFIGURATIONS", "MODULES"]

_DECODER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
_DECODER |= {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": 99, "max_position_embeddings": 128}
_ENCODER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
_ENCODER |= {"vocab_size": 99, "max_position_embeddings": 64}
_EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LATENT = {"head_dim": 8, "kv_lora_rank": 32, "q_lora_rank": 24, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8}
_LATENT |= {"v_head_dim": 12, "n_routed_experts": 4, "first_k_dense_replace": 1, "num_key_value_heads": 4}
_VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
_VISION |= {"image_size": 32, "patch_size": 8}
_SEQ2SEQ = {"d_model": 32, "vocab_size": 99, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
_SEQ2SEQ |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "is_encoder_decoder": True}
_SEQ2SEQ |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
_SEQ2SEQ |= {"max_position_embeddings": 64, "max_source_positions": 50, "max_target_positions": 64}
_T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_heads": 2, "num_layers": 1, "vocab_size": 99}
_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 99}
_IMAGE = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
_IMAGE |= {"image_size": 32, "patch_size": 16}
_WINDOW = {"sliding_window": 5}
_BOTH = {"text_config": _TEXT | {"max_position_embeddings": 12}, "vision_config": _IMAGE}

#: Name, model_type, architecture, fields.
CONFIGURATIONS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    # decoders
    ("llama", "llama", "LlamaForCausalLM", _DECODER),
    ("mistral", "mistral", "MistralForCausalLM", _DECODER | _WINDOW),
    ("qwen2", "qwen2", "Qwen2ForCausalLM", _DECODER),
    ("qwen3", "qwen3", "Qwen3ForCausalLM", _DECODER),
    ("qwen3-moe", "qwen3_moe", "Qwen3MoeForCausalLM", _DECODER | _EXPERTS),
    ("gemma", "gemma", "GemmaForCausalLM", _DECODER),
    ("gemma-2", "gemma2", "Gemma2ForCausalLM", _DECODER | _WINDOW),
    ("gemma-3", "gemma3_text", "Gemma3ForCausalLM", _DECODER | _WINDOW),
    ("phi", "phi", "PhiForCausalLM", _DECODER | {"num_key_value_heads": 4}),
    ("phi-3", "phi3", "Phi3ForCausalLM", _DECODER | {"pad_token_id": 0}),
    (
        "gpt-2",
        "gpt2",
        "GPT2LMHeadModel",
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 99, "n_positions": 64},
    ),
    (
        "gpt-neo",
        "gpt_neo",
        "GPTNeoForCausalLM",
        {
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "vocab_size": 99,
            "window_size": 5,
            "attention_types": [[["global", "local"], 1]],
        },
    ),
    ("gpt-neox", "gpt_neox", "GPTNeoXForCausalLM", _ENCODER),
    ("gpt-j", "gptj", "GPTJForCausalLM", {"n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8, "vocab_size": 99}),
    ("opt", "opt", "OPTForCausalLM", _ENCODER | {"ffn_dim": 128, "word_embed_proj_dim": 64}),
    ("bloom", "bloom", "BloomForCausalLM", {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 99}),
    ("mpt", "mpt", "MptForCausalLM", {"d_model": 64, "n_layers": 2, "n_heads": 4, "vocab_size": 99}),
    ("falcon", "falcon", "FalconForCausalLM", _ENCODER | {"multi_query": True}),
    ("falcon-alibi", "falcon", "FalconForCausalLM", _ENCODER | {"alibi": True}),
    ("stablelm", "stablelm", "StableLmForCausalLM", _DECODER),
    ("starcoder2", "starcoder2", "Starcoder2ForCausalLM", _DECODER | _WINDOW),
    ("olmo-2", "olmo2", "Olmo2ForCausalLM", _DECODER),
    ("cohere", "cohere", "CohereForCausalLM", _DECODER),
    ("granite", "granite", "GraniteForCausalLM", _DECODER),
    ("glm", "glm", "GlmForCausalLM", _DECODER | {"pad_token_id": 0}),
    ("mixtral", "mixtral", "MixtralForCausalLM", _DECODER | _EXPERTS),
    ("gpt-oss", "gpt_oss", "GptOssForCausalLM", _DECODER | _EXPERTS | _WINDOW),
    ("deepseek-v2", "deepseek_v2", "DeepseekV2ForCausalLM", _DECODER | _EXPERTS | _LATENT),
    (
        "deepseek-v3",
        "deepseek_v3",
        "DeepseekV3ForCausalLM",
        _DECODER | _EXPERTS | _LATENT | {"n_group": 2, "topk_group": 1},
    ),
    ("llama-4", "llama4_text", "Llama4ForCausalLM", _DECODER | _EXPERTS | {"intermediate_size_mlp": 128}),
    ("mamba", "mamba", "MambaForCausalLM", {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 99}),
    # encoders
    ("bert", "bert", "BertForMaskedLM", _ENCODER),
    ("roberta", "roberta", "RobertaModel", _ENCODER | {"pad_token_id": 1}),
    ("albert", "albert", "AlbertModel", _ENCODER | {"embedding_size": 32}),
    ("electra", "electra", "ElectraModel", _ENCODER | {"embedding_size": 32}),
    (
        "distilbert",
        "distilbert",
        "DistilBertModel",
        {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 99},
    ),
    ("mpnet", "mpnet", "MPNetModel", _ENCODER),
    ("modernbert", "modernbert", "ModernBertModel", _ENCODER | {"local_attention": 8, "pad_token_id": 0}),
    (
        "deberta-v2",
        "deberta-v2",
        "DebertaV2Model",
        _ENCODER | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    ),
    ("longformer", "longformer", "LongformerModel", _ENCODER | {"attention_window": 4}),
    ("fnet", "fnet", "FNetModel", _ENCODER),
    # both
    ("t5", "t5", "T5ForConditionalGeneration", _T5 | {"is_encoder_decoder": True}),
    ("t5-encoder", "t5", "T5EncoderModel", _T5),
    ("bart", "bart", "BartForConditionalGeneration", _SEQ2SEQ),
    ("marian", "marian", "MarianMTModel", _SEQ2SEQ),
    ("pegasus", "pegasus", "PegasusForConditionalGeneration", _SEQ2SEQ),
    ("whisper", "whisper", "WhisperForConditionalGeneration", _SEQ2SEQ),
    # images, texts with images, sound
    ("vit", "vit", "ViTForImageClassification", _VISION),
    ("deit", "deit", "DeiTModel", _VISION),
    ("dinov2", "dinov2", "Dinov2Model", _VISION),
    (
        "swin",
        "swin",
        "SwinModel",
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    ),
    (
        "convnext",
        "convnext",
        "ConvNextModel",
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "image_size": 32},
    ),
    (
        "resnet",
        "resnet",
        "ResNetForImageClassification",
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    ),
    ("mobilenet-v2", "mobilenet_v2", "MobileNetV2Model", {"image_size": 32}),
    (
        "segformer",
        "segformer",
        "SegformerModel",
        {"hidden_sizes": [8, 16, 16, 16], "num_attention_heads": [1, 2, 2, 2], "depths": [1] * 4, "image_size": 64},
    ),
    ("clip", "clip", "CLIPModel", _BOTH),
    ("siglip", "siglip", "SiglipModel", _BOTH),
    (
        "wav2vec2",
        "wav2vec2",
        "Wav2Vec2Model",
        {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "conv_dim": [16] * 7,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
        },
    ),
    (
        "audio-spectrogram",
        "audio-spectrogram-transformer",
        "ASTModel",
        {
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_length": 64,
            "num_mel_bins": 32,
        },
    ),
)


def _modules() -> dict[str, Any]:
    """Makers of a module and of its inputs (positional, by name)."""
    import torch
    from torch import nn

    def unet() -> Any:
        import diffusers

        blocks = {
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        }
        model = diffusers.UNet2DModel(
            sample_size=16, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8, **blocks
        )
        return model, (torch.zeros(1, 3, 16, 16), torch.zeros(1)), {"return_dict": False}

    def conditional_unet() -> Any:
        import diffusers

        model = diffusers.UNet2DConditionModel(
            sample_size=16, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8, cross_attention_dim=24,
            attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )  # fmt: skip
        return model, (torch.zeros(1, 4, 16, 16), torch.zeros(1), torch.zeros(1, 7, 24)), {"return_dict": False}

    def autoencoder() -> Any:
        import diffusers

        return (
            diffusers.AutoencoderKL(block_out_channels=(32,), norm_num_groups=8),
            (torch.zeros(1, 3, 16, 16),),
            {"return_dict": False},
        )

    def diffusion_transformer() -> Any:
        import diffusers

        model = diffusers.DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            num_layers=1,
            sample_size=8,
            patch_size=2,
            norm_num_groups=4,
        )
        keywords = {"timestep": torch.zeros(1), "class_labels": torch.zeros(1, dtype=torch.long), "return_dict": False}
        return model, (torch.zeros(1, 4, 8, 8),), keywords

    def stable_diffusion_3() -> Any:
        import diffusers

        model = diffusers.SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=16, caption_projection_dim=16, pooled_projection_dim=16, out_channels=4,
        )  # fmt: skip
        keywords = {"encoder_hidden_states": torch.zeros(1, 5, 16), "pooled_projections": torch.zeros(1, 16)}
        return model, (torch.zeros(1, 4, 8, 8),), keywords | {"timestep": torch.zeros(1), "return_dict": False}

    def flux() -> Any:
        import diffusers

        model = diffusers.FluxTransformer2DModel(
            patch_size=1, in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        )  # fmt: skip
        keywords = {"encoder_hidden_states": torch.zeros(1, 5, 16), "pooled_projections": torch.zeros(1, 16)}
        keywords |= {"timestep": torch.zeros(1), "img_ids": torch.zeros(9, 3), "txt_ids": torch.zeros(5, 3)}
        return model, (torch.zeros(1, 9, 8),), keywords | {"guidance": torch.zeros(1), "return_dict": False}

    def encoder() -> Any:
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), (torch.zeros(1, 6, 32),), {}

    def translation() -> Any:
        model = nn.Transformer(32, 4, 1, 1, 64, batch_first=True)
        mask = nn.Transformer.generate_square_subsequent_mask(5)
        return model, (torch.zeros(1, 6, 32), torch.zeros(1, 5, 32)), {"tgt_mask": mask, "tgt_is_causal": True}

    def convolutions() -> Any:
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8),
            nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Conv2d(4, 6, 3, dilation=2), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(6, 5),
        )  # fmt: skip
        return model, (torch.zeros(2, 3, 16, 16),), {}

    def volumes() -> Any:
        return nn.Sequential(nn.Conv3d(2, 4, 3), nn.GELU(), nn.Conv3d(4, 4, 1)), (torch.zeros(1, 2, 6, 6, 6),), {}

    found = (unet, conditional_unet, autoencoder, diffusion_transformer, stable_diffusion_3, flux, encoder, translation)
    return {one.__name__: one for one in (*found, convolutions, volumes)}


MODULES = _modules()
