# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""ALBEF's pretraining: contrast, matching and masked words, taught by its own average.

arXiv:2107.07651 section 3; salesforce/ALBEF models/model_pretrain.py, Pretrain.py.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.losses.cross_entropy import IGNORED, taught_cross_entropy
from jvlm.losses.momentum import Sides
from jvlm.objectives.alignment import Alignment, apart, interleave
from jvlm.objectives.base import LossOutput
from jvlm.state import purpose_rng


@dataclasses.dataclass(frozen=True)
class ALBEF(Alignment):
    """ITC + ITM + MLM, unweighted.

    One forward reads every text once plain and once with masked words, and fuses the pairs, the
    two kinds of wrong pairs and the masked texts together: towers and weights are passed once, and
    an image becomes keys and values once for the three texts that see it. What belongs to a row
    stands together, so that it stays on the row's device.

    Attributes: those of `Alignment` and
      mlm_probability: share of the words that are masked; 0 is no MLM.
      mask_id, silent_ids: ids of [MASK], and of what is never masked beside padding.
    """

    mlm_probability: float = 0.15
    mask_id: int = 103
    silent_ids: tuple[int, ...] = (101,)

    # Neither the matching head nor the temperature.
    taught = ("vision/", "text/", "fusion/", "vision_proj/", "text_proj/", "words/")

    def __post_init__(self):
        super().__post_init__()
        self.check_model("albef", "albef")
        if not 0 <= self.mlm_probability <= 1:
            raise UserError(f"objective.mlm_probability {self.mlm_probability}: give 0 <= x <= 1")
        if self.mlm_probability and not self.model.cfg.mlm:
            raise UserError("objective.mlm_probability: the model has no word head (model.mlm)")

    def loss(self, params, batch, *, teacher, extra, rng, step) -> LossOutput:
        """See `Objective.loss`.

        A batch may say what is drawn otherwise: see `Alignment.draw`; `masked_text` int32[B, T] and
        `masked_labels` int32[B, T].
        """
        image, text = batch["image"], batch["text"]
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
        given = interleave(*words), interleave(*masks)
        image_states, _ = run(image, method="image_states", part="vision")
        text_states, _ = run(*given, method="text_states", part="text")
        plain, *masked = apart(text_states, len(words))
        teach = lambda *args, **how: self.opinion(taught, *args, **how, rng=rng)
        teacher_image = teach(image, method="image_states", part="vision")
        teacher_text = teach(*given, method="text_states", part="text")
        teacher_plain, *teacher_masked = apart(teacher_text, len(words))

        #### Contrast, and matching of the pairs, texts with wrong images, wrong texts with images.
        both = Sides(image_states, plain), taught, Sides(teacher_image, teacher_plain)
        itc, similarities, news = self.contrast(params, batch, *both, alpha, extra)
        wrong = self.draw(draws, batch, similarities)
        pick = self.picker(batch)
        fused, _ = run(
            interleave(plain, plain, pick(plain, wrong.text), *masked),
            interleave(mask, mask, pick(mask, wrong.text), *masks[1:]),
            interleave(image_states, pick(image_states, wrong.image)),
            (0, 1, 0, *(0 for _ in masked)),  # Which of the two images each text sees.
            method="fuse",
            part="fusion",
        )
        itm, accuracy = self.matching(params, fused, wrong)

        #### Masked words.
        metrics = {"itc": itc, "itm": itm, "itm_accuracy": accuracy}
        loss = itc + itm
        if self.mlm_probability:
            seen = teach(*teacher_masked, mask, teacher_image, method="fuse", part="fusion")
            sums = taught_cross_entropy(
                apart(fused, 4)[3],
                lambda x: self.apply(params, x, method="head"),
                seen,
                lambda x: self.apply(taught, x, method="head"),
                labels,
                alpha,
                chunk=self.chunk,
            )
            metrics["mlm"], metrics["mlm_accuracy"] = self.mean_of_words(sums)
            loss += metrics["mlm"]
        scalars = {"alpha": alpha, "temperature": self.apply(params, method="temperature")}
        return LossOutput(loss, {**metrics, **scalars}, news)

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
