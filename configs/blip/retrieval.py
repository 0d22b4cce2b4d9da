# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""BLIP finetuned for retrieval on COCO, or with `flickr` on Flickr30k.

    jvlm data import coco_karpathy dataset_coco.json DATA/coco_karpathy --images COCO
    jvlm train --config=configs/blip/retrieval.py:data=DATA,start=model_base.pth --workdir=runs/coco
    jvlm data import flickr30k_karpathy dataset_flickr30k.json DATA/flickr30k --images FLICKR30K
    jvlm train --config=configs/blip/retrieval.py:flickr,data=DATA --workdir=runs/flickr30k
    jvlm evaluate --workdir=runs/coco --config=configs/blip/retrieval.py:data=DATA,eval=test

salesforce/BLIP train_retrieval.py, configs/retrieval_{coco,flickr}.yaml: 6 epochs of batches of
8 x 32, 384 px, rate 1e-5 (`large`: 8 x 16, 5e-6), a queue of 57,600, captions of one image are
positives of each other, the teacher's weight 0.4 from the second epoch on, 35 tokens. Wrong
partners are drawn by the student's own similarities, for COCO from all GPUs. The best 256 (128) are
ranked again, by the matching logit plus the cosine. An epoch has 566,747 (145,000) pairs: an image
comes as often as it has captions, which are drawn, where the source takes each once; images with
more than five captions are evaluated with five.

Published R@1 / 5 / 10, texts and images, by memory of arXiv:2201.12086 table 5, 129 million images:
COCO 81.9 / 95.4 / 97.8 and 64.3 / 85.7 / 91.5 (ViT-L 82.4 / 95.4 / 97.9 and 65.1 / 86.3 / 91.8);
Flickr30k 97.3 / 99.9 / 100 and 87.3 / 97.6 / 98.9. LAVIS (docs/benchmark.rst): COCO 82.0 / 95.8 /
98.1 and 64.5 / 86.0 / 91.7, Flickr30k 96.9 / 99.9 / 100 and 87.5 / 97.6 / 98.9.

Arguments: flickr; large; start, a checkpoint of pretraining; eval, the split; and those of
`pairs_shared`.
"""

from configs import blip_shared as blip
from configs import pairs_shared as shared


def get_config(arg=""):
    arg = blip.parse_arg(arg, flickr=False, large=False, start="", eval="validation")
    size = "large" if arg.large else "base"
    name = "flickr30k" if arg.flickr else "coco_karpathy"
    per_gpu = 16 if arg.large else 32
    c, epoch = blip.recipe(
        arg,
        model=dict(name="blip", variant=f"{size}@384"),
        size=384,
        max_len=35,
        per_gpu=per_gpu,
        examples=145_000 if arg.flickr else 566_747,
        epochs=6,
        lr=5e-6 if arg.large else 1e-5,
    )
    c.init = shared.start(arg.start or f"model_{size}.pth")
    c.data.source = shared.source(arg, name, "train")
    shared.pairs(arg, c, shared.augment(arg, 384, 0.5), identity=True)
    c.objective = blip.alignment(
        arg,
        alpha_steps=epoch,
        negatives=per_gpu,
        drawn_from="group" if arg.flickr else "global",
        drawn_by="student",
        floor=0.0,
        same="soft",
    )
    rerank = 128 if arg.flickr else 256
    c.eval.evaluators.retrieval = shared.retrieval(arg, c, name, arg.eval, rerank, "add")
    c.checkpoint.best = "retrieval/mean_rerank"
    return blip.shrink(c) if arg.test else c
