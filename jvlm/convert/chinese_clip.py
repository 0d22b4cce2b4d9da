# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Chinese-CLIP in transformers' form and in cn_clip's.

Sources: OFA-Sys/Chinese-CLIP cn_clip/clip/{model,utils}.py; transformers models/chinese_clip.
"""

from collections.abc import Mapping
from typing import Any

from jvlm.convert.bert import FIELDS as HF_TEXT_FIELDS
from jvlm.convert.bert import bert_rules
from jvlm.convert.clip import HF_VISION, HF_VISION_FIELDS
from jvlm.convert.engine import Rule
from jvlm.convert.files import Tensors
from jvlm.convert.hf import fields_from_hf, fields_to_hf
from jvlm.convert.openai import (
    RESNET_PROJ,
    SCALARS,
    VISION,
    VIT_PROJ,
    count_layers,
    vision_from_openai,
)
from jvlm.models.clip import CLIPConfig
from jvlm.models.towers.bert import BertConfig
from jvlm.models.towers.resnet import ResNetConfig
from jvlm.models.towers.vit import ViTConfig

HF_RULES = (
    *HF_VISION,
    *bert_rules("text_model", "text/"),
    Rule("text_projection.weight", "text_proj/kernel", "linear"),
    Rule("logit_scale", "logit_scale"),
)
# BERT's pooler is not used: the published files may hold one.
HF_SKIP = (r".*\.(position_ids|token_type_ids)", r"text_model\.pooler\..*")
CN_SKIP = (
    r"bert\.pooler\..*",
    r".*\.(position_ids|num_batches_tracked)",
    r"input_resolution|context_length|vocab_size",
)


def cn_rules(cfg: CLIPConfig, tensors: Tensors) -> tuple[Rule, ...]:
    """The table of a cn_clip file; files of flash-attention runs differ in both towers."""
    is_resnet = isinstance(cfg.vision, ResNetConfig)
    rules = (
        *VISION,
        *(RESNET_PROJ if is_resnet else VIT_PROJ),
        *bert_rules(
            "bert", "text/", fused=any("bert" in k and "Wqkv" in k for k in tensors.shapes)
        ),
        Rule("text_projection", "text_proj/kernel"),
        *SCALARS,
    )
    if not any("visual" in key and "Wqkv" in key for key in tensors.shapes):
        return rules
    renamed = lambda key: key.replace("attn.in_proj_", "attn.Wqkv.")
    return tuple(Rule(renamed(r.source), r.target, r.op, r.part) for r in rules)


def config_from_hf(config: Mapping[str, Any]) -> CLIPConfig:
    """transformers' config.json -> ours. Dropout is training's affair: it starts at 0."""
    return CLIPConfig(
        ViTConfig(**fields_from_hf(config, "vision", HF_VISION_FIELDS)),
        BertConfig(**fields_from_hf(config, "text", HF_TEXT_FIELDS)),
        config.get("projection_dim", 512),
        logit_scale_init=config.get("logit_scale_init_value", 2.6592),
    )


def config_to_hf(cfg: CLIPConfig) -> dict[str, Any]:
    """Our config -> transformers' config.json, as far as that can say it."""
    return {
        "architectures": ["ChineseCLIPModel"],
        "model_type": "chinese_clip",
        "projection_dim": cfg.embed_dim,
        "logit_scale_init_value": cfg.logit_scale_init,
        "text_config": {
            "model_type": "chinese_clip_text_model",
            **fields_to_hf(cfg.text, HF_TEXT_FIELDS),
        },
        "vision_config": {
            "model_type": "chinese_clip_vision_model",
            **fields_to_hf(cfg.vision, HF_VISION_FIELDS),
            "projection_dim": cfg.embed_dim,
        },
    }


def config_from_cn(tensors: Tensors) -> CLIPConfig:
    """A model's shape from a cn_clip file, whose sizes official code knows by name only.

    Heads are 64 wide, in ViT-H/14's images 80.
    """
    shapes = tensors.shapes
    vocab_size, width = shapes["bert.embeddings.word_embeddings.weight"]
    vision, proj = vision_from_openai(
        {key.replace("attn.Wqkv.", "attn.in_proj_"): shape for key, shape in shapes.items()}
    )
    text = BertConfig(
        vocab_size,
        shapes["bert.embeddings.position_embeddings.weight"][0],
        width,
        count_layers(shapes, r"bert\.encoder\.layer\.(\d+)\..*"),
        max(1, width // 64),
        shapes["bert.encoder.layer.0.intermediate.dense.weight"][0],
        num_types=shapes["bert.embeddings.token_type_embeddings.weight"][0],
    )
    return CLIPConfig(vision, text, shapes["text_projection"][1], vision_proj=proj)
