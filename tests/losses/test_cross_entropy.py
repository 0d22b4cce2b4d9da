# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Chunked cross-entropy: the formula, its gradients, and what is held at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm.losses.cross_entropy import chunked_cross_entropy, cross_entropy

B, T, D, V = 3, 7, 5, 11


@pytest.fixture
def problem(rng):
    states = rng.standard_normal((B, T, D)).astype(np.float32)
    kernel = rng.standard_normal((D, V)).astype(np.float32)
    labels = rng.integers(-1, V, (B, T)).astype(np.int32)
    return states, kernel, labels


def formula(states, kernel, labels, smoothing, z):
    """As torch.nn.functional.cross_entropy, in float64 and token by token."""
    total = nll = correct = 0.0
    for x, y in zip(states.reshape(-1, D).astype(np.float64) @ kernel, labels.reshape(-1)):
        if y < 0:
            continue
        norm = np.log(np.exp(x).sum())
        log_p = x - norm
        target = np.full(V, smoothing / V)
        target[y] += 1 - smoothing
        total += -(target * log_p).sum() + z * norm**2
        nll -= log_p[y]
        correct += np.argmax(x) == y
    return total, nll, correct, (labels >= 0).sum()


@pytest.mark.parametrize("chunk", [0, 1, 3, 7, 100])
@pytest.mark.parametrize("smoothing, z", [(0.0, 0.0), (0.1, 1e-2)])
def test_the_formula(problem, chunk, smoothing, z):
    states, kernel, labels = problem
    options = dict(label_smoothing=smoothing, z_loss=z)

    def chunked(states, kernel):
        sums = chunked_cross_entropy(states, lambda x: x @ kernel, labels, chunk=chunk, **options)
        return sums.loss, sums

    def direct(states, kernel):
        return cross_entropy(states @ kernel, labels, **options).loss

    gradient, sums = jax.jit(jax.grad(chunked, (0, 1), has_aux=True))(states, kernel)
    np.testing.assert_allclose(sums, formula(states, kernel, labels, smoothing, z), rtol=1e-6)
    want = jax.jit(jax.grad(direct, (0, 1)))(states, kernel)
    for got, leaf in zip(gradient, want):
        np.testing.assert_allclose(got, leaf, atol=1e-6)
        assert np.abs(leaf).max() > 0.1
    assert not np.abs(gradient[0][labels < 0]).any()


def test_rows_of_one_text_and_ties():
    """[N, D] too; equal logits are no right answer for all classes but the first."""
    states, labels = jnp.zeros((5, D)), jnp.array([0, 1, 2, 0, -1])
    sums = chunked_cross_entropy(states, lambda x: x @ jnp.ones((D, V)), labels, chunk=2)
    np.testing.assert_allclose(sums, [4 * np.log(V), 4 * np.log(V), 2, 4], rtol=1e-6)
    empty = chunked_cross_entropy(states, lambda x: x, labels * 0 - 1, chunk=2)
    assert not np.any(empty)


def test_the_logits_are_never_held():
    """Forward and backward: less than half of one copy of them, for 1/16 of it at a time."""
    rows, length, width, vocab = 4, 256, 32, 4096
    shapes = (rows, length, width), (width, vocab)
    states, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    labels = jax.ShapeDtypeStruct((rows, length), jnp.int32)

    def held(chunk):
        def loss(states, kernel, labels):
            return chunked_cross_entropy(states, lambda x: x @ kernel, labels, chunk=chunk).loss

        step = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(states, kernel, labels)
        return step.compile().memory_analysis().temp_size_in_bytes

    logits = rows * length * vocab * 4
    assert held(16) < logits / 2 < logits < held(0)
