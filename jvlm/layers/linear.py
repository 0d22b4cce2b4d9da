# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The affine map."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm.precision import read_weight


class Linear(nn.Module):
    """x @ kernel + bias, over one or several trailing axes (heads are axes of their own).

    Attributes:
      in_shape: trailing axes that are contracted, e.g. (D,) or (N, H).
      out_shape: axes that replace them.
      std: standard deviation of the initial kernel; default 1/sqrt(fan-in).
      use_bias: adds a bias, initially zero.
      dtype: compute dtype.
      out_dtype: of the result, default `dtype`: float32 for logits.
    """

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    std: float | None = None
    use_bias: bool = True
    dtype: str = "float32"
    out_dtype: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [..., *in_shape] -> out_dtype[..., *out_shape]."""
        rank = len(self.in_shape)
        std = 1 / math.sqrt(math.prod(self.in_shape)) if self.std is None else self.std
        init = nn.initializers.normal(std)
        kernel = read_weight(self, "kernel", init, self.in_shape + self.out_shape, self.dtype)
        contract = (tuple(range(x.ndim - rank, x.ndim)), tuple(range(rank)))
        x = x.astype(self.dtype)
        y = jax.lax.dot_general(
            x, kernel, (contract, ((), ())), preferred_element_type=self.out_dtype
        )
        if self.use_bias:
            y += read_weight(self, "bias", nn.initializers.zeros, self.out_shape, y.dtype)
        return y


def project(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., D] @ kernel [D, E] with a float32 result, for embeddings that enter a loss."""
    return jnp.matmul(x, kernel, preferred_element_type=jnp.float32)
