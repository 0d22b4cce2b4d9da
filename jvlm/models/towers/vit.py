# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Vision transformer (arXiv:2010.11929) as CLIP and the ALBEF family use it."""

import dataclasses

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jvlm.errors import UserError
from jvlm.layers import (
    Block,
    BlockConfig,
    Context,
    ConvStem,
    Norm,
    PatchEmbed,
    Stack,
    Tap,
    check_block,
)
from jvlm.layers.block import make_attention, make_mlp
from jvlm.precision import Compute, read_weight
from jvlm.sharding import constrain

POOLS = ("cls", "mean", "map")


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Shape of a vision transformer.

    Attributes:
      image_size: side in pixels, or (height, width).
      patch_size: side in pixels; the total stride of a convolutional stem.
      width, depth, num_heads, mlp_dim: as usual.
      head_dim: default width / num_heads.
      activation: a key of `layers.ACTIVATIONS`.
      norm_eps: epsilon of every norm.
      stem: 'patch', or 'conv' (`layers.ConvStem`, for small data).
      stem_depth: stride-1 convolutions at the end of a convolutional stem.
      patch_bias: the patch embedding has a bias.
      use_cls: a class token is prepended.
      pre_norm: a norm between embedding and blocks (CLIP's `ln_pre`).
      pool: what `ViTOutput.pooled` is made of: 'cls'; 'mean' of all tokens, the class token among
        them; 'map', attention from a learned query (SigLIP, big_vision's MAPHead).
      norm_tokens: the final norm covers all tokens (ALBEF, BLIP); else the pooled one (CLIP).
      patch_dropout: share of the patches that a training forward leaves out (FLIP,
        arXiv:2212.00794); on exactly when a `dropout` rng is given.
      dropout: rate on residual branches.
      drop_path: see `BlockConfig`.
    """

    image_size: int | tuple[int, int]
    patch_size: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    head_dim: int | None = None
    activation: str = "gelu"
    norm_eps: float = 1e-5
    stem: str = "patch"
    stem_depth: int = 0
    patch_bias: bool = False
    use_cls: bool = True
    pre_norm: bool = True
    pool: str = "cls"
    norm_tokens: bool = False
    patch_dropout: float = 0.0
    dropout: float = 0.0
    drop_path: float = 0.0

    kind = "vit"

    def __post_init__(self):
        check_block(self, "vit")
        # SigLIP has 384 px and patches of 14: what fills no patch is left out, on purpose there.
        if any(side < self.patch_size for side in np.atleast_1d(self.image_size)):
            raise UserError(f"vit: image_size {self.image_size} is less than a patch")
        if self.stem not in ("patch", "conv"):
            raise UserError(f"vit: stem {self.stem!r} is unknown, choose 'patch' or 'conv'")
        if self.pool not in POOLS:
            raise UserError(f"vit: pool {self.pool!r} is unknown, choose from {POOLS}")
        if self.pool == "cls" and not self.use_cls:
            raise UserError("vit: pool 'cls' needs use_cls=True, or choose 'mean' or 'map'")
        if self.pool == "map" and not self.norm_tokens:
            raise UserError("vit: pool 'map' attends to normed tokens: set norm_tokens=True")
        if not 0 <= self.patch_dropout < 1:
            raise UserError(f"vit: patch_dropout {self.patch_dropout} is no share below 1")
        if self.stem == "conv" and self.patch_size & (self.patch_size - 1):
            raise UserError(
                f"vit: a convolutional stem needs a power of two, not {self.patch_size}"
            )
        if self.stem == "conv" and any(s % self.patch_size for s in np.atleast_1d(self.image_size)):
            raise UserError(f"vit: image_size {self.image_size} is no multiple of patch_size")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return height // self.patch_size, width // self.patch_size

    @property
    def pooled_width(self) -> int:
        """Width of `ViTOutput.pooled`."""
        return self.width


@flax.struct.dataclass
class ViTOutput:
    """Attributes:
    tokens: [B, P (+1), D], the class token first.
    pooled: [B, D], normed.
    """

    tokens: jax.Array
    pooled: jax.Array


class ViT(nn.Module):
    """Patches, class token, learned positions, blocks."""

    cfg: ViTConfig
    compute: Compute = Compute()

    def setup(self):
        cfg, dtype = self.cfg, self.compute.dtype
        if cfg.stem == "conv":
            self.patch = ConvStem(cfg.patch_size, cfg.width, cfg.stem_depth, dtype)
        else:
            self.patch = PatchEmbed(cfg.patch_size, cfg.width, cfg.patch_bias, dtype)
        # Scales of openai/CLIP clip/model.py VisionTransformer.__init__.
        init = nn.initializers.normal(cfg.width**-0.5)
        rows, columns = cfg.grid
        if cfg.use_cls:
            self.cls = read_weight(self, "cls", init, (1, cfg.width))
        self.pos = read_weight(self, "pos", init, (rows * columns + cfg.use_cls, cfg.width))
        if cfg.pre_norm:
            self.pre_norm = Norm(cfg.norm_eps, dtype=dtype)
        self.stack = Stack(Block(block_config(cfg), self.compute, parent=None), cfg.depth)
        self.blocks = self.stack.declare(self, "blocks")
        self.final_norm = Norm(cfg.norm_eps, dtype=dtype)
        if cfg.pool == "map":
            self.pool = AttentionPool(block_config(cfg), self.compute)

    def __call__(self, image: jax.Array, tap: Tap | None = None) -> ViTOutput:
        """Encodes normalised images.

        Args:
          image: float[B, height, width, 3].
          tap: where an attention map's gradient is read.

        Raises:
          UserError: another image size than the configured one.
        """
        cfg = self.cfg
        x = self.patch(image)
        if x.shape[1:3] != cfg.grid:
            raise UserError(
                f"vit: images of {image.shape[1]} x {image.shape[2]} px do not fit the model's "
                f"image_size {cfg.image_size}: resize them"
            )
        x = x.reshape(x.shape[0], -1, cfg.width)
        dropout_rng = self.make_rng("dropout") if self.has_rng("dropout") else None
        pos = self.pos.astype(x.dtype)
        x = x + pos[int(cfg.use_cls) :]
        if cfg.patch_dropout and dropout_rng is not None:
            x = drop_patches(x, cfg.patch_dropout, jax.random.fold_in(dropout_rng, cfg.depth))
        if cfg.use_cls:
            cls = self.cls.astype(x.dtype) + pos[:1]
            cls = jnp.broadcast_to(cls, (x.shape[0], 1, cfg.width))
            x = jnp.concatenate([cls, x], axis=1)
        x = constrain(x, "batch", None, None)
        if cfg.pre_norm:
            x = self.pre_norm(x)
        x, _ = self.stack(self.blocks, x, None, Context(tap=tap), dropout_rng)
        if cfg.norm_tokens:
            x = self.final_norm(x)
        if cfg.pool == "map":
            pooled = self.pool(x)
        else:
            pooled = x[:, 0] if cfg.pool == "cls" else x.mean(axis=1)
        return ViTOutput(x, pooled if cfg.norm_tokens else self.final_norm(pooled))


class AttentionPool(nn.Module):
    """Attention from one learned query to all tokens, then a residual mlp.

    Attributes:
      cfg: shape of its attention, norm and mlp.
      compute: how it is run.
    """

    cfg: BlockConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x [B, S, D] -> [B, D]."""
        init = nn.initializers.xavier_uniform()
        query = read_weight(self, "query", init, (1, self.cfg.width), self.compute.dtype)
        query = jnp.broadcast_to(query, (x.shape[0], 1, self.cfg.width))
        attention = make_attention(self.cfg, self.compute, "attn", memory_width=self.cfg.width)
        pooled, _ = attention(query, x)
        norm = Norm(self.cfg.norm_eps, dtype=self.compute.dtype, name="norm")
        return (pooled + make_mlp(self.cfg, self.compute)(norm(pooled)))[:, 0]


def drop_patches(x: jax.Array, share: float, rng: jax.Array) -> jax.Array:
    """Keeps a random 1 - share of the patches of every image (at least one), in random order.

    x [B, P, D] -> [B, max(1, int(P * (1 - share))), D].
    """
    keep = max(1, int(x.shape[1] * (1 - share)))
    order = jnp.argsort(jax.random.uniform(rng, x.shape[:2]), axis=1)[:, :keep]
    return jnp.take_along_axis(x, order[:, :, None], axis=1)


def block_config(cfg: ViTConfig) -> BlockConfig:
    """The block of a vision transformer, with CLIP's initial scales."""
    return BlockConfig(
        cfg.width,
        cfg.num_heads,
        cfg.mlp_dim,
        cfg.activation,
        cfg.norm_eps,
        head_dim=cfg.head_dim,
        dropout=cfg.dropout,
        drop_path=cfg.drop_path,
        std=clip_std(cfg.width, cfg.depth),
    )


def clip_std(width: int, depth: int) -> tuple[float, float, float, float]:
    """Initial scales of (qkv, out, up, down) in openai/CLIP (clip/model.py 299-326)."""
    out = width**-0.5 * (2 * depth) ** -0.5
    return width**-0.5, out, (2 * width) ** -0.5, out
