# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Distillation against formulas written down on whole matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.losses.distillation import feature_distillation, logit_distillation
from jvlm.losses.pairs import WAYS
from jvlm.objectives.contrastive import on_rows

ROWS = 16


@pytest.fixture
def sides(rng):
    unit = lambda x: (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
    return tuple(unit(rng.normal(size=(ROWS, width))) for width in (8, 8, 12, 12))


def test_features(sides):
    image, other, teacher, _ = (np.asarray(side, np.float64) for side in sides)
    got = feature_distillation(sides[0], sides[1])
    np.testing.assert_allclose(got, 1 - np.mean(np.sum(image * other, 1)), rtol=1e-5)
    # Widths differ: half-pixel linear interpolation, as torch's with align_corners=False.
    place = np.clip((np.arange(12) + 0.5) * 8 / 12 - 0.5, 0, 7)
    low = np.floor(place).astype(int)
    high, share = np.minimum(low + 1, 7), place - low
    wide = image[:, low] * (1 - share) + image[:, high] * share
    cosine = np.sum(wide * teacher, 1) / np.linalg.norm(wide, axis=1)
    np.testing.assert_allclose(
        feature_distillation(sides[0], sides[2]), 1 - cosine.mean(), rtol=1e-5
    )


def reference(image, text, teacher_image, teacher_text, scale, teacher_scale):
    loss = 0.0
    logits, taught = scale * image @ text.T, teacher_scale * teacher_image @ teacher_text.T
    for student, teacher in ((logits, taught), (logits.T, taught.T)):
        probs = jax.nn.softmax(teacher, axis=1)
        loss -= jnp.mean(jnp.sum(probs * jax.nn.log_softmax(student, axis=1), axis=1)) / 2
    return loss


@pytest.mark.parametrize("sizes", [None, (8, 1, 1), (2, 2, 2)])
def test_logits(sides, sizes):
    def by_way(way):
        def local(rows, scalars, axes):
            image, text, teacher_image, teacher_text = rows
            return logit_distillation(
                *(image, text, scalars[0], teacher_image, teacher_text, scalars[1]),
                **dict(axes=axes, way=way, chunk=4),
            )

        return lambda *args: on_rows(local, args[:4], args[4:])

    args = (*sides, jnp.float32(8.0), jnp.float32(20.0))
    trained = (0, 1, 4)
    want = jax.jit(jax.value_and_grad(reference, trained))(*args)
    ways = jax.jit(lambda *a: {w: jax.value_and_grad(by_way(w), trained)(*a) for w in WAYS})
    if sizes is None:
        got = ways(*args)
    else:
        mesh = sharding.make_mesh(*sizes)
        with jax.set_mesh(mesh):
            rows = jax.device_put(sides, sharding.batch_sharding(mesh))
            got = ways(*rows, *args[4:])
    for way in WAYS:
        check = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5)
        jax.tree.map(check, got[way], want)
