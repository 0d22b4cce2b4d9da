# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Perplexity: how many tokens the next one is as uncertain as a fair choice between."""

import math

import jax
import jax.numpy as jnp

from jvlm import sharding
from jvlm.errors import UserError


class Perplexity:
    """exp of the mean -log p of all labels of a data set, every token of equal weight.

    Without label smoothing and dropout, whatever the training does. `name` is the first part of the
    metrics' names.
    """

    def __init__(self, objective, batches, mesh, name: str = "val"):
        if not hasattr(objective, "token_sums"):
            raise UserError("perplexity: needs a run whose objective.name is 'language'")
        self._batches, self._mesh, self._name = batches, mesh, name

        def sums(params, batch):
            # Rows that fill up the last batch have no labels.
            labels = jnp.where(batch.pop("_mask")[:, None], batch["labels"], -1)
            out, _ = objective.token_sums(params, {**batch, "labels": labels})
            return out.nll, out.correct, out.count

        self._sums = jax.jit(sums, out_shardings=sharding.replicated(mesh))

    def run(self, params) -> dict[str, float]:
        """{'val/perplexity', 'val/bits_per_token', 'val/token_accuracy'}."""
        size = self._batches.batch_size
        results = [
            self._sums(params, sharding.put_batch(batch, self._mesh, size))
            for batch in self._batches
        ]
        nll, correct, count = (
            math.fsum(map(float, part)) for part in zip(*jax.device_get(results))
        )
        if not count:
            raise UserError("perplexity: the data set has no label")
        values = {
            # A larger exponent has no float, and what diverges must not end the run.
            "perplexity": math.exp(min(nll / count, 709.0)),
            "bits_per_token": nll / count / math.log(2),
            "token_accuracy": correct / count,
        }
        return {f"{self._name}/{key}": value for key, value in values.items()}
