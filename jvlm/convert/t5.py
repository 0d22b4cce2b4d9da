# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5 in transformers' form. Source: transformers models/t5.

transformers 5 takes every T5 for tied and looks at the file's `tie_word_embeddings` only for
whether the output is scaled (configuration_t5.py); in what it writes itself that is
`scale_decoder_outputs`. Whether there is an output layer of its own the weights say.
"""

from collections.abc import Mapping
from typing import Any

from jvlm.convert import hf
from jvlm.convert.engine import Rule
from jvlm.convert.hf import TO_HF, fields_to_hf, read_fields
from jvlm.models.towers.t5 import T5Config


def _stack(source: str, target: str, is_decoder: bool) -> tuple[Rule, ...]:
    layer, block = f"{source}.block.{{layer}}.layer", f"{target}blocks"
    parts = [("0.SelfAttention", "attn", "norm1")]
    if is_decoder:
        parts.append(("1.EncDecAttention", "cross_attn", "cross_norm"))
    rules = []
    for i, (theirs, ours, norm) in enumerate(parts):
        rules += [
            *(
                Rule(f"{layer}.{theirs}.{n}.weight", f"{block}/{ours}/{n}/kernel", "linear")
                for n in "qkv"
            ),
            Rule(f"{layer}.{theirs}.o.weight", f"{block}/{ours}/out/kernel", "linear_out"),
            Rule(f"{layer}.{i}.layer_norm.weight", f"{block}/{norm}/scale"),
        ]
    bias = f"{source}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return (
        *rules,
        Rule(bias, f"{target}relative/table"),
        Rule(f"{layer}.{len(parts)}.layer_norm.weight", f"{block}/norm2/scale"),
        *_mlp(f"{layer}.{len(parts)}.DenseReluDense", f"{block}/mlp"),
        Rule(f"{source}.final_layer_norm.weight", f"{target}final_norm/scale"),
    )


def _mlp(source: str, target: str) -> tuple[Rule, ...]:
    names = {"wi": "up", "wi_0": "gate", "wi_1": "up", "wo": "down"}
    return tuple(
        Rule(f"{source}.{theirs}.weight", f"{target}/{ours}/kernel", "linear")
        for theirs, ours in names.items()
    )


def rules_of(cfg: T5Config) -> tuple[Rule, ...]:
    """The table of a T5 with a plain or a gated mlp."""
    other = "wi" if cfg.gated else "wi_1"
    rules = (
        Rule("shared.weight", "token/embedding"),
        *_stack("encoder", "encoder/", is_decoder=False),
        *_stack("decoder", "", is_decoder=True),
        Rule("lm_head.weight", "lm_head/kernel", "linear"),
    )
    return tuple(rule for rule in rules if not rule.source.endswith(f".{other}.weight"))


# Old files have a table for the cross-attention too, which nothing reads.
HF_SKIP = (r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",)
HF_COPIES = dict.fromkeys(
    ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"), "shared.weight"
)
HF_HEAD = ("lm_head.weight", "shared.weight")

NAMES = {
    **hf.NAMES,
    "activation": "dense_act_fn",
    "decoder_depth": "num_decoder_layers",
    "depth": "num_layers",
    "gated": "is_gated_act",
    "head_dim": "d_kv",
    "max_distance": "relative_attention_max_distance",
    "mlp_dim": "d_ff",
    "norm_eps": "layer_norm_epsilon",
    "num_buckets": "relative_attention_num_buckets",
    "num_heads": "num_heads",
    "scale_output": "scale_decoder_outputs",
    "start_id": "decoder_start_token_id",
    "width": "d_model",
}
# Our field -> the value that transformers' config class has where a file is silent.
FIELDS: dict[str, Any] = {
    "vocab_size": 32128,
    "width": 512,
    "depth": 6,
    "num_heads": 8,
    "head_dim": 64,
    "mlp_dim": 2048,
    "decoder_depth": None,
    "activation": "relu",
    "gated": False,
    "norm_eps": 1e-6,
    "num_buckets": 32,
    "max_distance": 128,
    "tied": True,
    "scale_output": True,
    "start_id": None,
    "bos_id": None,
    "eos_id": 1,
    "pad_id": 0,
}


def config_from_hf(config: Mapping[str, Any]) -> T5Config:
    """transformers' config.json -> ours. Dropout is training's affair: it starts at 0."""
    *gated, activation = config.get("feed_forward_proj", "relu").split("-")
    # transformers: this word stands for the tanh form, unless `dense_act_fn` says otherwise (as in
    # BLIP-2 and InstructBLIP, which have the exact one).
    activation = "gelu_new" if gated and activation == "gelu" else activation
    silent = {
        "dense_act_fn": activation,
        "is_gated_act": bool(gated),
        "scale_decoder_outputs": config.get("tie_word_embeddings", True),
    }
    fields = read_fields({**silent, **config}, FIELDS, NAMES)
    if fields["decoder_depth"] == fields["depth"]:
        fields["decoder_depth"] = None
    if fields["start_id"] is None:
        fields["start_id"] = fields["pad_id"]
    return T5Config(**fields)


def config_to_hf(cfg: T5Config) -> dict[str, Any]:
    """Our config -> transformers' config.json."""
    activation = TO_HF.get(cfg.activation, cfg.activation)
    if cfg.gated and cfg.activation in ("gelu", "gelu_tanh"):
        activation = "gelu"  # Which of the two, `dense_act_fn` says.
    return {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        **fields_to_hf(cfg, FIELDS, NAMES),
        "num_decoder_layers": cfg.decoder_depth or cfg.depth,
        "feed_forward_proj": f"gated-{activation}" if cfg.gated else activation,
        "is_encoder_decoder": True,
    }
