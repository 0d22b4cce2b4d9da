# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Noise-contrastive estimation against sampled items of the batch.

Gutmann & Hyvarinen 2010 as Mnih & Teh 2012 (arXiv:1206.6426) use it for conditional models: is this
item the one that belongs to the query, or one of k drawn from the noise distribution p? With the
score s(i, j) = t x_i . y_j + bias taken as an unnormalised log-probability (the bias stands for the
log normaliser, which is learned or 0),

    P(belongs | i, j) = sigmoid(s(i, j) - log(k p(j)))
    loss_i = -log P(belongs | i, i) - sum_m log(1 - P(belongs | i, j_m)),   j_1 ... j_k ~ p

averaged over the batch and over both directions. p is uniform over the other rows of the global
batch (of the group, where there are groups), so log(k p) = log(k / (N - 1)). InfoNCE, the softmax
over the whole batch, has replaced it since.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jvlm.losses.contrastive import mean
from jvlm.losses.pairs import gather


def noise_contrastive(
    image: jax.Array,
    text: jax.Array,
    inverse_temperature: jax.Array,
    bias: jax.Array,
    noise_text: jax.Array,
    noise_image: jax.Array,
    *,
    axes: tuple[str, ...] = (),
    group: int | None = None,
    identity: jax.Array | None = None,
    same: str = "negative",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss above. Called inside `shard_map` with this device's rows.

    Args:
      image, text: float32[b, E], unit norm; row i of both belong together.
      inverse_temperature, bias: float32 scalars.
      noise_text, noise_image: int32[b, k], rows of the global batch: each image's noise texts, each
        text's noise images. From `sample_noise`, or given.
      axes: mesh axes that the batch is split over; () where the rows are the whole batch.
      group: rows of a group that the noise was drawn from; None is the whole batch.
      identity: int32[b], equal for items that mean the same.
      same: noise of equal identity is a 'negative', or left out ('mask').

    Returns:
      (loss averaged over the global batch, {'nce_accuracy': the share of right decisions}).
    """
    others = (group or len(image) * (lax.axis_size(axes) if axes else 1)) - 1
    count = noise_text.shape[1]
    log_noise = math.log(count / others)
    score = lambda a, b: inverse_temperature * jnp.sum(a * b, -1) + bias - log_noise

    def direction(query, key, noise):
        keys = gather(key, axes)
        identities = None if same == "negative" else gather(identity, axes)

        @jax.checkpoint  # Looked up again in the backward: [b, E] at a time, not [b, k, E].
        def against(column):
            logits = score(query, keys[column])
            counts = jnp.ones_like(logits)
            if same == "mask":
                counts = (identities[column] != identity).astype(logits.dtype)
            return counts * jax.nn.softplus(logits), counts * (logits < 0), counts

        data = score(query, key)
        losses, right, counts = lax.map(against, noise.T)
        loss = jax.nn.softplus(-data) + losses.sum(0)
        accuracy = ((data > 0) + right.sum(0)) / (1 + counts.sum(0))
        return jnp.stack([loss, accuracy])

    sides = direction(image, text, noise_text) + direction(text, image, noise_image)
    loss, accuracy = mean(sides / 2, axes)
    return loss, {"nce_accuracy": accuracy}


def sample_noise(rng: jax.Array, rows: int, count: int, group: int | None = None) -> jax.Array:
    """Noise items of every row of the global batch, uniform over the other rows of its group.

    Returns:
      int32[rows, count], drawn with replacement.
    """
    size = group or rows
    row = jnp.arange(rows)[:, None]
    drawn = jax.random.randint(rng, (rows, count), 0, size - 1)
    return row // size * size + drawn + (drawn >= row % size)
