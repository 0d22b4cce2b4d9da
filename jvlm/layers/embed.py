# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""From pixels and token ids to vectors."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm.layers.norm import Norm
from jvlm.precision import read_weight


class PatchEmbed(nn.Module):
    """Non-overlapping square patches, one vector each.

    A convolution whose stride is its kernel, computed as what it is: one matmul.

    Attributes:
      patch_size: side in pixels.
      width: D.
      use_bias: CLIP has none, the timm-style towers have one.
      dtype: compute dtype.
    """

    patch_size: int
    width: int
    use_bias: bool
    dtype: str = "float32"

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """image [B, H, W, C] -> dtype[B, H/p, W/p, D]."""
        p, (_, height, width, channels) = self.patch_size, image.shape
        shape = (p, p, channels, self.width)
        init = nn.initializers.normal(1 / math.sqrt(p * p * channels))
        kernel = read_weight(self, "kernel", init, shape, self.dtype)
        # Pixels that do not fill a patch are left out, as a strided convolution leaves them out.
        image = image[:, : height // p * p, : width // p * p].astype(self.dtype)
        patches = image.reshape(-1, height // p, p, width // p, p, channels)
        x = jnp.einsum("BhpwqC,pqCD->BhwD", patches, kernel)
        if self.use_bias:
            x += read_weight(self, "bias", nn.initializers.zeros, (self.width,), self.dtype)
        return x


class Conv(nn.Module):
    """A square convolution without bias, 'same' padding.

    Attributes:
      kernel_size, stride: in pixels.
      features: output channels.
      dtype: compute dtype.
    """

    kernel_size: int
    stride: int
    features: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C] -> dtype[B, ceil(H/stride), ceil(W/stride), features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        init = nn.initializers.normal(math.sqrt(2 / math.prod(shape[:3])))
        kernel = read_weight(self, "kernel", init, shape, self.dtype)
        strides, dims = (self.stride, self.stride), ("NHWC", "HWIO", "NHWC")
        x = x.astype(self.dtype)
        return jax.lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=dims)


class ConvStem(nn.Module):
    """3x3 stride-2 convolutions in place of a patch embedding (arXiv:2106.14881).

    Learns several times faster than patches where data or compute are small. The width doubles at
    each step and ends at D; every step but the last is normalised over channels and rectified.

    Attributes:
      patch_size: total stride, a power of two.
      width: D.
      norm_eps: of the norms in between.
      dtype: compute dtype.
    """

    patch_size: int
    width: int
    norm_eps: float
    dtype: str = "float32"

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """image [B, H, W, C] -> dtype[B, H/p, W/p, D]."""
        steps = int(math.log2(self.patch_size))
        x = image
        for step in range(1, steps + 1):
            features = self.width >> (steps - step)
            x = Conv(3, 2, features, self.dtype, name=f"conv{step}")(x)
            if step < steps:
                x = jax.nn.relu(Norm(self.norm_eps, dtype=self.dtype, name=f"norm{step}")(x))
        return x


class TokenEmbed(nn.Module):
    """A table of token vectors, and its transpose as an output layer.

    Attributes:
      vocab_size: V.
      width: D.
      std: initial standard deviation.
      dtype: compute dtype.
    """

    vocab_size: int
    width: int
    std: float = 0.02
    dtype: str = "float32"

    def setup(self):
        init = nn.initializers.normal(self.std)
        self.table = read_weight(self, "embedding", init, (self.vocab_size, self.width))

    def __call__(self, ids: jax.Array) -> jax.Array:
        """ids int32[B, T] -> dtype[B, T, D]."""
        return jnp.take(self.table, ids, axis=0, mode="clip").astype(self.dtype)

    def attend(self, x: jax.Array) -> jax.Array:
        """x [B, T, D] -> logits float32[B, T, V] (tied output layer)."""
        table = self.table.astype(self.dtype)
        return jnp.einsum("BTD,VD->BTV", x, table, preferred_element_type=jnp.float32)


def resize_positions(
    table: jax.Array, old: tuple[int, int], new: tuple[int, int], *, antialias: bool
) -> jax.Array:
    """Bicubic resize of a learned 2-D position table for another image size.

    Args:
      table: float32[prefix + old_h * old_w, D]; leading rows beyond the grid (a class token's)
        are kept.
      old, new: grid (rows, columns).
      antialias: False is torch's `interpolate(mode='bicubic')` (a = -0.75) of ALBEF, BLIP,
        Chinese-CLIP and transformers; True is open_clip's (a = -0.5, antialiased).

    Returns:
      float32[prefix + new_h * new_w, D].
    """
    prefix = table.shape[0] - old[0] * old[1]
    if prefix < 0:
        raise ValueError(f"{table.shape[0]} positions are fewer than the {old[0]}x{old[1]} grid")
    if old == new:
        return table
    method = jax.image.ResizeMethod
    grid = jax.image.resize(
        table[prefix:].reshape(*old, -1),
        (*new, table.shape[-1]),
        method.CUBIC if antialias else method.CUBIC_PYTORCH,
        antialias=antialias,
    )
    return jnp.concatenate([table[:prefix], grid.reshape(new[0] * new[1], -1)])
