# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""ALBEF finetuned on pairs of RefCOCO+, which then points at what a phrase means.

    jvlm data import albef_refcoco DIR DATA/refcoco_pairs --images COCO
    jvlm train --config=configs/albef/grounding.py:data=DATA,start=ALBEF.pth --workdir=runs/refcoco

DIR has the official repository's refcoco+_{train,val,test}.json. salesforce/ALBEF Grounding.py,
configs/Grounding.yaml: as retrieval, but of whole images; 5 epochs of batches of 8 x 32, 384 px,
rate 1e-5 to 1e-6. 120,191 expressions an epoch, by memory. No box is learned from: where the model
looks is read off its cross-attention afterwards.

Arguments: start, a checkpoint of pretraining; and those of `albef_shared`. Mesh: all devices to
`data`.
"""

from configs import albef_shared as albef


def get_config(arg=""):
    arg = albef.parse_arg(arg, start="ALBEF.pth")
    c, epoch = albef.recipe(
        arg,
        model=dict(name="albef", variant="base@384"),
        size=384,
        max_len=30,
        per_gpu=32,
        examples=120_191,
        epochs=5,
        lr=1e-5,
        end_lr=1e-6,
    )
    c.init = albef.start(arg.start)
    c.data.source = albef.source(arg, "refcoco_pairs", "train")
    albef.pairs(arg, c, albef.augment(arg, 384, None), identity=True)
    c.objective = albef.pair_objective(epoch)
    return albef.shrink(c) if arg.test else c
