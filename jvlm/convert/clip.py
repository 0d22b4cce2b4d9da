# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP in its three published forms: transformers', and OpenAI's, which open_clip shares.

Sources: openai/CLIP clip/model.py; open_clip src/open_clip/{model,transformer}.py; transformers
models/clip.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jvlm.convert.engine import Rule
from jvlm.convert.files import Tensors
from jvlm.convert.hf import fields_from_hf, fields_to_hf, tower_section
from jvlm.errors import UserError
from jvlm.models.clip import CLIPConfig
from jvlm.models.towers.resnet import ResNetConfig
from jvlm.models.towers.text_transformer import TextConfig
from jvlm.models.towers.vit import ViTConfig


def norm(source: str, target: str) -> tuple[Rule, ...]:
    """A LayerNorm."""
    return Rule(f"{source}.weight", f"{target}/scale"), Rule(f"{source}.bias", f"{target}/bias")


def linear(source: str, target: str) -> tuple[Rule, ...]:
    """A Linear with a bias."""
    return (
        Rule(f"{source}.weight", f"{target}/kernel", "linear"),
        Rule(f"{source}.bias", f"{target}/bias"),
    )


def heads(source: str, target: str, part: tuple[int, int] = (0, 1), dot: str = ".") -> tuple:
    """A Linear onto attention heads, or its part of a fused one."""
    return (
        Rule(f"{source}{dot}weight", f"{target}/kernel", "linear", part),
        Rule(f"{source}{dot}bias", f"{target}/bias", "heads", part),
    )


def heads_out(source: str, target: str) -> tuple[Rule, ...]:
    """The Linear that joins the heads."""
    return (
        Rule(f"{source}.weight", f"{target}/kernel", "linear_out"),
        Rule(f"{source}.bias", f"{target}/bias"),
    )


def fused_heads(source: str, target: str) -> tuple[Rule, ...]:
    """torch's MultiheadAttention: q, k and v in one tensor each of weights and biases."""
    parts = [heads(f"{source}.in_proj", f"{target}/{n}", (i, 3), "_") for i, n in enumerate("qkv")]
    return sum(parts, ()) + heads_out(f"{source}.out_proj", f"{target}/out")


def hf_blocks(source: str, target: str) -> tuple[Rule, ...]:
    """Pre-norm blocks as transformers' CLIP, Chinese-CLIP and SigLIP write them."""
    layer = source + ".encoder.layers.{layer}"
    attention = (heads(f"{layer}.self_attn.{n}_proj", f"{target}/blocks/attn/{n}") for n in "qkv")
    return (
        *sum(attention, ()),
        *heads_out(f"{layer}.self_attn.out_proj", f"{target}/blocks/attn/out"),
        *norm(f"{layer}.layer_norm1", f"{target}/blocks/norm1"),
        *norm(f"{layer}.layer_norm2", f"{target}/blocks/norm2"),
        *linear(f"{layer}.mlp.fc1", f"{target}/blocks/mlp/up"),
        *linear(f"{layer}.mlp.fc2", f"{target}/blocks/mlp/down"),
    )


# transformers' image tower, the same in CLIP and Chinese-CLIP.
HF_VISION = (
    Rule("vision_model.embeddings.class_embedding", "vision/cls", "row"),
    Rule("vision_model.embeddings.patch_embedding.weight", "vision/patch/kernel", "conv"),
    Rule("vision_model.embeddings.position_embedding.weight", "vision/pos"),
    *norm("vision_model.pre_layrnorm", "vision/pre_norm"),
    *hf_blocks("vision_model", "vision"),
    *norm("vision_model.post_layernorm", "vision/final_norm"),
    Rule("visual_projection.weight", "vision_proj/kernel", "linear"),
)
HF_TEXT = (
    Rule("text_model.embeddings.token_embedding.weight", "text/token/embedding"),
    Rule("text_model.embeddings.position_embedding.weight", "text/pos"),
    *hf_blocks("text_model", "text"),
    *norm("text_model.final_layer_norm", "text/final_norm"),
)
HF_RULES = (
    *HF_VISION,
    *HF_TEXT,
    Rule("text_projection.weight", "text_proj/kernel", "linear"),
    Rule("logit_scale", "logit_scale"),
)
# Buffers that older versions of transformers saved.
HF_SKIP = (r".*\.position_ids",)


def openai_blocks(source: str, target: str) -> tuple[Rule, ...]:
    """Pre-norm blocks as OpenAI and open_clip write them."""
    layer = source + ".resblocks.{layer}"
    return (
        *fused_heads(f"{layer}.attn", f"{target}/blocks/attn"),
        *norm(f"{layer}.ln_1", f"{target}/blocks/norm1"),
        *norm(f"{layer}.ln_2", f"{target}/blocks/norm2"),
        *linear(f"{layer}.mlp.c_fc", f"{target}/blocks/mlp/up"),
        *linear(f"{layer}.mlp.c_proj", f"{target}/blocks/mlp/down"),
    )


def conv_norm(conv: str, bn: str, target_conv: str, target_bn: str) -> tuple[Rule, ...]:
    """A convolution and its BatchNorm."""
    names = dict(weight="scale", bias="bias", running_mean="mean", running_var="var")
    return (
        Rule(f"{conv}.weight", f"{target_conv}/kernel", "conv"),
        *(Rule(f"{bn}.{theirs}", f"{target_bn}/{ours}") for theirs, ours in names.items()),
    )


_BLOCK, _OUR_BLOCK = "visual.layer{stage}.{block}", "vision/layer{stage}_{block}"
OPENAI_VISION = (
    Rule("visual.class_embedding", "vision/cls", "row"),
    Rule("visual.conv1.weight", "vision/patch/kernel", "conv"),
    Rule("visual.positional_embedding", "vision/pos"),
    *norm("visual.ln_pre", "vision/pre_norm"),
    *openai_blocks("visual.transformer", "vision"),
    *norm("visual.ln_post", "vision/final_norm"),
    # The ResNet.
    *conv_norm("visual.conv{i}", "visual.bn{i}", "vision/conv{i}", "vision/bn{i}"),
    *conv_norm(
        _BLOCK + ".conv{i}", _BLOCK + ".bn{i}", _OUR_BLOCK + "/conv{i}", _OUR_BLOCK + "/bn{i}"
    ),
    *conv_norm(
        f"{_BLOCK}.downsample.0",
        f"{_BLOCK}.downsample.1",
        f"{_OUR_BLOCK}/conv_shortcut",
        f"{_OUR_BLOCK}/bn_shortcut",
    ),
    Rule("visual.attnpool.positional_embedding", "vision/pool/pos"),
    *sum((heads(f"visual.attnpool.{n}_proj", f"vision/pool/attn_{n}") for n in "qkv"), ()),
)
# The image projection is a plain matrix after a ViT and a Linear with a bias after a ResNet.
OPENAI_VIT_PROJ = (Rule("visual.proj", "vision_proj/kernel"),)
OPENAI_RESNET_PROJ = linear("visual.attnpool.c_proj", "vision_proj")


def openai_text(prefix: str = "", affine: bool = False) -> tuple[Rule, ...]:
    """The text tower; open_clip's models with a custom text put 'text.' before its keys."""
    return (
        Rule(f"{prefix}token_embedding.weight", "text/token/embedding"),
        Rule(f"{prefix}positional_embedding", "text/pos"),
        *openai_blocks(f"{prefix}transformer", "text"),
        *norm(f"{prefix}ln_final", "text/final_norm"),
        *(
            linear(f"{prefix}text_projection", "text_proj")
            if affine
            else (Rule(f"{prefix}text_projection", "text_proj/kernel"),)
        ),
    )


OPENAI_SCALARS = (Rule("logit_scale", "logit_scale"), Rule("logit_bias", "logit_bias"))
# What OpenAI's archives, BatchNorms and old open_clip files carry besides.
OPENAI_SKIP = (
    r"input_resolution|context_length|vocab_size",
    r".*\.num_batches_tracked",
    r"(text\.)?attn_mask",
)


def openai_rules(cfg: CLIPConfig, text_prefix: str = "") -> tuple[Rule, ...]:
    """The table of a model in OpenAI's form."""
    is_resnet = isinstance(cfg.vision, ResNetConfig)
    return (
        *OPENAI_VISION,
        *(OPENAI_RESNET_PROJ if is_resnet else OPENAI_VIT_PROJ),
        *openai_text(text_prefix, cfg.text_proj == "affine"),
        *OPENAI_SCALARS,
    )


# Our field -> (transformers' field, the value that its config class has when a file is silent).
HF_TEXT_FIELDS: dict[str, tuple[str, Any]] = {
    "vocab_size": ("vocab_size", 49408),
    "max_len": ("max_position_embeddings", 77),
    "width": ("hidden_size", 512),
    "depth": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 8),
    "mlp_dim": ("intermediate_size", 2048),
    "activation": ("hidden_act", "quick_gelu"),
    "norm_eps": ("layer_norm_eps", 1e-5),
}
HF_VISION_FIELDS: dict[str, tuple[str, Any]] = {
    "image_size": ("image_size", 224),
    "patch_size": ("patch_size", 32),
    "width": ("hidden_size", 768),
    "depth": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "mlp_dim": ("intermediate_size", 3072),
    "activation": ("hidden_act", "quick_gelu"),
    "norm_eps": ("layer_norm_eps", 1e-5),
}
LAST_OF_VOCABULARY = 2  # What `eos_token_id` is in hub files that mean "the greatest id".


def config_from_hf(config: Mapping[str, Any]) -> CLIPConfig:
    """transformers' config.json -> ours."""
    text = fields_from_hf(config, "text", HF_TEXT_FIELDS)
    eos = tower_section(config, "text").get("eos_token_id", 49407)
    # modeling_clip.py: id 2 is a mistake in the oldest files, and stands for argmax.
    pool = {"pool": "argmax"} if eos == LAST_OF_VOCABULARY else {"pool": "eos", "eos_id": eos}
    return CLIPConfig(
        ViTConfig(**fields_from_hf(config, "vision", HF_VISION_FIELDS)),
        TextConfig(**text, **pool),
        config.get("projection_dim", 512),
        logit_scale_init=config.get("logit_scale_init_value", 2.6592),
    )


def config_to_hf(cfg: CLIPConfig) -> dict[str, Any]:
    """Our config -> transformers' config.json.

    Raises:
      UserError: transformers' CLIP has no such model.
    """
    plain = isinstance(cfg.vision, ViTConfig) and isinstance(cfg.text, TextConfig)
    vision, text = cfg.vision, cfg.text
    if not plain or (vision.stem, vision.pool, vision.patch_bias) != ("patch", "cls", False):
        raise UserError(
            "transformers' CLIP has no such image tower (ResNet, conv stem, mean pool): export it "
            "with --format=open_clip, or keep it as it is"
        )
    if not text.causal or text.pool not in ("argmax", "eos"):
        raise UserError(f"transformers' CLIP has no text tower with pool {text.pool!r}")
    eos = LAST_OF_VOCABULARY if text.pool == "argmax" else text.eos_id
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": cfg.embed_dim,
        "logit_scale_init_value": cfg.logit_scale_init,
        "text_config": {
            "model_type": "clip_text_model",
            **fields_to_hf(text, HF_TEXT_FIELDS),
            "eos_token_id": eos,
            "bos_token_id": text.vocab_size - 2,
            "pad_token_id": 1,
            "projection_dim": cfg.embed_dim,
        },
        "vision_config": {
            "model_type": "clip_vision_model",
            **fields_to_hf(vision, HF_VISION_FIELDS),
            "projection_dim": cfg.embed_dim,
        },
    }


def config_from_openai(tensors: Tensors) -> CLIPConfig:
    """A model's shape from its weights (openai/CLIP clip/model.py 399-436), quick gelu."""
    shapes = tensors.shapes
    text_width = shapes["ln_final.weight"][0]
    text = TextConfig(
        *shapes["token_embedding.weight"][:1],
        *shapes["positional_embedding"][:1],
        text_width,
        count_layers(shapes, r"transformer\.resblocks\.(\d+)\..*"),
        max(1, text_width // 64),
        shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
        "quick_gelu",
    )
    vision, proj = vision_from_openai(shapes)
    return CLIPConfig(vision, text, shapes["text_projection"][1], vision_proj=proj)


def vision_from_openai(shapes: Mapping[str, Sequence[int]]) -> tuple[Any, str]:
    """The image tower's config and the kind of its projection."""
    if "visual.proj" not in shapes:
        layers = tuple(count_layers(shapes, rf"visual\.layer{i}\.(\d+)\..*") for i in range(1, 5))
        side = round((shapes["visual.attnpool.positional_embedding"][0] - 1) ** 0.5)
        width = shapes["visual.layer1.0.conv1.weight"][0]
        return ResNetConfig(side * 32, layers, width), "affine"
    width, _, patch, _ = shapes["visual.conv1.weight"]
    side = round((shapes["visual.positional_embedding"][0] - 1) ** 0.5)
    head_dim = 80 if width == 1280 else 64  # ViT-H/14.
    vision = ViTConfig(
        side * patch,
        patch,
        width,
        count_layers(shapes, r"visual\.transformer\.resblocks\.(\d+)\..*"),
        max(1, width // head_dim),
        shapes["visual.transformer.resblocks.0.mlp.c_fc.weight"][0],
        activation="quick_gelu",
    )
    return vision, "linear"


def count_layers(shapes: Mapping[str, Any], pattern: str) -> int:
    """Layers that keys name."""
    found = (re.fullmatch(pattern, key) for key in shapes)
    return max((int(match[1]) + 1 for match in found if match), default=0)


# open_clip's option -> the only value that jvlm's towers have.
OPEN_CLIP_FIXED: dict[str, Any] = dict(
    timm_model_name=None,
    hf_model_name=None,
    ls_init_value=None,
    attentional_pool=False,
    no_ln_pre=False,
    pos_embed_type="learnable",
    final_ln_after_pool=False,
    embed_cls=False,
    text_arch="clip",
    proj_type="linear",
    qk_norm=False,
    scaled_cosine_attn=False,
    scale_heads=False,
    scale_attn_inner=False,
    scale_attn=False,
    scale_fc=False,
    act_kwargs=None,
)


def config_from_open_clip(model: Mapping[str, Any]) -> CLIPConfig:
    """open_clip_config.json's `model_cfg` -> ours.

    Raises:
      UserError: an option that jvlm's towers do not have, by name.
    """
    vision, text = dict(model["vision_cfg"]), dict(model["text_cfg"])
    for where, section in (("vision_cfg", vision), ("text_cfg", text)):
        for name, value in OPEN_CLIP_FIXED.items():
            if section.get(name, value) != value:
                raise UserError(
                    f"open_clip_config.json: {where}.{name} is {section[name]!r}, which jvlm's "
                    "CLIP does not have"
                )
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    size = vision.get("image_size", 224)
    size = tuple(size) if isinstance(size, list) else size
    width, layers = vision.get("width", 768), vision.get("layers", 12)
    head_dim = vision.get("head_width", 64)
    resnet = isinstance(layers, list)
    if resnet:
        tower: Any = ResNetConfig(
            size, tuple(layers), width, None if head_dim == 64 else width * 32 // head_dim
        )
    else:
        if vision.get("pool_type", "tok") != "tok":
            raise UserError(
                f"open_clip_config.json: vision_cfg.pool_type is {vision['pool_type']!r}, which "
                "jvlm's CLIP does not have"
            )
        tower = ViTConfig(
            size,
            vision.get("patch_size", 16),
            width,
            layers,
            width // head_dim,
            int(width * vision.get("mlp_ratio", 4.0)),
            activation=activation,
            norm_eps=(vision.get("norm_kwargs") or {}).get("eps", 1e-5),
            patch_dropout=vision.get("patch_dropout", 0.0),
        )
    text_width, pool = text.get("width", 512), text.get("pool_type", "argmax")
    return CLIPConfig(
        tower,
        TextConfig(
            text.get("vocab_size", 49408),
            text.get("context_length", 77),
            text_width,
            text.get("layers", 12),
            text.get("heads", 8),
            int(text_width * text.get("mlp_ratio", 4.0)),
            activation,
            norm_eps=(text.get("norm_kwargs") or {}).get("eps", 1e-5),
            causal=not text.get("no_causal_mask", False),
            see_padding=bool(text.get("no_causal_mask", False)),
            pool=pool,
            eos_id=text.get("eos_id"),
        ),
        model["embed_dim"],
        vision_proj="affine" if resnet else "linear",
        text_proj="affine" if text.get("proj_bias") else "linear",
        logit_scale_init=model.get("init_logit_scale", CLIPConfig.logit_scale_init),
        logit_bias_init=model.get("init_logit_bias"),
    )


def config_to_open_clip(cfg: CLIPConfig) -> dict[str, Any]:
    """Our config -> open_clip's `model_cfg`.

    Raises:
      UserError: open_clip has no such native model.
    """
    vision, text = cfg.vision, cfg.text
    is_resnet = isinstance(vision, ResNetConfig)
    native = isinstance(text, TextConfig) and (
        is_resnet or (vision.stem, vision.pool, vision.patch_bias) == ("patch", "cls", False)
    )
    if not native:
        raise UserError("open_clip has no such native model (BERT, conv stem, attention pool)")
    activation = text.activation
    theirs: dict[str, Any] = dict(image_size=vision.image_size, width=vision.width)
    if is_resnet:
        head_width = vision.pooled_width // vision.heads
        theirs.update(layers=list(vision.layers), patch_size=None, head_width=head_width)
    else:
        if vision.activation != activation:
            raise UserError("open_clip has one activation for both towers")
        theirs.update(
            layers=vision.depth,
            patch_size=vision.patch_size,
            head_width=vision.head_dim or vision.width // vision.num_heads,
            mlp_ratio=vision.mlp_dim / vision.width,
            norm_kwargs={"eps": vision.norm_eps},
        )
    if activation not in ("gelu", "quick_gelu"):
        raise UserError(f"open_clip has no activation {activation!r}")
    section = dict(
        embed_dim=cfg.embed_dim,
        quick_gelu=activation == "quick_gelu",
        init_logit_scale=cfg.logit_scale_init,
        vision_cfg=theirs,
        text_cfg=dict(
            context_length=text.max_len,
            vocab_size=text.vocab_size,
            width=text.width,
            heads=text.num_heads,
            layers=text.depth,
            mlp_ratio=text.mlp_dim / text.width,
            pool_type=text.pool,
            no_causal_mask=not text.causal,
            norm_kwargs={"eps": text.norm_eps},
            **({"eos_id": text.eos_id} if text.pool == "eos" else {}),
        ),
    )
    if cfg.logit_bias_init is not None:
        section["init_logit_bias"] = cfg.logit_bias_init
    return section
