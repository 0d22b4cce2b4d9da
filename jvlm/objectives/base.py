# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What an objective is, and the default way to take its gradient."""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jvlm import paths
from jvlm.errors import UserError
from jvlm.precision import is_statistic
from jvlm.state import merge, purpose_rng


@flax.struct.dataclass
class LossOutput:
    """Attributes:
    loss: float32 scalar, the mean over the global batch.
    metrics: name -> float32 scalar.
    extra: what of this micro-batch `Objective.update_extra` takes, [B, ...] each.
    statistics: new values of running statistics, a nested dict of those that changed.
    """

    loss: jax.Array
    metrics: dict[str, jax.Array]
    extra: Any
    statistics: Any = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Objective:
    """How a paper trains. Subclasses are frozen dataclasses with a `loss`.

    Attributes:
      model: the Linen module.
      trained: paths of the leaves that are trained; None is all.
    """

    model: nn.Module
    trained: frozenset[str] | None = dataclasses.field(default=None, kw_only=True, repr=False)

    def check_model(self, name: str, *kinds: str) -> None:
        """Raises UserError unless the model's config is of a kind, which is its name too."""
        if getattr(self.model.cfg, "kind", None) not in kinds:
            known = " or ".join(map(repr, kinds))
            raise UserError(
                f"objective {name!r} takes a model {known}, not {type(self.model).__name__}"
            )

    def loss(self, params, batch, *, teacher, extra, rng, step) -> LossOutput:
        """The loss of one batch.

        Args:
          params: the whole parameter tree.
          batch: see the batch keys in README.md.
          teacher: parameters of the model that teaches: a fixed one's, or from `init_teacher`; None
            in evaluation.
          extra: of the state, see `init_extra`; {} in evaluation.
          rng: key of this micro-batch; None in evaluation, which switches dropout off.
          step: int32 scalar.
        """
        raise NotImplementedError

    def forward(self, params, *args, method: str | None = None, part: str = "", rng=None):
        """Applies the model. What is not trained runs as in evaluation, also in training.

        With a key, dropout is on if the part has a leaf that is trained, and norms whose running
        statistics are trained use the batch's and give new ones. All of this is off without a key.

        Args:
          params: the whole parameter tree.
          *args: of the method.
          method: of the model; default `__call__`.
          part: name of the submodule that the method runs, such as 'vision'; default all of them.
          rng: key of this micro-batch, or None.

        Returns:
          (the method's result, new running statistics as a nested dict).
        """
        flat = paths.flatten(params)
        trained = flat.keys() if self.trained is None else flat.keys() & self.trained
        trained = {path for path in trained if path.startswith(part and f"{part}/")}
        if rng is None or not trained:
            return self.model.apply({"params": params}, *args, method=method), {}
        statistics = {path: flat[path] for path in flat if path in trained and is_statistic(path)}
        out, new = self.model.apply(
            {"params": params, "statistics": paths.unflatten(statistics)},
            *args,
            method=method,
            rngs={"dropout": purpose_rng(rng, "dropout")},
            mutable=["statistics"],
        )
        return out, new.get("statistics", {})

    def init_extra(self, rng: jax.Array, batch_size: int) -> Any:
        """State of the objective's own (queues), before the first step."""
        return {}

    def update_extra(self, extra: Any, news: Any) -> Any:
        """The same behind a step.

        Args:
          extra: before it.
          news: `LossOutput.extra` of the whole batch, in its order.
        """
        return extra

    def init_teacher(self, params) -> Any:
        """Of the leaves that are trained, those of a momentum teacher; None for no teacher."""
        return None

    def update_teacher(self, teacher: Any, params) -> Any:
        """The momentum teacher behind a step that gave `params`."""
        return teacher

    def project(self, params):
        """Brings parameters back into their domain after the update (temperature clamp)."""
        return params

    def value_and_grad(self, params, micro_batches, *, frozen, teacher, extra, rng, step):
        """Loss and gradient of an optimizer step, averaged over micro-batches.

        Args:
          params: leaves that have a gradient.
          micro_batches: the batch with a leading axis of micro-batches.
          frozen: the other leaves, running statistics included.
          teacher, extra, rng, step: as in `loss`; `rng` is the step's.

        Returns:
          (LossOutput, its `extra` that of the state behind the step; gradient like `params`).
        """

        def loss_fn(params, batch, extra, index):
            out = self.loss(
                merge(params, frozen),
                batch,
                teacher=teacher,
                extra=extra,
                rng=jax.random.fold_in(rng, index),
                step=step,
            )
            return out.loss, out

        grad_fn = jax.grad(loss_fn, has_aux=True)
        count = jax.tree.leaves(micro_batches)[0].shape[0]
        if count == 1:
            batch = jax.tree.map(lambda x: x[0], micro_batches)
            grads, out = grad_fn(params, batch, extra, 0)
            return out.replace(extra=self.update_extra(extra, out.extra)), grads

        def body(total, xs):
            index, batch = xs
            grads, out = grad_fn(params, batch, extra, index)
            return jax.tree.map(jnp.add, total, grads), out

        zeros = jax.tree.map(jnp.zeros_like, params)
        grads, outs = jax.lax.scan(body, zeros, (jnp.arange(count), micro_batches))
        behind = self.update_extra(extra, whole_batch(outs.extra))
        out = mean_over_micro_batches(outs.replace(extra={})).replace(extra=behind)
        return out, jax.tree.map(lambda g: g / count, grads)


def check_smoothing(label_smoothing: float) -> None:
    """Raises UserError where it is no share."""
    if not 0 <= label_smoothing < 1:
        raise UserError(f"objective.label_smoothing {label_smoothing!r}: give 0 <= x < 1")


def micro_batches(batch, count: int):
    """[B, ...] -> [count, B / count, ...], row r in micro-batch r % count.

    Strided, so that every device's consecutive rows give as many to each micro-batch and nothing
    moves between devices, and the same on any mesh.
    """
    return jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1), batch
    )


def whole_batch(tree):
    """The inverse of `micro_batches`."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), tree)


def mean_over_micro_batches(tree):
    """Losses, metrics and running statistics of micro-batches of equal size -> of the batch."""
    return jax.tree.map(lambda x: x.mean(0), tree)
