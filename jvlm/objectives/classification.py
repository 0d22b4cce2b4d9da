# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Classes of image and text (SNLI-VE, NLVR2), and ALBEF's pretraining for pairs of images."""

import dataclasses

import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.losses.cross_entropy import cross_entropy, soft_cross_entropy
from jvlm.losses.momentum import same_group
from jvlm.objectives.base import LossOutput, Objective
from jvlm.objectives.momentum import Momentum
from jvlm.state import purpose_rng


@dataclasses.dataclass(frozen=True)
class Classification(Momentum):
    """Cross-entropy of `label` int32[B], and to the average's opinion.

    salesforce/ALBEF models/model_{ve,nlvr}.py; salesforce/BLIP models/blip_nlvr.py, which has no
    average (`momentum=None`).
    """

    taught = ("vision/", "text/", "fusion/", "hidden_proj/", "class_proj/")
    optional = True

    def __post_init__(self):
        super().__post_init__()
        self.check_model("classification", "albef_classifier", "blip_classifier")

    def loss(self, params, batch, *, teacher, extra, rng, step) -> LossOutput:
        inputs = {key: batch[key] for key in ("image", "text", "text_mask") if key in batch}
        out, statistics = self.forward(params, inputs, rng=rng)
        sums = cross_entropy(out.logits, batch["label"])
        loss = sums.nll / sums.count
        metrics = {"accuracy": sums.correct / sums.count}
        if teacher is not None:
            alpha = metrics["alpha"] = self.teacher_weight(teacher, step)
            taught = self.opinion(self.teacher_params(params, teacher), inputs, rng=rng)
            soft = soft_cross_entropy(out.logits, taught.logits).mean()
            loss = (1 - alpha) * loss + alpha * soft
        return LossOutput(loss, metrics, extra={}, statistics=statistics)


@dataclasses.dataclass(frozen=True)
class TextAssignment(Objective):
    """Which of two images does the text describe, or neither (ALBEF appendix on NLVR2)?

    In two of three rows the text's own image is shown, first (class 0) or second (1), beside one
    that is similar; in the others two similar ones (2). Nothing is learned from how similar they
    are, so `trainable` should leave `vision_proj/.*` out: with a gradient of zero it would still
    decay, which in the source (salesforce/ALBEF models/model_pretrain_nlvr.py) it does not.

    Attributes:
      temperature: of the similarities by which other images are drawn.
      group: they are drawn from consecutive groups of so many rows (the 64 of a GPU in the paper);
        None is the batch.
    """

    temperature: float = 0.07
    group: int | None = None

    def __post_init__(self):
        self.check_model("text_assignment", "albef_classifier")
        if self.model.cfg.num_images != 2 or self.model.cfg.embed_dim is None:
            raise UserError("objective 'text_assignment' takes a model of 2 images and embeddings")

    def loss(self, params, batch, *, teacher, extra, rng, step) -> LossOutput:
        """See `Objective.loss`. A batch may say what is drawn: `pairs` int32[B, 2], `label`."""
        rows = len(batch["text"])
        states, _ = self.forward(
            params, batch["image"], method="image_states", part="vision", rng=rng
        )
        if "pairs" in batch:
            pairs, label = batch["pairs"], batch["label"]
        else:
            embeds = self.model.apply({"params": params}, states, method="embed_image")
            pairs, label = self.draw(jax.random.key(0) if rng is None else rng, embeds)
        images = jnp.stack([jnp.take(states, pairs[:, i], axis=0, mode="clip") for i in (0, 1)], 1)
        inputs = batch["text"], batch.get("text_mask"), images
        logits, statistics = self.forward(params, *inputs, method="classify", rng=rng)
        sums = cross_entropy(logits, label)
        return LossOutput(sums.nll / rows, {"accuracy": sums.correct / rows}, {}, statistics)

    def draw(self, rng: jax.Array, embeds: jax.Array) -> tuple[jax.Array, jax.Array]:
        """float32[B, E] -> (images shown int32[B, 2], classes int32[B])."""
        rows = len(embeds)
        if self.group is not None and (self.group < 3 or rows % self.group):
            raise UserError(
                f"objective.group {self.group}: at least 3, and a divisor of {rows} rows"
            )
        scores = jax.lax.stop_gradient(embeds @ embeds.T) / self.temperature
        other = ~jnp.eye(rows, dtype=bool)
        if self.group is not None:
            other &= same_group(rows, self.group)
        # The k largest of scores plus Gumbel noise are k draws without replacement.
        noise = jax.random.gumbel(purpose_rng(rng, "similar"), scores.shape)
        similar = jax.lax.top_k(jnp.where(other, scores + noise, -jnp.inf), 2)[1]
        label = jax.random.randint(purpose_rng(rng, "class"), (rows,), 0, 3)
        own = jnp.arange(rows)
        own_first, own_second = (
            jnp.stack(pair, 1) for pair in ((own, similar[:, 0]), (similar[:, 0], own))
        )
        choices = jnp.stack([own_first, own_second, similar])
        return choices[label, own].astype(jnp.int32), label
