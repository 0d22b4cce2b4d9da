# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""ALBEF's own files. Source: salesforce/ALBEF models/model_{pretrain,retrieval,vqa}.py."""

import dataclasses

from jvlm.convert.bert import bert_rules, embedding_rules, layer_rules, word_rules
from jvlm.convert.engine import Rule
from jvlm.convert.rules import heads, linear
from jvlm.convert.timm import vit_rules
from jvlm.models.albef import ALBEFClassifierConfig, ALBEFConfig, ALBEFVQAConfig

# Buffers; the average, which a file's own training goes on with; what is held twice: the output
# layer of words, and the keys and values that two layers share.
SKIP = (
    r".*_m\..*",
    r".*(position_ids|_queue|queue_ptr|ptr_queue)",
    r".*predictions\.decoder\.(weight|bias)",
    r"text_encoder\.encoder\.layer\.\d+\.crossattention\.self\.(key|value)\..*",
)


def rules(
    cfg: ALBEFConfig | ALBEFVQAConfig | ALBEFClassifierConfig, momentum: bool = False
) -> tuple[Rule, ...]:
    """The table of a model, or of the average of it that its file holds too."""
    tables = {"albef": _matching, "albef_vqa": _answers, "albef_classifier": _classifier}
    return tables[cfg.kind](cfg, "_m" if momentum else "")


def _matching(cfg: ALBEFConfig, m: str) -> tuple[Rule, ...]:
    """models/model_{pretrain,retrieval}.py.

    Pretraining keeps BERT below `text_encoder.bert`, beside its word head; the others do not.
    """
    return (
        *_encoders(m, f"text_encoder{m}.bert" if cfg.mlm else f"text_encoder{m}", cfg.text.depth),
        *linear(f"vision_proj{m}", "vision_proj"),
        *linear(f"text_proj{m}", "text_proj"),
        *linear("itm_head", "itm_proj"),
        *word_rules(f"text_encoder{m}.cls.predictions", "words"),
        Rule("temp", "temperature"),
    )


def _answers(cfg: ALBEFVQAConfig, m: str) -> tuple[Rule, ...]:
    """models/model_vqa.py."""
    decoder = f"text_decoder{m}"
    return (
        *_encoders(m, f"text_encoder{m}", cfg.text.depth),
        *bert_rules(f"{decoder}.bert", "decoder/"),
        *word_rules(f"{decoder}.cls.predictions", "decoder/words"),
    )


def _classifier(cfg: ALBEFClassifierConfig, m: str) -> tuple[Rule, ...]:
    """models/model_{ve,nlvr,pretrain_nlvr}.py."""
    text, depth = f"text_encoder{m}", cfg.text.depth
    head = (*linear(f"cls_head{m}.0", "hidden_proj"), *linear(f"cls_head{m}.2", "class_proj"))
    if cfg.head == "linear":
        head = (*linear("ta_head", "class_proj"), *linear("vision_proj", "vision_proj"))
    if cfg.num_images == 1:
        return (*_encoders(m, text, depth), *head)
    # Both layers of a pair hold the keys and values that they share.
    cross = f"{text}.encoder.layer." + "{layer}.crossattention.self"
    shared = (
        *heads(f"{cross}.key", "fusion/blocks/shared_attn/k"),
        *heads(f"{cross}.value", "fusion/blocks/shared_attn/v"),
    )
    return (
        *_encoders(m, text, depth),
        *layer_rules(text, "fusion/blocks/first", first=depth, step=2),
        *layer_rules(text, "fusion/blocks/second", first=depth + 1, step=2),
        *(dataclasses.replace(rule, first=depth + 1, step=2) for rule in shared),
        *head,
    )


def _encoders(m: str, text: str, depth: int) -> tuple[Rule, ...]:
    return (
        *vit_rules(f"visual_encoder{m}.", "vision/"),
        *embedding_rules(text, "text/"),
        *layer_rules(text, "text/blocks"),
        *layer_rules(text, "fusion/blocks", first=depth),
    )
