# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Captions and questions as the official code cleans them."""

import json
import pathlib

import numpy as np
import pytest

from jvlm.data import texts
from jvlm.data.images import BadRecord
from jvlm.data.transforms import compose
from jvlm.errors import UserError

GOLDEN = json.loads((pathlib.Path(__file__).parent.parent / "golden/transforms.json").read_text())
CLEAN = {"pre_caption": texts.clean_caption, "pre_question": texts.clean_question}


@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize("variant", ["albef", "blip"])
def test_official(variant, name):
    for count, want in GOLDEN[variant][name].items():
        got = [CLEAN[name](text, variant, int(count)) for text in GOLDEN["texts"]]
        assert got == want


def test_steps_take_a_text_or_several():
    step = lambda **options: compose([("pre_caption", dict(variant="blip", **options))])
    example = {"captions": ["A dog.", "Two (2) cats!"], "text": "A dog."}
    assert step(key="captions")(example, None)["captions"] == ["a dog", "two 2 cats"]
    got = step(key="text", out="caption", max_words=1)(example, None)
    assert got["caption"] == "a" and got["text"] == "A dog."
    with pytest.raises(
        UserError, match="variant 'blipp' of a text is unknown. Did you mean 'blip'"
    ):
        texts.clean_question("x", "blipp")


def test_quotes():
    step = compose([("straight_quotes", dict(key="caption"))])
    assert step({"caption": "他说“好”。"}, None)["caption"] == '他说"好"。'


def test_a_pair_is_swapped_with_its_sides():
    swap = compose([("random_swap_pair", {})])
    example = {"images": [1, 2], "text": "the left dog is upright on the right"}
    swapped = {"images": [2, 1], "text": "the right dog is upright on the left"}
    got = [swap(example, np.random.default_rng(seed)) for seed in range(20)]
    assert example in got and swapped in got and all(g in (example, swapped) for g in got)
    with pytest.raises(BadRecord, match="q7: 1 images where a pair"):
        swap({"id": "q7", "images": [1], "text": ""}, np.random.default_rng(0))


def test_a_mirror_may_change_sides():
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    flip = compose([("random_flip", dict(sides_in=("text", "captions")))])
    example = {"image": image, "text": "On the left, Left!", "captions": ["right", "bright"]}
    for seed in range(10):
        got = flip(example, np.random.default_rng(seed))
        turned = not np.array_equal(got["image"], image)
        assert got["text"] == ("On the right, Right!" if turned else example["text"])
        assert got["captions"] == (["left", "bright"] if turned else example["captions"])


def test_a_label_is_the_place_of_its_name():
    names = ("contradiction", "neutral", "entailment")
    number = compose([("label", dict(key="gold/label", names=names))])
    found = [number({"gold": {"label": text}}, None)["label"] for text in (*names, "-")]
    assert found == [0, 1, 2, -1] and found[0].dtype == np.int32
