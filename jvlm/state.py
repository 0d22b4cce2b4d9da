# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The training state, and the split between what is trained and what is frozen."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax

from jvlm import paths
from jvlm.precision import is_constant, is_statistic


@flax.struct.dataclass
class TrainState:
    """Everything that a step reads and writes.

    Attributes:
      step: int32 scalar, optimizer steps done.
      params: leaves that have a gradient, float32, a nested dict.
      frozen: leaves that are not trained, in compute dtype; no gradient, no optimizer slot.
      teacher: momentum model read by the loss, or None. (A fixed teacher is no state.)
      ema: average of `params` for evaluation, or None.
      extra: the objective's own (queues).
      opt_state: optax state over `params`.
      rng: typed threefry key of the run. Never advanced: step s uses `fold_in(rng, s)`.
      statistics: running statistics that are trained; the forward gives their new values.
    """

    step: jax.Array
    params: dict
    frozen: dict
    teacher: Any
    ema: Any
    extra: Any
    opt_state: Any
    rng: jax.Array
    statistics: dict = dataclasses.field(default_factory=dict)

    def eval_params(self) -> dict:
        """The whole parameter tree that is evaluated: averaged where there is an average."""
        params = self.params if self.ema is None else self.ema
        return merge(params, self.statistics, self.frozen)


def resolve_trainable(rules: Sequence, params: Mapping[str, Any]) -> dict[str, Any]:
    """A config's `trainable` on every parameter; what cannot be trained is not, whatever it says.

    Args:
      rules: a rule list.
      params: path -> shaped leaf.

    Returns:
      path -> bool, or a list of bool per layer.
    """
    values = paths.resolve(rules, params, what="trainable")
    return {path: False if is_constant(path) else value for path, value in values.items()}


def split(params: Mapping, trainable: Mapping[str, Any]) -> tuple[dict, dict]:
    """Splits a parameter tree into (trainable, frozen).

    Args:
      params: nested dict.
      trainable: path -> bool, or a list of bool per layer (any True keeps the leaf trainable).
    """
    flat = paths.flatten(params)
    is_trained = {path: _any(trainable[path]) for path in flat}
    trained = {path: leaf for path, leaf in flat.items() if is_trained[path]}
    frozen = {path: leaf for path, leaf in flat.items() if not is_trained[path]}
    return paths.unflatten(trained), paths.unflatten(frozen)


def split_statistics(params: Mapping) -> tuple[dict, dict]:
    """Splits trainable leaves into (those that have a gradient, running statistics)."""
    flat = paths.flatten(params)
    return split(params, {path: not is_statistic(path) for path in flat})


def merge(*trees: Mapping) -> dict:
    """Joins parameter trees again; where two have a leaf, the earlier one's counts."""
    return paths.unflatten(
        {k: v for tree in reversed(trees) for k, v in paths.flatten(tree).items()}
    )


def purpose_rng(rng: jax.Array, purpose: str) -> jax.Array:
    """A key for one use, by name: adding a use never shifts the numbers of another."""
    return jax.random.fold_in(rng, zlib.crc32(purpose.encode()))


def _any(value: Any) -> bool:
    return any(value) if isinstance(value, list) else bool(value)
