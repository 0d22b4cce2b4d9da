# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""The quickstart: a CLIP from scratch on handwritten digit scenes, in minutes on two CPU cores.

    jvlm data prepare digit_scenes/small
    jvlm train --config=configs/clip/digits.py --workdir=runs/clip_digits
"""

from configs import common

DIGITS = "zero one two three four five six seven eight nine".split()
COLOURS = ("red", "green", "blue", "yellow", "purple")


def get_config(arg=""):
    arg = common.parse_arg(arg)
    c = common.base()
    c.steps = 1200

    c.model.name = "clip"
    c.model.embed_dim = 64
    c.model.vision = dict(
        image_size=48,
        patch_size=8,
        width=96,
        depth=3,
        num_heads=4,
        mlp_dim=384,
        stem="conv",
        use_cls=False,
        pool="mean",
    )
    c.model.text = dict(
        vocab_size=128,
        max_len=24,
        width=96,
        depth=2,
        num_heads=4,
        mlp_dim=384,
        causal=False,
        pool="mean",
    )
    c.tokenizer = dict(kind="sentencepiece", vocab_size=128, max_len=24, train_on=("captions",))
    c.preprocess = (("resize_center_crop", dict(size=48)),)

    source = dict(kind="tfds", name="digit_scenes/small", data_dir=None)
    c.data.source = {**source, "split": "train"}
    c.data.batch_size = 128
    c.data.transforms = (
        ("decode_image", {}),
        ("random_resized_crop", dict(size=48, scale=(0.8, 1.0))),
        ("choose", dict(key="captions", out="caption")),
        ("tokenize", dict(key="caption")),
        ("identity", dict(key="meaning")),
        ("keep", dict(keys=("image", "text", "text_mask", "image_id"))),
    )

    # Scenes of the same meaning are no negatives of each other.
    c.objective = dict(name="contrastive", same="mask")
    c.optim.update(dict(lr=2e-3, b2=0.98, eps=1e-6, clip_norm=1.0, warmup_steps=100))
    c.optim.weight_decay = ((".*kernel", 0.1), (".*", 0.0))
    c.checkpoint.update(dict(every_steps=300, keep=2, best="zero_shot/top1"))

    decode = (("decode_image", {}), *c.preprocess)
    captioned = (*decode, ("tokenize", dict(key="captions")), ("identity", dict(key="meaning")))
    retrieval_keys = ("image", "text", "text_mask", "image_id")
    one_caption = (*decode, ("first", dict(key="captions", out="caption")), ("tokenize", dict(key="caption")))
    test = {**source, "split": "test"}
    c.eval.evaluators = dict(
        zero_shot=dict(
            kind="zero_shot",
            classes=DIGITS,
            templates=("a {colour} {}", "the digit {} in {colour} ink", "a picture of a {colour} {}"),
            fill=dict(colour=COLOURS),
            data=dict(
                source=test,
                batch_size=256,
                transforms=(*decode, ("keep", dict(keys=("image", "label")))),
            ),
        ),
        retrieval=dict(
            kind="retrieval",
            data=dict(
                source=test,
                batch_size=256,
                transforms=(*captioned, ("keep", dict(keys=retrieval_keys))),
            ),
        ),
        val=dict(
            kind="loss",
            data=dict(
                source={**source, "split": "validation"},
                batch_size=c.data.batch_size,
                transforms=(*one_caption, ("identity", dict(key="meaning")), ("keep", dict(keys=retrieval_keys))),
            ),
        ),
    )
    c.eval.every_steps = 600
    c.eval.picture = dict(source=test, texts="captions")
    return c
