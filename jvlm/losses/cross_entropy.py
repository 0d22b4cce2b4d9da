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

    def piece(labels, states):
        options = dict(label_smoothing=label_smoothing, z_loss=z_loss)
        return cross_entropy(head(states), labels, **options)

    return jax.tree.map(jnp.sum, _by_pieces(piece, chunk, labels, states))


def row_cross_entropy(
    states: jax.Array,
    head: Callable[[jax.Array], jax.Array],
    labels: jax.Array,
    *,
    chunk: int,
    label_smoothing: float = 0.0,
) -> TokenSums:
    """As `chunked_cross_entropy`, but the sums of each row.

    Args:
      states: [B, T, D].
      head: states [B, T, D] -> logits [B, T, V].
      labels: int32[B, T]; negative ones do not count.
      chunk, label_smoothing: see there.

    Returns:
      the sums, float32[B].
    """
    one = functools.partial(cross_entropy, label_smoothing=label_smoothing)
    piece = lambda labels, states: jax.vmap(one)(head(states), labels)
    return jax.tree.map(lambda x: jnp.sum(x, 0), _by_pieces(piece, chunk, labels, states))


def soft_cross_entropy(logits: jax.Array, teacher: jax.Array) -> jax.Array:
    """Cross-entropy to a teacher's softmax q, logsumexp(x) - sum q x, without gradient for it.

    Args:
      logits, teacher: float32[..., V].

    Returns:
      float32[...].
    """
    taught = lax.stop_gradient(jax.nn.softmax(teacher, -1))
    return jax.nn.logsumexp(logits, -1) - jnp.sum(taught * logits, -1)


def taught_cross_entropy(
    states: jax.Array,
    head: Callable[[jax.Array], jax.Array],
    teacher_states: jax.Array,
    teacher_head: Callable[[jax.Array], jax.Array],
    labels: jax.Array,
    alpha: jax.Array | float,
    *,
    chunk: int,
    label_smoothing: float = 0.0,
) -> TokenSums:
    """(1 - alpha) cross-entropy + alpha that to a teacher's softmax (ALBEF section 3.3).

    Args:
      states, teacher_states: [B, T, D] before the output layers.
      head, teacher_head: states -> logits [..., V]; the teacher's have no gradient.
      labels: int32[B, T]; negative ones do not count.
      alpha: weight of the teacher.
      chunk: positions at a time; 0 is all.
      label_smoothing: see the module.

    Returns:
      the sums of each row, float32[B].
    """

    hard = functools.partial(cross_entropy, label_smoothing=label_smoothing)

    def piece(labels, states, teacher_states):
        logits = head(states).astype(jnp.float32)
        by_row = jax.vmap(hard)(logits, labels)
        soft = soft_cross_entropy(logits, teacher_head(teacher_states))
        soft = jnp.sum(jnp.where(labels >= 0, soft, 0.0), -1)
        return by_row._replace(loss=(1 - alpha) * by_row.loss + alpha * soft)

    sums = _by_pieces(piece, chunk, labels, states, teacher_states)
    return jax.tree.map(lambda x: jnp.sum(x, 0), sums)


def _by_pieces(piece: Callable, chunk: int, labels: jax.Array, *states: jax.Array) -> TokenSums:
    """Sums of `piece(labels, *states)` for cuts of T positions, [pieces, ...] each.

    Args:
      piece: of int32[..., chunk] and [..., chunk, D] each.
      chunk: positions at a time; 0 is all.
      labels: int32[..., T].
      *states: [..., T, D] each.
    """
    length, axis = labels.shape[-1], labels.ndim - 1
    chunk = min(chunk, length) if chunk else length
    piece = jax.checkpoint(piece, prevent_cse=False)  # A scan's body needs no guard.
    tail = [*[(0, 0)] * axis, (0, -length % chunk)]
    labels = jnp.pad(labels, tail, constant_values=IGNORED)
    states = (jnp.pad(x, [*tail, (0, 0)]) for x in states)

    def pieces(x):
        x = x.reshape(*x.shape[:axis], -1, chunk, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis, 0)

    xs = tuple(map(pieces, (labels, *states)))
    return lax.scan(lambda _, x: (None, piece(*x)), None, xs)[1]
