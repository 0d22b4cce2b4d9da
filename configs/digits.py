# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the recipes of digit scenes share: pictures, data set, and how captions are drawn."""

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
COLOURS = ("red", "green", "blue", "yellow", "purple")

# Trained by clip/digits; every other recipe starts from it.
TOWER = dict(
    image_size=48,
    patch_size=8,
    width=96,
    depth=1,
    num_heads=4,
    mlp_dim=192,
    activation="relu",
    stem="conv",
    stem_depth=2,
)
PREPROCESS = (("resize_center_crop", dict(size=48)),)
# Of training: handwriting leans, and is larger or smaller.
IMAGE = (
    ("decode_image", {}),
    ("random_affine", dict(rotate=7, shear=8, scale=(0.9, 1.1), shift=0.04)),
)
CAPTION = (("choose", dict(key="captions", out="caption")), ("tokenize", dict(key="caption")))
FIRST_CAPTION = (("first", dict(key="captions", out="caption")), ("tokenize", dict(key="caption")))
# Many scenes mean the same.
MEANING = ("identity", dict(key="meaning"))


def source(split: str, test: bool = False) -> dict:
    """The data set: `train`, `validation` or `test` of digit_scenes/small, in a test of tiny."""
    name = "digit_scenes/tiny" if test else "digit_scenes/small"
    return dict(kind="tfds", name=name, split=split, data_dir=None)


def tokenizer(max_len: int, end: bool = False) -> dict:
    """Whole words of captions, questions and answers, the same whoever trains it."""
    return dict(
        kind="sentencepiece",
        model_type="bpe",
        vocab_size=256,
        max_len=max_len,
        start=True,
        end=end,
        train_on=("captions", "questions/question", "questions/answer"),
        train_examples=5000,
    )
