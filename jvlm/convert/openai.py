# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP in OpenAI's form, which open_clip shares.

Sources: openai/CLIP clip/model.py; open_clip src/open_clip/{model,transformer}.py.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jvlm.config import check_keys
from jvlm.convert.engine import Rule
from jvlm.convert.files import Tensors
from jvlm.convert.rules import conv_norm, fused_heads, heads, linear, norm
from jvlm.errors import UserError
from jvlm.models.clip import CLIPConfig
from jvlm.models.towers.resnet import ResNetConfig
from jvlm.models.towers.text_transformer import TextConfig
from jvlm.models.towers.vit import ViTConfig


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


_BLOCK, _OUR_BLOCK = "visual.layer{stage}.{block}", "vision/layer{stage}_{block}"
VISION = (
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
VIT_PROJ = (Rule("visual.proj", "vision_proj/kernel"),)
RESNET_PROJ = linear("visual.attnpool.c_proj", "vision_proj")


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


SCALARS = (Rule("logit_scale", "logit_scale"), Rule("logit_bias", "logit_bias"))
# What OpenAI's archives, BatchNorms and old open_clip files carry besides.
SKIP = (
    r"input_resolution|context_length|vocab_size",
    r".*\.num_batches_tracked",
    r"(text\.)?attn_mask",
)


def openai_rules(cfg: CLIPConfig, text_prefix: str = "") -> tuple[Rule, ...]:
    """The table of a model in OpenAI's form."""
    is_resnet = isinstance(cfg.vision, ResNetConfig)
    return (
        *VISION,
        *(RESNET_PROJ if is_resnet else VIT_PROJ),
        *openai_text(text_prefix, cfg.text_proj == "affine"),
        *SCALARS,
    )


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


# open_clip's sections;
OPEN_CLIP_MODEL = (
    *("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"),
    *("init_logit_scale", "init_logit_bias"),
)
# options of towers that jvlm's towers have, whatever their value;
OPEN_CLIP_READ = (
    *("image_size", "patch_size", "width", "layers", "heads", "head_width", "mlp_ratio"),
    *("norm_kwargs", "patch_dropout", "vocab_size", "context_length", "pool_type", "eos_id"),
    *("no_causal_mask", "proj_bias"),
)
# those that do not change the function: of tokenizers, of other towers that are not chosen;
OPEN_CLIP_HARMLESS = re.compile(
    "hf_.*|tokenizer_.*|timm_.*|tiktoken_name|attn_pooler_.*|output_tokens|pad_id|bos_id|"
    "variable_text|image_seq_len"
)
# and those that must have the value that jvlm's towers have.
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
    block_type=None,
    qk_norm=False,
    scaled_cosine_attn=False,
    scale_heads=False,
    scale_attn_inner=False,
    scale_attn=False,
    scale_fc=False,
    act_kwargs=None,
)
OPEN_CLIP_POOLS = ("argmax", "eos", "last")


def check_open_clip(where: str, section: Mapping[str, Any]) -> None:
    """Raises UserError for an option that would make another function than ours."""
    for name, value in section.items():
        if name in OPEN_CLIP_FIXED and value == OPEN_CLIP_FIXED[name]:
            continue
        known = name in OPEN_CLIP_READ or OPEN_CLIP_HARMLESS.fullmatch(name)
        if name in OPEN_CLIP_FIXED or not known:
            hint = " (take the model in transformers' form)" if name.endswith("model_name") else ""
            raise UserError(f"{where}.{name} is {value!r}, which jvlm's CLIP does not have{hint}")


def config_from_open_clip(model: Mapping[str, Any]) -> CLIPConfig:
    """open_clip_config.json's `model_cfg` -> ours.

    Raises:
      UserError: an option that jvlm's towers do not have, by name.
    """
    vision, text = dict(model["vision_cfg"]), dict(model["text_cfg"])
    check_keys(model, OPEN_CLIP_MODEL, where="model_cfg")
    check_open_clip("vision_cfg", vision)
    check_open_clip("text_cfg", text)
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
            raise UserError(f"vision_cfg.pool_type {vision['pool_type']!r}: jvlm's CLIP has 'tok'")
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
            eos_id=text["eos_id"] if pool == "eos" else None,
        ),
        model["embed_dim"],
        vision_proj="affine" if resnet else "linear",
        text_proj="affine" if text.get("proj_bias") else "linear",
        logit_scale_init=model.get("init_logit_scale", CLIPConfig.logit_scale_init),
        logit_bias_init=model.get("init_logit_bias"),
    )


def config_to_open_clip(cfg: CLIPConfig) -> dict[str, Any]:
    """Our config -> open_clip's `model_cfg`, as far as that can say it.

    Raises:
      UserError: a pool or an activation that open_clip does not have.
    """
    vision, text = cfg.vision, cfg.text
    if text.pool not in OPEN_CLIP_POOLS:
        raise UserError(f"open_clip has no text pool {text.pool!r}, only {OPEN_CLIP_POOLS}")
    activation = text.activation
    theirs: dict[str, Any] = dict(image_size=vision.image_size, width=vision.width)
    is_resnet = isinstance(vision, ResNetConfig)
    if is_resnet:
        head_width = vision.pooled_width // vision.heads
        theirs.update(layers=list(vision.layers), patch_size=None, head_width=head_width)
    else:
        theirs.update(
            layers=vision.depth,
            patch_size=vision.patch_size,
            head_width=vision.head_dim or vision.width // vision.num_heads,
            mlp_ratio=_ratio(vision.mlp_dim, vision.width),
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
            mlp_ratio=_ratio(text.mlp_dim, text.width),
            proj_bias=cfg.text_proj == "affine",
            pool_type=text.pool,
            no_causal_mask=not text.causal,
            norm_kwargs={"eps": text.norm_eps},
            **({"eos_id": text.eos_id} if text.pool == "eos" else {}),
        ),
    )
    if cfg.logit_bias_init is not None:
        section["init_logit_bias"] = cfg.logit_bias_init
    return section


def _ratio(mlp_dim: int, width: int) -> float:
    """What open_clip multiplies with the width and cuts down to get `mlp_dim`."""
    ratio = mlp_dim / width
    return ratio if int(width * ratio) == mlp_dim else math.nextafter(ratio, math.inf)
