# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""OPT in transformers' form. Source: transformers models/opt."""

from collections.abc import Mapping
from typing import Any

from jvlm.convert import hf
from jvlm.convert.engine import Rule
from jvlm.convert.hf import fields_to_hf, read_fields, refuse
from jvlm.convert.rules import heads, heads_out, linear, norm
from jvlm.models.towers.opt import OPTConfig

DECODER = "model.decoder"
LAYER = f"{DECODER}.layers.{{layer}}"
HF_RULES = (
    Rule(f"{DECODER}.embed_tokens.weight", "token/embedding"),
    Rule(f"{DECODER}.embed_positions.weight", "pos"),
    Rule(f"{DECODER}.project_in.weight", "in_proj/kernel", "linear"),
    *sum((heads(f"{LAYER}.self_attn.{n}_proj", f"blocks/attn/{n}") for n in "qkv"), ()),
    *heads_out(f"{LAYER}.self_attn.out_proj", "blocks/attn/out"),
    *norm(f"{LAYER}.self_attn_layer_norm", "blocks/norm1"),
    *linear(f"{LAYER}.fc1", "blocks/mlp/up"),
    *linear(f"{LAYER}.fc2", "blocks/mlp/down"),
    *norm(f"{LAYER}.final_layer_norm", "blocks/norm2"),
    *norm(f"{DECODER}.final_layer_norm", "final_norm"),
    Rule(f"{DECODER}.project_out.weight", "out_proj/kernel", "linear"),
    Rule("lm_head.weight", "lm_head/kernel", "linear"),
)
HF_SKIP = ()
HF_RENAME = ((r"^decoder\.", "model.decoder."),)
HF_HEAD = ("lm_head.weight", f"{DECODER}.embed_tokens.weight")

NAMES = {
    **hf.NAMES,
    "activation": "activation_function",
    "mlp_dim": "ffn_dim",
    "token_width": "word_embed_proj_dim",
}
# Our field -> the value that transformers' config class has where a file is silent.
FIELDS: dict[str, Any] = {
    "vocab_size": 50272,
    "max_len": 2048,
    "width": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_dim": 3072,
    "token_width": None,
    "activation": "relu",
    "tied": True,
    "bos_id": 2,
    "eos_id": 2,
    "pad_id": 1,
}


def config_from_hf(config: Mapping[str, Any]) -> OPTConfig:
    """transformers' config.json -> ours. Dropout is training's affair: it starts at 0."""
    known = {"enable_bias": True, "layer_norm_elementwise_affine": True}
    post_norm = not config.get("do_layer_norm_before", True)
    if not post_norm:  # The other kind has no final norm in any case.
        known["_remove_final_layer_norm"] = False
    refuse(config, known)
    fields = read_fields(config, FIELDS, NAMES)
    if fields["token_width"] == fields["width"]:
        fields["token_width"] = None
    return OPTConfig(**fields, post_norm=post_norm)


def config_to_hf(cfg: OPTConfig) -> dict[str, Any]:
    """Our config -> transformers' config.json."""
    return {
        "architectures": ["OPTForCausalLM"],
        "model_type": "opt",
        **fields_to_hf(cfg, FIELDS, NAMES),
        "word_embed_proj_dim": cfg.token_width or cfg.width,
        "do_layer_norm_before": not cfg.post_norm,
    }
