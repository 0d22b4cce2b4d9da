# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding (arXiv:2104.09864), in the half-split layout of LLaMA."""

import jax
import jax.numpy as jnp


def rotate(x: jax.Array, positions: jax.Array, theta: float) -> jax.Array:
    """Rotates pairs (i, i + H/2) of every head by an angle that grows with the position.

    Args:
      x: [B, T, N, H], H even.
      positions: int32[B, T].
      theta: base of the wavelengths, 10,000 in LLaMA.

    Returns:
      [B, T, N, H] in the dtype of `x`; angles are float32.
    """
    half = x.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[:, :, None, None].astype(jnp.float32) * frequency
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)
