# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""From a config's `optim` section to one optax transformation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jvlm import config as config_lib
from jvlm import paths
from jvlm.errors import UserError, did_you_mean
from jvlm.optim.rules import RULES
from jvlm.optim.schedules import make_schedule
from jvlm.precision import is_statistic

STATE_DTYPES = ("float32", "bfloat16")

__all__ = ["Optimizer", "RULES", "make_optimizer", "make_schedule"]


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
    state_dtype: str = "float32",
    b1: float | None = None,
    b2: float | None = None,
    eps: float | None = None,
    momentum: float | None = None,
    clip_rms: float | None = None,
    weight_decay: Sequence[tuple[str, float]] = ((".*", 0.0),),
    lr_scale: Sequence[tuple[str, float]] = ((".*", 1.0),),
    clip_norm: float | None = None,
    warmup_steps: int = 0,
    schedule: str = "cosine",
    end_lr: float = 0.0,
    warmup_lr: float = 0.0,
    warmup_every: int | None = None,
    decay_every: int | None = None,
    decay_rate: float = 1.0,
    warmup_begin: int = 1,
    accumulate: int = 1,
) -> Optimizer:
    """Builds clip -> optimizer -> decay -> rates.

    Args:
      params: path -> shaped leaf, of the whole model.
      trainable: path -> bool or list of bool per layer; the optimizer covers leaves with a True,
        running statistics excepted.
      steps: length of the run.
      lr: peak learning rate.
      name: a key of `RULES`.
      state_dtype: of first moments; see `optim.rules`.
      b1, b2, eps, momentum, clip_rms: of the rule; None is its own default. What it does not read
        is refused.
      weight_decay: rule list; decoupled, multiplied by the current learning rate as in torch.
      lr_scale: rule list of factors on the learning rate.
      clip_norm: largest global gradient norm.
      warmup_steps, schedule, end_lr, warmup_lr, warmup_every, decay_every, decay_rate,
        warmup_begin: see `make_schedule`.
      accumulate: micro-batches whose gradients are averaged.
    """
    if name not in RULES:
        raise UserError(f"optim.name {name!r} is unknown.{did_you_mean(name, RULES)}")
    if state_dtype not in STATE_DTYPES:
        hint = did_you_mean(str(state_dtype), STATE_DTYPES)
        raise UserError(f"optim.state_dtype {state_dtype!r} is unknown.{hint}")
    options = dict(b1=b1, b2=b2, eps=eps, momentum=momentum, clip_rms=clip_rms)
    options = {key: value for key, value in options.items() if value is not None}
    for key, value in options.items():
        if not isinstance(value, int | float):
            raise UserError(f"optim.{key} {value!r}: a number, or None for the optimizer's own")
    stairs = (warmup_lr, warmup_every, decay_every, decay_rate, warmup_begin)
    rate = make_schedule(lr, steps, warmup_steps, schedule, end_lr, *stairs)
    decay = paths.resolve(weight_decay, params, what="optim.weight_decay")
    scale = paths.resolve(lr_scale, params, what="optim.lr_scale")
    table = {"trainable": dict(trainable), "decay": decay, "lr": scale}
    for path in filter(is_statistic, params):
        decay[path] = scale[path] = 0.0
    is_trained = lambda path: np.any(trainable[path]) and not is_statistic(path)
    trained = {path: leaf for path, leaf in params.items() if is_trained(path)}
    if not trained:
        raise UserError("trainable: nothing is trained")

    rule = config_lib.construct(
        *(RULES[name], options), where=f"optim.name={name!r}", params=trained, dtype=state_dtype
    )

    def per_leaf(values):
        return paths.unflatten({p: paths.per_leaf(values[p], leaf) for p, leaf in trained.items()})

    # A leaf that is trained in some layers only is stored whole. Its other layers have no gradient
    # (or they would count in the clipping) and get no update (or they would decay).
    layers = per_leaf(trainable)
    masked = per_leaf({p: _times(scale[p], trainable[p]) for p in trained})
    chain = [
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        rule,
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
