# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The text tower of CLIP: a pre-norm transformer over learned positions, pooled at one token."""

import dataclasses

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.layers import Block, BlockConfig, Context, Norm, Stack, TokenEmbed, check_block, masks
from jvlm.models.towers.vit import clip_std
from jvlm.precision import Compute, read_weight
from jvlm.sharding import constrain

POOLS = ("argmax", "eos", "last", "mean")


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """Shape of a text tower.

    Attributes:
      vocab_size: V.
      max_len: number of positions.
      width, depth, num_heads, mlp_dim: as usual.
      activation: a key of `layers.ACTIVATIONS`.
      norm_eps: epsilon of every norm.
      causal: tokens see only what precedes them, and padding is not masked (CLIP); otherwise
        tokens see all tokens that `text_mask` allows.
      see_padding: tokens that are not causal see padding too (SigLIP, whose texts are always
        padded to `max_len`).
      pool: 'argmax' takes the token with the greatest id (OpenAI: end-of-text is the last entry
        of the vocabulary); 'eos' the first token equal to `eos_id`; 'last' the last position;
        'mean' the mean over `text_mask`.
      eos_id: end-of-text.
      dropout: rate on residual branches.
    """

    vocab_size: int
    max_len: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    activation: str = "gelu"
    norm_eps: float = 1e-5
    causal: bool = True
    see_padding: bool = False
    pool: str = "argmax"
    eos_id: int | None = None
    dropout: float = 0.0

    kind = "transformer"

    def __post_init__(self):
        check_block(self, "text")
        if self.pool not in POOLS:
            raise UserError(f"text: pool {self.pool!r} is unknown, choose from {POOLS}")
        if self.pool == "eos" and self.eos_id is None:
            raise UserError("text: pool 'eos' needs eos_id")

    @property
    def pooled_width(self) -> int:
        """Width of `TextOutput.pooled`."""
        return self.width


@flax.struct.dataclass
class TextOutput:
    """Attributes:
    tokens: [B, T, D], normed.
    pooled: [B, D].
    """

    tokens: jax.Array
    pooled: jax.Array


class TextTransformer(nn.Module):
    """Token and position embeddings, blocks, final norm, pooling."""

    cfg: TextConfig
    compute: Compute = Compute()

    def setup(self):
        cfg, dtype = self.cfg, self.compute.dtype
        self.token = TokenEmbed(cfg.vocab_size, cfg.width, dtype=dtype)
        init = nn.initializers.normal(0.01)
        self.pos = read_weight(self, "pos", init, (cfg.max_len, cfg.width))
        block = BlockConfig(
            cfg.width,
            cfg.num_heads,
            cfg.mlp_dim,
            cfg.activation,
            cfg.norm_eps,
            dropout=cfg.dropout,
            std=clip_std(cfg.width, cfg.depth),
        )
        self.stack = Stack(Block(block, self.compute, parent=None), cfg.depth)
        self.blocks = self.stack.declare(self, "blocks")
        self.final_norm = Norm(cfg.norm_eps, dtype=dtype)

    def __call__(self, text: jax.Array, text_mask: jax.Array | None = None) -> TextOutput:
        """Encodes token ids.

        Args:
          text: int32[B, T], T at most `max_len`.
          text_mask: bool[B, T], True on tokens; default all. Read where not causal, and by 'mean'.
        """
        cfg, length = self.cfg, text.shape[1]
        if length > cfg.max_len:
            raise UserError(
                f"text: {length} tokens, the model has {cfg.max_len} positions: truncate"
            )
        if text_mask is None:
            text_mask = jnp.ones(text.shape, bool)
        x = self.token(text)
        x = constrain(x + self.pos[:length].astype(x.dtype), "batch", None, None)
        if cfg.causal:
            mask = masks.causal(length, length)
        else:
            mask = None if cfg.see_padding else masks.padding(text_mask)
        dropout_rng = self.make_rng("dropout") if self.has_rng("dropout") else None
        ctx = Context(mask=mask, causal=cfg.causal)
        x, _ = self.stack(self.blocks, x, None, ctx, dropout_rng)
        x = self.final_norm(x)
        return TextOutput(x, self._pool(x, text, text_mask))

    def _pool(self, x: jax.Array, text: jax.Array, text_mask: jax.Array) -> jax.Array:
        if self.cfg.pool == "mean":
            weight = text_mask[:, :, None].astype(jnp.float32)
            return (x * weight).sum(1) / jnp.maximum(weight.sum(1), 1)
        if self.cfg.pool == "last":
            return x[:, -1]
        score = text if self.cfg.pool == "argmax" else text == self.cfg.eos_id
        return jnp.take_along_axis(x, score.argmax(-1)[:, None, None], axis=1)[:, 0]
