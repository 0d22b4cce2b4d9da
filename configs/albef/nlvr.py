# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""ALBEF finetuned for NLVR2: is a sentence true of two images?

    jvlm data import albef_nlvr DIR DATA/nlvr2 --images NLVR2
    jvlm train --config=configs/albef/nlvr.py:data=DATA --workdir=runs/nlvr2

DIR has the official repository's nlvr_{train,dev,test}.json; kind nlvr2 reads the data set's own
files. `start` is a run of nlvr_pretrain.py, or the official checkpoint of one. salesforce/ALBEF
NLVR.py, configs/NLVR.yaml: 10 epochs of batches of 8 x 16, 384 px, rate 2e-5 to 1e-6, warm-up of
100 steps from 1e-5, the teacher's weight 0.4 from the second epoch on. 86,373 sentences an epoch.
The two images are cropped and changed independently. Sentences are cut after 48 tokens; the source
has 30 words and no limit.

Published: 82.55 dev, 83.14 test-P (by memory of arXiv:2107.07651); LAVIS, 82.47 and 82.91
(docs/benchmark.rst). `val/accuracy` is that of dev, `nlvr2/accuracy` that of test.

Arguments: start; and those of `pairs_shared`.
"""

from configs import albef_shared as albef
from configs import pairs_shared as shared


def get_config(arg=""):
    arg = albef.parse_arg(arg, start="pretrain_model_nlvr.pth")
    c, epoch = albef.recipe(
        arg,
        model=dict(name="albef_classifier", variant="nlvr@384"),
        size=384,
        max_len=48,
        per_gpu=16,
        examples=86_373,
        epochs=10,
        lr=2e-5,
        end_lr=1e-6,
    )
    c.init = shared.start(arg.start, (r"((?:vision|text|fusion)/.*)", r"\1"))
    pair = dict(key=("image", "image") if arg.test else "images", count=2)
    pair["size"] = shared.TEST_SIZE if arg.test else 384

    def images(steps):
        return (("each_image", dict(pair, steps=(("decode_image", {}), *steps))),)

    names = ("no", "yes")  # Answers of a test.
    shared.classification(
        arg,
        c,
        name="nlvr2",
        rows=lambda steps: shared.statements(arg, names, images(steps)),
    )
    c.objective = albef.momentum(arg, "classification", alpha_steps=epoch)
    return albef.shrink(c) if arg.test else c
