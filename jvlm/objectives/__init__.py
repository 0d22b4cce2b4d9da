# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How the papers train: one dataclass each, no modules here."""

from collections.abc import Mapping

import flax.linen as nn

from jvlm.config import construct
from jvlm.errors import UserError, did_you_mean
from jvlm.objectives.albef import ALBEF
from jvlm.objectives.answers import Answers
from jvlm.objectives.base import LossOutput, Objective, micro_batches
from jvlm.objectives.blip import BLIP
from jvlm.objectives.classification import Classification, TextAssignment
from jvlm.objectives.contrastive import Contrastive
from jvlm.objectives.distillation import Distillation
from jvlm.objectives.language import Language

OBJECTIVES = {
    "albef": ALBEF,
    "answers": Answers,
    "blip": BLIP,
    "classification": Classification,
    "contrastive": Contrastive,
    "distillation": Distillation,
    "language": Language,
    "text_assignment": TextAssignment,
}

__all__ = [
    "ALBEF",
    "Answers",
    "BLIP",
    "Classification",
    "Contrastive",
    "Distillation",
    "Language",
    "LossOutput",
    "OBJECTIVES",
    "Objective",
    "TextAssignment",
    "build_objective",
    "micro_batches",
]


def build_objective(
    section: Mapping,
    model: nn.Module,
    *,
    trained: frozenset[str] | None = None,
    teacher_model: nn.Module | None = None,
) -> Objective:
    """Builds the objective of a config's `objective` section: `name` and its options.

    Args:
      section: the config section.
      model: the Linen module.
      trained: paths of the leaves that are trained; None is all.
      teacher_model: of the section's `teacher`, where it has one; not needed in evaluation.
    """
    options = dict(section)
    name = options.pop("name", "")
    if name not in OBJECTIVES:
        raise UserError(f"objective.name {name!r} is unknown.{did_you_mean(name, OBJECTIVES)}")
    given = dict(model=model, trained=trained, teacher_model=teacher_model)
    return construct(OBJECTIVES[name], options, where="objective", **given)
