# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Chinese-CLIP (arXiv:2211.01335): CLIP's image towers and a Chinese RoBERTa in one space.

The text is embedded by the last state of [CLS], without BERT's pooler (cn_clip/clip/model.py 424).
"""

from jvlm.models.clip import CLIPConfig, vit_config
from jvlm.models.towers.bert import BertConfig
from jvlm.models.towers.resnet import ResNetConfig

VOCABULARY, POSITIONS = 21128, 512
RBT3 = BertConfig(VOCABULARY, POSITIONS, 768, 3, 12, 3072)
ROBERTA_BASE = BertConfig(VOCABULARY, POSITIONS, 768, 12, 12, 3072)
ROBERTA_LARGE = BertConfig(VOCABULARY, POSITIONS, 1024, 24, 16, 4096)

QUICK = dict(activation="quick_gelu")

# cn_clip/clip/model_configs; RoBERTa-wwm-ext. The huge image tower has heads of 80.
VARIANTS: dict[str, CLIPConfig] = {
    "RN50": CLIPConfig(ResNetConfig(224, (3, 4, 6, 3), 64), RBT3, 1024, vision_proj="affine"),
    "ViT-B/16": CLIPConfig(vit_config(224, 16, 768, 12, **QUICK), ROBERTA_BASE, 512),
    "ViT-L/14": CLIPConfig(vit_config(224, 14, 1024, 24, **QUICK), ROBERTA_BASE, 768),
    "ViT-L/14@336": CLIPConfig(vit_config(336, 14, 1024, 24, **QUICK), ROBERTA_BASE, 768),
    "ViT-H/14": CLIPConfig(vit_config(224, 14, 1280, 32, 80, **QUICK), ROBERTA_LARGE, 1024),
}
