# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Contrastive losses over the global batch: softmax (CLIP) and sigmoid (SigLIP).

Called inside `shard_map` with this device's rows. Arguments that both take:

    image, text: float32[b, E], unit norm; row i of both belong together.
    inverse_temperature: float32 scalar.
    axes: mesh axes that the batch is split over; () where the rows are the whole batch.
    way, chunk: how the pairs are run through, see `losses.pairs`; no matter for the result.
    group: contrast within consecutive groups of this many rows of the global batch, from the
      recipe (a paper's per-GPU batch), never from the mesh. None is the whole batch.
    identity: int32[b], equal for items that mean the same.
    same: what another item of equal identity is: a 'negative' (CLIP), left out ('mask'), or a
      positive of equal weight ('soft').

Both return (loss averaged over the global batch, {'i2t_top1', 't2i_top1'}), the share of items
whose best positive is above every negative; a tie is a miss.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jvlm.losses.pairs import Items, Terms, reduce_pairs

SAME = ("negative", "mask", "soft")
_MIN = jnp.finfo(jnp.float32).min


def softmax_contrastive(
    image: jax.Array,
    text: jax.Array,
    inverse_temperature: jax.Array,
    *,
    axes: tuple[str, ...] = (),
    way: str = "gather",
    chunk: int = 1024,
    gather_grad: bool = True,
    group: int | None = None,
    identity: jax.Array | None = None,
    same: str = "negative",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Symmetric cross-entropy of every image among all texts and every text among all images.

    CLIP section 2.3.

    Args:
      gather_grad: gradients flow into the gathered columns too, so that the result is that of one
        large device. False stops all columns, own rows included, on any mesh (ALBEF, BLIP).
    """

    def block(scale, rows, columns):
        allowed, positive = _pairs(rows.labels, columns.labels, group, same)
        queries, keys = rows.embeds, columns.embeds
        by_row = by_column = scale * dot(queries, keys)
        if not gather_grad:  # Equal products, which XLA computes once.
            by_row = scale * dot(queries, lax.stop_gradient(keys))
            by_column = scale * dot(lax.stop_gradient(queries), keys)

        def terms(logits, axis):
            masked = jnp.where(allowed, logits, _MIN)
            positives = jnp.where(positive, logits, 0).sum(axis)
            count = positive.sum(axis, dtype=jnp.float32)
            return Terms(
                logsumexp=(jax.nn.logsumexp(masked, axis),),
                sum=(positives, count),
                max=_best(logits, allowed, positive, axis),
            )

        return terms(by_row, 1), terms(by_column, 0)

    rows, columns = _sides(image, text, identity, axes)
    by_row, by_column = reduce_pairs(
        block, inverse_temperature, rows, columns, axes=axes, way=way, chunk=chunk
    )

    def cross_entropy(terms):
        (normalizer,), (positives, count) = terms.logsumexp, terms.sum
        return normalizer - positives / count

    return _means((cross_entropy(by_row) + cross_entropy(by_column)) / 2, by_row, by_column, axes)


def sigmoid_contrastive(
    image: jax.Array,
    text: jax.Array,
    inverse_temperature: jax.Array,
    bias: jax.Array,
    *,
    axes: tuple[str, ...] = (),
    way: str = "gather",
    chunk: int = 1024,
    group: int | None = None,
    identity: jax.Array | None = None,
    same: str = "negative",
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Every pair on its own: -sum_ij log sigmoid(z_ij (t x_i . y_j + bias)) / B, z = 1 or -1.

    SigLIP (arXiv:2303.15343) section 3.2. No normaliser, so there is nothing to stop in columns.

    Args:
      bias: float32 scalar.
    """

    def block(scalars, rows, columns):
        scale, bias = scalars
        allowed, positive = _pairs(rows.labels, columns.labels, group, same)
        logits = scale * dot(rows.embeds, columns.embeds) + bias
        losses = jax.nn.softplus(jnp.where(positive, -logits, logits))
        return (
            Terms(
                sum=(jnp.where(allowed, losses, 0).sum(1),),
                max=_best(logits, allowed, positive, 1),
            ),
            Terms(max=_best(logits, allowed, positive, 0)),
        )

    rows, columns = _sides(image, text, identity, axes)
    by_row, by_column = reduce_pairs(
        block, (inverse_temperature, bias), rows, columns, axes=axes, way=way, chunk=chunk
    )
    return _means(by_row.sum[0], by_row, by_column, axes)


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """[m, E] x [n, E] -> float32[m, n].

    Full float32 on every back end: a bfloat16 product of 0.01-temperature logits loses ranks.
    """
    return jnp.matmul(a, b.T, precision=lax.Precision.HIGHEST)


def mean(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """[..., b] of each device -> [...], the mean over the global batch."""
    return lax.pmean(x.mean(-1), axes) if axes else x.mean(-1)


def row_numbers(rows: int, axes: tuple[str, ...]) -> jax.Array:
    """This device's rows as numbers of the global batch, int32[b]."""
    return (lax.axis_index(axes) * rows if axes else 0) + jnp.arange(rows)


def _sides(image, text, identity, axes):
    labels = (row_numbers(len(image), axes), identity)
    return Items(image, labels), Items(text, labels)


def _pairs(row_labels, column_labels, group, same):
    """(pairs that count, pairs that belong together), bool[b, n] each."""
    (row, row_identity), (column, column_identity) = row_labels, column_labels
    positive = row[:, None] == column
    allowed = jnp.ones_like(positive)
    if group is not None:
        allowed &= row[:, None] // group == column // group
    if same != "negative":
        equal = row_identity[:, None] == column_identity
        if same == "mask":
            allowed &= positive | ~equal
        else:
            positive = equal & allowed
    return allowed, positive


def _best(logits, allowed, positive, axis):
    """The highest positive and the highest negative."""
    logits = lax.stop_gradient(logits)
    best = lambda mask: jnp.where(mask, logits, _MIN).max(axis)
    return best(positive), best(allowed & ~positive)


def _means(losses, by_row, by_column, axes):
    hit = lambda terms: (terms.max[0] > terms.max[1]).astype(jnp.float32)
    loss, i2t, t2i = mean(jnp.stack([losses, hit(by_row), hit(by_column)]), axes)
    return loss, {"i2t_top1": i2t, "t2i_top1": t2i}
