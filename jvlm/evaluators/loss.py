# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Validation loss: the objective on held-out batches, without dropout."""

import jax
import numpy as np

from jvlm import sharding


class Loss:
    """Mean of the objective's loss and metrics over the full batches of a data set."""

    def __init__(self, objective, batches, mesh):
        self._batches, self._mesh = batches, mesh

        def loss(params, batch):
            out = objective.loss(params, batch, teacher=None, extra={}, rng=None, step=0)
            return {"loss": out.loss, **out.metrics}

        self._loss = jax.jit(loss, out_shardings=sharding.replicated(mesh))

    def run(self, params) -> dict[str, float]:
        """{'val/loss': ..., 'val/<metric>': ...}."""
        results, size = [], self._batches.batch_size
        for index, batch in enumerate(self._batches):
            del batch["_mask"]
            # A batch filled up with copies would count them as negatives. Every host must decide
            # alike, so the rule is global.
            if (index + 1) * size <= len(self._batches) or not results:
                results.append(self._loss(params, sharding.put_batch(batch, self._mesh, size)))
        results = jax.device_get(results)
        return {f"val/{name}": float(np.mean([r[name] for r in results])) for name in results[0]}
