# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Captions of NoCaps by a BLIP that was finetuned on COCO.

    jvlm data import nocaps DIR DATA/nocaps --images IMAGES
    jvlm evaluate --model=model_base_caption_capfilt_large.pth \\
        --config=configs/blip/nocaps.py:data=DATA --predictions=runs/nocaps

DIR has nocaps_val_4500_captions.json and nocaps_test_image_info.json; or, for kind albef, BLIP's
nocaps_{val,test}.json, which have no captions (`hidden`). salesforce/BLIP eval_nocaps.py,
configs/nocaps.yaml: 384 px, 3 beams, repetition penalty 1.1, 1 to 16 tokens behind the prompt "a
picture of". The figures of validation are over all images and of each domain by itself; what the
server takes is runs/nocaps/{validation,test}.results.json.

Published CIDEr and SPICE on validation, by memory of arXiv:2201.12086 table 7, overall: base with
CapFilt-L 109.6 and 14.7, ViT-L 113.2 and 14.8. LAVIS (docs/benchmark.rst): BLEU-4 31.9, CIDEr
109.1, SPICE 14.7.

Arguments: data, the folder of the prepared data set; image_root, with --link; hidden; batch_size.
"""

from configs import common, pairs_shared

PROMPT = "a picture of "
OPTIONS = dict(
    num_beams=3,
    max_new_tokens=16,
    min_new_tokens=1,
    beam_search="legacy",
    repetition_penalty=1.1,
)


def get_config(arg=""):
    arg = common.parse_arg(arg, data="", image_root="", hidden=False, batch_size=64)
    c = common.base()
    for split in ("validation", "test"):
        known = split == "validation" and not arg.hidden
        fields = {} if arg.test else dict(id="image_id")
        if known:
            fields |= dict(references="captions", **({} if arg.test else dict(category="category")))
        c.eval.evaluators[split] = dict(
            kind="generate",
            task="caption" if known else "unscored",
            name=f"nocaps_{split}",
            prompt=PROMPT,
            fields=fields,
            inputs=("image",),
            options=OPTIONS,
            results=dict(image_id="id", caption="prediction"),
            data=dict(
                source=pairs_shared.source(arg, "nocaps", split),
                batch_size=arg.batch_size,
                transforms=(("decode_image", {}), ("preprocess", {})),
            ),
        )
    return c
