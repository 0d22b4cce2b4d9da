# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Normalisation layers. Statistics are float32, in two passes, whatever the compute dtype."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm.precision import read_weight

# Share of the old value that a running statistic keeps; torch calls 1 - this its momentum.
BATCH_NORM_MOMENTUM = 0.9


class Norm(nn.Module):
    """LayerNorm or RMSNorm over the last axis.

    Attributes:
      eps: always explicit, since it differs by model (1e-5 CLIP, 1e-6 ALBEF's ViT, 1e-12 BERT)
        and a wrong one loads cleanly and costs accuracy.
      kind: 'layer' (mean, variance, scale, bias) or 'rms' (mean square, scale).
      dtype: dtype of the result.
    """

    eps: float
    kind: str = "layer"
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [..., D] -> dtype[..., D]."""
        shape = x.shape[-1:]
        x = x.astype(jnp.float32)
        if self.kind == "layer":
            x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + self.eps)
        x = x * read_weight(self, "scale", nn.initializers.ones, shape)
        if self.kind == "layer":
            x = x + read_weight(self, "bias", nn.initializers.zeros, shape)
        return x.astype(self.dtype)


class BatchNorm(nn.Module):
    """Normalisation over the batch and the positions of an image (arXiv:1502.03167), eps 1e-5.

    Mean and variance are parameters of the kind `statistic`: read like weights, never trained.
    Where the mutable collection `statistics` holds this module's, it is in training: it normalises
    with the values of the global batch (under `jit` the mean over a sharded axis is global) and
    puts the new running ones there. Otherwise it normalises with the stored ones.

    Attributes:
      scale_init: initial scale; 0 in the last norm of a residual branch.
      dtype: dtype of the result.
    """

    scale_init: float = 1.0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C] -> dtype[B, H, W, C]."""
        shape = x.shape[-1:]
        scale = read_weight(self, "scale", nn.initializers.constant(self.scale_init), shape)
        bias = read_weight(self, "bias", nn.initializers.zeros, shape)
        mean = read_weight(self, "mean", nn.initializers.zeros, shape)
        var = read_weight(self, "var", nn.initializers.ones, shape)
        x = x.astype(jnp.float32)
        if self.has_variable("statistics", "mean"):
            count = x.size // x.shape[-1]
            mean = x.mean((0, 1, 2))
            var = jnp.square(x - mean).mean((0, 1, 2))
            # As in torch the running variance is the unbiased one.
            self._update("mean", mean)
            self._update("var", var * (count / max(1, count - 1)))
        # One multiply and one add per pixel.
        factor = scale * jax.lax.rsqrt(var + 1e-5)
        return (x * factor + (bias - mean * factor)).astype(self.dtype)

    def _update(self, name: str, value: jax.Array) -> None:
        old = self.get_variable("statistics", name)
        new = BATCH_NORM_MOMENTUM * old + (1 - BATCH_NORM_MOMENTUM) * value
        self.put_variable("statistics", name, jax.lax.stop_gradient(new))


def l2_normalize(x: jax.Array, eps: float = 1e-12) -> jax.Array:
    """Unit vectors along the last axis, float32. A zero vector stays zero, its gradient finite."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), eps**2))
