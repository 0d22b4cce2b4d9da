# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The affine map."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm import quantise
from jvlm.precision import read_weight, stored_weight
from jvlm.quantise import is_quantised


class Linear(nn.Module):
    """x @ kernel + bias, over one or several trailing axes (heads are axes of their own).

    The kernel may be quantised (`jvlm.quantise`) and may have an adapter beside it
    (`jvlm.adapters`): this layer uses what is there.

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
        rank, x = len(self.in_shape), x.astype(self.dtype)
        std = 1 / math.sqrt(math.prod(self.in_shape)) if self.std is None else self.std
        init = nn.initializers.normal(std)
        kernel = stored_weight(self, "kernel", init, self.in_shape + self.out_shape)
        if is_quantised(kernel):
            y = quantise.contract(x, kernel, rank, self.out_dtype)
        else:
            y = _contract(x, kernel.astype(self.dtype), rank, self.out_dtype)
        if self.has_variable("params", "lora_a"):
            y += self._low_rank(x, rank)
        if self.use_bias:
            y += read_weight(self, "bias", nn.initializers.zeros, self.out_shape, y.dtype)
        return y

    def _low_rank(self, x: jax.Array, rank: int) -> jax.Array:
        """What `jvlm.adapters` has put beside the kernel adds: scale (dropout(x) A) B."""
        read = lambda name: self.get_variable("params", f"lora_{name}")
        if self.has_variable("params", "lora_dropout") and self.has_rng("dropout"):
            keep = 1 - read("dropout")
            kept = jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape)
            x = jnp.where(kept, x / keep.astype(x.dtype), 0)
        h = _contract(x, read("a").astype(self.dtype), rank) * read("scale").astype(self.dtype)
        return _contract(h, read("b").astype(self.dtype), 1, self.out_dtype)


def _contract(
    x: jax.Array, kernel: jax.Array, rank: int, out_dtype: str | None = None
) -> jax.Array:
    """x [..., *in] times kernel [*in, *out], which has `rank` input axes."""
    axes = tuple(range(x.ndim - rank, x.ndim)), tuple(range(rank))
    return jax.lax.dot_general(x, kernel, (axes, ((), ())), preferred_element_type=out_dtype)


def project(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., D] @ kernel [D, E] with a float32 result, for embeddings that enter a loss."""
    return jnp.matmul(x, kernel, preferred_element_type=jnp.float32)
