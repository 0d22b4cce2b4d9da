# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the recipes share that contrast images with captions.

Their data set is a TFDS name with `image` and `caption` and the splits train and validation. With
`:test` they run on digit_scenes/tiny, with small towers and a vocabulary learned from its captions.
"""

from ml_collections import ConfigDict

from configs import common

TEST_SIZE, TEST_LENGTH, TEST_VOCABULARY = 64, 16, 128


def random_square(size: int) -> tuple:
    """OpenAI's only augmentation: a random square of the resized image (CLIP section 2.4)."""
    return (("resize_shortest", dict(size=size)), ("random_crop", dict(size=size)))


def random_part(size: int) -> tuple:
    """open_clip's: at least 90 % of the image (transform.py)."""
    return (("random_resized_crop", dict(size=size, scale=(0.9, 1.0))),)


def squash(size: int) -> tuple:
    """The whole image, aspect ratio ignored."""
    return (("resize_square", dict(size=size)),)


def middle(size: int) -> tuple:
    """CLIP's evaluation."""
    return (("resize_center_crop", dict(size=size)),)


def decay(value: float) -> tuple:
    """Decay of what is neither gain nor bias nor temperature."""
    return ((".*(kernel|embedding|pos|cls)", value), (".*", 0.0))


def clip(arg: ConfigDict, variant: str, *, batch_size: int, augment) -> ConfigDict:
    """A CLIP of 224 px on pairs, in bfloat16, by the settings that all sizes have in common.

    Args:
      arg: with `data` and `vocab`, CLIP's vocabulary file.
      variant: a key of jvlm.models.clip.VARIANTS.
      batch_size: pairs per step.
      augment: side in pixels -> transforms of training.
    """
    c = common.base()
    c.model.update(dict(name="clip", variant=variant))
    c.compute.dtype = "bfloat16"
    c.tokenizer = dict(kind="clip_bpe", path=arg.vocab, max_len=77)
    pairs(c, arg, size=224, batch_size=batch_size, augment=augment, prepare=middle)
    c.objective = dict(name="contrastive", max_scale=100.0)
    c.optim.weight_decay = decay(0.2)
    return c


def siglip(arg: ConfigDict, variant: str, *, size: int) -> ConfigDict:
    """A SigLIP on 40 billion pairs; siglip_b16.py has the sources.

    Args:
      arg: with `data` and `vocab`, the SentencePiece model.
      variant: a key of jvlm.models.siglip.VARIANTS.
      size: of its images, in pixels.
    """
    c = common.base()
    c.steps = 1_220_703
    c.model.update(dict(name="siglip", variant=variant))
    c.compute.dtype = "bfloat16"
    c.tokenizer = dict(kind="sentencepiece", path=arg.vocab, max_len=64, clean="siglip")
    pairs(c, arg, size=size, batch_size=32_768, augment=squash, prepare=squash)
    c.objective = dict(name="contrastive", kind="sigmoid", way="chunked", max_scale=None)
    c.optim.update(dict(name="adafactor", state_dtype="bfloat16", lr=1e-3, b2=0.95))
    c.optim.update(dict(clip_norm=1.0, warmup_steps=36_621))
    c.optim.weight_decay = ((".*kernel", 0.1), (".*", 0.0))
    return c


def chinese_clip(arg: ConfigDict, *, batch_size: int, augment) -> ConfigDict:
    """A Chinese-CLIP ViT-B/16 by the settings that its stages and finetunes have in common.

    cn_clip: dropout 0.1 in the text tower, also of attention probabilities (model_configs), 52
    tokens, Adam's coefficients by the image tower (training/params.py), the temperature clamped at
    100. Its rule for what does not decay goes by names (training/main.py 147: bn, ln,
    bias, logit_scale), so that the norms of BERT do decay.

    Args:
      arg: with `data`, `vocab`, vocab.txt.
      batch_size: pairs per step.
      augment: side in pixels -> transforms of training.
    """
    c = common.base()
    text = dict(dropout=0.1, attn_dropout=0.1)
    c.model.update(dict(name="chinese_clip", variant="ViT-B/16", text=text))
    c.compute.dtype = "bfloat16"
    c.tokenizer = dict(kind="wordpiece", path=arg.vocab, max_len=52, rules="google")
    clean = (("straight_quotes", dict(key="caption")),)
    pairs(c, arg, size=224, batch_size=batch_size, augment=augment, prepare=squash, clean=clean)
    c.objective = dict(name="contrastive", max_scale=100.0)
    c.optim.update(dict(b2=0.98, eps=1e-6))
    c.optim.weight_decay = (
        (r".*bias|vision/.*norm\d?/scale|logit_scale", 0.0),
        (".*", 1e-3),
    )
    return c


def pairs(
    c: ConfigDict,
    arg: ConfigDict,
    *,
    size: int,
    batch_size: int,
    augment,
    prepare,
    clean: tuple = (),
) -> None:
    """Fills in the sections on data: trains on pairs, measures the loss on held-out ones.

    Args:
      c: the config.
      arg: with `data`, the TFDS name.
      size: side of the images in pixels.
      batch_size: pairs per step.
      augment, prepare: side -> image transforms of training, and of the model's use.
      clean: transforms of `caption`.
    """
    name = "digit_scenes/tiny" if arg.test else arg.data
    size = TEST_SIZE if arg.test else size
    caption = (("first", dict(key="captions", out="caption")),) if arg.test else ()
    caption += (*clean, ("tokenize", dict(key="caption")))
    source = lambda split: dict(kind="tfds", name=name, split=split, data_dir=None)
    keys = ("text", "text_mask")

    c.preprocess = prepare(size)
    c.data.source = source("train")
    c.data.batch_size, c.data.workers = batch_size, 16
    c.data.transforms = (
        ("decode_image", {}),
        *augment(size),
        *caption,
        ("keep", dict(keys=("image", *keys))),
    )
    c.checkpoint.update(dict(every_steps=2_000, keep=3))
    c.eval.every_steps = 5_000
    c.eval.evaluators.val = dict(
        kind="loss",
        data=dict(
            source=source("validation"),
            batch_size=min(batch_size, 4_096),
            transforms=(*caption, *common.image_rows(c.preprocess, *keys)),
        ),
    )


def start(*rules: tuple[str, str]) -> tuple:
    """`init` rules: parameters that match a pattern start as those of the same path elsewhere."""
    return tuple((f"({pattern})", source, r"\1", ()) for pattern, source in rules)


def shrink(c: ConfigDict) -> ConfigDict:
    """The same recipe in miniature; no published file is read, so the weights start fresh."""
    tower = dict(width=32, depth=2, num_heads=2, mlp_dim=64)
    stages = dict(layers=(1, 1, 1, 1), width=8)
    resnet = c.model.variant.startswith("RN")
    sides = {
        "vision": dict(stages if resnet else tower, image_size=TEST_SIZE),
        "text": dict(tower, vocab_size=TEST_VOCABULARY, max_len=TEST_LENGTH),
    }
    if c.tokenizer.kind == "clip_bpe":  # There the end token has the greatest id, here it has 1.
        sides["text"].update(pool="eos", eos_id=1)
    for side, fields in sides.items():
        c.model[side] = {**c.model.get(side, {}), **fields}
    c.model.embed_dim = 32
    c.tokenizer = dict(
        kind="sentencepiece",
        model_type="bpe",
        vocab_size=TEST_VOCABULARY,
        max_len=TEST_LENGTH,
        clean=c.tokenizer.get("clean", "none"),
        train_on=("captions",),
    )
    c.init = ()
    return common.shrink_for_test(c)
