# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Retrieval of MSR-VTT's clips by a BLIP that has seen no video.

    jvlm data import video_captions DIR DATA/msrvtt --images VIDEOS --frames 8
    jvlm evaluate --model=model_base_retrieval_coco.pth --config=configs/blip/msrvtt.py:data=DATA

DIR has BLIP's msrvtt_test.jsonl (LAVIS's retrieval_test.json names the same 1,000 clips); VIDEOS
the files, or a folder of frames for each clip. salesforce/BLIP eval_retrieval_video.py,
configs/retrieval_msrvtt.yaml: 8 frames, evenly spaced, 384 px; a clip's embedding is made of the
mean of its frames, texts attend to the patches of all of them; the best 128 are ranked again by the
matching logit plus the cosine. The source's frames are n // 8 of a clip's n apart, ours n / 8, and
its decoder (decord) resizes them.

Published text-to-video R@1 / 5 / 10 and median rank, by memory of arXiv:2201.12086 table 10 (COCO
finetuned, zero-shot): 43.3 / 65.6 / 74.7 and 2.

Arguments: data, the folder of the prepared data set; image_root, with --link; frames; size, of the
model's images; rerank; batch_size, in clips.
"""

from configs import common, pairs_shared


def get_config(arg=""):
    arg = common.parse_arg(
        arg, data="", image_root="", frames=8, size=384, rerank=128, batch_size=16
    )
    steps = (("decode_image", {}), ("preprocess", {}))
    clip = dict(key=("image",) if arg.test else "images", count=arg.frames, size=arg.size)
    captions = ("take", dict(key="captions", count=1))
    words = ("pre_caption", dict(key="captions", variant="blip", max_words=40))
    c = common.base()
    c.eval.evaluators.retrieval = dict(
        kind="retrieval",
        rerank=arg.rerank,
        rule="add",
        data=dict(
            source=pairs_shared.source(arg, "msrvtt", "test"),
            batch_size=arg.batch_size,
            transforms=(
                captions,
                words,
                ("tokenize", dict(key="captions")),
                ("each_image", dict(clip, steps=steps, repeat=True)),
                ("keep", dict(keys=("image", "image_valid", *pairs_shared.PAIR[1:]))),
            ),
        ),
    )
    return c
