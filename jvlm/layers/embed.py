# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""From pixels and token ids to vectors."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jvlm.precision import read_weight
from jvlm.sharding import constrain


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
        patches = image.reshape(-1, height // p, p, width // p, p * channels).swapaxes(2, 3)
        # One long axis to contract: short ones are padded on a TPU, to four times the size.
        x = patches.reshape(*patches.shape[:3], -1) @ kernel.reshape(-1, self.width)
        if self.use_bias:
            x += read_weight(self, "bias", nn.initializers.zeros, (self.width,), self.dtype)
        return x


class Conv(nn.Module):
    """A square convolution without bias.

    Attributes:
      kernel_size, stride: in pixels.
      features: output channels.
      dtype: compute dtype.
      pad: pixels of zeros on every side; default 'same' as XLA places it, which is uneven where
        the stride is even.
    """

    kernel_size: int
    stride: int
    features: int
    dtype: str = "float32"
    pad: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C] -> dtype[B, ceil(H/stride), ceil(W/stride), features]."""
        size, channels = self.kernel_size, x.shape[-1]
        shape = (size, size, channels, self.features)
        init = nn.initializers.normal(math.sqrt(2 / math.prod(shape[:3])))
        kernel = read_weight(self, "kernel", init, shape, self.dtype)
        x, strides = x.astype(self.dtype), (self.stride, self.stride)
        pads = [(self.pad, self.pad)] * 2
        if self.pad is None:
            pads = jax.lax.padtype_to_pads(x.shape[1:3], (size, size), strides, "SAME")
        if channels < 8:
            # Three channels starve a convolution on every back end: gather each window's values
            # and multiply once (on a CPU 5x faster forward, 3x backward).
            return _windows(x, size, self.stride, pads) @ kernel.reshape(-1, self.features)
        dims = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=dims)


def _windows(x: jax.Array, size: int, stride: int, pads: Sequence[tuple[int, int]]) -> jax.Array:
    """[B, H, W, C] -> [B, H', W', size * size * C]."""
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = (-(-side // stride) * stride for side in x.shape[1:3])
    shifts = [
        padded[:, top : top + rows : stride, left : left + columns : stride]
        for top in range(size)
        for left in range(size)
    ]
    return jnp.concatenate(shifts, axis=-1)


class ConvStem(nn.Module):
    """3x3 convolutions in place of a patch embedding (arXiv:2106.14881): learns from little data.

    Stride-2 convolutions whose width doubles and ends at D, then some of stride 1, with ReLU in
    between. No norms: over the few channels of an early position they amplify the background
    (digit_scenes, 48,000 samples: 30 % of digits right without, 16 % with them).

    Attributes:
      patch_size: total stride, a power of two.
      width: D.
      depth: convolutions of stride 1 after the strided ones; each widens the view of a token by
        2 * patch_size pixels.
      dtype: compute dtype.
    """

    patch_size: int
    width: int
    depth: int = 0
    dtype: str = "float32"

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """image [B, H, W, C] -> dtype[B, H/p, W/p, D]."""
        halvings = int(math.log2(self.patch_size))
        steps = halvings + self.depth
        x = image
        for step in range(1, steps + 1):
            stride = 2 if step <= halvings else 1
            features = self.width >> max(0, halvings - step)
            x = Conv(3, stride, features, self.dtype, name=f"conv{step}")(x)
            if step < steps:
                x = jax.nn.relu(x)
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
        # The table stays in pieces: each device looks its columns up for the rows of its replica,
        # and what crosses devices are the vectors. Unsaid, it may be the rows of the global batch.
        x = jnp.take(self.table, constrain(ids, "replica", None), axis=0, mode="clip")
        x = constrain(x.astype(self.dtype), "replica", None, "embed")
        return constrain(x, "batch", None, None)

    def attend(self, x: jax.Array) -> jax.Array:
        """x [..., D] -> logits float32[..., V] (tied output layer)."""
        table = self.table.astype(self.dtype)
        return jnp.einsum("...D,VD->...V", x, table, preferred_element_type=jnp.float32)


def resize_positions(
    table: jax.Array,
    old: tuple[int, int],
    new: tuple[int, int],
    *,
    antialias: bool,
    align_corners: bool = False,
) -> jax.Array:
    """Bicubic resize of a learned 2-D position table for another image size.

    Args:
      table: float32[prefix + old_h * old_w, D]; leading rows beyond the grid (a class token's)
        are kept.
      old, new: grid (rows, columns).
      antialias: False is torch's `interpolate(mode='bicubic')` (a = -0.75) of ALBEF, BLIP and
        transformers; True is open_clip's (a = -0.5, antialiased).
      align_corners: without antialias: the corners of both grids coincide (cn_clip's
        resize_pos_embed).

    Returns:
      float32[prefix + new_h * new_w, D].
    """
    prefix = table.shape[0] - old[0] * old[1]
    if prefix < 0:
        raise ValueError(f"{table.shape[0]} positions are fewer than the {old[0]}x{old[1]} grid")
    if old == new:
        return table
    grid = table[prefix:].reshape(*old, -1)
    if antialias:
        grid = jax.image.resize(grid, (*new, table.shape[-1]), jax.image.ResizeMethod.CUBIC)
    else:
        rows, columns = (cubic_weights(o, n, align_corners) for o, n in zip(old, new))
        precision = jax.lax.Precision.HIGHEST
        grid = jnp.einsum("ro,cp,opD->rcD", rows, columns, grid, precision=precision)
    return jnp.concatenate([table[:prefix], grid.reshape(new[0] * new[1], -1)])


def cubic_weights(old: int, new: int, align_corners: bool = False) -> np.ndarray:
    """float32[new, old]: torch's bicubic interpolation of one axis as a matrix.

    Keys' kernel with a = -0.75; taps beyond the border count for the border.
    """
    a, place = -0.75, np.arange(new)
    place = (
        place * (old - 1) / max(1, new - 1) if align_corners else (place + 0.5) * old / new - 0.5
    )
    first = np.floor(place).astype(int)
    weights = np.zeros((new, old), np.float32)
    for tap in range(-1, 3):
        x = np.abs(place - first - tap)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        column = np.clip(first + tap, 0, old - 1)
        np.add.at(weights, (np.arange(new), column), np.where(x <= 1, near, far))
    return weights
