# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""ALBEF learns to read two images: text assignment, between pretraining and NLVR2.

    jvlm train --config=configs/albef/nlvr_pretrain.py:data=DATA,start=ALBEF.pth --workdir=runs/ta
    jvlm train --config=configs/albef/nlvr.py:data=DATA,start=runs/ta --workdir=runs/nlvr2

The data are those of pretrain.py, of 4 million images. arXiv:2107.07651 appendix; salesforce/ALBEF
Pretrain_nlvr.py, configs/NLVR_pretrain.yaml: one epoch of batches of 8 x 64, 256 px, rate 2e-5,
warm-up of 100 steps from 1e-5 (min_lr is of no consequence: the one epoch has the first rate).
Which of two images does the text describe, or neither? The layers that fuse are doubled, both of a
pair start as the same one. The images' projection is not trained: it only says which images are
similar.

Arguments: start, a checkpoint of pretraining; and those of `pairs_shared`.
"""

from configs import albef_shared as albef
from configs import pairs_shared as shared


def get_config(arg=""):
    arg = albef.parse_arg(arg, start="ALBEF.pth")
    sets = albef.pretraining_sets(large=False)
    c, _ = albef.recipe(
        arg,
        model=dict(name="albef_classifier", variant="text_assignment"),
        size=256,
        max_len=25,
        per_gpu=64,
        examples=sum(sets.values()),
        epochs=1,
        lr=2e-5,
        end_lr=1e-5,
    )
    c.init = shared.start(
        arg.start,
        (r"fusion/blocks/(?:first|second)/(.*)", r"fusion/blocks/\1"),
        (r"fusion/blocks/shared_attn/(.*)", r"fusion/blocks/cross_attn/\1"),
        (r"((?:vision|text|vision_proj)/.*)", r"\1"),
    )
    c.trainable = (("vision_proj/.*", False), (".*", True))
    shared.mixture(arg, c, sets)
    shared.pairs(arg, c, shared.augment(arg, 256, 0.2), identity=False)
    c.objective = dict(name="text_assignment", temperature=0.07, group=64)
    c.checkpoint.every_steps = 2_000
    return albef.shrink(c) if arg.test else c
