# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BLIP in transformers' form. Source: transformers models/blip.

One model type, three classes: the one of a file is its config.json's first of `architectures`.
transformers feeds texts as they are, so its models put no [ENC] before them; the temperature is not
among its weights and is kept as `logit_scale_init_value`, as the config class has it.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jvlm.convert.bert import FIELDS, bert_rules
from jvlm.convert.blip import LENGTHS, PROMPT, decoder_rules
from jvlm.convert.engine import Rule
from jvlm.convert.hf import NAMES, fields_to_hf, read_fields, refuse, tower_section
from jvlm.convert.rules import heads, heads_out, linear, norm
from jvlm.errors import UserError
from jvlm.models.blip import BLIPCaptionerConfig, BLIPConfig, BLIPVQAConfig
from jvlm.models.towers.med import MEDConfig
from jvlm.models.towers.vit import ViTConfig

# transformers' class -> our model.
CLASSES = {
    "BlipForConditionalGeneration": "blip_captioner",
    "BlipForImageTextRetrieval": "blip",
    "BlipForQuestionAnswering": "blip_vqa",
}
HF_MODELS = tuple(CLASSES.values())
HF_MAX_LEN = {model: LENGTHS[model][0] for model in HF_MODELS}
HF_IN_CONFIG = {"temperature": "temperature_init"}
HF_SKIP = (r".*\.position_ids",)
HF_COPIES = {
    "text_decoder.cls.predictions.decoder.weight": (
        "text_decoder.bert.embeddings.word_embeddings.weight"
    ),
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}

# A text that is generated ends with [SEP]; `eos_token_id` is there too, and read by nobody.
TEXT_NAMES = NAMES | {"eos_id": "sep_token_id"}
# Our field -> the value that transformers' config class has where a file is silent.
TEXT_FIELDS: dict[str, Any] = {
    **{name: value for name, value in FIELDS.items() if name != "num_types"},
    "vocab_size": 30524,
    "num_heads": 8,
    "bos_id": 30522,
    "eos_id": 102,
}
VISION_FIELDS: dict[str, Any] = {
    "image_size": 384,
    "patch_size": 16,
    "width": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_dim": 3072,
    "activation": "gelu",
    "norm_eps": 1e-5,
}


def _vision() -> tuple[Rule, ...]:
    """The image tower, whose q, k and v lie in one tensor."""
    source, layer, block = "vision_model", "vision_model.encoder.layers.{layer}", "vision/blocks"
    qkv = (
        heads(f"{layer}.self_attn.qkv", f"{block}/attn/{n}", (i, 3)) for i, n in enumerate("qkv")
    )
    return (
        Rule(f"{source}.embeddings.class_embedding", "vision/cls", "squeeze"),
        Rule(f"{source}.embeddings.position_embedding", "vision/pos", "squeeze"),
        Rule(f"{source}.embeddings.patch_embedding.weight", "vision/patch/kernel", "conv"),
        Rule(f"{source}.embeddings.patch_embedding.bias", "vision/patch/bias"),
        *sum(qkv, ()),
        *heads_out(f"{layer}.self_attn.projection", f"{block}/attn/out"),
        *norm(f"{layer}.layer_norm1", f"{block}/norm1"),
        *norm(f"{layer}.layer_norm2", f"{block}/norm2"),
        *linear(f"{layer}.mlp.fc1", f"{block}/mlp/up"),
        *linear(f"{layer}.mlp.fc2", f"{block}/mlp/down"),
        *norm(f"{source}.post_layernorm", "vision/final_norm"),
    )


def rules_of(cfg: Any) -> tuple[Rule, ...]:
    """The table of one of the three classes."""
    encoder = bert_rules("text_encoder", "text/")
    tables = {
        "blip_captioner": decoder_rules("text_decoder", "text/"),
        "blip_vqa": (*encoder, *decoder_rules("text_decoder", "decoder/")),
        "blip": (
            *encoder,
            *linear("vision_proj", "vision_proj"),
            *linear("text_proj", "text_proj"),
            *linear("itm_head", "itm_proj"),
            Rule("temperature", "temperature"),
        ),
    }
    return (*_vision(), *tables[cfg.kind])


def config_from_hf(config: Mapping[str, Any]) -> BLIPCaptionerConfig | BLIPVQAConfig | BLIPConfig:
    """transformers' config.json -> ours. Dropout is training's affair: it starts at 0.

    Raises:
      UserError: another class than the three, or a config that jvlm cannot express.
    """
    architecture = next(iter(config.get("architectures") or ()), None)
    if architecture not in CLASSES:
        found = f"class {architecture!r}" if architecture else "no class in architectures"
        raise UserError(f"{found}: jvlm reads {', '.join(CLASSES)}")
    vision, text = (tower_section(config, side) for side in ("vision", "text"))
    refuse(text, {"tie_word_embeddings": True, "is_decoder": True})
    fields = read_fields(text, TEXT_FIELDS, TEXT_NAMES, where="text_config.")
    tower = ViTConfig(
        **read_fields(vision, VISION_FIELDS, where="vision_config."),
        patch_bias=True,
        pre_norm=False,
        norm_tokens=True,
    )

    def med(encoder: bool, memory_width: int = tower.width) -> MEDConfig:
        # What is read begins as it is; a decoder has no use for [ENC].
        enc_id = None if encoder else fields["vocab_size"] - 1
        modes = dict(encoder=encoder, decoder=not encoder, enc_id=enc_id)
        return MEDConfig(**fields, memory_width=memory_width, **modes)

    model = CLASSES[architecture]
    if model == "blip_captioner":
        return BLIPCaptionerConfig(tower, med(encoder=False), config.get("prompt", PROMPT))
    if model == "blip":
        scale = config.get("logit_scale_init_value", 2.6592)
        embed_dim = config.get("image_text_hidden_size", 256)
        # A float32, as the parameter is, so that it is the same after any number of round trips.
        temperature = float(np.float32(math.exp(-scale)))
        sizes = dict(embed_dim=embed_dim, temperature_init=temperature)
        return BLIPConfig(tower, med(encoder=True), **sizes)
    if tower.width != fields["width"]:
        raise UserError(
            f"{architecture} attends to questions of width {fields['width']} as to images of width "
            f"{tower.width}: transformers cannot run it either"
        )
    return BLIPVQAConfig(tower, med(encoder=True), med(False, fields["width"]))


def config_to_hf(cfg: BLIPCaptionerConfig | BLIPVQAConfig | BLIPConfig) -> dict[str, Any]:
    """Our config -> transformers' config.json, as far as that can say it.

    Raises:
      UserError: texts begin with [ENC], which transformers' classes do not put there.
    """
    if cfg.kind != "blip_captioner" and cfg.text.enc_id is not None:
        raise UserError(
            "transformers' BLIP reads texts as they are, this model puts [ENC] before them: load "
            "it with config={'text': {'enc_id': None}} to export what transformers has"
        )
    special: dict[str, Any] = {}
    if cfg.kind == "blip_captioner":
        special["prompt"] = cfg.prompt
    if cfg.kind == "blip":
        special["logit_scale_init_value"] = -math.log(cfg.temperature_init)
        special["image_text_hidden_size"] = cfg.embed_dim
    smoothing = {"label_smoothing": 0.1}  # models/med.py `BertLMHeadModel`.
    return {
        "architectures": [next(name for name, model in CLASSES.items() if model == cfg.kind)],
        "model_type": "blip",
        **special,
        **smoothing,
        "text_config": {
            "model_type": "blip_text_model",
            **fields_to_hf(cfg.text, TEXT_FIELDS, TEXT_NAMES),
            "encoder_hidden_size": cfg.vision.width,
            "is_decoder": True,
            **smoothing,
        },
        "vision_config": {
            "model_type": "blip_vision_model",
            **fields_to_hf(cfg.vision, VISION_FIELDS),
        },
    }
