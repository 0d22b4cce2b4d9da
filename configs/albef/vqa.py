# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""ALBEF finetuned for VQA v2, with questions of Visual Genome.

    jvlm data import albef_vqa DIR DATA/vqa --images IMAGES
    jvlm train --config=configs/albef/vqa.py:data=DATA,start=ALBEF.pth --workdir=runs/vqa
    jvlm evaluate --workdir=runs/vqa --config=albef/vqa:data=DATA,answers=answer_list.json

DIR has the official repository's vqa_{train,val,test}.json and vg_qa.json. salesforce/ALBEF VQA.py,
configs/VQA.yaml: 8 epochs of batches of 8 x 32, 384 px, rate 2e-5 to 1e-6, warm-up of 400 steps
from 1e-5, the teacher's weight 0.4 from the second epoch on. An answer weighs as many tenths as
people gave it, one of Visual Genome a half. Of an answer 16 tokens are learned, of a question 25
tokens are read in training and all in evaluation.

443,757 and 214,354 questions of VQA; how many vg_qa.json has is not on record: 485,000, as others
used of Visual Genome, is a guess (`vg=`; `jvlm data info` counts them). Training is on both splits
of VQA, as published for the test server, so that the accuracy on `validation` is not that of
questions never seen: `train=train` leaves them out.

Evaluation is once, at the end, on the split `eval`; of `test`, which has no answers, it only leaves
predictions for the server. With `answers`, the official answer_list.json of 3,128, it ranks the 128
answers whose first token is likeliest, that token counted twice; without, three beams write.

Published: 75.84 test-dev, 76.04 test-std (by memory of arXiv:2107.07651); LAVIS, 76.35 and 76.54
(docs/benchmark.rst).

Arguments: start, a checkpoint of pretraining; answers; train; eval; vg; and those of
`pairs_shared`.
"""

from configs import albef_shared as albef
from configs import pairs_shared as shared


def get_config(arg=""):
    arg = albef.parse_arg(
        arg,
        start="ALBEF.pth",
        answers="",
        train="train+validation",
        eval="validation",
        vg=485_000,
    )
    c, epoch = albef.recipe(
        arg,
        model=dict(name="albef_vqa", variant="base@384"),
        size=384,
        max_len=25,
        per_gpu=32,
        examples=shared.questions(arg),
        epochs=8,
        lr=2e-5,
        end_lr=1e-6,
        warmup=4,
    )
    c.model.decoder = dict(shared.DROPOUT)
    c.init = shared.start(
        arg.start,
        (r"decoder/embed/(.*)", r"text/embed/\1"),
        (r"decoder/blocks/(.*)", r"fusion/blocks/\1"),
        (r"decoder/words/(.*)", r"words/\1"),
        (r"((?:vision|text|fusion)/.*)", r"\1"),
    )
    shared.answering(arg, c, vg_weight=0.5, max_words=30)
    c.objective = albef.momentum(arg, "answers", alpha_steps=epoch)
    ranked = dict(preselect=128, first_weight=2.0)
    written = dict(num_beams=3, max_new_tokens=10)
    shared.asked(arg, c, ranked, written)
    return albef.shrink(c) if arg.test else c
