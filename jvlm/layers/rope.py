# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rotary position embedding (arXiv:2104.09864), in the half-split layout of LLaMA."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jvlm.errors import UserError


@dataclasses.dataclass(frozen=True)
class Rope:
    """Wavelengths of the rotations.

    Attributes:
      theta: base; pair i of a head of H turns by theta ** (-2 i / H) per position.
      factor: all wavelengths are stretched by it, for texts longer than trained with
        (arXiv:2306.15595).
      low_freq, high_freq, original_len: where given (Llama 3.1), wavelengths up to
        original_len / high_freq stay, those from original_len / low_freq on are stretched, and
        between the two it goes over smoothly.
    """

    theta: float = 10_000.0
    factor: float = 1.0
    low_freq: float | None = None
    high_freq: float | None = None
    original_len: int | None = None

    def __post_init__(self):
        bands = (self.low_freq, self.high_freq, self.original_len)
        if any(value is None for value in bands) != all(value is None for value in bands):
            raise UserError("rope: low_freq, high_freq and original_len go together")

    def frequencies(self, head_dim: int) -> np.ndarray:
        """float32[H / 2], radians per position, rounded as LLaMA's own code rounds."""
        exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        plain = np.float32(1) / np.float32(self.theta) ** exponent
        stretched = plain / np.float32(self.factor)
        if self.original_len is None:
            return stretched
        turns = self.original_len * plain / np.float32(2 * math.pi)
        share = (turns - self.low_freq) / np.float32(self.high_freq - self.low_freq)
        share = np.clip(share, 0, 1)
        return ((1 - share) * stretched + share * plain).astype(np.float32)


def rotate(x: jax.Array, positions: jax.Array, rope: Rope) -> jax.Array:
    """Rotates pairs (i, i + H/2) of every head by an angle that grows with the position.

    Args:
      x: [B, T, N, H], H even.
      positions: int32[B or 1, T].
      rope: wavelengths.

    Returns:
      [B, T, N, H] in the dtype of `x`; angles are float32.
    """
    angle = positions[:, :, None, None].astype(jnp.float32) * rope.frequencies(x.shape[-1])
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)
