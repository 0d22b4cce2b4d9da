# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A teacher that is a moving average of the student (ALBEF section 3.3; BLIP)."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jvlm import paths
from jvlm.errors import UserError
from jvlm.objectives.base import Objective
from jvlm.state import merge


@dataclasses.dataclass(frozen=True)
class Momentum(Objective):
    """An objective whose loss listens to the average.

    Attributes:
      momentum: of the average.
      alpha: weight of the teacher's opinion, raised linearly from 0 over the first `alpha_steps`
        steps; 0 is no distillation.
      alpha_steps: the first epoch in the paper; 0 is the full weight from the start.
    """

    momentum: float = 0.995
    alpha: float = 0.4
    alpha_steps: int = 0

    taught: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the paths of which there is an average."""

    def __post_init__(self):
        for name in ("momentum", "alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"objective.{name} {getattr(self, name)!r}: give 0 <= x <= 1")

    def init_teacher(self, params) -> Any:
        flat = paths.flatten(params)
        return paths.unflatten(
            {path: jnp.copy(x) for path, x in flat.items() if path.startswith(self.taught)}
        )

    def update_teacher(self, teacher: Any, params) -> Any:
        # The official code does this when the next forward begins.
        flat, m = paths.flatten(params), self.momentum
        return paths.map_with_path(lambda path, x: x * m + flat[path] * (1 - m), teacher)

    def teacher_params(self, params, teacher: Any):
        """The teacher's whole parameter tree, without gradient; in evaluation the student's own."""
        return jax.lax.stop_gradient(params if teacher is None else merge(teacher, params))

    def teacher_weight(self, teacher: Any, step: jax.Array) -> jax.Array | float:
        """alpha at a step; 0 without a teacher."""
        if teacher is None:
            return 0.0
        ramp = jnp.minimum(1.0, step / self.alpha_steps) if self.alpha_steps else jnp.float32(1)
        return self.alpha * ramp.astype(jnp.float32)

    def apply(self, params, *args, method: str):
        """A method of the model without dropout."""
        return self.model.apply({"params": params}, *args, method=method)
