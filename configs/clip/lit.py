# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""LiT: a text tower learns to read a locked image tower.

    jvlm train --config=configs/clip/lit.py:image=ViT-B-16.pt --workdir=gs://...
    jvlm train --config=configs/clip/lit.py:kind=sigmoid --workdir=gs://...  # SigLiT

LiT-B16B_2 (arXiv:2111.07991; google-research/big_vision README_lit.md): a BERT-base of 16 tokens,
projected to the image tower's width, no projection of images, 60,000 steps; initial temperature 10,
rate 1e-3, decay 0.01 on kernels, 3 % warm-up, clipping at 1, Adam, flips, bias -2.71 with the
sigmoid (its siglip_lit_coco.py). big_vision multiplies decay by the schedule alone, jvlm as torch
by the rate too, so it is 10 here. Batch 16,384, the paper's 983 million pairs, by memory of it.

Published: 73.9 % zero-shot ImageNet, with an image tower trained on ImageNet-21k and a text tower
that starts as BERT, on CC12M and YFCC-100M. jvlm reads neither of those two files; here the tower
is CLIP's ViT-B/16, which `image` names (anything that jvlm.load takes and that has that tower), and
the text tower starts fresh, which the paper calls Lu. big_vision's RandAugment is left out.

Arguments: data, a TFDS name; vocab, BERT's uncased vocab.txt; image; kind, softmax or sigmoid.
Mesh: all devices to `data`.
"""

from configs import common, contrastive


def get_config(arg=""):
    arg = common.parse_arg(
        arg, data="cc12m", vocab="vocab.txt", image="ViT-B-16.pt", kind="softmax"
    )
    c = common.base()
    c.steps = 60_000
    c.model.update(
        dict(
            name="clip",
            variant="ViT-B/16-quickgelu",
            embed_dim=768,
            vision_proj="none",
            text_proj="affine",
            logit_scale_init=2.302585,  # ln 10.
            logit_bias_init=-2.71 if arg.kind == "sigmoid" else None,
        )
    )
    c.model.text = dict(
        kind="bert",
        vocab_size=30_522,
        max_len=512,
        width=768,
        depth=12,
        num_heads=12,
        mlp_dim=3_072,
        dropout=0.1,
    )
    c.init = contrastive.start(("vision/.*", arg.image))
    c.trainable = (("vision/.*", False), (".*", True))
    c.compute.dtype = "bfloat16"
    c.tokenizer = dict(kind="wordpiece", path=arg.vocab, max_len=16)
    augment = lambda size: (*contrastive.squash(size), ("random_flip", {}))
    prepare = contrastive.squash
    contrastive.pairs(c, arg, size=224, batch_size=16_384, augment=augment, prepare=prepare)
    c.objective = dict(name="contrastive", kind=arg.kind, way="chunked", max_scale=None)
    c.optim.update(dict(lr=1e-3, clip_norm=1.0, warmup_steps=1_800))
    c.optim.weight_decay = ((".*kernel", 10.0), (".*", 0.0))
    return contrastive.shrink(c) if arg.test else c
