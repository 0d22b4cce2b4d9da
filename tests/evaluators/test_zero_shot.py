# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Zero-shot classification and retrieval on embeddings that are known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.evaluators import Retrieval, ZeroShot, build_evaluators
from jvlm.evaluators.zero_shot import class_logits, expand_templates, prompt_embeddings


class OneHot(nn.Module):
    """Images carry their class in the first pixel, texts in the first id."""

    def encode_image(self, image):
        return jax.nn.one_hot(image[:, 0, 0, 0], 8)

    def inverse_temperature(self):
        return jnp.float32(10)

    def encode_text(self, text, text_mask):
        return jax.nn.one_hot(text[:, 0], 8)


class Tokenizer:
    def __call__(self, texts):
        ids = np.array([[int(text.split()[-1]), 0] for text in texts], np.int32)
        return ids, np.ones_like(ids, bool)


class Rows(list):
    """One batch, as `evaluators.Batches` would give it."""

    batch_size = 8


def rows(classes, labels, **more):
    image = np.zeros((len(classes), 2, 2, 3), np.uint8)
    image[:, 0, 0, 0] = classes
    valid = np.ones(len(classes), bool)
    return Rows([{"image": image, "label": np.array(labels), "_mask": valid, **more}])


@pytest.fixture
def mesh():
    return sharding.make_mesh(8, 1, 1)


def test_only_labelled_and_real_rows_count(mesh):
    batches = rows([0, 1, 2, 3, 4, 5, 6, 6], [0, 1, 5, -1, 4, -1, 6, 6])
    batches[0]["_mask"][-1] = False
    evaluator = ZeroShot(OneHot(), Tokenizer(), batches, mesh, list("01234567"), ["it is {}"])
    with jax.set_mesh(mesh):
        metrics = evaluator.run({})
    assert metrics["zero_shot/top1"] == 4 / 5
    assert 0 <= metrics["zero_shot/top5"] <= 1


def test_retrieval_counts_captions_of_every_image(mesh):
    text = np.array([[[i, 0], [(i + (i == 3)) % 8, 0]] for i in range(8)], np.int32)
    mask = np.ones_like(text, bool)
    ids = np.arange(8)
    batches = rows(list(range(8)), ids, text=text, text_mask=mask, image_id=ids)
    del batches[0]["label"]
    with jax.set_mesh(mesh):
        metrics = Retrieval(OneHot(), batches, mesh).run({})
    # The second caption of image 3 describes image 4: it misses, and so does image 4, whose own
    # captions tie with it and come later.
    assert metrics["retrieval/t2i_r1"] == 15 / 16
    assert metrics["retrieval/i2t_r1"] == 7 / 8 and metrics["retrieval/i2t_r5"] == 1.0


def test_templates():
    prompts = expand_templates(["a {colour} {}", "{}"], {"colour": ("red", "blue"), "size": ("s",)})
    assert prompts == ["a red {}", "a blue {}", "{}"]


def test_two_ways_to_ensemble():
    table = {"a x": [1.0, 0.0], "b x": [0.0, 1.0], "a y": [0.8, 0.6], "b y": [0.8, 0.6]}
    embed = lambda texts: np.array([table[text] for text in texts])
    prompts = prompt_embeddings(embed, ["x", "y"], ["a {}", "b {}"])
    assert prompts.shape == (2, 2, 2)
    image = np.array([[1.0, 0.0]])
    mean = class_logits(image, prompts, 10.0)
    np.testing.assert_allclose(mean, [[10 * 0.5**0.5, 8.0]])
    mixture = class_logits(image, prompts, 10.0, "probabilities")
    want = np.log([(np.exp(10) + np.exp(0)) / 2, np.exp(8)])
    np.testing.assert_allclose(mixture[0], want)
    with pytest.raises(UserError, match="embeddings"):
        class_logits(image, prompts, 1.0, "max")


def test_bad_sections_are_named(mesh):
    with pytest.raises(UserError, match="Did you mean 'zero_shot'"):
        build_evaluators({"x": {"kind": "zeroshot"}}, mesh=mesh)
    with pytest.raises(UserError, match="eval.evaluators.x.data: missing"):
        build_evaluators({"x": {"kind": "zero_shot", "data": {}}}, mesh=mesh)
