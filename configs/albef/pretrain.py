# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""ALBEF on 4 or 14 million images: contrast, matching and masked words, with momentum.

    for set in coco vg sbu cc12m; do
      jvlm data import albef json_pretrain/$set.json DATA/$set --images IMAGES --resize 400
    done
    jvlm data import albef cc3m DATA/cc3m --images IMAGES --resize 400
    jvlm train --config=configs/albef/pretrain.py:14m,data=DATA --workdir=gs://...

json_pretrain.zip is the official repository's; the folder `cc3m` has its cc3m_train.json and
cc3m_val.json, of which both are trained on. arXiv:2107.07651 section 3; salesforce/ALBEF
Pretrain.py, configs/Pretrain.yaml: 30 epochs of batches of 8 x 64, 256 px, rate 1e-4 to 1e-5,
warm-up of 2,000 steps from 1e-5, queue 65,536, momentum 0.995, the teacher's weight 0.4 from the
second epoch on, 25 tokens, 15 % of the words masked. The image tower starts as DeiT-B/16, the text
as BERT-base.

How many pairs there are is by memory of the paper's table (COCO 567 k, VG 769 k, which its author
confirms in issue 2, CC3M 2.95 M, SBU 860 k, CC12M 10.06 M), not checked. A data set has its share
of the pairs; of an image that has several captions one is drawn, as often as there are captions.

Published: 14 million images took 7 to 8 days on 8 A100, 4 million 2 to 3 (issue 31).

Arguments: 14m; image, a DeiT-B/16; text, bert-base-uncased; eval, a prepared data set of captions
on whose split validation retrieval is measured every epoch (the source measures nothing); and
those of `pairs_shared`. Of a chip's 15.75 GiB a step takes 12.2 on v5e:4x4 and 3.7 on v5e:8x8
(`jvlm plan`).
"""

from configs import albef_shared as albef
from configs import pairs_shared as shared


def get_config(arg=""):
    arg = albef.parse_arg(
        arg,
        **{"14m": False},
        image="deit_base_patch16_224-b5f2ef4d.pth",
        text="bert-base-uncased",
        eval="",
    )
    sets = albef.pretraining_sets(large=arg["14m"])
    c, epoch = albef.recipe(
        arg,
        model=dict(name="albef", variant="base"),
        size=256,
        max_len=25,
        per_gpu=64,
        examples=sum(sets.values()),
        epochs=30,
        lr=1e-4,
        end_lr=1e-5,
        warmup=20,
    )
    shared.mixture(arg, c, sets)
    shared.pairs(arg, c, shared.augment(arg, 256, 0.2), identity=False)
    c.objective = albef.momentum(
        arg,
        "albef",
        alpha_steps=epoch,
        queue=65_536,
        mlm_probability=0.15,
        mask_id=103,
        silent_ids=(101,),
        negatives=64,
    )
    resize = (("resize_positions", {}),)
    c.init = (
        (r"vision/pos", arg.image, r"vision/pos", resize),
        (r"(vision/.*)", arg.image, r"\1", ()),
        (r"text/(embed/.*)", arg.text, r"\1", ()),
        (r"text/(blocks/.*)", arg.text, r"\1", (("layers", dict(select=":6")),)),
        (r"fusion/(blocks/(?!cross).*)", arg.text, r"\1", (("layers", dict(select="6:")),)),
        (r"(words/.*)", arg.text, r"\1", ()),
    )
    c.checkpoint.every_steps = 2_000
    if arg.eval or arg.test:
        c.eval.evaluators.retrieval = shared.retrieval(arg, c, arg.eval, "validation", 0, "replace")
    return albef.shrink(c) if arg.test else c
