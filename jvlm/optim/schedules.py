# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Learning rate by step."""

import math
from collections.abc import Callable

import jax.numpy as jnp

from jvlm.errors import UserError, did_you_mean

SCHEDULES = {
    "cosine": lambda share: 0.5 * (1 + jnp.cos(math.pi * share)),
    "linear": lambda share: 1 - share,
    "constant": lambda share: jnp.ones_like(share),
}
KINDS = (*SCHEDULES, "exponential")


def make_schedule(
    lr: float,
    steps: int,
    warmup_steps: int = 0,
    schedule: str = "cosine",
    end_lr: float = 0.0,
    warmup_lr: float = 0.0,
    warmup_every: int | None = None,
    decay_every: int | None = None,
    decay_rate: float = 1.0,
    warmup_begin: int = 1,
) -> Callable:
    """Learning rate by step: linear warm-up to `lr`, then towards `end_lr` at `steps`.

    The first step already has 1/warmup_steps of the way (not none of it), as in open_clip's
    scheduler.py; BLIP's and LAVIS's has `warmup_lr` itself: `warmup_begin` 0. `warmup_every` and
    `decay_every` are the stairs of ALBEF, whose scripts set the rate every 100 iterations of the
    first epoch and then once an epoch (salesforce/ALBEF Pretrain.py, scheduler/cosine_lr.py). BLIP
    has those of epochs alone, in pretraining with 'exponential' (utils.py).

    Args:
      lr: peak rate.
      steps: length of the run.
      warmup_steps: steps to the peak.
      schedule: key of `SCHEDULES`; or 'exponential', `decay_rate` to the power of the epochs, not
        below `end_lr`, whatever `steps` is.
      end_lr: rate at the end.
      warmup_lr: rate that the warm-up begins with.
      warmup_every: the warm-up is a stair of so many steps, the first of them one step longer: its
        rates are set behind a step.
      decay_every: the decay is a stair of so many steps, an epoch. It counts from the run's first
        step, and with it the first epoch ends the warm-up.
      decay_rate: of 'exponential', an epoch's factor.
      warmup_begin: steps of the way that the first step has gone, without `warmup_every`.

    Raises:
      UserError: an unknown schedule, or numbers that make no sense.
    """
    if schedule not in KINDS:
        hint = did_you_mean(schedule, KINDS)
        raise UserError(f"optim.schedule {schedule!r} is unknown.{hint}")
    if warmup_steps > steps:
        raise UserError(f"optim.warmup_steps {warmup_steps} exceeds steps {steps}")
    for name, value in (("warmup_every", warmup_every), ("decay_every", decay_every)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(f"optim.{name} {value!r}: a number of steps, or None for every step")

    if schedule == "exponential" and not (decay_every and 0 < decay_rate < 1):
        raise UserError(
            f"optim.schedule 'exponential': decay_rate {decay_rate} every {decay_every} steps: "
            "give decay_every and 0 < decay_rate < 1"
        )

    def rate(step):
        if decay_every:
            share = step // decay_every / (steps / decay_every)
        else:
            share = (step - warmup_steps) / max(1, steps - warmup_steps)
        if schedule == "exponential":
            decayed = jnp.maximum(end_lr, lr * decay_rate ** (step // decay_every))
        else:
            decayed = end_lr + (lr - end_lr) * SCHEDULES[schedule](jnp.clip(share, 0, 1))
        if warmup_every:
            done = jnp.maximum(step - 1, 0) // warmup_every * warmup_every
            warms = done < warmup_steps
        else:
            done, warms = step + warmup_begin, step < warmup_steps
        if decay_every:
            warms &= step < decay_every
        warm = warmup_lr + (lr - warmup_lr) * done / max(1, warmup_steps)
        return jnp.where(warms, warm, decayed)

    return rate
