# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Perplexity: every token counts alike, rows that fill up the last batch do not."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.evaluators.perplexity import Perplexity
from jvlm.models import build_model
from jvlm.objectives import build_objective

V, T, ROWS = 16, 5, 8


class Batches:
    """Eleven texts in batches of eight; the last is filled up with copies."""

    batch_size = ROWS

    def __init__(self, rng):
        self.text = rng.integers(1, V, (11, T)).astype(np.int32)
        self.labels = np.where(rng.random((11, T)) < 0.6, self.text, -1).astype(np.int32)

    def __iter__(self):
        for start in (0, ROWS):
            rows = np.minimum(np.arange(start, start + ROWS), 10)
            mask = np.arange(start, start + ROWS) < 11
            yield dict(text=self.text[rows], labels=self.labels[rows], _mask=mask)


def test_perplexity(rng):
    section = dict(name="gpt2", vocab_size=V, max_len=T, width=8, depth=1, num_heads=2, mlp_dim=16)
    model = build_model(section)
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(1))["params"]
    params = jax.tree.map(lambda x: 3 * x, params)
    mesh, batches = sharding.make_mesh(8), Batches(rng)
    # Training smooths its labels; perplexity does not.
    objective = build_objective(dict(name="language", label_smoothing=0.1), model)
    with jax.set_mesh(mesh):
        got = Perplexity(objective, batches, mesh, name="texts").run(params)
    logits = jax.jit(lambda p, b: model.apply({"params": p}, b).logits)(
        params, {"text": jnp.asarray(batches.text)}
    )
    log_p = np.asarray(jax.nn.log_softmax(logits), np.float64)
    rows, places = np.nonzero(batches.labels[:, 1:] >= 0)
    labels = batches.labels[:, 1:][rows, places]
    nll = -log_p[rows, places, labels]
    right = log_p[rows, places].argmax(-1) == labels
    np.testing.assert_allclose(got["texts/perplexity"], np.exp(nll.mean()), rtol=1e-5)
    np.testing.assert_allclose(got["texts/bits_per_token"], nll.mean() / np.log(2), rtol=1e-5)
    np.testing.assert_allclose(got["texts/token_accuracy"], right.mean(), rtol=1e-6)


def test_what_has_no_perplexity(rng):
    mesh = sharding.make_mesh(8)
    with pytest.raises(UserError, match="objective.name is 'language'"):
        Perplexity(types.SimpleNamespace(), Batches(rng), mesh)


def test_what_diverges_goes_on(rng):
    """A loss that is too large for exp must not end the run."""
    sums = types.SimpleNamespace(nll=jnp.float32(9e4), correct=jnp.float32(0), count=jnp.float32(9))
    objective = types.SimpleNamespace(token_sums=lambda params, batch: (sums, None))
    mesh = sharding.make_mesh(8)
    got = Perplexity(objective, Batches(rng), mesh).run({})
    assert got["val/perplexity"] > 1e300
