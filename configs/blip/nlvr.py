# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""BLIP finetuned for NLVR2: is a sentence true of two images?

    jvlm data import albef_nlvr DIR DATA/nlvr2 --images NLVR2
    jvlm train --config=configs/blip/nlvr.py:data=DATA,start=model_base.pth --workdir=runs/nlvr2

DIR has the official repository's nlvr_{train,dev,test}.json; kind nlvr2 reads the data set's own
files. salesforce/BLIP train_nlvr.py, configs/nlvr.yaml: 15 epochs of batches of 16 x 16, 384 px,
rate 3e-5, layers of the image tower left out with up to 0.1. 86,373 sentences an epoch. Both
cross-attentions of a layer begin as pretraining's one, and the upper six layers merge what they
find by a layer of their own. Every other pair is read in the other order, with 'left' and 'right'
exchanged, in evaluation too (`fixed`: in training only). The two images are cropped and changed
independently. Sentences have up to 40 words and are cut after 64 tokens, which the source does not.

Published: 82.15 dev, 82.24 test-P (by memory of arXiv:2201.12086 table 8); LAVIS, 82.48 and 83.25
(docs/benchmark.rst). `val/accuracy` is that of dev, `nlvr2/accuracy` that of test.

Arguments: start, a checkpoint of pretraining; and those of `pairs_shared`.
"""

from configs import blip_shared as blip
from configs import pairs_shared as shared


def get_config(arg=""):
    arg = blip.parse_arg(arg, start="model_base.pth")
    c, _ = blip.recipe(
        arg,
        model=dict(name="blip_classifier", variant="nlvr@384"),
        size=384,
        max_len=64,
        per_gpu=16,
        gpus=16,
        examples=86_373,
        epochs=15,
        lr=3e-5,
    )
    lower, upper = ((("layers", dict(select=select)),) for select in (":6", "6:"))
    c.init = (
        (r"vision/pos", arg.start, r"vision/pos", (("resize_positions", {}),)),
        (r"((?:vision|text/embed)/.*)", arg.start, r"\1", ()),
        (r"text/blocks/cross_attn[01]/(.*)", arg.start, r"text/blocks/cross_attn/\1", lower),
        (r"(text/blocks/.*)", arg.start, r"\1", lower),
        (r"text/merge_blocks/cross_attn[01]/(.*)", arg.start, r"text/blocks/cross_attn/\1", upper),
        (r"text/merge_blocks/((?!merge).*)", arg.start, r"text/blocks/\1", upper),
    )
    size = shared.TEST_SIZE if arg.test else 384

    def rows(steps, swapped=True):
        names = ("image", "image") if arg.test else "images"
        pair = dict(key=names, count=2, size=size, steps=(("decode_image", {}), *steps))
        swap = (("random_swap_pair", {}),) if swapped and not arg.test else ()
        answers = ("no", "yes")  # Of a test.
        return shared.statements(arg, answers, (*swap, ("each_image", pair)), max_words=40)

    evaluated = lambda steps: rows(steps, swapped=not arg.fixed)
    shared.classification(arg, c, name="nlvr2", rows=rows, test_rows=evaluated)
    c.objective = dict(name="classification", momentum=None)
    return blip.shrink(c) if arg.test else c
