# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Chinese-CLIP ViT-B/16, second stage: both towers learn, from where the first stage ended.

    jvlm train --config=configs/chinese_clip/stage2.py:stage1=DIR --workdir=gs://...

As stage1.py, but nothing is locked and the rate is 2e-5 (by memory of the paper, not checked).
Warm-up and epochs, 3, are chosen here. Published zero-shot text-to-image R@1 after both stages:
MUGE 52.1, Flickr30K-CN 62.7 (cn_clip Results.md).

Arguments: data and vocab as in stage1.py; stage1, its run directory. Mesh: all devices to
`data`.
"""

from configs import common, contrastive


def get_config(arg=""):
    arg = common.parse_arg(
        arg, data="chinese_pairs", vocab="vocab.txt", stage1="runs/chinese_clip_stage1"
    )
    c = contrastive.chinese_clip(arg, batch_size=32_768, augment=contrastive.squash)
    c.steps = 18_310  # 3 epochs of 200 million pairs.
    c.init = contrastive.start((".*", arg.stage1))
    c.optim.update(dict(lr=2e-5, warmup_steps=1_000))
    return contrastive.shrink(c) if arg.test else c
