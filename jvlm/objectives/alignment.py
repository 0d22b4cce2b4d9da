# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What ALBEF and BLIP share: contrast with a teacher's features, and matching with hard negatives.

arXiv:2107.07651 section 3.2; salesforce/ALBEF models/model_{pretrain,retrieval}.py, salesforce/BLIP
models/blip_{pretrain,retrieval}.py.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jvlm.errors import UserError, did_you_mean
from jvlm.losses.contrastive import dot
from jvlm.losses.cross_entropy import TokenSums
from jvlm.losses.momentum import (
    SAME,
    Sides,
    draw_negatives,
    enqueue,
    momentum_contrastive,
    random_features,
    same_group,
)
from jvlm.objectives.momentum import Momentum
from jvlm.sharding import batch_shards
from jvlm.state import purpose_rng


class Contrast(NamedTuple):
    """What the contrast of a batch leaves to matching and to the state.

    Attributes:
      loss: float32 scalar, ITC.
      similarities: over the temperature, of images with texts and of texts with images,
        float32[B, B] each, without gradient: by these wrong partners are drawn.
      news: of the queues, see `Alignment.update_extra`.
    """

    loss: jax.Array
    similarities: Sides
    news: dict[str, jax.Array]


class Wrong(NamedTuple):
    """A wrong partner for each image and each text.

    Attributes:
      image: int32[B], the row of the wrong image of each text.
      text: int32[B], of the wrong text of each image.
      counts: bool[B, 3], whether there is a right pair (always), a wrong image and a wrong text.
    """

    image: jax.Array
    text: jax.Array
    counts: jax.Array


@dataclasses.dataclass(frozen=True)
class Alignment(Momentum):
    """A model with `embed_image`, `embed_text`, `temperature` and `match_logits`.

    Attributes:
      queue: features of earlier images and of texts that are kept; a multiple of the batch. 0 is
        none.
      negatives: 'global', or a number of consecutive rows (the batch of a GPU in the papers) within
        which items are contrasted and wrong partners are drawn.
      drawn_from: 'group', the rows of `negatives`, or 'global' (BLIP's retrieval on COCO).
      drawn_by: similarities to the features of the 'teacher', or of the 'student' itself (BLIP's
        retrieval).
      floor: added to the probability by which a wrong partner is drawn (1e-4 in BLIP's
        pretraining). A large one draws all alike, for texts that are true of many images.
      same: what another item of equal `image_id` is to ITC: see `losses.momentum`; but for
        'negative' it is no wrong partner either.
      temperature_range: the temperature is brought back to it after each step; None leaves it
        (ALBEF's retrieval).
      chunk: text positions whose logits are held at a time; 0 is all. Every piece adds up
        the token table's gradient over the devices.
    """

    queue: int = 65536
    negatives: str | int = "global"
    drawn_from: str = "group"
    drawn_by: str = "teacher"
    floor: float = 0.0
    same: str = "negative"
    temperature_range: tuple[float, float] | None = (0.001, 0.5)
    chunk: int = 0

    def __post_init__(self):
        super().__post_init__()
        for name, known in (
            ("same", SAME),
            ("drawn_from", ("group", "global")),
            ("drawn_by", ("teacher", "student")),
        ):
            if getattr(self, name) not in known:
                hint = did_you_mean(getattr(self, name), known)
                raise UserError(f"objective.{name} {getattr(self, name)!r} is unknown.{hint}")
        if self.negatives != "global" and (
            not isinstance(self.negatives, int) or self.negatives < 2
        ):
            raise UserError(
                f"objective.negatives {self.negatives!r}: 'global' or a number of rows, at least 2"
            )

    #### The state.

    def init_extra(self, rng: jax.Array, batch_size: int) -> Any:
        if not self.queue:
            return {}
        if self.queue % batch_size:
            raise UserError(
                f"objective.queue {self.queue} is no multiple of data.batch_size {batch_size}"
            )
        shape = self.queue, self.model.cfg.embed_dim
        image, text = (random_features(key, shape) for key in jax.random.split(rng))
        extra = {"image": image, "text": text, "pointer": jnp.zeros((), jnp.int32)}
        if self.same != "negative":
            extra["image_id"] = jnp.full(self.queue, -1, jnp.int32)  # Of nothing.
        if self.compat == "fixed":
            extra["filled"] = jnp.zeros((), jnp.int32)
        return extra

    def update_extra(self, extra: Any, news: Any) -> Any:
        if not extra:
            return extra
        count = len(news["image"])
        pointer = extra["pointer"] // count * count  # One of another run may lie between batches.
        new = {name: enqueue(extra[name], pointer, rows) for name, rows in news.items()}
        if "filled" in extra:
            new["filled"] = jnp.minimum(extra["filled"] + count, self.queue)
        return {**new, "pointer": (pointer + count) % self.queue}

    def filled(self, extra: Any) -> jax.Array | None:
        """bool[N], places of the queue that were written; None where all count (`compat`)."""
        if "filled" not in extra:
            return None
        age = (extra["pointer"] - 1 - jnp.arange(self.queue)) % self.queue
        return age < extra["filled"]

    def project(self, params):
        if "temperature" not in params or self.temperature_range is None:
            return params
        return {**params, "temperature": jnp.clip(params["temperature"], *self.temperature_range)}

    #### The loss.

    def group_of(self, rows: int) -> int | None:
        """Rows within which items are contrasted; None is the batch."""
        group = None if self.negatives == "global" else self.negatives
        if group and rows % group:
            raise UserError(f"objective.negatives {group} does not divide {rows} rows")
        return group

    def contrast(self, params, batch, states: Sides, taught, teacher: Sides, alpha, extra):
        """ITC of a batch.

        Args:
          params, taught: parameter trees of the student and of its teacher.
          batch: with `image_id` where `same` asks for it.
          states, teacher: what the two made of images and texts [B, ..., D].
          alpha: weight of the teacher.
          extra: the queues, or {}.

        Returns:
          `Contrast`.
        """
        features = lambda params, of: Sides(
            self.apply(params, of.image, method="embed_image"),
            self.apply(params, of.text, method="embed_text"),
        )
        identity = batch.get("image_id")
        if self.same != "negative" and identity is None:
            raise UserError(f"objective.same={self.same!r} needs image_id in the batch")
        student, of_teacher = features(params, states), features(taught, teacher)
        temperature = self.apply(params, method="temperature")
        loss, similarities = momentum_contrastive(
            student,
            of_teacher,
            temperature,
            alpha,
            queue=Sides(extra["image"], extra["text"]) if extra else None,
            group=self.group_of(len(student.image)),
            identity=identity,
            queue_identity=extra.get("image_id"),
            filled=self.filled(extra),
            same=self.same,
        )
        if self.drawn_by == "student":
            own = jax.lax.stop_gradient(dot(student.image, student.text) / temperature)
            similarities = Sides(own, own.T)
        news = {"image": of_teacher.image, "text": of_teacher.text}
        if self.same != "negative":
            news["image_id"] = identity
        return Contrast(loss, similarities, news if extra else {})

    def draw(self, rng: jax.Array, batch, similarities: Sides) -> Wrong:
        """Wrong partners, the likelier the more similar; `negative_image` and `negative_text`
        int32[B] of the batch say what is drawn otherwise."""
        rows, identity = len(similarities.image), batch.get("image_id")
        group = None if self.drawn_from == "global" else self.group_of(rows)
        inside = jnp.ones((rows, rows), bool) if group is None else same_group(rows, group)
        wrong = inside & ~jnp.eye(rows, dtype=bool)
        if self.same != "negative":
            wrong &= identity[:, None] != identity
        draw = lambda purpose, scores: draw_negatives(
            purpose_rng(rng, purpose), scores, inside, wrong, self.floor
        )
        image, image_counts = draw("negative_image", similarities.text)
        text, text_counts = draw("negative_text", similarities.image)
        return Wrong(
            batch.get("negative_image", image),
            batch.get("negative_text", text),
            jnp.stack([jnp.ones(rows, bool), image_counts, text_counts], 1),
        )

    def picker(self, batch) -> Callable[[jax.Array, jax.Array], jax.Array]:
        """`pick` of partners from `draw`; those that the batch gives may be of any group."""
        given = "negative_image" in batch or "negative_text" in batch
        everyone = given or self.drawn_from == "global"
        return lambda x, rows: pick(x, rows, None if everyone else self.group_of(len(x)))

    def matching(self, params, fused: jax.Array, wrong: Wrong) -> tuple[jax.Array, jax.Array]:
        """ITM's cross-entropy and accuracy.

        Args:
          params: the parameter tree.
          fused: of each row the pair, the text with a wrong image, a wrong text with the image, and
            whatever else saw images, [B * n, T, D].
          wrong: from `draw`.
        """
        logits = self.apply(params, fused, method="match_logits")
        logits = logits.reshape(len(wrong.image), -1, 2)[:, :3]
        right = jnp.arange(3) == 0
        margin = logits[..., 1] - logits[..., 0]
        losses = jax.nn.softplus(jnp.where(right, -margin, margin))
        hits = ((margin > 0) == right).astype(jnp.float32)
        mean = lambda x: jnp.sum(jnp.where(wrong.counts, x, 0.0)) / wrong.counts.sum()
        return mean(losses), mean(hits)

    def mean_of_words(self, sums: TokenSums) -> tuple[jax.Array, jax.Array]:
        """Of each row's sums, float32[B], the mean of each group's loss; and the accuracy.

        The source has one group a GPU, whatever its number of words; 'fixed' has one in all. Both
        are 0 where there are no words.
        """
        rows = len(sums.count)
        group = self.group_of(rows) if self.compat == "official" else None
        loss, count = (x.reshape(-1, group or rows).sum(1) for x in (sums.loss, sums.count))
        mean = jnp.mean(loss / jnp.maximum(count, 1.0))
        return mean, sums.correct.sum() / jnp.maximum(count.sum(), 1.0)


def interleave(*parts: jax.Array) -> jax.Array:
    """[B, ...] each -> [B * parts, ...], what belongs to a row together, on the row's device."""
    return jnp.stack(parts, 1).reshape(-1, *parts[0].shape[1:])


def apart(x: jax.Array, parts: int) -> list[jax.Array]:
    """The inverse of `interleave`."""
    x = x.reshape(-1, parts, *x.shape[1:])
    return [x[:, part] for part in range(parts)]


def pick(x: jax.Array, rows: jax.Array, group: int | None = None) -> jax.Array:
    """x [B, ...], int32[B] -> [B, ...].

    Rows that name another of their own consecutive `group` are picked without a word between
    devices, if no device has part of a group only; otherwise every device gathers all of `x`.
    """
    mesh = jax.sharding.get_abstract_mesh()
    here = len(x) // (1 if mesh.empty else batch_shards(mesh))
    if group is None or here % group:
        return jnp.take(x, rows, axis=0, mode="clip")
    cut = lambda x: x.reshape(-1, group, *x.shape[1:])
    return jax.vmap(pick)(cut(x), cut(rows % group)).reshape(x.shape)
