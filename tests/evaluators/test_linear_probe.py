# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The linear probe against scikit-learn called by hand, and the search for C."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.errors import UserError
from jvlm.evaluators.linear_probe import LinearProbe, sweep


class Pixels(nn.Module):
    """Features are the pixels of the first row; 'embedding' halves them."""

    def image_features(self, image, projected=False):
        features = image[:, 0, :, 0].astype(jnp.float32)
        return features / 2 if projected else features


class Rows(list):
    batch_size = 8
    class_names = None


def make(rng, count):
    labels = rng.integers(0, 3, count)
    image = rng.integers(0, 40, (count, 2, 4, 3)).astype(np.uint8)
    image[np.arange(count), 0, labels, 0] += 30
    batches = Rows()
    for start in range(0, count, 8):
        rows = slice(start, start + 8)
        batches.append({"image": image[rows], "label": labels[rows], "_mask": np.ones(8, bool)})
    return batches, image[:, 0, :, 0].astype(np.float32), labels


@pytest.fixture
def mesh():
    return sharding.make_mesh(8, 1, 1)


@pytest.mark.parametrize("features, factor", [("embedding", 0.5), ("pooled", 1.0)])
def test_equals_scikit_learn(mesh, rng, features, factor):
    from sklearn.linear_model import LogisticRegression

    train, x, y = make(rng, 64)
    test, x_test, y_test = make(rng, 40)
    train[0]["label"][0] = -1  # Unlabelled: neither fitted nor counted.
    probe = LinearProbe(Pixels(), test, mesh, train, features=features)
    with jax.set_mesh(mesh):
        metrics = probe.run({})
    reference = LogisticRegression(random_state=0, C=0.316, max_iter=1000)
    reference.fit(x[1:] * factor, y[1:])
    assert metrics["linear_probe/top1"] == reference.score(x_test * factor, y_test) > 0.7
    assert metrics["linear_probe/C"] == 0.316 and "linear_probe/top5" not in metrics


def test_sweep_refits_on_all(mesh, rng):
    (train, *_), (val, *_), (test, *_) = (make(rng, n) for n in (48, 24, 24))
    with jax.set_mesh(mesh):
        swept = LinearProbe(Pixels(), test, mesh, train, val, C="sweep").run({})
        both = Rows([*train, *val])
        again = LinearProbe(Pixels(), test, mesh, both, C=swept["linear_probe/C"]).run({})
        alone = LinearProbe(Pixels(), test, mesh, train, C="sweep").run({})
    assert swept == again
    assert 1e-6 <= alone["linear_probe/C"] <= 1e6


@pytest.mark.parametrize("place", [-48, -47, -13, 0, 1, 21, 48])
def test_sweep_finds_a_peak_in_15_fits(place):
    tried = []

    def score(C):
        tried.append(round(8 * np.log10(C)))
        return -abs(tried[-1] - place)

    assert sweep(score) == pytest.approx(10 ** (place / 8))
    assert tried[:7] == [-48, -32, -16, 0, 16, 32, 48]
    assert len(tried) == len(set(tried)) <= 15


def test_mistakes(mesh, rng):
    batches, *_ = make(rng, 8)
    for options, message in (
        (dict(features="pooler"), "Did you mean 'pooled'"),
        (dict(C="swep"), "a positive number or 'sweep'"),
        (dict(C=0.0), "a positive number or 'sweep'"),
    ):
        with pytest.raises(UserError, match=message):
            LinearProbe(Pixels(), batches, mesh, batches, **options)
    batches[0]["label"][:] = 1
    with jax.set_mesh(mesh), pytest.raises(UserError, match="fewer than two classes"):
        LinearProbe(Pixels(), batches, mesh, batches).run({})
