# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Noise-contrastive estimation: its formula, its noise, its limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.losses.nce import noise_contrastive, sample_noise
from jvlm.objectives.contrastive import on_rows

ROWS, NOISE = 16, 5
SCALARS = (jnp.float32(4.0), jnp.float32(-1.0))


@pytest.fixture
def rows(rng):
    unit = lambda x: (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
    image, text = (unit(rng.normal(size=(ROWS, 8))) for _ in range(2))
    noise = tuple(np.asarray(sample_noise(jax.random.key(s), ROWS, NOISE)) for s in (0, 1))
    return image, text, rng.integers(0, 6, ROWS).astype(np.int32), noise


def loss(rows, scalars, same="negative"):
    def local(rows, scalars, axes):
        image, text, identity, noise = rows
        return noise_contrastive(
            image, text, *scalars, *noise, axes=axes, identity=identity, same=same
        )

    return on_rows(local, rows, scalars)


@pytest.mark.parametrize("same", ["negative", "mask"])
def test_formula(rows, same):
    image, text, identity, noise = rows
    log_noise = np.log(NOISE / (ROWS - 1))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    losses = []
    for query, key, drawn in ((image, text, noise[0]), (text, image, noise[1])):
        for i in range(ROWS):
            score = lambda j: 4.0 * query[i] @ key[j] - 1.0 - log_noise  # noqa: B023
            value = -np.log(sigmoid(score(i)))
            for j in drawn[i]:
                if same == "negative" or identity[j] != identity[i]:
                    value -= np.log(1 - sigmoid(score(j)))
            losses.append(value)
    got, metrics = jax.jit(loss, static_argnames="same")(rows, SCALARS, same=same)
    np.testing.assert_allclose(got, np.mean(losses), rtol=1e-5)
    assert 0 <= metrics["nce_accuracy"] <= 1


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (1, 4, 2)])
def test_any_mesh(rows, sizes):
    def value_and_grad(rows, scalars):
        def wrapped(image, text, scalars):
            return loss((image, text, *rows[2:]), scalars, "mask")

        return jax.value_and_grad(wrapped, argnums=(0, 1, 2), has_aux=True)(*rows[:2], scalars)

    want = jax.jit(value_and_grad)(rows, SCALARS)
    mesh = sharding.make_mesh(*sizes)
    with jax.set_mesh(mesh):
        rows = jax.device_put(rows, sharding.batch_sharding(mesh))
        got = jax.jit(value_and_grad)(rows, SCALARS)
    check = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5)
    jax.tree.map(check, got, want)


@pytest.mark.parametrize("group", [None, 4])
def test_noise_is_uniform_over_the_other_rows(group):
    size = group or 16
    drawn = np.asarray(sample_noise(jax.random.key(0), 16, 4000, group))
    row = np.arange(16)[:, None]
    assert np.all(drawn != row) and np.all(drawn // size == row // size)
    counts = np.stack([np.bincount(r, minlength=16) for r in drawn])
    share = counts[counts > 0] / 4000
    assert len(share) == 16 * (size - 1)
    np.testing.assert_allclose(share, 1 / (size - 1), atol=0.04)
