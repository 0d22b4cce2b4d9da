# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""LLaMA in transformers' form. Source: transformers models/llama, modeling_rope_utils.py."""

from collections.abc import Mapping
from typing import Any

from jvlm.convert import hf
from jvlm.convert.engine import Rule
from jvlm.convert.hf import fields_to_hf, read_fields, refuse
from jvlm.errors import UserError
from jvlm.layers import Rope
from jvlm.models.towers.llama import LlamaConfig

LAYER = "model.layers.{layer}"
HF_RULES = (
    Rule("model.embed_tokens.weight", "token/embedding"),
    Rule(f"{LAYER}.input_layernorm.weight", "blocks/norm1/scale"),
    *(
        Rule(f"{LAYER}.self_attn.{n}_proj.weight", f"blocks/attn/{n}/kernel", "linear")
        for n in "qkv"
    ),
    Rule(f"{LAYER}.self_attn.o_proj.weight", "blocks/attn/out/kernel", "linear_out"),
    Rule(f"{LAYER}.post_attention_layernorm.weight", "blocks/norm2/scale"),
    *(
        Rule(f"{LAYER}.mlp.{n}_proj.weight", f"blocks/mlp/{n}/kernel", "linear")
        for n in ("gate", "up", "down")
    ),
    Rule("model.norm.weight", "final_norm/scale"),
    Rule("lm_head.weight", "lm_head/kernel", "linear"),
)
HF_SKIP = (r".*\.rotary_emb\.inv_freq",)
HF_RENAME = ((r"^(embed_tokens|layers|norm)\.", r"model.\1."),)
HF_HEAD = ("lm_head.weight", "model.embed_tokens.weight")

NAMES = {
    **hf.NAMES,
    "head_dim": "head_dim",
    "norm_eps": "rms_norm_eps",
    "num_kv_heads": "num_key_value_heads",
}
# Our field -> the value that transformers' config class has where a file is silent.
FIELDS: dict[str, Any] = {
    "vocab_size": 32000,
    "max_len": 2048,
    "width": 4096,
    "depth": 32,
    "num_heads": 32,
    "num_kv_heads": None,
    "head_dim": None,
    "mlp_dim": 11008,
    "activation": "silu",
    "norm_eps": 1e-6,
    "tied": False,
    "bos_id": 1,
    "eos_id": 2,
    "pad_id": None,
}


def config_from_hf(config: Mapping[str, Any]) -> LlamaConfig:
    """transformers' config.json -> ours."""
    refuse(config, {"attention_bias": False, "mlp_bias": False})
    fields = read_fields(config, FIELDS, NAMES)
    # Vicuna's stretched models have the length of their base in the first, their own in the second.
    fields["max_len"] = max(fields["max_len"], config.get("max_sequence_length") or 0)
    # What follows from the rest is left out, as old files do.
    if fields["num_kv_heads"] == fields["num_heads"]:
        fields["num_kv_heads"] = None
    if (fields["head_dim"] or 0) * fields["num_heads"] == fields["width"]:
        fields["head_dim"] = None
    return LlamaConfig(**fields, rope=_rope(config))


def _rope(config: Mapping[str, Any]) -> Rope:
    """Files before transformers 5 have `rope_theta` beside `rope_scaling`, later ones within."""
    scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
    theta = scaling.get("rope_theta", config.get("rope_theta", 10_000.0))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    refuse({**config, **scaling}, {"partial_rotary_factor": 1.0})
    if kind == "default":
        return Rope(float(theta))
    if kind == "linear":
        return Rope(float(theta), float(scaling["factor"]))
    if kind == "llama3":
        original = scaling.get("original_max_position_embeddings")
        return Rope(
            float(theta),
            float(scaling["factor"]),
            float(scaling["low_freq_factor"]),
            float(scaling["high_freq_factor"]),
            int(original or config.get("max_position_embeddings", 2048)),
        )
    raise UserError(f"rope_scaling {kind!r}: jvlm has 'linear' and 'llama3'")


def config_to_hf(cfg: LlamaConfig) -> dict[str, Any]:
    """Our config -> transformers' config.json, in the form that all its versions read."""
    rope, scaling = cfg.rope, None
    if rope.original_len is not None:
        scaling = {
            "rope_type": "llama3",
            "factor": rope.factor,
            "low_freq_factor": rope.low_freq,
            "high_freq_factor": rope.high_freq,
            "original_max_position_embeddings": rope.original_len,
        }
    elif rope.factor != 1:
        scaling = {"rope_type": "linear", "type": "linear", "factor": rope.factor}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **fields_to_hf(cfg, FIELDS, NAMES),
        "num_key_value_heads": cfg.num_kv_heads or cfg.num_heads,
        "head_dim": cfg.head_dim or cfg.width // cfg.num_heads,
        "rope_theta": rope.theta,
        "rope_scaling": scaling,
    }
