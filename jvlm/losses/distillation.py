# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a student of a contrastive teacher is told: its features, or its opinion of every pair."""

import jax
import jax.numpy as jnp
from jax import lax

from jvlm.losses.contrastive import dot, mean
from jvlm.losses.pairs import Items, Terms, reduce_pairs


def feature_distillation(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """1 - cosine of the student's and the teacher's embeddings, averaged over the batch.

    Chinese-CLIP, cn_clip/training/train.py. Where the widths differ, the student's embedding is
    stretched to the teacher's by linear interpolation between half-pixel centres, as there.

    Args:
      student, teacher: float32[B, E] and float32[B, E'].
    """
    if student.shape != teacher.shape:
        student = jax.image.resize(student, teacher.shape, "linear", antialias=False)
    norms = jnp.linalg.norm(student, axis=-1) * jnp.linalg.norm(teacher, axis=-1)
    return 1 - jnp.mean(jnp.sum(student * teacher, -1) / jnp.maximum(norms, 1e-8))


def logit_distillation(
    image: jax.Array,
    text: jax.Array,
    inverse_temperature: jax.Array,
    teacher_image: jax.Array,
    teacher_text: jax.Array,
    teacher_inverse_temperature: jax.Array,
    *,
    axes: tuple[str, ...] = (),
    way: str = "gather",
    chunk: int = 1024,
) -> jax.Array:
    """Cross-entropy of the student's softmax over the batch to the teacher's, both directions.

    open_clip, src/open_clip/loss.py DistillClipLoss, over the global batch. Called inside
    `shard_map` with this device's rows. The teacher has no gradient.

    Args:
      image, text: float32[b, E], unit norm.
      inverse_temperature: float32 scalar.
      teacher_image, teacher_text, teacher_inverse_temperature: the teacher's, E may differ.
      axes, way, chunk: see `losses.pairs`.
    """
    teacher_image, teacher_text, teacher_scale = lax.stop_gradient(
        (teacher_image, teacher_text, teacher_inverse_temperature)
    )
    options = dict(axes=axes, way=way, chunk=chunk)

    def normalizers(scale, rows, columns):
        logits = scale * dot(rows.embeds, columns.embeds)
        return tuple(Terms(logsumexp=(jax.nn.logsumexp(logits, axis),)) for axis in (1, 0))

    teacher_rows, teacher_columns = reduce_pairs(
        normalizers, teacher_scale, Items(teacher_image), Items(teacher_text), **options
    )

    def cross_entropies(scalars, rows, columns):
        scale, teacher_scale = scalars
        row_embeds, row_normalizer = rows.labels
        column_embeds, column_normalizer = columns.labels
        logits = scale * dot(rows.embeds, columns.embeds)
        taught = teacher_scale * dot(row_embeds, column_embeds)

        def terms(normalizer, axis):
            expected = jnp.sum(jnp.exp(taught - normalizer) * logits, axis)
            return Terms(logsumexp=(jax.nn.logsumexp(logits, axis),), sum=(expected,))

        return terms(row_normalizer[:, None], 1), terms(column_normalizer, 0)

    sides = reduce_pairs(
        cross_entropies,
        (inverse_temperature, teacher_scale),
        Items(image, (teacher_image, *teacher_rows.logsumexp)),
        Items(text, (teacher_text, *teacher_columns.logsumexp)),
        **options,
    )
    return mean(sum(side.logsumexp[0] - side.sum[0] for side in sides) / 2, axes)
