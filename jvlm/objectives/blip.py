# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BLIP's pretraining: contrast, matching and writing; without a decoder, its retrieval.

arXiv:2201.12086 section 3.2; salesforce/BLIP models/blip_{pretrain,retrieval}.py. Their teacher
reads with dropout, their queues begin as random vectors and words are averaged on each GPU, as
ALBEF's: see `objectives.momentum`. The cross-attention's average is kept there and never read; here
there is none.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.losses.cross_entropy import IGNORED, row_cross_entropy
from jvlm.losses.momentum import Sides
from jvlm.objectives.alignment import Alignment, apart, interleave
from jvlm.objectives.base import LossOutput, check_smoothing
from jvlm.state import purpose_rng


@dataclasses.dataclass(frozen=True)
class BLIP(Alignment):
    """ITC + ITM + LM, unweighted.

    One forward of the image tower; one of the text alone; and one of four texts for each image that
    reads the pair, the text with a wrong image and a wrong text with the image, and writes the
    text: the weights that reading and writing share are passed once, and an image becomes keys and
    values once for the three texts that see it.

    Attributes: those of `Alignment` and
      label_smoothing: of the words that are written.
    """

    queue: int = 57600
    floor: float = 1e-4
    label_smoothing: float = 0.1

    # Only what reads alone has an average.
    taught = (
        *("vision/", "vision_proj/", "text_proj/", "text/embed/"),
        *(f"text/blocks/{part}/" for part in ("attn", "norm1", "mlp", "norm2")),
    )

    def __post_init__(self):
        super().__post_init__()
        self.check_model("blip", "blip")
        if not self.model.cfg.text.encoder:
            raise UserError("objective 'blip': the model reads no texts (model.text.encoder)")
        check_smoothing(self.label_smoothing)

    def loss(self, params, batch, *, teacher, extra, rng, step) -> LossOutput:
        """See `Objective.loss`. A batch may say which partners are drawn: see `Alignment.draw`."""
        image, text = batch["image"], batch["text"]
        mask = self.apply(params, text, batch.get("text_mask"), method="mask")
        run = lambda *args, rng=rng, **how: self.forward(params, *args, **how, rng=rng)[0]
        taught = self.teacher_params(params, teacher)
        teach = lambda *args, **how: self.opinion(taught, *args, **how, rng=rng)
        alpha = self.teacher_weight(teacher, step)

        states, of_teacher = (
            Sides(
                forward(image, method="image_states", part="vision"),
                forward(text, mask, method="text_states", part="text"),
            )
            for forward in (run, teach)
        )
        both = states, taught, of_teacher
        itc, similarities, news = self.contrast(params, batch, *both, alpha, extra)
        wrong = self.draw(jax.random.key(0) if rng is None else rng, batch, similarities)
        pick = self.picker(batch)

        writes = self.model.cfg.text.decoder
        texts, masks = [text, text, pick(text, wrong.text)], [mask, mask, pick(mask, wrong.text)]
        seen, shares = (0, 1, 0), (3, 0)  # Which of the two images each text sees; read, written.
        if writes:
            texts, masks, seen, shares = [*texts, text], [*masks, mask], (*seen, 0), (3, 1)
        fused = run(
            interleave(*texts),
            interleave(*masks),
            interleave(states.image, pick(states.image, wrong.image)),
            seen,
            shares,
            method="fuse",
            part="text",
            rng=None if rng is None else purpose_rng(rng, "fuse"),  # Text alone has had its masks.
        )
        itm, accuracy = self.matching(params, fused, wrong)
        metrics = {"itc": itc, "itm": itm, "itm_accuracy": accuracy}
        loss = itc + itm
        if writes:
            behind = jnp.where(mask, text, IGNORED)[:, 1:]
            labels = jnp.pad(behind, ((0, 0), (0, 1)), constant_values=IGNORED)
            sums = row_cross_entropy(
                apart(fused, 4)[3],
                lambda x: self.apply(params, x, method="head"),
                labels,
                chunk=self.chunk,
                label_smoothing=self.label_smoothing,
            )
            metrics["lm"], metrics["lm_accuracy"] = self.mean_of_words(sums)
            loss += metrics["lm"]
        scalars = {"alpha": alpha, "temperature": self.apply(params, method="temperature")}
        return LossOutput(loss, {**metrics, **scalars}, news)
