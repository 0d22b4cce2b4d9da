# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""ALBEF finetuned on pairs of RefCOCO+, which then points at what a phrase means.

    jvlm data import albef_refcoco DIR DATA/refcoco_pairs --images COCO
    jvlm data import refcoco REFER DATA/refcoco_plus --images COCO
    jvlm train --config=configs/albef/grounding.py:data=DATA,start=ALBEF.pth --workdir=runs/refcoco

DIR has the official repository's refcoco+_{train,val,test}.json, REFER its folder refcoco+ with
refs(unc).p, instances.json and dets.json, the boxes that MAttNet detected. salesforce/ALBEF
Grounding.py, configs/Grounding.yaml: as retrieval, but of whole images; 5 epochs of batches of
8 x 32, 384 px, rate 1e-5 to 1e-6. 120,191 expressions an epoch, by memory. No box is learned from:
the detected box is chosen that the cross-attention of a phrase is hottest in.

Published acc_iou50 of val / testA / testB, by memory of arXiv:2107.07651: 58.46 / 65.89 / 46.25.

Arguments: start, a checkpoint of pretraining; and those of `pairs_shared`.
"""

from configs import albef_shared as albef
from configs import pairs_shared as shared


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
    c.init = shared.start(arg.start)
    c.data.source = shared.source(arg, "refcoco_pairs", "train")
    shared.pairs(arg, c, shared.augment(arg, 384, None), identity=True)
    c.objective = albef.pair_objective(arg, epoch)
    for split in ("validation", "testA", "testB"):
        c.eval.evaluators[split] = boxes(arg, c, split)
    c.checkpoint.best = "validation/acc_iou50"
    return albef.shrink(c) if arg.test else c


def boxes(arg, c, split: str) -> dict:
    """Evaluator: the right one of the detected boxes."""
    phrases = "phrase" if arg.test else "expressions"
    rule = "region" if arg.test else "proposals"  # There are no detections of digits.
    keys = (*shared.PAIR, "box", "size", phrases, *(() if arg.test else ("proposals",)))
    rows = (
        ("decode_image", {}),
        ("image_size", {}),
        *c.preprocess,
        *shared.caption(arg, phrases),
        ("keep", dict(keys=keys)),
    )
    data = dict(source=shared.source(arg, "refcoco_plus", split), batch_size=32, transforms=rows)
    fields = dict(phrase=phrases)
    return dict(kind="grounding", rule=rule, name=split, fields=fields, data=data)
