# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Vision transformers with timm's names: DeiT, and the image towers of ALBEF and BLIP.

Sources: timm vision_transformer.py; salesforce/ALBEF models/vit.py.
"""

from jvlm.convert.engine import Rule
from jvlm.convert.rules import heads, heads_out, linear, norm


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
