# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BERT (arXiv:1810.04805) as a text tower (Chinese-CLIP); as a language model: `bert_lm`.

Embeddings and block shape stand on their own, so that towers which put cross-attention into some
of the blocks (ALBEF, BLIP, the Q-Former) are made of the same pieces.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.layers import Block, BlockConfig, Context, Norm, Stack, TokenEmbed, check_block, masks
from jvlm.models.towers.text_transformer import TextOutput
from jvlm.precision import Compute, read_weight
from jvlm.sharding import constrain


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Shape of a BERT.

    Attributes:
      vocab_size: V.
      max_len: number of positions.
      width, depth, num_heads, mlp_dim: as usual.
      activation: a key of `layers.ACTIVATIONS`.
      norm_eps: epsilon of every norm.
      num_types: rows of the token type table; single texts have type 0. 0 is no table.
      pad_id: ids equal to it are padding where a batch has no `text_mask`.
      dropout: rate on the embeddings and on residual branches (0.1 in BERT's training).
      attn_dropout: rate on attention probabilities (0.1 there too).
      init_std: initial standard deviation of all weights (BERT's `initializer_range`).
    """

    vocab_size: int
    max_len: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    activation: str = "gelu"
    norm_eps: float = 1e-12
    num_types: int = 2
    pad_id: int = 0
    dropout: float = 0.0
    attn_dropout: float = 0.0
    init_std: float = 0.02

    kind = "bert"

    def __post_init__(self):
        check_block(self, "bert")

    @property
    def pooled_width(self) -> int:
        """Width of `TextOutput.pooled`."""
        return self.width


class BertEmbed(nn.Module):
    """Sum of token, position and type vectors, normed.

    Attributes:
      cfg: shape.
      dtype: compute dtype.
    """

    cfg: BertConfig
    dtype: str = "float32"

    def setup(self):
        cfg = self.cfg
        init = nn.initializers.normal(cfg.init_std)
        self.token = TokenEmbed(cfg.vocab_size, cfg.width, cfg.init_std, self.dtype)
        self.pos = read_weight(self, "pos", init, (cfg.max_len, cfg.width))
        if cfg.num_types:
            self.type = read_weight(self, "type", init, (cfg.num_types, cfg.width))
        self.norm = Norm(cfg.norm_eps, dtype=self.dtype)
        self.dropout = nn.Dropout(cfg.dropout)

    def __call__(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        """Token vectors [B, T, D] of type 0, positions int32[B or 1, T] -> dtype[B, T, D]."""
        pos = jnp.take(self.pos, positions, axis=0, mode="clip")
        if self.cfg.num_types:
            pos = pos + self.type[0]
        x = x + pos.astype(x.dtype)
        x = constrain(self.norm(x), "batch", None, None)
        return self.dropout(x, deterministic=not self.has_rng("dropout"))


class Bert(nn.Module):
    """Embeddings and post-norm blocks; the pooled vector is the last state of [CLS]."""

    cfg: BertConfig
    compute: Compute = Compute()

    def setup(self):
        cfg = self.cfg
        self.embed = BertEmbed(cfg, self.compute.dtype)
        self.stack = Stack(Block(block_config(cfg), self.compute, parent=None), cfg.depth)
        self.blocks = self.stack.declare(self, "blocks")

    def __call__(self, text: jax.Array, text_mask: jax.Array | None = None) -> TextOutput:
        """Encodes token ids.

        Args:
          text: int32[B, T], [CLS] first.
          text_mask: bool[B, T], True on tokens; default `text != pad_id`.
        """
        cfg, length = self.cfg, text.shape[1]
        check_length(cfg, text)
        if text_mask is None:
            text_mask = text != cfg.pad_id
        x = self.embed(self.embed.token(text), jnp.arange(length)[None])
        dropout_rng = self.make_rng("dropout") if self.has_rng("dropout") else None
        ctx = Context(mask=masks.padding(text_mask))
        x, _ = self.stack(self.blocks, x, None, ctx, dropout_rng)
        return TextOutput(x, x[:, 0])


def check_length(cfg: BertConfig, text: jax.Array) -> None:
    """Raises UserError where texts int32[B, T] are longer than the table of positions."""
    if text.shape[1] > cfg.max_len:
        raise UserError(
            f"{cfg.kind}: {text.shape[1]} tokens, the model has {cfg.max_len} positions: truncate"
        )


def block_config(cfg: BertConfig, memory_width: int | None = None) -> BlockConfig:
    """The block of a BERT."""
    return BlockConfig(
        cfg.width,
        cfg.num_heads,
        cfg.mlp_dim,
        cfg.activation,
        cfg.norm_eps,
        placement="post",
        memory_width=memory_width,
        dropout=cfg.dropout,
        attn_dropout=cfg.attn_dropout,
        std=(cfg.init_std,) * 4,
    )
