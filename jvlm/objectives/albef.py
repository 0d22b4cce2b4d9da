# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""ALBEF's pretraining: contrast, matching and masked words, taught by its own average.

arXiv:2107.07651 section 3; salesforce/ALBEF models/model_pretrain.py, Pretrain.py.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jvlm.errors import UserError, did_you_mean
from jvlm.losses.cross_entropy import IGNORED, taught_cross_entropy
from jvlm.losses.momentum import (
    SAME,
    Sides,
    draw_negatives,
    enqueue,
    momentum_contrastive,
    random_features,
    same_group,
)
from jvlm.objectives.base import LossOutput
from jvlm.objectives.momentum import Momentum
from jvlm.state import purpose_rng


@dataclasses.dataclass(frozen=True)
class ALBEF(Momentum):
    """ITC + ITM + MLM, unweighted.

    One forward reads every text once plain and once with masked words, and fuses the pairs, the
    two kinds of wrong pairs and the masked texts together: towers and weights are passed once, and
    an image becomes keys and values once for the three texts that see it. What belongs to a row
    stands together, so that it stays on the row's device.

    Attributes:
      queue: features of earlier images and of texts that are kept; a multiple of the batch. 0 is
        none.
      mlm_probability: share of the words that are masked; 0 is no MLM.
      mask_id, silent_ids: ids of [MASK], and of what is never masked beside padding.
      negatives: 'global', or a number of consecutive rows (the 64 of a GPU in the paper) within
        which items are contrasted and wrong partners are drawn.
      floor: added to the probability by which a wrong partner is drawn (1e-4 in BLIP). A large one
        draws all alike, for texts that are true of many images.
      same: what another item of equal `image_id` is to ITC: see `losses.momentum`; but for
        'negative' it is no wrong partner either.
      temperature_range: the temperature is brought back to it after each step; None leaves it
        (ALBEF's retrieval).
      chunk: text positions whose logits are held at a time; 0 is all. Every piece adds up
        the token table's gradient over the devices.
    """

    queue: int = 65536
    mlm_probability: float = 0.15
    mask_id: int = 103
    silent_ids: tuple[int, ...] = (101,)
    negatives: str | int = "global"
    floor: float = 0.0
    same: str = "negative"
    temperature_range: tuple[float, float] | None = (0.001, 0.5)
    chunk: int = 0

    # Neither the matching head nor the temperature.
    taught = ("vision/", "text/", "fusion/", "vision_proj/", "text_proj/", "words/")

    def __post_init__(self):
        super().__post_init__()
        self.check_model("albef", "albef")
        if self.same not in SAME:
            hint = did_you_mean(self.same, SAME)
            raise UserError(f"objective.same {self.same!r} is unknown.{hint}")
        if self.negatives != "global" and (
            not isinstance(self.negatives, int) or self.negatives < 2
        ):
            raise UserError(
                f"objective.negatives {self.negatives!r}: 'global' or a number of rows, at least 2"
            )
        if not 0 <= self.mlm_probability <= 1:
            raise UserError(f"objective.mlm_probability {self.mlm_probability}: give 0 <= x <= 1")
        if self.mlm_probability and not self.model.cfg.mlm:
            raise UserError("objective.mlm_probability: the model has no word head (model.mlm)")

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

    def loss(self, params, batch, *, teacher, extra, rng, step) -> LossOutput:
        """See `Objective.loss`.

        A batch may say what is drawn otherwise: `negative_image`, `negative_text` int32[B], rows of
        the wrong partners; `masked_text` int32[B, T] and `masked_labels` int32[B, T].
        """
        image, text = batch["image"], batch["text"]
        rows = len(text)
        mask = self.apply(params, text, batch.get("text_mask"), method="mask")
        run = lambda *args, **how: self.forward(params, *args, **how, rng=rng)
        draws = jax.random.key(0) if rng is None else rng
        taught = self.teacher_params(params, teacher)
        alpha = self.teacher_weight(teacher, step)

        #### Alone.
        words, labels = [text], None
        if self.mlm_probability:
            masked, labels = self.mask_words(purpose_rng(draws, "mlm"), text, mask, batch)
            words.append(masked)
        masks = [mask] * len(words)
        given = _interleave(*words), _interleave(*masks)
        image_states, _ = run(image, method="image_states", part="vision")
        text_states, _ = run(*given, method="text_states", part="text")
        plain, *masked = _apart(text_states, len(words))
        teach = lambda *args, **how: self.opinion(taught, *args, **how, rng=rng)
        teacher_image = teach(image, method="image_states", part="vision")
        teacher_text = teach(*given, method="text_states", part="text")
        teacher_plain, *teacher_masked = _apart(teacher_text, len(words))

        #### Contrast.
        features = lambda params, image, text: Sides(
            self.apply(params, image, method="embed_image"),
            self.apply(params, text, method="embed_text"),
        )
        of_teacher = features(taught, teacher_image, teacher_plain)
        identity = batch.get("image_id")
        if self.same != "negative" and identity is None:
            raise UserError(f"objective.same={self.same!r} needs image_id in the batch")
        group = None if self.negatives == "global" else self.negatives
        if group and rows % group:
            raise UserError(f"objective.negatives {group} does not divide {rows} rows")
        itc, similarities = momentum_contrastive(
            features(params, image_states, plain),
            of_teacher,
            self.apply(params, method="temperature"),
            alpha,
            queue=Sides(extra["image"], extra["text"]) if extra else None,
            group=group,
            identity=identity,
            queue_identity=extra.get("image_id"),
            filled=self.filled(extra),
            same=self.same,
        )

        #### Match: the pairs, texts with wrong images, wrong texts with images.
        inside = jnp.ones((rows, rows), bool) if group is None else same_group(rows, group)
        wrong = inside & ~jnp.eye(rows, dtype=bool)
        if self.same != "negative":
            wrong &= identity[:, None] != identity
        draw = lambda purpose, scores: draw_negatives(
            purpose_rng(draws, purpose), scores, inside, wrong, self.floor
        )
        negative_image, image_counts = draw("negative_image", similarities.text)
        negative_text, text_counts = draw("negative_text", similarities.image)
        negative_image = batch.get("negative_image", negative_image)
        negative_text = batch.get("negative_text", negative_text)
        pick = lambda x, index: jnp.take(x, index, axis=0, mode="clip")
        fused, _ = run(
            _interleave(plain, plain, pick(plain, negative_text), *masked),
            _interleave(mask, mask, pick(mask, negative_text), *masks[1:]),
            _interleave(image_states, pick(image_states, negative_image)),
            (0, 1, 0, *(0 for _ in masked)),  # Which of the two images each text sees.
            method="fuse",
            part="fusion",
        )
        logits = self.apply(params, fused, method="match_logits")
        counts = jnp.stack([jnp.ones(rows, bool), image_counts, text_counts], 1)
        itm, accuracy = _matching(logits.reshape(rows, -1, 2)[:, :3], counts)

        #### Masked words.
        metrics = {"itc": itc, "itm": itm, "itm_accuracy": accuracy}
        loss = itc + itm
        if self.mlm_probability:
            seen = teach(*teacher_masked, mask, teacher_image, method="fuse", part="fusion")
            sums = taught_cross_entropy(
                _apart(fused, 4)[3],
                lambda x: self.apply(params, x, method="head"),
                seen,
                lambda x: self.apply(taught, x, method="head"),
                labels,
                alpha,
                chunk=self.chunk,
            )
            together = group if group and self.compat == "official" else rows
            mlm = _mean_of_groups(sums.loss, sums.count, together)
            words = jnp.maximum(sums.count.sum(), 1.0)  # Small batches may have none masked.
            metrics |= {"mlm": mlm, "mlm_accuracy": sums.correct.sum() / words}
            loss += mlm
        news = {"image": of_teacher.image, "text": of_teacher.text}
        if self.same != "negative":
            news["image_id"] = identity
        scalars = {"alpha": alpha, "temperature": self.apply(params, method="temperature")}
        return LossOutput(loss, {**metrics, **scalars}, news if extra else {})

    def mask_words(self, rng, text, mask, batch) -> tuple[jax.Array, jax.Array]:
        """(int32[B, T] with masked words, int32[B, T] labels, -1 elsewhere).

        Of the words drawn, 80 % become [MASK], 10 % any id, 10 % stay (BERT section 3.1).
        """
        if "masked_text" in batch:
            return batch["masked_text"], batch["masked_labels"]
        which, how, ids = jax.random.split(rng, 3)
        drawn = (jax.random.uniform(which, text.shape) < self.mlm_probability) & mask
        for silent in self.silent_ids:
            drawn &= text != silent
        how = jax.random.uniform(how, text.shape)
        random = jax.random.randint(ids, text.shape, 0, self.model.vocab_size)
        new = jnp.where(how < 0.8, self.mask_id, jnp.where(how < 0.9, random, text))
        return jnp.where(drawn, new, text), jnp.where(drawn, text, IGNORED)


def _interleave(*parts: jax.Array) -> jax.Array:
    """[B, ...] each -> [B * parts, ...], what belongs to a row together."""
    return jnp.stack(parts, 1).reshape(-1, *parts[0].shape[1:])


def _apart(x: jax.Array, parts: int) -> list[jax.Array]:
    """The inverse of `_interleave`."""
    x = x.reshape(-1, parts, *x.shape[1:])
    return [x[:, part] for part in range(parts)]


def _matching(logits: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(cross-entropy, accuracy) of float32[B, 3, 2], of which the first of three match."""
    right = jnp.arange(logits.shape[1]) == 0
    margin = logits[..., 1] - logits[..., 0]
    losses = jax.nn.softplus(jnp.where(right, -margin, margin))
    hits = (margin > 0) == right
    mean = lambda x: jnp.sum(jnp.where(counts, x, 0.0)) / counts.sum()
    return mean(losses), mean(hits.astype(jnp.float32))


def _mean_of_groups(sums: jax.Array, counts: jax.Array, group: int) -> jax.Array:
    """Of float32[B] sums over tokens and their counts: each group's mean, then theirs.

    The source has one group a GPU, whatever its number of masked words.
    """
    sums, counts = (x.reshape(-1, group).sum(1) for x in (sums, counts))
    return jnp.mean(sums / jnp.maximum(counts, 1.0))
