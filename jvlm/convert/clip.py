# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP in transformers' form. Source: transformers models/clip."""

from collections.abc import Mapping
from typing import Any

from jvlm.convert.engine import Rule
from jvlm.convert.hf import fields_from_hf, fields_to_hf, tower_section
from jvlm.convert.rules import heads, heads_out, linear, norm
from jvlm.models.clip import CLIPConfig
from jvlm.models.towers.text_transformer import TextConfig
from jvlm.models.towers.vit import ViTConfig


def hf_blocks(source: str, target: str) -> tuple[Rule, ...]:
    """Pre-norm blocks as transformers' CLIP, Chinese-CLIP and SigLIP write them."""
    layer = source + ".encoder.layers.{layer}"
    attention = (heads(f"{layer}.self_attn.{n}_proj", f"{target}/blocks/attn/{n}") for n in "qkv")
    return (
        *sum(attention, ()),
        *heads_out(f"{layer}.self_attn.out_proj", f"{target}/blocks/attn/out"),
        *norm(f"{layer}.layer_norm1", f"{target}/blocks/norm1"),
        *norm(f"{layer}.layer_norm2", f"{target}/blocks/norm2"),
        *linear(f"{layer}.mlp.fc1", f"{target}/blocks/mlp/up"),
        *linear(f"{layer}.mlp.fc2", f"{target}/blocks/mlp/down"),
    )


# transformers' image tower, the same in CLIP and Chinese-CLIP.
HF_VISION = (
    Rule("vision_model.embeddings.class_embedding", "vision/cls", "row"),
    Rule("vision_model.embeddings.patch_embedding.weight", "vision/patch/kernel", "conv"),
    Rule("vision_model.embeddings.position_embedding.weight", "vision/pos"),
    *norm("vision_model.pre_layrnorm", "vision/pre_norm"),
    *hf_blocks("vision_model", "vision"),
    *norm("vision_model.post_layernorm", "vision/final_norm"),
    Rule("visual_projection.weight", "vision_proj/kernel", "linear"),
)
HF_TEXT = (
    Rule("text_model.embeddings.token_embedding.weight", "text/token/embedding"),
    Rule("text_model.embeddings.position_embedding.weight", "text/pos"),
    *hf_blocks("text_model", "text"),
    *norm("text_model.final_layer_norm", "text/final_norm"),
)
HF_RULES = (
    *HF_VISION,
    *HF_TEXT,
    Rule("text_projection.weight", "text_proj/kernel", "linear"),
    Rule("logit_scale", "logit_scale"),
)
# Buffers that older versions of transformers saved.
HF_SKIP = (r".*\.position_ids",)


# Our field -> the value that transformers' config class has where a file is silent.
HF_TEXT_FIELDS: dict[str, Any] = {
    "vocab_size": 49408,
    "max_len": 77,
    "width": 512,
    "depth": 12,
    "num_heads": 8,
    "mlp_dim": 2048,
    "activation": "quick_gelu",
    "norm_eps": 1e-5,
}
HF_VISION_FIELDS: dict[str, Any] = {
    "image_size": 224,
    "patch_size": 32,
    "width": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_dim": 3072,
    "activation": "quick_gelu",
    "norm_eps": 1e-5,
}
LAST_OF_VOCABULARY = 2  # What `eos_token_id` is in hub files that mean "the greatest id".


def config_from_hf(config: Mapping[str, Any]) -> CLIPConfig:
    """transformers' config.json -> ours."""
    text = fields_from_hf(config, "text", HF_TEXT_FIELDS)
    eos = tower_section(config, "text").get("eos_token_id", 49407)
    # modeling_clip.py: id 2 is a mistake in the oldest files, and stands for argmax.
    pool = {"pool": "argmax"} if eos == LAST_OF_VOCABULARY else {"pool": "eos", "eos_id": eos}
    return CLIPConfig(
        ViTConfig(**fields_from_hf(config, "vision", HF_VISION_FIELDS)),
        TextConfig(**text, **pool),
        config.get("projection_dim", 512),
        logit_scale_init=config.get("logit_scale_init_value", 2.6592),
    )


def config_to_hf(cfg: CLIPConfig) -> dict[str, Any]:
    """Our config -> transformers' config.json, as far as that can say it."""
    vision, text = cfg.vision, cfg.text
    eos = LAST_OF_VOCABULARY if text.pool == "argmax" else text.eos_id
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": cfg.embed_dim,
        "logit_scale_init_value": cfg.logit_scale_init,
        "text_config": {
            "model_type": "clip_text_model",
            **fields_to_hf(text, HF_TEXT_FIELDS),
            "eos_token_id": eos,
            "bos_token_id": text.vocab_size - 2,
            "pad_token_id": 1,
            "projection_dim": cfg.embed_dim,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            **fields_to_hf(vision, HF_VISION_FIELDS),
            "projection_dim": cfg.embed_dim,
        },
    }
