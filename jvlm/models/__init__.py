# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The systems; one readable file per paper."""

from collections.abc import Mapping

import flax.linen as nn

from jvlm.config import replace
from jvlm.errors import UserError, did_you_mean
from jvlm.models import albef, blip, chinese_clip, clip, siglip, vit
from jvlm.models.towers import bert_lm, gpt2, llama, opt, t5
from jvlm.precision import Compute

# Name -> module, its config class, published sizes.
MODELS = {
    "albef": (albef.ALBEF, albef.ALBEFConfig, albef.VARIANTS),
    "albef_classifier": (
        albef.ALBEFClassifier,
        albef.ALBEFClassifierConfig,
        albef.CLASSIFIER_VARIANTS,
    ),
    "albef_vqa": (albef.ALBEFVQA, albef.ALBEFVQAConfig, albef.VQA_VARIANTS),
    "bert": (bert_lm.BertLM, bert_lm.BertLMConfig, bert_lm.VARIANTS),
    "blip": (blip.BLIP, blip.BLIPConfig, blip.VARIANTS),
    "blip_captioner": (
        blip.BLIPCaptioner,
        blip.BLIPCaptionerConfig,
        blip.CAPTIONER_VARIANTS,
    ),
    "blip_classifier": (
        blip.BLIPClassifier,
        blip.BLIPClassifierConfig,
        blip.CLASSIFIER_VARIANTS,
    ),
    "blip_vqa": (blip.BLIPVQA, blip.BLIPVQAConfig, blip.VQA_VARIANTS),
    "chinese_clip": (clip.CLIP, clip.CLIPConfig, chinese_clip.VARIANTS),
    "clip": (clip.CLIP, clip.CLIPConfig, clip.VARIANTS),
    "gpt2": (gpt2.GPT2, gpt2.GPT2Config, gpt2.VARIANTS),
    "llama": (llama.Llama, llama.LlamaConfig, llama.VARIANTS),
    "opt": (opt.OPT, opt.OPTConfig, opt.VARIANTS),
    "siglip": (clip.CLIP, clip.CLIPConfig, siglip.VARIANTS),
    "t5": (t5.T5, t5.T5Config, t5.VARIANTS),
    "vit": (vit.ImageTower, vit.ImageTowerConfig, vit.VARIANTS),
}


def build_model(section: Mapping, compute: Compute = Compute()) -> nn.Module:
    """Builds a model from a config's `model` section.

    Args:
      section: `name`, then `variant` (a published size) and/or config fields that override it,
        nested as the config dataclasses are: {'name': 'clip', 'variant': 'ViT-B/32',
        'vision': {'image_size': 288}}.
      compute: how it is run.

    Raises:
      UserError: unknown name, variant or field.
    """
    fields = dict(section)
    name = fields.pop("name", "")
    if name not in MODELS:
        raise UserError(f"model.name {name!r} is unknown.{did_you_mean(name, MODELS)}")
    module, config_class, variants = MODELS[name]
    variant = fields.pop("variant", None)
    if variant is not None and variant not in variants:
        raise UserError(f"model.variant {variant!r} is unknown.{did_you_mean(variant, variants)}")
    base = None if variant is None else variants[variant]
    return module(replace(config_class, base, fields, where="model"), compute)
