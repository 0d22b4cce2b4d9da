# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""CLIP ViT-B/16 on LAION-400M, as open_clip trained it.

    jvlm train --config=configs/clip/laion_b16.py:data=laion400m --workdir=gs://...

open_clip docs/PRETRAINED.md: 176 A100 with 192 pairs each (batch 33,792), 32 epochs, 61 hours,
67.07 % zero-shot ImageNet. Everything else as in the paper (open_clip issue 100) and in open_clip's
defaults for a ViT (open_clip_train/params.py), but 2,000 steps of warm-up (README.md, LAION-400M);
the exact gelu, and crops of at least 90 % of the image (transform.py).

Arguments: data, a TFDS name; vocab, OpenAI's vocabulary file. Mesh: all devices to `data`.
"""

from configs import common, contrastive


def get_config(arg=""):
    arg = common.parse_arg(arg, data="laion400m", vocab="bpe_simple_vocab_16e6.txt.gz")
    augment = contrastive.random_part
    c = contrastive.clip(arg, "ViT-B/16", batch_size=33_792, augment=augment)
    c.steps = 378_787  # 12.8 billion pairs.
    c.optim.update(dict(lr=5e-4, b2=0.98, eps=1e-6, warmup_steps=2_000))
    return contrastive.shrink(c) if arg.test else c
