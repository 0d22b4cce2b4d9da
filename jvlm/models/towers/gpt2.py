# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""GPT-2 (Radford et al. 2019): learned positions, pre-norm blocks, the token table as output.

Source: openai/gpt-2 src/model.py; transformers models/gpt2.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jvlm.layers import Block, BlockConfig, Norm, Stack, TokenEmbed, check_block
from jvlm.models.towers.decoder import Decoder, output_layer
from jvlm.precision import read_weight

STD = 0.02


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """Shape of a GPT-2.

    Attributes:
      vocab_size: V.
      max_len: number of positions.
      width, depth, num_heads, mlp_dim: as usual.
      activation: a key of `layers.ACTIVATIONS`.
      norm_eps: epsilon of every norm.
      tied: the token table is the output layer too.
      dropout: rate on residual branches.
      bos_id, eos_id, pad_id: special ids; None where there is none.
    """

    vocab_size: int
    max_len: int
    width: int
    depth: int
    num_heads: int
    mlp_dim: int
    activation: str = "gelu_tanh"
    norm_eps: float = 1e-5
    tied: bool = True
    dropout: float = 0.0
    bos_id: int | None = 50256
    eos_id: int | tuple[int, ...] | None = 50256
    pad_id: int | None = None

    kind = "gpt2"

    def __post_init__(self):
        check_block(self, "gpt2")


class GPT2(Decoder):
    """See `Decoder`."""

    cfg: GPT2Config

    def setup(self):
        cfg, dtype = self.cfg, self.compute.dtype
        self.token = TokenEmbed(cfg.vocab_size, cfg.width, STD, dtype)
        init = jax.nn.initializers.normal(STD)
        self.pos = read_weight(self, "pos", init, (cfg.max_len, cfg.width))
        narrow = STD / (2 * cfg.depth) ** 0.5
        block = BlockConfig(
            cfg.width,
            cfg.num_heads,
            cfg.mlp_dim,
            cfg.activation,
            cfg.norm_eps,
            dropout=cfg.dropout,
            std=(STD, narrow, STD, narrow),
        )
        self.stack = Stack(Block(block, self.compute, parent=None), cfg.depth)
        self.blocks = self.stack.declare(self, "blocks")
        self.final_norm = Norm(cfg.norm_eps, dtype=dtype)
        if not cfg.tied:
            self.lm_head = output_layer(cfg, cfg.width, STD, dtype)

    def enter(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        return x + jnp.take(self.pos, positions, axis=0, mode="clip").astype(x.dtype)


# openai/gpt-2 model_card.md; transformers' openai-community/gpt2*.
VARIANTS: dict[str, GPT2Config] = {
    name: GPT2Config(50257, 1024, width, depth, heads, 4 * width)
    for name, width, depth, heads in (
        ("small", 768, 12, 12),
        ("medium", 1024, 24, 16),
        ("large", 1280, 36, 20),
        ("xl", 1600, 48, 25),
    )
}
