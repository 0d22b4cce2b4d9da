# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Contrast against a momentum teacher's features and a queue of older ones (ALBEF, BLIP).

ALBEF section 3.2 and 3.3; salesforce/ALBEF models/model_pretrain.py, model_retrieval.py. Rows are
those of the global batch; where it is split over devices the compiler gathers the teacher's
features, which have no gradient.

Every device holds the queues whole: 134 MB for the 65,536 of the papers, 0.8 % of a TPU v5e's
memory, and contrast sends nothing but a batch's features. Rows split over 16 devices would be 8 MB,
but the compiler gathers them again, to write and for the gradient: twice the queues per step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jvlm.losses.contrastive import SAME, dot

__all__ = [
    "SAME",
    "Sides",
    "draw_negatives",
    "enqueue",
    "momentum_contrastive",
    "random_features",
    "same_group",
]

_MIN = jnp.finfo(jnp.float32).min


class Sides(NamedTuple):
    """Something of images and the same of texts."""

    image: jax.Array
    text: jax.Array


def momentum_contrastive(
    student: Sides,
    teacher: Sides,
    temperature: jax.Array,
    alpha: jax.Array | float,
    *,
    queue: Sides | None = None,
    group: int | None = None,
    identity: jax.Array | None = None,
    queue_identity: jax.Array | None = None,
    filled: jax.Array | None = None,
    same: str = "negative",
) -> tuple[jax.Array, Sides]:
    """Cross-entropy of the student's similarities to soft targets, both ways.

    The columns are the teacher's features of the batch and of the queue; the targets are alpha
    times the teacher's own softmax over them, the rest on the item that belongs to the row.

    Args:
      student, teacher: float32[B, E], unit norm.
      temperature: float32 scalar that similarities are divided by.
      alpha: weight of the teacher's opinion.
      queue: the teacher's features of earlier batches, float32[N, E].
      group: columns of the batch are those of the row's consecutive group of so many rows (a
        paper's per-GPU batch); None is all. The queue is everyone's.
      identity, queue_identity: int32[B], int32[N], equal for items that mean the same.
      filled: bool[N], places of the queue that hold something; None is all.
      same: what another item of equal identity is: a 'negative' (ALBEF's pretraining), left out
        ('mask'), or a positive of equal weight ('soft', its retrieval).

    Returns:
      (loss, similarities over the temperature of image with text and of text with image,
      float32[B, B] each, without gradient).
    """
    teacher, queue = lax.stop_gradient((teacher, queue))
    rows = len(student.image)
    place = jnp.arange(rows)
    own = place[:, None] == place
    allowed = jnp.ones((rows, rows), bool) if group is None else same_group(rows, group)
    positive = own
    if queue is not None:
        longer = lambda mask, fill: jnp.pad(
            mask, ((0, 0), (0, len(queue.text))), constant_values=fill
        )
        positive, allowed = longer(positive, False), longer(allowed, True)
        if filled is not None:
            allowed &= jnp.pad(filled, (rows, 0), constant_values=True)
    if same != "negative":
        columns = identity
        if queue is not None:
            columns = jnp.concatenate([identity, queue_identity])
        equal = identity[:, None] == columns
        if same == "mask":
            allowed &= positive | ~equal
        else:
            positive = equal & allowed
    hard = positive / positive.sum(1, keepdims=True)

    def side(row, teacher_row, columns, older):
        def similarities(x):
            parts = [dot(x, columns)] if older is None else [dot(x, columns), dot(x, older)]
            return jnp.concatenate(parts, 1) / temperature

        logits = similarities(row)
        taught = jax.nn.softmax(jnp.where(allowed, similarities(teacher_row), _MIN), 1)
        targets = lax.stop_gradient(alpha * taught + (1 - alpha) * hard)
        log_p = jax.nn.log_softmax(jnp.where(allowed, logits, _MIN), 1)
        # Where nothing is allowed, 0 times a large number and not times infinity.
        loss = -jnp.sum(jnp.where(allowed, log_p, 0.0) * targets, 1).mean()
        return loss, lax.stop_gradient(logits[:, :rows])

    of = (None, None) if queue is None else (queue.text, queue.image)
    i2t, image_text = side(student.image, teacher.image, teacher.text, of[0])
    t2i, text_image = side(student.text, teacher.text, teacher.image, of[1])
    return (i2t + t2i) / 2, Sides(image_text, text_image)


def same_group(rows: int, group: int) -> jax.Array:
    """bool[rows, rows]: both are in one consecutive group of so many."""
    number = jnp.arange(rows) // group
    return number[:, None] == number


def draw_negatives(
    rng: jax.Array,
    similarities: jax.Array,
    inside: jax.Array,
    wrong: jax.Array,
    floor: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """One wrong partner for each row, the likelier the more similar.

    Args:
      rng: key.
      similarities: float32[B, B] over the temperature.
      inside: bool[B, B], the row's group.
      wrong: bool[B, B], what of it may be drawn.
      floor: added to the softmax over the group (1e-4 in BLIP).

    Returns:
      (int32[B], column of each row; bool[B], whether there was one to draw).
    """
    logits = similarities
    if floor:
        logits = jnp.log(jax.nn.softmax(jnp.where(inside, logits, _MIN), 1) + floor)
    logits = jnp.where(wrong, logits, -jnp.inf)
    return jax.random.categorical(rng, logits, axis=1).astype(jnp.int32), wrong.any(1)


def random_features(rng: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """What a queue begins with: float32[N, E], unit norm."""
    x = jax.random.normal(rng, shape)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def enqueue(queue: jax.Array, pointer: jax.Array, rows: jax.Array) -> jax.Array:
    """Writes rows [B, ...] over the oldest of a queue [N, ...]; B divides N."""
    return lax.dynamic_update_slice_in_dim(queue, rows.astype(queue.dtype), pointer, 0)
