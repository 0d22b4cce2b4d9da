# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""ALBEF finetuned for retrieval on COCO, or with `flickr` on Flickr30k.

    jvlm data import coco_karpathy dataset_coco.json DATA/coco_karpathy --images COCO
    jvlm train --config=configs/albef/retrieval.py:data=DATA,start=ALBEF.pth --workdir=runs/coco
    jvlm data import flickr30k_karpathy dataset_flickr30k.json DATA/flickr30k --images FLICKR30K
    jvlm train --config=configs/albef/retrieval.py:flickr,data=DATA --workdir=runs/flickr30k
    jvlm evaluate --workdir=runs/coco --config=configs/albef/retrieval.py:data=DATA,eval=test

salesforce/ALBEF Retrieval.py, configs/Retrieval_{coco,flickr}.yaml: 5 (10) epochs of batches of
8 x 32, 384 px, rate 1e-5 to 1e-6 without warm-up, contrast and matching without masked words, a
queue of 65,536, where captions of one image are positives of each other; the temperature is free.
The best 256 (128) are ranked again, and their order is that of the matching head alone. An epoch
has 566,747 (145,000) pairs: an image comes as often as it has captions, which are drawn, where the
source takes each once. Training texts are cut after 30 tokens, which the source does in evaluation
only; images with more than five captions are evaluated with five.

Published R@1 / 5 / 10 of 14 million images, texts and images, by memory of arXiv:2107.07651: COCO
77.6 / 94.3 / 97.2 and 60.7 / 84.3 / 90.5, Flickr30k 95.9 / 99.8 / 100 and 85.6 / 97.5 / 98.9. LAVIS
(docs/benchmark.rst): COCO 77.6 / 94.1 / 97.2 and 61.0 / 84.5 / 90.7.

Arguments: flickr; start, a checkpoint of pretraining; eval, the split; and those of `pairs_shared`.
"""

from configs import albef_shared as albef
from configs import pairs_shared as shared


def get_config(arg=""):
    arg = albef.parse_arg(arg, flickr=False, start="ALBEF.pth", eval="validation")
    name = "flickr30k" if arg.flickr else "coco_karpathy"
    c, epoch = albef.recipe(
        arg,
        model=dict(name="albef", variant="base@384"),
        size=384,
        max_len=30,
        per_gpu=32,
        examples=145_000 if arg.flickr else 566_747,
        epochs=10 if arg.flickr else 5,
        lr=1e-5,
        end_lr=1e-6,
    )
    c.init = shared.start(arg.start)
    c.data.source = shared.source(arg, name, "train")
    shared.pairs(arg, c, shared.augment(arg, 384, 0.5), identity=True)
    c.objective = albef.pair_objective(arg, epoch)
    rerank = 128 if arg.flickr else 256
    c.eval.evaluators.retrieval = shared.retrieval(arg, c, name, arg.eval, rerank, "replace")
    c.checkpoint.best = "retrieval/mean_rerank"
    return albef.shrink(c) if arg.test else c
