# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""BLIP finetuned for VQA v2, with questions of Visual Genome.

    jvlm data import albef_vqa DIR DATA/vqa --images IMAGES
    jvlm train --config=configs/blip/vqa.py:data=DATA --workdir=runs/vqa
    jvlm evaluate --workdir=runs/vqa --config=blip/vqa:data=DATA,answers=answer_list.json,eval=test

DIR has the official repository's vqa_{train,val,test}.json and vg_qa.json. salesforce/BLIP
train_vqa.py, configs/vqa.yaml: 10 epochs of batches of 16 x 16, 480 px, rate 2e-5, layers of the
image tower left out with up to 0.1, label smoothing 0.1. An answer weighs as many tenths as people
gave it, one of Visual Genome 0.2. Of an answer 16 tokens are learned, of a question 35 tokens are
read in training and all in evaluation, where the source reads 35 too.

443,757 and 214,354 questions of VQA; for those of vg_qa.json, and for `train`, see
configs/albef/vqa.py.

Evaluation is once, at the end, on the split `eval`; of `test`, which has no answers, it leaves
predictions for the server (`--predictions`). With `answers`, the official answer_list.json of
3,128, it ranks the 128 answers whose first token is likeliest by their smoothed losses; without,
three beams write. A question's padding is not attended to, which the source does when it writes.

Published, by memory of arXiv:2201.12086 table 8, 129 million images: 78.24 test-dev, 78.17
test-std, with CapFilt-L 78.25 and 78.32. LAVIS, 78.23 and 78.29 (docs/benchmark.rst).

Arguments: start, a checkpoint of pretraining; answers; train; eval; vg; and those of
`pairs_shared`.
"""

from configs import blip_shared as blip
from configs import pairs_shared as shared


def get_config(arg=""):
    arg = blip.parse_arg(
        arg,
        start="model_base_capfilt_large.pth",
        answers="",
        train="train+validation",
        eval="validation",
        vg=485_000,
    )
    c, _ = blip.recipe(
        arg,
        model=dict(name="blip_vqa", variant="base@480"),
        size=480,
        max_len=35,
        per_gpu=16,
        gpus=16,
        examples=shared.questions(arg),
        epochs=10,
        lr=2e-5,
    )
    c.model.decoder = dict(shared.DROPOUT)
    c.init = shared.start(
        arg.start, (r"decoder/(.*)", r"text/\1"), (r"((?:vision|text)/.*)", r"\1")
    )
    shared.answering(arg, c, vg_weight=0.2, max_words=50)
    c.objective = dict(name="answers", momentum=None, label_smoothing=0.1)
    ranked = dict(preselect=128, label_smoothing=0.1)
    shared.asked(arg, c, ranked, dict(num_beams=3, max_new_tokens=9, beam_search="legacy"))
    return blip.shrink(c) if arg.test else c
