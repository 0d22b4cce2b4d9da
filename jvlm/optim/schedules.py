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


def make_schedule(
    lr: float, steps: int, warmup_steps: int = 0, schedule: str = "cosine", end_lr: float = 0.0
) -> Callable:
    """Learning rate by step: linear warm-up to `lr`, then towards `end_lr` at `steps`.

    The first step already has 1/warmup_steps of the rate (not zero), as in open_clip's
    scheduler.py.
    """
    if schedule not in SCHEDULES:
        hint = did_you_mean(schedule, SCHEDULES)
        raise UserError(f"optim.schedule {schedule!r} is unknown.{hint}")
    if warmup_steps > steps:
        raise UserError(f"optim.warmup_steps {warmup_steps} exceeds steps {steps}")

    def rate(step):
        share = jnp.clip((step - warmup_steps) / max(1, steps - warmup_steps), 0, 1)
        decayed = end_lr + (lr - end_lr) * SCHEDULES[schedule](share)
        return jnp.where(step < warmup_steps, lr * (step + 1) / max(1, warmup_steps), decayed)

    return rate
