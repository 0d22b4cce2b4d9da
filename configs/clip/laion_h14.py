# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""CLIP ViT-H/14 (0.99 B parameters) on LAION-2B, as open_clip trained it.

    jvlm train --config=configs/clip/laion_h14.py:data=laion2b --workdir=gs://...

open_clip docs/PRETRAINED.md: laion/CLIP-ViT-H-14-laion2B-s32B-b79K, 32 billion pairs in batches of
79,104 (824 A100 with 96 each), 78.0 % zero-shot ImageNet. Its rate of 5e-4 is by memory of
laion.ai/blog/large-openclip, everything else as in laion_b16.py.

Arguments: data, a TFDS name; vocab, OpenAI's vocabulary file. Mesh: all devices to `data`;
parameters, moments and gradients take 15.8 GB on each. On a v5p 4x4x4 slice 256 pairs per chip fit
with remat 'dots' (README.md, Plan).
"""

from configs import common, contrastive


def get_config(arg=""):
    arg = common.parse_arg(arg, data="laion2b", vocab="bpe_simple_vocab_16e6.txt.gz")
    augment = contrastive.random_part
    c = contrastive.clip(arg, "ViT-H/14", batch_size=79_104, augment=augment)
    c.steps = 404_530  # 32 billion pairs.
    c.compute.remat = "dots"
    c.optim.update(dict(lr=5e-4, b2=0.98, eps=1e-6, warmup_steps=2_000))
    return contrastive.shrink(c) if arg.test else c
