# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Contrastive training that also follows a fixed, already trained teacher."""

import dataclasses
from typing import Any

from jvlm.errors import UserError, did_you_mean
from jvlm.losses.distillation import feature_distillation, logit_distillation
from jvlm.objectives.contrastive import Contrastive, on_rows

# kind -> weight in the source.
DISTILL = {"features": 0.5, "logits": 1.0}


@dataclasses.dataclass(frozen=True)
class Distillation(Contrastive):
    """The student's contrastive loss + weight * distillation.

    The teacher sees the student's batch: same image size, same token ids. Evaluation has no teacher
    and gives the student's loss.

    Attributes:
      teacher: path that `jvlm.load` takes.
      distill: 'features', 1 - cosine to the teacher's image embeddings (Chinese-CLIP, weight 0.5),
        or 'logits', cross-entropy to its softmax over the whole batch (open_clip, weight 1).
      weight: of the distillation; None is the source's.
      teacher_model: the Linen module at `teacher`; None in evaluation.
    """

    teacher: str = ""
    distill: str = "features"
    weight: float | None = None
    teacher_model: Any = dataclasses.field(default=None, repr=False)

    def __post_init__(self):
        super().__post_init__()
        if not self.teacher:
            raise UserError("objective: missing teacher, a path that jvlm.load takes")
        if self.distill not in DISTILL:
            hint = did_you_mean(self.distill, DISTILL)
            raise UserError(f"objective.distill {self.distill!r} is unknown.{hint}")

    @property
    def shown(self) -> tuple[str, ...]:
        """Keys of the batch that the teacher reads."""
        return ("image",) if self.distill == "features" else ("image", "text")

    def targets(self, teacher, batch):
        if teacher is None:
            return {}
        apply = lambda method, *args: self.teacher_model.apply(
            {"params": teacher}, *args, method=method
        )
        targets = {"image": apply("encode_image", batch["image"])}
        if self.distill == "logits":
            targets["text"] = apply("encode_text", batch["text"], batch.get("text_mask"))
        return targets

    def contrast(self, params, embeds, identity, targets, *, teacher, rng):
        loss, metrics = super().contrast(
            params, embeds, identity, targets, teacher=teacher, rng=rng
        )
        if teacher is None:
            return loss, metrics
        if self.distill == "features":
            distance = feature_distillation(embeds["image"], targets["image"])
        else:
            scale = self.scalar(params, "inverse_temperature")
            method = "inverse_temperature"
            teacher_scale = self.teacher_model.apply({"params": teacher}, method=method)

            def local(rows, scalars, axes):
                (student, targets), (scale, teacher_scale) = rows, scalars
                return logit_distillation(
                    *(student["image"], student["text"], scale),
                    *(targets["image"], targets["text"], teacher_scale),
                    axes=axes,
                    way=self.way,
                    chunk=self.chunk,
                )

            distance = on_rows(local, (embeds, targets), (scale, teacher_scale))
        weight = DISTILL[self.distill] if self.weight is None else self.weight
        return loss + weight * distance, {**metrics, "contrastive": loss, "distillation": distance}
