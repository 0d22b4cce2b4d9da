# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Normalisation layers. Statistics are float32, in two passes, whatever the compute dtype."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm.precision import read_weight


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


def l2_normalize(x: jax.Array, eps: float = 1e-12) -> jax.Array:
    """Unit vectors along the last axis, float32. A zero vector stays zero, its gradient finite."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), eps**2))
