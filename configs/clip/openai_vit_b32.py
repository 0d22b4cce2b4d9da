# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""CLIP ViT-B/32 on 400 million pairs, as OpenAI trained it and open_clip again.

    jvlm train --config=configs/clip/openai_vit_b32.py:data=my_pairs --workdir=gs://...
    jvlm evaluate --workdir=gs://... --config=clip/evaluate:data=tfds:imagenet2012,split=validation

CLIP (arXiv:2103.00020) section 2.5 and tables 18 to 20, by memory of the paper: batch 32,768, 32
epochs, decay 0.2, 2,000 steps of warm-up, cosine, the temperature clamped at 100. Rate, betas and
epsilon are also on record in cn_clip/training/params.py, the clamp and the decay's exceptions in
open_clip_train (train.py, optim.py). Published zero-shot ImageNet: OpenAI 63.3 %; open_clip on
LAION-400M 62.96 %, in 36 hours on 128 A100 (open_clip docs/openclip_results.csv, PRETRAINED.md; the
latter with `contrastive.random_part`, which it calls RandomResizedCrop).

Arguments: data, a TFDS name; vocab, OpenAI's vocabulary file. Any mesh: 0.15 B parameters fit
everywhere, so all devices go to `data`.
"""

from configs import common, contrastive


def get_config(arg=""):
    arg = common.parse_arg(arg, data="laion400m", vocab="bpe_simple_vocab_16e6.txt.gz")
    augment = contrastive.random_square
    c = contrastive.clip(arg, "ViT-B/32-quickgelu", batch_size=32_768, augment=augment)
    c.steps = 390_625  # 12.8 billion pairs.
    c.optim.update(dict(lr=5e-4, b2=0.98, eps=1e-6, warmup_steps=2_000))
    return contrastive.shrink(c) if arg.test else c
