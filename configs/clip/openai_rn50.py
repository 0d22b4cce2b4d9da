# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""CLIP RN50 on 400 million pairs, as OpenAI trained it.

    jvlm train --config=configs/clip/openai_rn50.py:data=my_pairs --workdir=gs://...

Sources as in openai_vit_b32.py; the ResNets have beta2 0.999 and epsilon 1e-8 (table 18;
cn_clip/training/params.py). BatchNorm statistics are those of the global batch. Published zero-shot
ImageNet: 59.8 % (open_clip docs/openclip_results.csv).

Arguments: data, a TFDS name; vocab, OpenAI's vocabulary file. Mesh: all devices to `data`.
"""

from configs import common, contrastive


def get_config(arg=""):
    arg = common.parse_arg(arg, data="laion400m", vocab="bpe_simple_vocab_16e6.txt.gz")
    augment = contrastive.random_square
    c = contrastive.clip(arg, "RN50-quickgelu", batch_size=32_768, augment=augment)
    c.steps = 390_625  # 12.8 billion pairs.
    c.optim.update(dict(lr=5e-4, b2=0.999, eps=1e-8, warmup_steps=2_000))
    c.optim.weight_decay = ((".*(kernel|embedding|pos)", 0.2), (".*", 0.0))
    return contrastive.shrink(c) if arg.test else c
