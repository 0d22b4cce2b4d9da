# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""ALBEF's own files. Source: salesforce/ALBEF models/model_{pretrain,retrieval,vqa}.py."""

from jvlm.convert.bert import bert_rules, embedding_rules, layer_rules, word_rules
from jvlm.convert.engine import Rule
from jvlm.convert.rules import linear
from jvlm.convert.timm import vit_rules
from jvlm.models.albef import ALBEFConfig, ALBEFVQAConfig


def rules(cfg: ALBEFConfig, momentum: bool = False) -> tuple[Rule, ...]:
    """The table of a model, or of the average of it that its file holds too.

    Pretraining keeps BERT below `text_encoder.bert`, beside its word head; the others do not.
    """
    m = "_m" if momentum else ""
    return (
        *_encoders(m, f"text_encoder{m}.bert" if cfg.mlm else f"text_encoder{m}", cfg.text.depth),
        *linear(f"vision_proj{m}", "vision_proj"),
        *linear(f"text_proj{m}", "text_proj"),
        *linear("itm_head", "itm_proj"),
        *word_rules(f"text_encoder{m}.cls.predictions", "words"),
        Rule("temp", "temperature"),
    )


def vqa_rules(cfg: ALBEFVQAConfig, momentum: bool = False) -> tuple[Rule, ...]:
    """The same of models/model_vqa.py."""
    m = "_m" if momentum else ""
    decoder = f"text_decoder{m}"
    return (
        *_encoders(m, f"text_encoder{m}", cfg.text.depth),
        *bert_rules(f"{decoder}.bert", "decoder/"),
        *word_rules(f"{decoder}.cls.predictions", "decoder/words"),
    )


def _encoders(m: str, text: str, depth: int) -> tuple[Rule, ...]:
    return (
        *vit_rules(f"visual_encoder{m}.", "vision/"),
        *embedding_rules(text, "text/"),
        *layer_rules(text, "text/blocks"),
        *layer_rules(text, "fusion/blocks", first=depth),
    )
