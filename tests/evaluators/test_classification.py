# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Classes of image and text: an evaluation agrees with the model row by row."""

import types
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.evaluators import evaluate
from jvlm.evaluators.classification import Classification
from jvlm.score import score_file

ROWS, LABELS = 11, np.array([0, 1, 1, 0, -1, 1, 0, 1, 0, 0, 1], np.int32)


class Two(NamedTuple):
    num_classes: int = 2


class Brighter(nn.Module):
    """Is the second image brighter than the first, by more than the text says?"""

    cfg: Two = Two()

    @nn.compact
    def __call__(self, batch):
        gain = self.param("gain", nn.initializers.ones, ())
        means = batch["image"].astype(jnp.float32).mean((2, 3, 4)) / 255
        least = jnp.where(batch["text_mask"], batch["text"], 0).sum(1) / 100
        difference = gain * (means[:, 1] - means[:, 0] - least)
        return types.SimpleNamespace(logits=jnp.stack([-difference, difference], 1))


class Batches(list):
    batch_size, fingerprint, class_names = 8, {"name": "pairs"}, ["False", "True"]


@pytest.fixture(scope="module")
def pairs():
    """(model, parameters, two batches of pairs of images)."""
    model, params = Brighter(), {"gain": jnp.float32(3)}
    rng, place = np.random.default_rng(0), np.minimum(np.arange(16), ROWS - 1)
    rows = {
        "image": rng.integers(0, 256, (ROWS, 2, 2, 2, 3)).astype(np.uint8),
        "text": rng.integers(-1, 2, (ROWS, 6)).astype(np.int32),
        "text_mask": np.arange(6) < rng.integers(2, 7, (ROWS, 1)),
        "label": LABELS,
        "sentence": np.arange(ROWS, dtype=np.int32) // 2,
    }
    rows = {key: value[place] for key, value in rows.items()}
    rows["_mask"] = np.arange(16) < ROWS
    halves = (slice(0, 8), slice(8, 16))
    return model, params, Batches({k: v[half] for k, v in rows.items()} for half in halves)


def test_rows_are_the_model_s(pairs, tmp_path):
    model, params, batches = pairs
    mesh = sharding.make_mesh(2, 2, 2)
    with jax.set_mesh(mesh):
        evaluator = Classification(model, batches, mesh, "nlvr2", fields=("sentence",))
        metrics = evaluate({"pairs": evaluator}, params, tmp_path)
        ranked = Classification(model, batches, mesh, "classification").predict(params).rows
    logits = [model.apply({"params": params}, batch).logits for batch in batches]
    want = jax.nn.log_softmax(np.concatenate(logits)[:ROWS])
    known = np.flatnonzero(LABELS >= 0)
    rows = evaluator.predict(params).rows
    assert [row["id"] for row in rows] == known.tolist()
    np.testing.assert_allclose([row["scores"] for row in rows], want[known], atol=1e-5)
    names = np.array(["False", "True"])
    assert [row["label"] for row in rows] == names[LABELS[known]].tolist()
    assert [row["prediction"] for row in rows] == names[want[known].argmax(1)].tolist()
    assert [row["prediction"][0] for row in ranked] == [row["prediction"] for row in rows]
    right = (want.argmax(1) == LABELS)[known]
    assert metrics["nlvr2/accuracy"] == right.mean() and 0 < right.mean() < 1
    assert "nlvr2/consistency" in metrics
    assert score_file(tmp_path / "pairs.jsonl", "nlvr2").metrics == metrics


def test_fields_stay_what_they_are(pairs):
    model, params, batches = pairs
    score = np.arange(8, dtype=np.float32) / 8
    halves = Batches({**batch, "score": score} for batch in batches)
    mesh = sharding.make_mesh(8)
    with jax.set_mesh(mesh):
        rows = Classification(model, halves, mesh, "nlvr2", fields=("score",)).predict(params).rows
    assert rows[1]["score"] == 1 / 8


def test_what_does_not_fit(pairs):
    model, params, batches = pairs
    mesh = sharding.make_mesh(8)
    build = lambda **options: Classification(model, batches, mesh, **options)
    with pytest.raises(UserError, match="vqa is no task of labels"):
        build(task="vqa")
    with pytest.raises(UserError, match="3 names, the model has 2 classes"):
        build(task="snli_ve", classes=("a", "b", "c"))
    lm = types.SimpleNamespace(cfg=None)
    with pytest.raises(UserError, match="snli_ve: the model has no classes"):
        Classification(lm, batches, mesh, "snli_ve")
    hidden = Batches({**batch, "label": np.full(8, -1, np.int32)} for batch in batches)
    with jax.set_mesh(mesh), pytest.raises(UserError, match="nlvr2: no row has a label"):
        Classification(model, hidden, mesh, "nlvr2").run(params)
    with jax.set_mesh(mesh), pytest.raises(UserError, match="nor are the weights"):
        build(task="nlvr2").run(jax.tree.map(lambda x: x * np.nan, params))
