# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""ALBEF's weakly supervised grounding on handwritten digit scenes.

    jvlm train --config=configs/albef/digits.py --workdir=runs/albef_digits
    jvlm train --config=configs/albef/digits_grounding.py --workdir=runs/albef_grounding
    jvlm ground scene.png "the left red digit" --gradcam --model runs/albef_grounding

Learns from phrases that fit one digit of the scene, as RefCOCO+'s, and never sees a box. Then
Grad-CAM of the matching head, on the cross-attention of a fusion layer, says where the digit is:
`grounding/pointing` is how often its maximum lies in the box.
"""

from configs import common, digits
from configs.albef import digits_retrieval


def get_config(arg=""):
    arg = common.parse_arg(arg, start="runs/albef_digits")
    test = "test" if arg.test else ""
    c = digits_retrieval.get_config(",".join(filter(None, (test, f"start={arg.start}"))))
    phrase = (("tokenize", dict(key="phrase")), ("identity", dict(key="phrase")))
    c.data.transforms = (*digits.IMAGE, *phrase, c.data.transforms[-1])

    test = digits.source("test", arg.test)
    keys = ("text", "text_mask", "box", "phrase")
    rows = (phrase[0], *common.image_rows(c.preprocess, *keys))
    c.eval.evaluators = dict(
        grounding=dict(
            kind="grounding",
            rule="pointing",
            fields=dict(phrase="phrase"),
            data=dict(source=test, batch_size=250, transforms=rows),
        ),
    )
    c.checkpoint.best = "grounding/pointing"
    if arg.test:
        common.shrink_for_test(c)
        c.checkpoint.best = None
    return c
