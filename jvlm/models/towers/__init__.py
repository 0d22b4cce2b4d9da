# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The encoders and language models that the systems are made of; one file per family."""

from jvlm.models.towers.bert import Bert, BertConfig
from jvlm.models.towers.resnet import ResNet, ResNetConfig
from jvlm.models.towers.text_transformer import TextConfig, TextTransformer
from jvlm.models.towers.vit import ViT, ViTConfig

# Config class -> module. A config section says which with `kind`.
IMAGE_TOWERS = {ViTConfig: ViT, ResNetConfig: ResNet}
TEXT_TOWERS = {TextConfig: TextTransformer, BertConfig: Bert}
