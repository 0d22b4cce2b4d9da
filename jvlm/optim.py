# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""From a config's `optim` section to one optax transformation."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jvlm import paths
from jvlm.errors import UserError, did_you_mean
from jvlm.precision import is_statistic

OPTIMIZERS = {
    "adamw": lambda b1, b2, eps: optax.scale_by_adam(b1, b2, eps),
    "lion": lambda b1, b2, eps: optax.scale_by_lion(b1, b2),
    "sgd": lambda b1, b2, eps: optax.trace(b1) if b1 else optax.identity(),
}

SCHEDULES = {
    "cosine": lambda share: 0.5 * (1 + jnp.cos(math.pi * share)),
    "linear": lambda share: 1 - share,
    "constant": lambda share: jnp.ones_like(share),
}


def make_schedule(
    lr: float, steps: int, warmup_steps: int = 0, schedule: str = "cosine", end_lr: float = 0.0
):
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


class Optimizer(NamedTuple):
    """What `make_optimizer` gives.

    Attributes:
      tx: optax transformation over the trainable tree.
      rate: step -> learning rate.
      table: {'trainable', 'decay', 'lr'} -> path -> value, for the parameter table.
      mask: zeroes the gradients of layers that are not trained.
      accumulate: micro-batches per step.
    """

    tx: optax.GradientTransformation
    rate: Callable
    table: dict[str, dict[str, Any]]
    mask: Callable[[Any], Any]
    accumulate: int


def make_optimizer(
    params: Mapping[str, Any],
    trainable: Mapping[str, Any],
    steps: int,
    lr: float,
    name: str = "adamw",
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: Sequence[tuple[str, float]] = ((".*", 0.0),),
    lr_scale: Sequence[tuple[str, float]] = ((".*", 1.0),),
    clip_norm: float | None = None,
    warmup_steps: int = 0,
    schedule: str = "cosine",
    end_lr: float = 0.0,
    accumulate: int = 1,
) -> Optimizer:
    """Builds clip -> optimizer -> decay -> rates.

    Args:
      params: path -> shaped leaf, of the whole model.
      trainable: path -> bool or list of bool per layer; the optimizer covers leaves with a True,
        running statistics excepted.
      steps: length of the run.
      lr: peak learning rate.
      name: a key of `OPTIMIZERS`.
      b1, b2, eps: its coefficients; Lion has no eps, SGD only b1, its momentum.
      weight_decay: rule list; decoupled, multiplied by the current learning rate as in torch.
      lr_scale: rule list of factors on the learning rate.
      clip_norm: largest global gradient norm.
      warmup_steps, schedule, end_lr: see `make_schedule`.
      accumulate: micro-batches whose gradients are averaged.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"optim.name {name!r} is unknown.{did_you_mean(name, OPTIMIZERS)}")
    rate = make_schedule(lr, steps, warmup_steps, schedule, end_lr)
    decay = paths.resolve(weight_decay, params, what="optim.weight_decay")
    scale = paths.resolve(lr_scale, params, what="optim.lr_scale")
    table = {"trainable": dict(trainable), "decay": decay, "lr": scale}
    for path in filter(is_statistic, params):
        decay[path] = scale[path] = 0.0
    is_trained = lambda path: np.any(trainable[path]) and not is_statistic(path)
    trained = {path: leaf for path, leaf in params.items() if is_trained(path)}
    if not trained:
        raise UserError("trainable: nothing is trained")

    def per_leaf(values):
        return paths.unflatten({p: paths.per_leaf(values[p], leaf) for p, leaf in trained.items()})

    # A leaf that is trained in some layers only is stored whole. Its other layers have no gradient
    # (or they would count in the clipping) and get no update (or they would decay).
    layers = per_leaf(trainable)
    masked = per_leaf({p: _times(scale[p], trainable[p]) for p in trained})
    chain = [
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        OPTIMIZERS[name](b1, b2, eps),
        _add_decay(per_leaf(decay)),
        optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, masked)),
        optax.scale_by_learning_rate(rate),
    ]
    mask = lambda grads: jax.tree.map(jnp.multiply, grads, layers)
    return Optimizer(optax.chain(*chain), rate, table, mask, accumulate)


def _add_decay(decay: Any) -> optax.GradientTransformation:
    return optax.stateless(
        lambda updates, params: jax.tree.map(lambda u, p, d: u + d * p, updates, params, decay)
    )


def _times(scale: Any, trainable: Any) -> Any:
    """Product of two resolved values, each a scalar or a list per layer."""
    product = np.asarray(scale, np.float32) * np.asarray(trainable, np.float32)
    return product.tolist()
