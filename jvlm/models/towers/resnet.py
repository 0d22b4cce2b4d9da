# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""CLIP's modified ResNet (arXiv:2103.00020 section 2.4; openai/CLIP clip/model.py 10-154).

Three stem convolutions, average pools in place of strides and of the max pool, and attention in
place of the last average pool. The pool's output projection is the model's `vision_proj`.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jvlm.errors import UserError
from jvlm.layers import BatchNorm, Conv, Linear, attend
from jvlm.models.towers.vit import ViTOutput
from jvlm.precision import Compute, read_weight
from jvlm.sharding import constrain

STRIDE = 32
EXPANSION = 4


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """Shape of a modified ResNet.

    Attributes:
      image_size: side in pixels, or (height, width); multiples of 32.
      layers: bottlenecks of the four stages.
      width: channels after the stem; the last stage has 32 times as many.
      num_heads: of the attention pool; default one per 64 channels.
    """

    image_size: int | tuple[int, int]
    layers: tuple[int, int, int, int]
    width: int
    num_heads: int | None = None

    kind = "resnet"

    def __post_init__(self):
        if any(side % STRIDE for side in np.atleast_1d(self.image_size)):
            raise UserError(f"resnet: image_size {self.image_size} is no multiple of {STRIDE}")
        if len(self.layers) != 4 or self.pooled_width % self.heads:
            raise UserError(
                f"resnet: needs four stages and a num_heads that divides {self.pooled_width}"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the last stage."""
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return height // STRIDE, width // STRIDE

    @property
    def pooled_width(self) -> int:
        """Channels of the last stage and of the pooled vector."""
        return self.width * STRIDE

    @property
    def heads(self) -> int:
        return self.num_heads or max(1, self.pooled_width // 64)


class ResNet(nn.Module):
    """Stem, four stages of bottlenecks, attention pool."""

    cfg: ResNetConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, image: jax.Array) -> ViTOutput:
        """Encodes normalised images.

        Args:
          image: float[B, height, width, 3].

        Returns:
          tokens [B, 1 + positions, D], the mean token first, with positions added; pooled [B, D].

        Raises:
          UserError: another image size than the configured one.
        """
        cfg, dtype = self.cfg, self.compute.dtype
        if (image.shape[1] // STRIDE, image.shape[2] // STRIDE) != cfg.grid:
            raise UserError(
                f"resnet: images of {image.shape[1]} x {image.shape[2]} px do not fit the model's "
                f"image_size {cfg.image_size}: resize them"
            )
        x = image
        for i, (features, stride) in enumerate(
            ((cfg.width // 2, 2), (cfg.width // 2, 1), (cfg.width, 1)), start=1
        ):
            x = Conv(3, stride, features, dtype, pad=1, name=f"conv{i}")(x)
            x = jax.nn.relu(BatchNorm(dtype=dtype, name=f"bn{i}")(x))
        x = average_pool(x, 2)
        block = Bottleneck
        if self.compute.remat != "none":
            block = nn.remat(Bottleneck)
        for stage, depth in enumerate(cfg.layers, start=1):
            for i in range(depth):
                stride = 2 if stage > 1 and i == 0 else 1
                features = cfg.width * 2 ** (stage - 1)
                x = block(features, stride, dtype, name=f"layer{stage}_{i}")(x)
                x = constrain(x, "batch", None, None, None)
        return AttentionPool(cfg.grid, cfg.heads, self.compute, name="pool")(x)


class Bottleneck(nn.Module):
    """1x1, 3x3, average pool, 1x1; the shortcut is pooled and projected where shapes differ.

    Attributes:
      features: channels inside; four times as many come out.
      stride: of the pools.
      dtype: compute dtype.
    """

    features: int
    stride: int
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, H, W, C] -> dtype[B, H / stride, W / stride, 4 features]."""
        out = self.features * EXPANSION

        def conv_norm(x, size, features, which, scale_init=1.0):
            x = Conv(size, 1, features, self.dtype, pad=size // 2, name=f"conv{which}")(x)
            return BatchNorm(scale_init, self.dtype, name=f"bn{which}")(x)

        y = jax.nn.relu(conv_norm(x, 1, self.features, 1))
        y = jax.nn.relu(conv_norm(y, 3, self.features, 2))
        # A branch starts as nothing: the last scale is zero.
        y = conv_norm(average_pool(y, self.stride), 1, out, 3, scale_init=0.0)
        if self.stride > 1 or x.shape[-1] != out:
            x = conv_norm(average_pool(x, self.stride), 1, out, "_shortcut")
        return jax.nn.relu(x.astype(y.dtype) + y)


class AttentionPool(nn.Module):
    """Attention from the mean of all positions to them and itself.

    Attributes:
      grid: rows and columns.
      num_heads: N.
      compute: how it is run.
    """

    grid: tuple[int, int]
    num_heads: int
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: jax.Array) -> ViTOutput:
        """x [B, rows, columns, D] -> tokens [B, 1 + rows * columns, D], pooled [B, D]."""
        dtype, width = self.compute.dtype, x.shape[-1]
        x = x.reshape(x.shape[0], -1, width)
        x = jnp.concatenate([x.mean(1, keepdims=True), x], axis=1)
        init = nn.initializers.normal(width**-0.5)
        shape = (self.grid[0] * self.grid[1] + 1, width)
        x = x + read_weight(self, "pos", init, shape).astype(x.dtype)

        def heads(x, name):
            split = (self.num_heads, width // self.num_heads)
            return Linear((width,), split, width**-0.5, dtype=dtype, name=name)(x)

        q, k, v = heads(x[:, :1], "attn_q"), heads(x, "attn_k"), heads(x, "attn_v")
        pooled = attend(q, k, v, backend=self.compute.attention)
        return ViTOutput(x, pooled.reshape(x.shape[0], width))


def average_pool(x: jax.Array, size: int) -> jax.Array:
    """Means of size x size pixels, [B, H, W, C] -> [B, H / size, W / size, C]; rests left out."""
    if size == 1:
        return x
    window = (1, size, size, 1)
    # A sum in 16 bits of four values is off by one part in 200: not worth a cast of the whole map.
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID") / size**2
