# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""SigLIP (arXiv:2303.15343): CLIP with a sigmoid loss, whose logits have a bias.

The image is pooled by attention and not projected; the text sees its padding and is pooled at its
last position (big_vision models/proj/image_text/two_towers.py; transformers' siglip).
"""

import math

from jvlm.models.clip import CLIPConfig, vit_config
from jvlm.models.towers.text_transformer import TextConfig

HALF = (0.5, 0.5, 0.5)


def _variant(image_size, patch_size, width, depth, heads, mlp_dim=None, length=64) -> CLIPConfig:
    mlp_dim = mlp_dim or 4 * width
    shared = dict(activation="gelu_tanh", norm_eps=1e-6)
    vision = vit_config(
        image_size,
        patch_size,
        width,
        depth,
        width // heads,
        mlp_dim,
        patch_bias=True,
        use_cls=False,
        pre_norm=False,
        pool="map",
        norm_tokens=True,
        **shared,
    )
    text = TextConfig(
        32_000,
        length,
        width,
        depth,
        heads,
        mlp_dim,
        causal=False,
        see_padding=True,
        pool="last",
        **shared,
    )
    return CLIPConfig(
        vision,
        text,
        width,
        vision_proj="none",
        text_proj="affine",
        image_mean=HALF,
        image_std=HALF,
        logit_scale_init=math.log(10),
        logit_bias_init=-10.0,
    )


# The WebLI models of the paper, as published.
VARIANTS: dict[str, CLIPConfig] = {
    **{
        "B/16" + (f"-{size}" if size != 224 else ""): _variant(size, 16, 768, 12, 12)
        for size in (224, 256, 384, 512)
    },
    **{f"L/16-{size}": _variant(size, 16, 1024, 24, 16) for size in (256, 384)},
    "So400m/14": _variant(224, 14, 1152, 27, 16, 4304, 16),
    "So400m/14-384": _variant(384, 14, 1152, 27, 16, 4304),
}
