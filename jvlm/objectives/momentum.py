# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A teacher that is a moving average of the student (ALBEF section 3.3; BLIP).

What salesforce/ALBEF (b9727e4) does and the paper does not say:

  * The average is in training mode: BERT's dropout, of attention probabilities too, disturbs its
    soft labels and what goes into the queues. 'fixed': it reads without dropout.
  * The queues begin as random unit vectors, which are negatives of everything until N / B steps
    have written over them. 'fixed': a place is left out until it is written.
  * Masked words are averaged on each GPU, then over GPUs: those of a GPU that drew few weigh more.
    'fixed': all of a batch weigh the same.

Those three are what `compat` switches. Other options say the rest:

  * Contrast and wrong partners stay within a GPU's rows, beside everyone's queue (`negatives`).
  * The temperature is kept in [0.001, 0.5] by pretraining alone (`temperature_range`).
  * Another caption of the same picture is a negative in pretraining, a positive of equal weight in
    retrieval, in the queue as well (`same`). Ids begin at -100 there and at -1 here: nobody's.
  * Alpha rises by steps of the first epoch; that of SNLI-VE does not (`alpha_steps`).
  * Temperature, class token and positions decay, being no vectors (`optim.weight_decay`).

Without effect: the average and the temperature change when a forward begins, here behind the step
(the first change is none, but where a finetune's average begins apart from its weights: 0.5 % of
the way); retrieval adds 1e-4 to logits before a softmax; the loss has cross-entropies in place of
the paper's divergences, more by the teacher's entropy, with the same gradient.

Not so here:

  * Where a GPU's rows all show one picture there is nothing to draw, and the source ends; where it
    draws no masked word, its loss is not a number. Here those rows and words do not count.
  * NLVR.py copies the student before it loads a file that has no average: its teacher begins as an
    untrained image tower beside plain BERT, of which 1 % is left after 900 steps. Here a teacher
    begins as its source's average, or as the student (`warm_start`).
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jvlm import paths
from jvlm.errors import UserError, did_you_mean
from jvlm.objectives.base import Objective
from jvlm.state import merge, purpose_rng

COMPAT = ("official", "fixed")


@dataclasses.dataclass(frozen=True)
class Momentum(Objective):
    """An objective whose loss listens to the average.

    Attributes:
      momentum: of the average; None for no average, where that is no part of the loss
        (`optional`).
      alpha: weight of the teacher's opinion, raised linearly from 0 over the first `alpha_steps`
        steps; 0 is no distillation.
      alpha_steps: the first epoch in the paper; 0 is the full weight from the start.
      compat: 'official' does as the authors' code, 'fixed' what it should have done: see the
        module.
    """

    momentum: float | None = 0.995
    alpha: float = 0.4
    alpha_steps: int = 0
    compat: str = "official"

    taught: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the paths of which there is an average."""

    optional: ClassVar[bool] = False
    """Whether it trains without an average too."""

    def __post_init__(self):
        for name in ("momentum", "alpha"):
            value = getattr(self, name)
            if name == "momentum" and value is None and self.optional:
                continue
            if value is None or not 0 <= value <= 1:
                raise UserError(f"objective.{name} {value!r}: give 0 <= x <= 1")
        if self.compat not in COMPAT:
            hint = did_you_mean(self.compat, COMPAT)
            raise UserError(f"objective.compat {self.compat!r} is unknown.{hint}")

    def init_teacher(self, params) -> Any:
        if self.momentum is None:
            return None
        flat = paths.flatten(params)
        return paths.unflatten(
            {path: jnp.copy(x) for path, x in flat.items() if path.startswith(self.taught)}
        )

    def update_teacher(self, teacher: Any, params) -> Any:
        # The official code does this when the next forward begins.
        if teacher is None:
            return None
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

    def opinion(self, taught, *args, method: str | None = None, part: str = "", rng=None):
        """A method of the model as the teacher runs it: see `forward`, and `compat` for dropout."""
        noisy = self.compat == "official" and rng is not None
        rng = purpose_rng(rng, "teacher") if noisy else None
        return self.forward(taught, *args, method=method, part=part, rng=rng)[0]

    def apply(self, params, *args, method: str):
        """A method of the model without dropout."""
        return self.model.apply({"params": params}, *args, method=method)
