# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""BLIP finetuned to caption COCO.

    jvlm data import coco_karpathy dataset_coco.json DATA/coco_karpathy --images COCO
    jvlm train --config=configs/blip/caption.py:data=DATA --workdir=runs/caption
    jvlm evaluate --workdir=runs/caption --config=configs/blip/caption.py:data=DATA,eval=test

salesforce/BLIP train_caption.py, configs/caption_coco.yaml: 5 epochs of batches of 8 x 32, 384 px,
rate 1e-5 (`large`: 8 x 16, 2e-6), cross-entropy with a label smoothing of 0.1 of 566,747 captions
behind the prompt "a picture of", 40 tokens; the mean is over all tokens of the batch, where the
source takes that of each GPU's. Captions are written with 3 beams, as transformers 4.15 searched,
and have 1 to 16 tokens, the end among them. The best checkpoint is by CIDEr, in the source by its
sum with BLEU-4.

Published BLEU-4 and CIDEr on test, by memory of arXiv:2201.12086 table 7: base with CapFilt-L 39.7
and 133.3, ViT-L 40.4 and 136.7. LAVIS (docs/benchmark.rst): 39.9 and 133.5.

Arguments: large; start, a checkpoint of pretraining; eval, the split; and those of `pairs_shared`.
"""

from configs import blip_shared as blip
from configs import pairs_shared as shared

PROMPT = "a picture of "
BEAMS = dict(num_beams=3, max_new_tokens=16, min_new_tokens=1, beam_search="legacy")


def get_config(arg=""):
    arg = blip.parse_arg(arg, large=False, start="", eval="validation")
    size = "large" if arg.large else "base"
    c, _ = blip.recipe(
        arg,
        model=dict(name="blip_captioner", variant=f"{size}@384"),
        size=384,
        max_len=40,
        per_gpu=16 if arg.large else 32,
        examples=566_747,
        epochs=5,
        lr=2e-6 if arg.large else 1e-5,
    )
    c.init = shared.start(
        arg.start or f"model_{'large' if arg.large else 'base_capfilt_large'}.pth"
    )
    c.data.source = shared.source(arg, "coco_karpathy", "train")
    c.data.transforms = (
        ("decode_image", {}),
        *shared.augment(arg, 384, 0.5),
        ("choose", dict(key="captions", out="caption")),
        ("pre_caption", dict(key="caption", variant="blip", max_words=30)),
        ("language", dict(text="{caption}", prompt=PROMPT)),
        ("keep", dict(keys=(*shared.PAIR, "labels"))),
    )
    c.objective = dict(name="language", label_smoothing=0.1)
    fields = dict(references="captions", **({} if arg.test else dict(id="image_id")))
    c.eval.evaluators.caption = dict(
        kind="generate",
        task="caption",
        prompt=PROMPT,
        fields=fields,
        inputs=("image",),
        options=BEAMS,
        results=dict(image_id="id", caption="prediction"),
        data=dict(
            source=shared.source(arg, "coco_karpathy", arg.eval),
            batch_size=64,
            transforms=(("decode_image", {}), *c.preprocess),
        ),
    )
    c.checkpoint.best = "caption/cider"
    return blip.shrink(c) if arg.test else c
