# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy over a vocabulary, a piece of the sequence at a time.

For a token y and logits x[V], with p = softmax(x), label smoothing s and z-loss weight z:

    loss = -(1 - s) log p(y) - s mean_v log p(v) + z logsumexp(x) ** 2

Smoothing is torch's: the mean over all classes, the target among them. The z-loss is PaLM's
(arXiv:2204.02311, section 5; there z = 1e-4).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

IGNORED = -1


class TokenSums(NamedTuple):
    """Sums over the tokens that count; float32 scalars.

    Attributes:
      loss: see the module.
      nll: -log p(y), without smoothing and z-loss.
      correct: tokens whose logit is the largest; of equal ones the first counts.
      count: tokens.
    """

    loss: jax.Array
    nll: jax.Array
    correct: jax.Array
    count: jax.Array


def cross_entropy(
    logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0, z_loss: float = 0.0
) -> TokenSums:
    """The loss of logits that are held whole.

    Args:
      logits: [..., V].
      labels: int32[...]; negative ones do not count.
      label_smoothing, z_loss: see the module.
    """
    logits = logits.astype(jnp.float32)
    # Sums over the vocabulary, no lookups and no argmax: where it is split over devices, only one
    # number per token crosses them.
    classes = lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    is_label = classes == labels[..., None]
    target = jnp.sum(jnp.where(is_label, logits, 0.0), -1)
    norm = jax.nn.logsumexp(logits, -1)
    nll = norm - target
    loss = nll
    if label_smoothing:
        loss = norm - (1 - label_smoothing) * target - label_smoothing * logits.mean(-1)
    if z_loss:
        loss = loss + z_loss * norm**2
    before = (logits == target[..., None]) & (classes < labels[..., None])
    is_best = ~jnp.any((logits > target[..., None]) | before, -1)
    counts = labels >= 0
    total = lambda x: jnp.sum(jnp.where(counts, x, 0.0))
    return TokenSums(total(loss), total(nll), total(is_best), total(1.0))


def chunked_cross_entropy(
    states: jax.Array,
    head: Callable[[jax.Array], jax.Array],
    labels: jax.Array,
    *,
    chunk: int,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
) -> TokenSums:
    """The same from the states before the output layer, never holding the logits of all tokens.

    Pieces are cut along the sequence, so that on a mesh every device keeps its rows; the backward
    pass computes each piece's logits again.

    Args:
      states: [..., T, D].
      head: states [..., D] -> logits [..., V].
      labels: int32[..., T]; negative ones do not count.
      chunk: positions at a time; 0 is all.
      label_smoothing, z_loss: see the module.
    """
    length = labels.shape[-1]
    chunk = min(chunk, length) if chunk else length

    @functools.partial(jax.checkpoint, prevent_cse=False)  # A scan's body needs no guard.
    def piece(states, labels):
        options = dict(label_smoothing=label_smoothing, z_loss=z_loss)
        return cross_entropy(head(states), labels, **options)

    tail = -length % chunk
    unchanged = [(0, 0)] * (labels.ndim - 1)
    states = jnp.pad(states, [*unchanged, (0, tail), (0, 0)])
    labels = jnp.pad(labels, [*unchanged, (0, tail)], constant_values=IGNORED)

    def pieces(x, axis):
        x = x.reshape(*x.shape[:axis], -1, chunk, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis, 0)

    axis = labels.ndim - 1
    xs = pieces(states, axis), pieces(labels, axis)
    sums = lax.scan(lambda _, x: (None, piece(*x)), None, xs)[1]
    return jax.tree.map(jnp.sum, sums)
