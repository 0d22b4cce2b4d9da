# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Vision transformers with timm's names: DeiT, and the image towers of ALBEF and BLIP.

Also the .npz files of google-research/vision_transformer, which timm reads and BLIP's large models
start from (`vit_large_patch16_224_in21k`). Heads for classes are left out. Sources: timm
vision_transformer.py, `_load_weights` in it; salesforce/ALBEF models/vit.py.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jvlm.convert.engine import Rule
from jvlm.convert.files import Tensors
from jvlm.convert.openai import count_layers
from jvlm.convert.rules import heads, heads_out, linear, norm
from jvlm.errors import UserError
from jvlm.models.towers.vit import ViTConfig
from jvlm.models.vit import ImageTowerConfig

SKIP = (r"(head|pre_logits|fc_norm)\..*", r"(opt/target/)?(head|pre_logits)/.*")


def is_timm(keys: Collection[str]) -> bool:
    """Whether tensors have timm's names, and nothing before them."""
    return {"cls_token", "pos_embed", "blocks.0.attn.qkv.weight"} <= set(keys)


def google_prefix(keys: Collection[str]) -> str | None:
    """What precedes the names of google-research/vision_transformer; None where they are others."""
    last = "Transformer/encoder_norm/scale"
    return next((key.removesuffix(last) for key in keys if key.endswith(last)), None)


def config_from_tensors(tensors: Tensors) -> ImageTowerConfig:
    """A tower's shape from its weights, in either form."""
    shapes = tensors.shapes
    prefix = google_prefix(shapes)
    if prefix is None:
        cfg = vit_config(shapes)
    else:
        patch, _, _, width = shapes[f"{prefix}embedding/kernel"]
        block = f"{prefix}Transformer/encoderblock_"
        cfg = _config(
            shapes[f"{prefix}Transformer/posembed_input/pos_embedding"],
            patch,
            width,
            count_layers(shapes, re.escape(block) + r"(\d+)/.*"),
            shapes[f"{block}0/MultiHeadDotProductAttention_1/query/kernel"][1],
            shapes[f"{block}0/MlpBlock_3/Dense_0/kernel"][1],
        )
    return ImageTowerConfig(cfg)


def vit_config(shapes: Mapping[str, Sequence[int]], prefix: str = "") -> ViTConfig:
    """A tower's shape from its weights; `prefix` as the `source` of `vit_rules`."""
    width, _, patch, _ = shapes[f"{prefix}patch_embed.proj.weight"]
    return _config(
        shapes[f"{prefix}pos_embed"],
        patch,
        width,
        count_layers(shapes, re.escape(prefix) + r"blocks\.(\d+)\..*"),
        # ViT-H, g and G have 16 heads; the others' are 64 wide, or one in a miniature.
        16 if width > 1024 else max(1, width // 64),
        shapes[f"{prefix}blocks.0.mlp.fc1.weight"][0],
    )


def _config(
    positions: Sequence[int], patch: int, width: int, depth: int, num_heads: int, mlp_dim: int
) -> ViTConfig:
    side = math.isqrt(positions[1] - 1)
    return ViTConfig(
        *(side * patch, patch, width, depth, num_heads, mlp_dim),
        norm_eps=1e-6,
        patch_bias=True,
        pre_norm=False,
        norm_tokens=True,
    )


def preprocess_from_timm(config: Mapping[str, Any]) -> tuple[tuple, dict[str, tuple]]:
    """`pretrained_cfg` of timm's config.json -> (image transforms of evaluation, moments).

    timm data/transforms_factory.py `transforms_imagenet_eval`.
    """
    if config.get("crop_mode", "center") != "center":
        raise UserError(f"crop_mode {config['crop_mode']!r}: jvlm has 'center'")
    _, height, width = config["input_size"]
    if height != width:
        raise UserError(f"input_size {config['input_size']}: jvlm reads square ones")
    whole = math.floor(height / config["crop_pct"])
    steps = (
        ("resize_shortest", dict(size=whole, resample=config.get("interpolation", "bicubic"))),
        ("center_crop", dict(height=height, width=width)),
    )
    return steps, {f"image_{key}": tuple(config[key]) for key in ("mean", "std")}


def rules(tensors: Tensors) -> tuple[Rule, ...]:
    """The table of a tower alone."""
    prefix = google_prefix(tensors.shapes)
    return vit_rules("", "vision/") if prefix is None else _google_rules(prefix)


def _google_rules(prefix: str) -> tuple[Rule, ...]:
    """Flax's own layout, so nothing is turned."""
    layer = prefix + "Transformer/encoderblock_{layer}/"
    attention = layer + "MultiHeadDotProductAttention_1/"
    names = {"query": "q", "key": "k", "value": "v", "out": "out"}
    modules = {
        f"{layer}LayerNorm_0": "vision/blocks/norm1",
        f"{layer}LayerNorm_2": "vision/blocks/norm2",
        f"{prefix}Transformer/encoder_norm": "vision/final_norm",
        f"{layer}MlpBlock_3/Dense_0": "vision/blocks/mlp/up",
        f"{layer}MlpBlock_3/Dense_1": "vision/blocks/mlp/down",
        f"{prefix}embedding": "vision/patch",
        **{f"{attention}{a}": f"vision/blocks/attn/{b}" for a, b in names.items()},
    }
    return (
        Rule(f"{prefix}cls", "vision/cls", "squeeze"),
        Rule(f"{prefix}Transformer/posembed_input/pos_embedding", "vision/pos", "squeeze"),
        *(
            Rule(f"{source}/{name}", f"{target}/{name}")
            for source, target in modules.items()
            for name in ("scale" if "orm" in target else "kernel", "bias")
        ),
    )


def vit_rules(source: str = "", target: str = "") -> tuple[Rule, ...]:
    """A ViT with a class token.

    Args:
      source: prefix of the keys, 'visual_encoder.'.
      target: prefix of the parameters, 'vision/'.
    """
    layer, block = source + "blocks.{layer}", f"{target}blocks"
    return (
        Rule(f"{source}cls_token", f"{target}cls", "squeeze"),
        Rule(f"{source}pos_embed", f"{target}pos", "squeeze"),
        Rule(f"{source}patch_embed.proj.weight", f"{target}patch/kernel", "conv"),
        Rule(f"{source}patch_embed.proj.bias", f"{target}patch/bias"),
        *norm(f"{layer}.norm1", f"{block}/norm1"),
        *sum(
            (heads(f"{layer}.attn.qkv", f"{block}/attn/{n}", (i, 3)) for i, n in enumerate("qkv")),
            (),
        ),
        *heads_out(f"{layer}.attn.proj", f"{block}/attn/out"),
        *norm(f"{layer}.norm2", f"{block}/norm2"),
        *linear(f"{layer}.mlp.fc1", f"{block}/mlp/up"),
        *linear(f"{layer}.mlp.fc2", f"{block}/mlp/down"),
        *norm(f"{source}norm", f"{target}final_norm"),
    )
