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
from jvlm.evaluators import Retrieval, ZeroShot, build_evaluators, need
from jvlm.evaluators.zero_shot import class_logits, class_prompts, prompt_embeddings


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
    class_names = None


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
    assert metrics["zero_shot/mean_per_class"] == (1 + 1 + 0 + 1 + 1) / 5
    # The wrong one has class 2 first, then the others in order: 5 is the sixth.
    assert metrics["zero_shot/top5"] == 4 / 5


def test_mean_per_class_weighs_classes_alike(mesh):
    batches = rows([0, 0, 0, 0, 0, 0, 1, 2], [0, 0, 0, 0, 0, 0, 1, 1])
    evaluator = ZeroShot(OneHot(), Tokenizer(), batches, mesh, ["0", "1", "2"], ["{}"])
    with jax.set_mesh(mesh):
        metrics = evaluator.run({})
    assert metrics["zero_shot/top1"] == 7 / 8 and metrics["zero_shot/mean_per_class"] == 3 / 4
    assert metrics["zero_shot/top5"] == 1.0


def test_labels_without_a_name(mesh):
    evaluator = ZeroShot(OneHot(), Tokenizer(), rows([0] * 8, [9] * 8), mesh, ["0", "1"], ["{}"])
    with jax.set_mesh(mesh), pytest.raises(UserError, match="labels up to 9, but 2 class names"):
        evaluator.run({})


@pytest.mark.parametrize("ensemble", ["embeddings", "probabilities"])
def test_prompts_in_blocks_are_the_same(monkeypatch, rng, ensemble):
    table = rng.normal(size=(9000, 4)).astype(np.float32)
    embed = lambda ids: table[ids[0][:, 0]]
    ids = np.arange(9000)[:, None], np.ones((9000, 1), bool)
    got = prompt_embeddings(embed, ids, 3, ensemble)
    want = table.reshape(3000, 3, 4)
    if ensemble == "embeddings":
        want = want.mean(1) / np.linalg.norm(want.mean(1), axis=-1, keepdims=True)
    np.testing.assert_allclose(got, want, rtol=1e-6)


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


@pytest.mark.parametrize("with_ids", [True, False])
def test_retrieval_by_blocks(mesh, monkeypatch, with_ids):
    text = np.array([[[(i + 1) % 8, 0], [i, 0]] for i in range(8)], np.int32)
    more = {"image_id": np.array([0, 0, 2, 3, 4, 5, 6, 7])} if with_ids else {}
    batches = rows(list(range(8)), [0] * 8, text=text, text_mask=np.ones_like(text, bool), **more)
    del batches[0]["label"]
    evaluator = Retrieval(OneHot(), batches, mesh)
    with jax.set_mesh(mesh):
        whole = evaluator.run({})
        monkeypatch.setattr("jvlm.evaluators.retrieval._BLOCK", 3)
        np.testing.assert_allclose(list(evaluator.run({}).values()), list(whole.values()))
    # Text (i + 1, i): the first caption is the next image's; with ids, images 0 and 1 are the same.
    assert whole["retrieval/t2i_r1"] == (9 if with_ids else 8) / 16
    # Image i finds first the caption that image i - 1 has of it, but image 0 its own.
    assert whole["retrieval/i2t_r1"] == (2 if with_ids else 1) / 8


def test_objective_only_where_needed():
    assert need({"a": {"kind": "zero_shot"}, "b": {"kind": "loss"}}, "objective")
    assert not need({"a": {"kind": "zero_shot"}, "b": {"kind": "linear_probe"}}, "objective")


def test_two_ways_to_ensemble():
    table = {"a x": [1.0, 0.0], "b x": [0.0, 1.0], "a y": [0.8, 0.6], "b y": [0.8, 0.6]}
    texts = class_prompts(["x", "y"], ["a {}", "b {}"])
    assert texts == list(table)
    values = np.array(list(table.values()))
    embed = lambda ids: values[ids[0][:, 0]]
    ids = np.arange(4)[:, None], np.ones((4, 1), bool)
    image = np.array([[1.0, 0.0]])
    mean = class_logits(image, prompt_embeddings(embed, ids, 2, "embeddings"), 10.0)
    np.testing.assert_allclose(mean, [[10 * 0.5**0.5, 8.0]], rtol=1e-6)
    prompts = prompt_embeddings(embed, ids, 2, "probabilities")
    assert prompts.shape == (2, 2, 2)
    mixture = class_logits(image, prompts, 10.0, "probabilities")
    want = np.log([(np.exp(10) + np.exp(0)) / 2, np.exp(8)])
    np.testing.assert_allclose(mixture[0], want, rtol=1e-6)
    with pytest.raises(UserError, match="embeddings"):
        class_logits(image, prompts, 1.0, "max")


def test_bad_sections_are_named(mesh):
    with pytest.raises(UserError, match="Did you mean 'zero_shot'"):
        build_evaluators({"x": {"kind": "zeroshot"}}, mesh=mesh)
    with pytest.raises(UserError, match="eval.evaluators.x.data: missing"):
        build_evaluators({"x": {"kind": "zero_shot", "data": {}}}, mesh=mesh)
