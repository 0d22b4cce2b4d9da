# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""CLIP ViT-L/14 (0.43 B parameters) on 400 million pairs, as OpenAI trained it.

    jvlm train --config=configs/clip/openai_vit_l14.py:data=my_pairs --workdir=gs://...

Sources as in openai_vit_b32.py; this size's rate is 4e-4 (table 20; cn_clip/training/params.py).
Activations are recomputed, as in section 2.5, and as in open_clip's run of this size. Published
zero-shot ImageNet: OpenAI 75.5 % (open_clip docs/openclip_results.csv); open_clip on LAION-400M
72.77 %, 127 hours on 400 A100 with batch 38,400 (PRETRAINED.md).

Arguments: data, a TFDS name; vocab, OpenAI's vocabulary file. Mesh: all devices to `data`;
parameters, moments and gradients take 6.8 GB on each, divided by --config.mesh.fsdp where that is
too much.
"""

from configs import common, contrastive


def get_config(arg=""):
    arg = common.parse_arg(arg, data="laion400m", vocab="bpe_simple_vocab_16e6.txt.gz")
    augment = contrastive.random_square
    c = contrastive.clip(arg, "ViT-L/14-quickgelu", batch_size=32_768, augment=augment)
    c.steps = 390_625  # 12.8 billion pairs.
    c.compute.remat = "full"
    c.optim.update(dict(lr=4e-4, b2=0.98, eps=1e-6, warmup_steps=2_000))
    return contrastive.shrink(c) if arg.test else c
