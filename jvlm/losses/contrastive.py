# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Contrastive losses over the global batch."""

import jax
import jax.numpy as jnp
from jax import lax

SAME = ("negative", "mask", "soft")


def softmax_contrastive(
    image: jax.Array,
    text: jax.Array,
    inverse_temperature: jax.Array,
    *,
    axes: tuple[str, ...] = (),
    gather_grad: bool = True,
    group: int | None = None,
    identity: jax.Array | None = None,
    same: str = "negative",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Symmetric cross-entropy of every image among all texts and every text among all images.

    CLIP section 2.3. Called inside `shard_map` with this device's rows; each device holds
    [b, global B] logits, never the square.

    Args:
      image, text: float32[b, E], unit norm; row i of both belong together.
      inverse_temperature: float32 scalar.
      axes: mesh axes that the batch is split over; () where the rows are the whole batch.
      gather_grad: gradients flow into the gathered columns too, so that the result is that of one
        large device. False stops all columns, own rows included, on any mesh (ALBEF, BLIP).
      group: contrast within consecutive groups of this many rows of the global batch, from the
        recipe (a paper's per-GPU batch), never from the mesh. None is the whole batch.
      identity: int32[b], equal for items that mean the same.
      same: what another item of equal identity is: a 'negative' (CLIP), left out ('mask'), or a
        positive of equal weight ('soft').

    Returns:
      (loss averaged over the global batch, {'i2t_top1', 't2i_top1'} in the batch).
    """
    rows = image.shape[0]
    offset = lax.axis_index(axes) * rows if axes else 0
    row = offset + jnp.arange(rows)
    column = jnp.arange(rows * (lax.axis_size(axes) if axes else 1))
    allowed = jnp.ones((rows, column.size), bool)
    positive = row[:, None] == column[None, :]
    if group is not None:
        allowed &= row[:, None] // group == column[None, :] // group
    if same != "negative":
        equal = identity[:, None] == _gather(identity, axes, grad=False)[None, :]
        if same == "mask":
            allowed &= positive | ~equal
        else:
            positive = equal & allowed

    def direction(query, key):
        keys = _gather(key, axes, gather_grad)
        # Full float32 on every back end: a bfloat16 product of 0.01-temperature logits loses ranks.
        logits = inverse_temperature * jnp.matmul(query, keys.T, precision=lax.Precision.HIGHEST)
        logits = jnp.where(allowed, logits, jnp.finfo(jnp.float32).min)
        target = positive / positive.sum(-1, keepdims=True)
        loss = jax.nn.logsumexp(logits, -1) - jnp.sum(target * logits, -1, where=positive)
        hit = jnp.take_along_axis(positive, logits.argmax(-1)[:, None], -1)
        return _mean(loss, axes), _mean(hit.astype(jnp.float32), axes)

    i2t, i2t_top1 = direction(image, text)
    t2i, t2i_top1 = direction(text, image)
    return (i2t + t2i) / 2, {"i2t_top1": i2t_top1, "t2i_top1": t2i_top1}


def _gather(x: jax.Array, axes: tuple[str, ...], grad: bool) -> jax.Array:
    if not grad:
        x = lax.stop_gradient(x)
    return lax.all_gather(x, axes, tiled=True) if axes else x


def _mean(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    return lax.pmean(x.mean(), axes) if axes else x.mean()
