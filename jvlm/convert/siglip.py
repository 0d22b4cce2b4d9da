# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""SigLIP (v1) in transformers' form. Source: transformers models/siglip."""

from collections.abc import Mapping
from typing import Any

from jvlm.convert.clip import HF_TEXT as CLIP_TEXT
from jvlm.convert.clip import hf_blocks
from jvlm.convert.engine import Rule
from jvlm.convert.hf import fields_from_hf, fields_to_hf, tower_section
from jvlm.convert.rules import fused_heads, linear, norm
from jvlm.errors import UserError
from jvlm.models.clip import CLIPConfig
from jvlm.models.towers.text_transformer import TextConfig
from jvlm.models.towers.vit import ViTConfig

HEAD = "vision_model.head"
HF_RULES = (
    Rule("vision_model.embeddings.patch_embedding.weight", "vision/patch/kernel", "conv"),
    Rule("vision_model.embeddings.patch_embedding.bias", "vision/patch/bias"),
    Rule("vision_model.embeddings.position_embedding.weight", "vision/pos"),
    *hf_blocks("vision_model", "vision"),
    *norm("vision_model.post_layernorm", "vision/final_norm"),
    Rule(f"{HEAD}.probe", "vision/pool/query", "squeeze"),
    *fused_heads(f"{HEAD}.attention", "vision/pool/attn"),
    *norm(f"{HEAD}.layernorm", "vision/pool/norm"),
    *linear(f"{HEAD}.mlp.fc1", "vision/pool/mlp/up"),
    *linear(f"{HEAD}.mlp.fc2", "vision/pool/mlp/down"),
    *CLIP_TEXT,
    *linear("text_model.head", "text_proj"),
    Rule("logit_scale", "logit_scale", "scalar"),
    Rule("logit_bias", "logit_bias", "scalar"),
)
HF_SKIP = (r".*\.position_ids",)

HF_TEXT_FIELDS: dict[str, Any] = {
    "vocab_size": 32000,
    "max_len": 64,
    "width": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_dim": 3072,
    "activation": "gelu_pytorch_tanh",
    "norm_eps": 1e-6,
}
HF_VISION_FIELDS: dict[str, Any] = {
    "image_size": 224,
    "patch_size": 16,
    "width": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_dim": 3072,
    "activation": "gelu_pytorch_tanh",
    "norm_eps": 1e-6,
}
# What makes a ViT and a text transformer SigLIP's.
VISION = dict(patch_bias=True, use_cls=False, pre_norm=False, pool="map", norm_tokens=True)
TEXT = dict(causal=False, see_padding=True, pool="last")


def config_from_hf(config: Mapping[str, Any]) -> CLIPConfig:
    """transformers' config.json -> ours."""
    if not tower_section(config, "vision").get("vision_use_head", True):
        raise UserError("vision_use_head is false: the model has no image embedding")
    vision = ViTConfig(**fields_from_hf(config, "vision", HF_VISION_FIELDS), **VISION)
    text = TextConfig(**fields_from_hf(config, "text", HF_TEXT_FIELDS), **TEXT)
    embed_dim = tower_section(config, "text").get("projection_size") or text.width
    return CLIPConfig(
        vision,
        text,
        embed_dim,
        vision_proj="none",
        text_proj="affine",
        logit_scale_init=0.0,
        logit_bias_init=0.0,
    )


def config_to_hf(cfg: CLIPConfig) -> dict[str, Any]:
    """Our config -> transformers' config.json, as far as that can say it."""
    return {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "text_config": {
            "model_type": "siglip_text_model",
            **fields_to_hf(cfg.text, HF_TEXT_FIELDS),
            "projection_size": cfg.embed_dim,
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            **fields_to_hf(cfg.vision, HF_VISION_FIELDS),
        },
    }
