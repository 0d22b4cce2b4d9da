# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""ALBEF finetuned for visual entailment (SNLI-VE): does an image prove or contradict a sentence?

    jvlm data import albef_ve DIR DATA/snli_ve --images FLICKR30K
    jvlm train --config=configs/albef/ve.py:data=DATA,start=ALBEF.pth --workdir=runs/ve

DIR has the official repository's ve_{train,dev,test}.json; kind snli_ve reads the data set's own
files. salesforce/ALBEF VE.py, configs/VE.yaml: 5 epochs of batches of 8 x 32, 384 px, rate 2e-5 to
1e-6, warm-up of 100 steps from 1e-5, the teacher's weight 0.4 from the first step on; classes 0
contradiction, 1 neutral, 2 entailment. 529,527 sentences an epoch. Sentences are cut after 48
tokens; the source has 30 words and no limit.

Published: 80.80 dev, 80.91 test (by memory of arXiv:2107.07651); LAVIS, 80.60 and 81.04 in 10
epochs (docs/benchmark.rst). `val/accuracy` is that of dev, `snli_ve/accuracy` that of test.

Arguments: start, a checkpoint of pretraining; and those of `pairs_shared`.
"""

from configs import albef_shared as albef
from configs import pairs_shared as shared


def get_config(arg=""):
    arg = albef.parse_arg(arg, start="ALBEF.pth")
    c, _ = albef.recipe(
        arg,
        model=dict(name="albef_classifier", variant="ve@384"),
        size=384,
        max_len=48,
        per_gpu=32,
        examples=529_527,
        epochs=5,
        lr=2e-5,
        end_lr=1e-6,
    )
    c.init = shared.start(arg.start, (r"((?:vision|text|fusion)/.*)", r"\1"))
    image = lambda steps: (("decode_image", {}), *steps)
    names = ("no", "two", "yes")  # Answers of a test.
    shared.classification(
        arg,
        c,
        name="snli_ve",
        rows=lambda steps: shared.statements(arg, names, image(steps)),
    )
    c.objective = albef.momentum(arg, "classification", alpha_steps=0)
    return albef.shrink(c) if arg.test else c
