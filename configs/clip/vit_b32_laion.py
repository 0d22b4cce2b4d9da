# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""CLIP ViT-B/32 on 400 million pairs, as OpenAI trained it and open_clip again.

    jvlm train --config=configs/clip/vit_b32_laion.py --workdir=gs://... \
        --config.data.source.name=my_pairs --config.mesh.data=-1

Sources: CLIP (arXiv:2103.00020) section 2.5 and tables 18-19: batch 32,768, 32 epochs, AdamW with
lr 5e-4, beta2 0.98, eps 1e-6, decay 0.2 on what is no gain or bias, 2,000 warm-up steps, cosine,
temperature clamped at 100; open_clip docs/PRETRAINED.md: 62.96 % zero-shot ImageNet on LAION-400M
(quick gelu), 36 hours on 128 A100.

The data set is a TFDS name with `image` and `caption`. The vocabulary is learned from it with
CLIP's size; a model that is to share CLIP's own starts from its files.
"""

from configs import common


def get_config(arg=""):
    arg = common.parse_arg(arg)
    c = common.base()
    c.steps = 390_625  # 12.8 billion pairs.

    size = 64 if arg.test else 224
    name = "digit_scenes/tiny" if arg.test else "laion400m"
    captions = (("first", dict(key="captions", out="caption")),) if arg.test else ()
    train, val = (
        dict(kind="tfds", name=name, split=split, data_dir=None)
        for split in ("train", "validation")
    )
    captions += (("tokenize", dict(key="caption")),)

    c.model.name, c.model.variant = "clip", "ViT-B/32-quickgelu"
    c.model.text = dict(vocab_size=49_408, max_len=77, pool="eos", eos_id=1)
    c.compute.dtype = "bfloat16"
    c.tokenizer = dict(
        kind="sentencepiece",
        model_type="bpe",
        vocab_size=49_408,
        max_len=77,
        train_on=("caption",),
        train_examples=1_000_000,
    )
    c.preprocess = (("resize_center_crop", dict(size=size)),)

    c.data.source = train
    c.data.batch_size, c.data.workers = 32_768, 16
    c.data.transforms = (
        ("decode_image", {}),
        ("random_resized_crop", dict(size=size, scale=(0.9, 1.0))),
        *captions,
        ("keep", dict(keys=("image", "text", "text_mask"))),
    )

    c.objective = dict(name="contrastive", max_scale=100.0)
    c.optim.update(dict(lr=5e-4, b1=0.9, b2=0.98, eps=1e-6, warmup_steps=2_000))
    c.optim.weight_decay = ((".*(kernel|embedding|pos|cls)", 0.2), (".*", 0.0))
    c.checkpoint.update(dict(every_steps=2_000, keep=3))

    c.eval.every_steps = 5_000
    rows = common.image_rows(c.preprocess, "text", "text_mask")
    c.eval.evaluators = dict(
        val=dict(
            kind="loss", data=dict(source=val, batch_size=4096, transforms=(*captions, *rows))
        ),
    )
    if arg.test:
        c.model.vision = dict(image_size=size, width=32, depth=2, num_heads=2, mlp_dim=64)
        c.model.text.update(dict(width=32, depth=2, num_heads=2, mlp_dim=64))
        c.tokenizer.update(dict(vocab_size=128, train_on=("captions",)))
        common.shrink_for_test(c)
    return c
