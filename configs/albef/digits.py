# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""ALBEF's pretraining on handwritten digit scenes, from the quickstart's image tower.

    jvlm train --config=configs/clip/digits.py --workdir=runs/clip_digits
    jvlm train --config=configs/albef/digits.py --workdir=runs/albef_digits

`start=RUN` takes the image tower of another run. Contrast with a momentum teacher and a queue,
matching with hard negatives, masked words. Scenes of the same meaning are no negatives of each
other. Evaluation ranks the best 16 captions a second time by the matching head.
"""

from configs import common

PAIR = ("image", "text", "text_mask", "image_id")


def get_config(arg=""):
    arg = common.parse_arg(arg, start="runs/clip_digits")
    c = common.base()
    c.steps = 1500

    c.model.name = "albef"
    c.model.embed_dim = 64
    c.model.fusion_depth = 2
    # The quickstart's tower, whose norm now covers all tokens.
    c.model.vision = dict(
        image_size=48,
        patch_size=8,
        width=96,
        depth=1,
        num_heads=4,
        mlp_dim=192,
        activation="relu",
        stem="conv",
        stem_depth=2,
        norm_tokens=True,
    )
    c.model.text = dict(
        vocab_size=256,
        max_len=18,
        width=96,
        depth=1,
        num_heads=4,
        mlp_dim=192,
        init_std=0.06,
    )
    c.tokenizer = dict(
        kind="sentencepiece",
        model_type="bpe",
        vocab_size=256,
        max_len=18,
        start=True,
        end=False,
        train_on=("captions", "questions/question", "questions/answer"),
        train_examples=5000,
    )
    c.preprocess = (("resize_center_crop", dict(size=48)),)
    if not arg.test:
        c.init = ((r"vision/(.*)", arg.start, r"vision/\1", ()),)

    name = "digit_scenes/tiny" if arg.test else "digit_scenes/small"
    train, val, test = (
        dict(kind="tfds", name=name, split=split, data_dir=None)
        for split in ("train", "validation", "test")
    )
    identity = ("identity", dict(key="meaning"))
    c.data.source = train
    c.data.batch_size = 64
    c.data.transforms = (
        ("decode_image", {}),
        ("random_affine", dict(rotate=7, shear=8, scale=(0.9, 1.1), shift=0.04)),
        ("choose", dict(key="captions", out="caption")),
        ("tokenize", dict(key="caption")),
        identity,
        ("keep", dict(keys=PAIR)),
    )

    c.objective = dict(
        name="albef",
        queue=2048,
        momentum=0.98,
        alpha_steps=312,  # The first epoch.
        same="mask",
        mask_id=2,  # <unk>, which captions never have.
        silent_ids=(3,),
    )
    c.optim.update(dict(lr=1e-3, b2=0.98, clip_norm=1.0, warmup_steps=100))
    c.optim.weight_decay = ((".*kernel", 0.02), (".*", 0.0))
    c.optim.lr_scale = (("temperature", 0.05), (".*", 1.0))  # It is 0.07, not a logarithm.
    c.checkpoint.update(dict(every_steps=500, keep=2, best="retrieval/i2t_r1_rerank"))

    one_caption = (
        ("first", dict(key="captions", out="caption")),
        ("tokenize", dict(key="caption")),
    )
    rows = (*one_caption, identity, *common.image_rows(c.preprocess, *PAIR[1:]))
    c.eval.evaluators = dict(
        retrieval=dict(
            kind="retrieval", rerank=16, data=dict(source=test, batch_size=250, transforms=rows)
        ),
        val=dict(kind="loss", data=dict(source=val, batch_size=64, transforms=rows)),
    )
    c.eval.every_steps = 750
    if arg.test:
        c.model.vision.update(dict(width=32, num_heads=2, mlp_dim=64))
        c.model.text.update(dict(width=32, num_heads=2, mlp_dim=64))
        c.model.embed_dim = 16
        c.objective.queue = 64
        c.checkpoint.best = None
        common.shrink_for_test(c)
    return c
