# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How the papers train: one dataclass each, no modules here."""

from collections.abc import Mapping

import flax.linen as nn

from jvlm.config import construct
from jvlm.errors import UserError, did_you_mean
from jvlm.objectives.base import LossOutput, Objective, micro_batches
from jvlm.objectives.contrastive import Contrastive

OBJECTIVES = {"contrastive": Contrastive}

__all__ = [
    "Contrastive",
    "LossOutput",
    "OBJECTIVES",
    "Objective",
    "build_objective",
    "micro_batches",
]


def build_objective(section: Mapping, model: nn.Module) -> Objective:
    """Builds the objective of a config's `objective` section: `name` and its options."""
    options = dict(section)
    name = options.pop("name", "")
    if name not in OBJECTIVES:
        raise UserError(f"objective.name {name!r} is unknown.{did_you_mean(name, OBJECTIVES)}")
    return construct(OBJECTIVES[name], options, where="objective", model=model)
