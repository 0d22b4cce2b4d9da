# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What an objective is, and the default way to take its gradient."""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jvlm.state import merge


@flax.struct.dataclass
class LossOutput:
    """Attributes:
    loss: float32 scalar, the mean over the global batch.
    metrics: name -> float32 scalar.
    extra: the new `TrainState.extra`.
    """

    loss: jax.Array
    metrics: dict[str, jax.Array]
    extra: Any


@dataclasses.dataclass(frozen=True)
class Objective:
    """How a paper trains. Subclasses are frozen dataclasses with a `loss`.

    Attributes:
      model: the Linen module.
    """

    model: nn.Module

    def loss(self, params, batch, *, teacher, extra, rng, step) -> LossOutput:
        """The loss of one batch.

        Args:
          params: the whole parameter tree.
          batch: see the batch keys in README.md.
          teacher: momentum parameters, or None.
          extra: from `init_extra`, or the last step's.
          rng: key of this micro-batch; None in evaluation, which switches dropout off.
          step: int32 scalar.
        """
        raise NotImplementedError

    def init_extra(self, batch_size: int) -> Any:
        """State of the objective's own (queues), before the first step."""
        return {}

    def project(self, params):
        """Brings parameters back into their domain after the update (temperature clamp)."""
        return params

    def value_and_grad(self, params, micro_batches, *, frozen, teacher, extra, rng, step):
        """Loss and gradient of an optimizer step, averaged over micro-batches.

        Args:
          params: trainable leaves.
          micro_batches: the batch with a leading axis of micro-batches.
          frozen: the other leaves.
          teacher, extra, rng, step: as in `loss`; `rng` is the step's.

        Returns:
          (LossOutput, gradient like `params`).
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
            return out, grads

        def body(total, xs):
            index, batch = xs
            grads, out = grad_fn(params, batch, extra, index)
            return jax.tree.map(jnp.add, total, grads), out

        zeros = jax.tree.map(jnp.zeros_like, params)
        grads, outs = jax.lax.scan(body, zeros, (jnp.arange(count), micro_batches))
        mean = lambda x: x.mean(0)  # noqa: E731
        out = LossOutput(
            outs.loss.mean(),
            jax.tree.map(mean, outs.metrics),
            jax.tree.map(lambda x: x[-1], outs.extra),
        )
        return out, jax.tree.map(lambda g: g / count, grads)


def micro_batches(batch, count: int):
    """[B, ...] -> [count, B / count, ...], row r in micro-batch r % count.

    Strided, so that every device's consecutive rows give as many to each micro-batch and nothing
    moves between devices, and the same on any mesh.
    """
    return jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(x.shape[0] // count, count, *x.shape[1:]), 0, 1), batch
    )
