# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""GPT-2 in transformers' form: its matrices are [in, out]. Source: transformers models/gpt2."""

from collections.abc import Mapping
from typing import Any

from jvlm.convert import hf
from jvlm.convert.engine import Rule
from jvlm.convert.hf import fields_to_hf, read_fields, refuse
from jvlm.convert.rules import norm
from jvlm.models.towers.gpt2 import GPT2Config


def _matrix(source: str, target: str, op: str = "matrix", part=(0, 1)) -> tuple[Rule, ...]:
    """A matrix and its bias; of queries, keys or values a third of the fused ones."""
    bias = "heads" if part[1] > 1 else "same"
    return (
        Rule(f"{source}.weight", f"{target}/kernel", op, part),
        Rule(f"{source}.bias", f"{target}/bias", bias, part),
    )


LAYER = "transformer.h.{layer}"
HF_RULES = (
    Rule("transformer.wte.weight", "token/embedding"),
    Rule("transformer.wpe.weight", "pos"),
    *norm(f"{LAYER}.ln_1", "blocks/norm1"),
    *sum(
        (
            _matrix(f"{LAYER}.attn.c_attn", f"blocks/attn/{name}", part=(i, 3))
            for i, name in enumerate("qkv")
        ),
        (),
    ),
    *_matrix(f"{LAYER}.attn.c_proj", "blocks/attn/out", "matrix_out"),
    *norm(f"{LAYER}.ln_2", "blocks/norm2"),
    *_matrix(f"{LAYER}.mlp.c_fc", "blocks/mlp/up"),
    *_matrix(f"{LAYER}.mlp.c_proj", "blocks/mlp/down"),
    *norm("transformer.ln_f", "final_norm"),
    Rule("lm_head.weight", "lm_head/kernel", "linear"),
)
HF_SKIP = (r".*\.attn\.(bias|masked_bias)",)  # Causal masks.
HF_RENAME = ((r"^(wte|wpe|h|ln_f)\.", r"transformer.\1."),)
HF_HEAD = ("lm_head.weight", "transformer.wte.weight")

NAMES = {
    **hf.NAMES,
    "activation": "activation_function",
    "depth": "n_layer",
    "max_len": "n_positions",
    "mlp_dim": "n_inner",
    "norm_eps": "layer_norm_epsilon",
    "num_heads": "n_head",
    "width": "n_embd",
}
# Our field -> the value that transformers' config class has where a file is silent.
FIELDS: dict[str, Any] = {
    "vocab_size": 50257,
    "max_len": 1024,
    "width": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_dim": None,
    "activation": "gelu_new",
    "norm_eps": 1e-5,
    "tied": True,
    "bos_id": 50256,
    "eos_id": 50256,
    "pad_id": None,
}


def config_from_hf(config: Mapping[str, Any]) -> GPT2Config:
    """transformers' config.json -> ours. Dropout is training's affair: it starts at 0."""
    refuse(
        config,
        {
            "add_cross_attention": False,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
        },
    )
    fields = read_fields(config, FIELDS, NAMES)
    fields["mlp_dim"] = fields["mlp_dim"] or 4 * fields["width"]
    return GPT2Config(**fields)


def config_to_hf(cfg: GPT2Config) -> dict[str, Any]:
    """Our config -> transformers' config.json."""
    fields = fields_to_hf(cfg, FIELDS, NAMES)
    return {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", **fields}
