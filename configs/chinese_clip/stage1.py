# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Chinese-CLIP ViT-B/16, first stage: the text tower learns to read a locked image tower.

    jvlm train --config=configs/chinese_clip/stage1.py:image=ViT-B-16.pt,text=DIR --workdir=gs://...

Of cn_clip: what is locked (training/main.py 122-130: the whole image tower with its projection, and
BatchNorm's statistics, which a locked tower never moves here), where both start (clip/utils.py
restore_model: images as OpenAI's CLIP, text as RoBERTa-wwm-ext), Adam's coefficients. By memory of
the paper (arXiv:2211.01335, appendix), not checked: batch 32,768, rate 1e-4, decay 1e-3, 5,000
steps of warm-up, cosine, 200 million pairs. The number of epochs, 15, and that images are not
augmented are chosen here.

Arguments: data, a TFDS name; vocab, the vocab.txt of a Chinese BERT; image, a checkpoint with
CLIP's ViT-B/16; text, one with a Chinese-CLIP text tower. jvlm.load does not read a bare RoBERTa
yet: without `text` that tower starts fresh. Mesh: all devices to `data`.
"""

from configs import common, contrastive


def get_config(arg=""):
    arg = common.parse_arg(
        arg, data="chinese_pairs", vocab="vocab.txt", image="ViT-B-16.pt", text=""
    )
    c = contrastive.chinese_clip(arg, batch_size=32_768, augment=contrastive.squash)
    c.steps = 91_552  # 15 epochs of 200 million pairs.
    rules = [("vision(?:_proj)?/.*", arg.image)]
    c.init = contrastive.start(*rules, *([("text/.*", arg.text)] if arg.text else []))
    c.trainable = (("vision(_proj)?/.*", False), (".*", True))
    c.optim.update(dict(lr=1e-4, warmup_steps=5_000))
    return contrastive.shrink(c) if arg.test else c
