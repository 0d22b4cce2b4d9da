# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Questions with several answers of unequal weight (VQA of ALBEF and BLIP)."""

import dataclasses

import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.losses.cross_entropy import IGNORED, row_cross_entropy, taught_cross_entropy
from jvlm.objectives.base import LossOutput, check_smoothing
from jvlm.objectives.momentum import Momentum


@dataclasses.dataclass(frozen=True)
class Answers(Momentum):
    """The weighted sum of the answers' cross-entropies, averaged over the questions.

    Batches have the question (`image`, `text`, `text_mask`) and `candidates` int32[B, C, T] with
    `candidates_mask`, end tokens included, and `answer_weight` float[B, C]: the share of annotators
    who said it. salesforce/ALBEF models/model_vqa.py repeats the question for each answer; here
    the answers of a question are one row of the decoder, in which they do not see each other.

    Attributes:
      label_smoothing: see `losses.cross_entropy`; 0.1 in BLIP, which has no teacher
        (`momentum=None`; models/blip_vqa.py), and in LAVIS's ALBEF, which has.
      chunk: positions whose logits are held at a time; 0 is all.
    """

    label_smoothing: float = 0.0
    chunk: int = 0

    taught = ("vision/", "text/", "fusion/", "decoder/")
    optional = True

    def __post_init__(self):
        super().__post_init__()
        check_smoothing(self.label_smoothing)
        if not getattr(self.model, "encoder_decoder", False):
            raise UserError(
                f"objective 'answers': {type(self.model).__name__} has no decoder of answers"
            )

    def loss(self, params, batch, *, teacher, extra, rng, step) -> LossOutput:
        answers, mask = batch["candidates"], batch["candidates_mask"]
        rows, count, length = answers.shape
        labels = jnp.where(mask, answers, IGNORED)
        token = jnp.arange(count * length)
        sees = (token[:, None] // length == token // length) & (token[:, None] >= token)
        flat = lambda x: x.reshape(rows, count * length)
        inputs = {key: batch[key] for key in ("image", "text", "text_mask") if key in batch}
        inputs |= {
            "labels": flat(labels),
            "decoder_mask": flat(mask),
            "decoder_positions": (token % length)[None],
            "sees": sees[None],
        }
        states, statistics = self.forward(params, inputs, method="hidden", rng=rng)
        by_answer = lambda x: x.reshape(rows * count, length, *x.shape[2:])
        head = lambda params: lambda x: self.apply(params, x, method="head")
        given, labels = (by_answer(states), head(params)), by_answer(flat(labels))
        options = dict(chunk=self.chunk, label_smoothing=self.label_smoothing)
        if teacher is None:
            metrics, sums = {}, row_cross_entropy(*given, labels, **options)
        else:
            metrics = {"alpha": self.teacher_weight(teacher, step)}
            taught = self.teacher_params(params, teacher)
            opinion = by_answer(self.opinion(taught, inputs, method="hidden", rng=rng))
            given = (*given, opinion, head(taught))
            sums = taught_cross_entropy(*given, labels, metrics["alpha"], **options)
        weighted = sums.loss * batch["answer_weight"].reshape(-1)
        metrics["accuracy"] = sums.correct.sum() / sums.count.sum()
        return LossOutput(weighted.sum() / rows, metrics, extra={}, statistics=statistics)
