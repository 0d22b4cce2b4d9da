# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BERT in transformers' form. Sources: google-research/bert; transformers models/bert."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jvlm.convert.engine import Rule
from jvlm.convert.hf import fields_to_hf, read_fields, refuse
from jvlm.convert.rules import heads, heads_out, linear, norm
from jvlm.models.towers.bert_lm import BertLMConfig


def bert_rules(source: str, target: str = "", fused: bool = False) -> tuple[Rule, ...]:
    """A BERT with the names of google-research/bert, as everybody writes it.

    Args:
      source: prefix of the keys, 'bert' or 'text_model'.
      target: prefix of the parameters, 'text/'.
      fused: q, k and v lie in one tensor (`Wqkv`, files of flash-attention runs).
    """
    return (*embedding_rules(source, target), *layer_rules(source, f"{target}blocks", fused))


def embedding_rules(source: str, target: str) -> tuple[Rule, ...]:
    """What comes before the layers."""
    return (
        Rule(f"{source}.embeddings.word_embeddings.weight", f"{target}embed/token/embedding"),
        Rule(f"{source}.embeddings.position_embeddings.weight", f"{target}embed/pos"),
        Rule(f"{source}.embeddings.token_type_embeddings.weight", f"{target}embed/type"),
        *norm(f"{source}.embeddings.LayerNorm", f"{target}embed/norm"),
    )


def layer_rules(
    source: str, block: str, fused: bool = False, first: int = 0, step: int = 1, own: str = ""
) -> tuple[Rule, ...]:
    """Layers `first`, `first + step`, ... into the stack `block`; `own` as in `self_rules`."""
    layer = source + ".encoder.layer.{layer}"
    cross = f"{layer}.crossattention"
    rules = (
        *self_rules(source, block, fused, own),
        *queries_keys_values(f"{cross}.self", f"{block}/cross_attn"),
        *heads_out(f"{cross}.output.dense", f"{block}/cross_attn/out"),
        *norm(f"{cross}.output.LayerNorm", f"{block}/cross_norm"),
        *linear(f"{layer}.intermediate.dense", f"{block}/mlp/up"),
        *linear(f"{layer}.output.dense", f"{block}/mlp/down"),
        *norm(f"{layer}.output.LayerNorm", f"{block}/norm2"),
    )
    return tuple(dataclasses.replace(rule, first=first, step=step) for rule in rules)


def self_rules(source: str, block: str, fused: bool = False, own: str = "") -> tuple[Rule, ...]:
    """Self-attention of all layers and its norm, as `<own>attn` and `<own>norm1` of a block."""
    layer = source + ".encoder.layer.{layer}"
    names, attention = f"{layer}.attention.self", f"{block}/{own}attn"
    out = f"{layer}.attention.output.dense"
    if fused:
        parts = (heads(f"{names}.Wqkv", f"{attention}/{n}", (i, 3)) for i, n in enumerate("qkv"))
        into, out = sum(parts, ()), f"{names}.out_proj"
    else:
        into = queries_keys_values(names, attention)
    return (
        *into,
        *heads_out(out, f"{attention}/out"),
        *norm(f"{layer}.attention.output.LayerNorm", f"{block}/{own}norm1"),
    )


def word_rules(source: str, target: str) -> tuple[Rule, ...]:
    """The output layer but for its token table."""
    return (
        *linear(f"{source}.transform.dense", f"{target}/proj"),
        *norm(f"{source}.transform.LayerNorm", f"{target}/norm"),
        Rule(f"{source}.bias", f"{target}/bias"),
    )


def queries_keys_values(source: str, target: str) -> tuple[Rule, ...]:
    """What an attention makes of its inputs, from three Linears."""
    names = {"query": "q", "key": "k", "value": "v"}
    rules = (heads(f"{source}.{theirs}", f"{target}/{ours}") for theirs, ours in names.items())
    return sum(rules, ())


HF_RULES = (
    *bert_rules("bert"),
    *word_rules("cls.predictions", "words"),
)
# What is trained with the next-sentence task, and buffers.
HF_SKIP = (r"bert\.pooler\..*", r"cls\.seq_relationship\..*", r".*\.(position_ids|token_type_ids)")
HF_RENAME = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))
HF_COPIES = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

# Our field -> the value that transformers' config class has where a file is silent.
FIELDS: dict[str, Any] = {
    "vocab_size": 30522,
    "max_len": 512,
    "width": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_dim": 3072,
    "activation": "gelu",
    "norm_eps": 1e-12,
    "num_types": 2,
    "pad_id": 0,
}
LM_FIELDS = {**FIELDS, "bos_id": None, "eos_id": None}


def config_from_hf(config: Mapping[str, Any]) -> BertLMConfig:
    """transformers' config.json -> ours. Dropout is training's affair: it starts at 0."""
    refuse(config, {"position_embedding_type": "absolute", "tie_word_embeddings": True})
    fields = read_fields(config, LM_FIELDS)
    memory_width = fields["width"] if config.get("add_cross_attention") else None
    causal = bool(config.get("is_decoder"))
    return BertLMConfig(**fields, causal=causal, memory_width=memory_width)


def config_to_hf(cfg: BertLMConfig) -> dict[str, Any]:
    """Our config -> transformers' config.json."""
    return {
        "architectures": ["BertLMHeadModel" if cfg.causal else "BertForMaskedLM"],
        "model_type": "bert",
        **fields_to_hf(cfg, LM_FIELDS),
        "is_decoder": cfg.causal,
        "add_cross_attention": cfg.memory_width is not None,
    }
