# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""SigLIP B/16 at 224 px on WebLI, as Google trained it.

    jvlm train --config=configs/clip/siglip_b16.py:data=my_pairs,vocab=c4_en.model --workdir=gs://...

Of the published code (google-research/big_vision): the model with its initial bias of -10, c4_en's
32,000 pieces, 64 tokens, images squashed to a square (SigLIP_demo.ipynb); its Adafactor with
momentum in bfloat16, decay of kernels only (optax.py); rate 1e-3, initial temperature 10, 3 % of
warm-up and clipping at 1 (siglip_lit_coco.py, its one training config). By memory of the paper
(arXiv:2303.15343), not checked: batch 32,768, 40 billion pairs, decay 1e-4, beta2 0.95. big_vision
multiplies decay by the schedule alone, jvlm as torch by the rate too, so it is 1e-4 / 1e-3 here.
Texts lose their punctuation, as in transformers' tokenizer of the published weights. Published
zero-shot ImageNet: 76.0 % (open_clip docs/openclip_results.csv).

Arguments: data, a TFDS name; vocab, the SentencePiece model. Mesh: all devices to `data`. The loss
holds [rows of a device, 1,024] logits; --config.objective.way=ring is the paper's own way.
"""

from configs import common, contrastive


def get_config(arg=""):
    arg = common.parse_arg(arg, data="webli", vocab="c4_en.model")
    c = contrastive.siglip(arg, "B/16", size=224)
    return contrastive.shrink(c) if arg.test else c
