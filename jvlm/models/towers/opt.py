# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""OPT (arXiv:2205.01068): learned positions from row 2 on, ReLU, the token table as output.

The 350 M model differs: its norms come after the branches, it has none at the end, and its tokens
(and soft prompts) are half as wide as its layers, with a projection on either side.

Source: facebookresearch/metaseq; transformers models/opt.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.layers import Block, BlockConfig, Linear, Norm, Stack, TokenEmbed, check_block
from jvlm.models.towers.decoder import Decoder, output_layer
from jvlm.precision import read_weight

STD = 0.006  # Section 2.2, after Megatron.
OFFSET = 2  # Rows of the position table before that of the first token; fairseq's, never trained.


@dataclasses.dataclass(frozen=True)
class OPTConfig:
    """Shape of an OPT.

    Attributes:
      vocab_size: V.
      max_len: number of positions.
      width, depth, num_heads, mlp_dim: as usual.
      token_width: of the token vectors, where that is not `width`.
      activation: a key of `layers.ACTIVATIONS`.
      norm_eps: epsilon of every norm.
      post_norm: norms behind the branches and none at the end.
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
    token_width: int | None = None
    activation: str = "relu"
    norm_eps: float = 1e-5
    post_norm: bool = False
    tied: bool = True
    dropout: float = 0.0
    bos_id: int | None = 2
    eos_id: int | tuple[int, ...] | None = 2
    pad_id: int | None = 1

    kind = "opt"

    def __post_init__(self):
        check_block(self, "opt")
        if self.token_width == self.width:
            raise UserError("opt: token_width equals width: leave it out")


class OPT(Decoder):
    """See `Decoder`."""

    cfg: OPTConfig

    def setup(self):
        cfg, dtype = self.cfg, self.compute.dtype
        token_width = cfg.token_width or cfg.width
        self.token = TokenEmbed(cfg.vocab_size, token_width, STD, dtype)
        init = jax.nn.initializers.normal(STD)
        self.pos = read_weight(self, "pos", init, (cfg.max_len + OFFSET, cfg.width))
        narrow = STD / (2 * cfg.depth) ** 0.5
        block = BlockConfig(
            cfg.width,
            cfg.num_heads,
            cfg.mlp_dim,
            cfg.activation,
            cfg.norm_eps,
            placement="post" if cfg.post_norm else "pre",
            dropout=cfg.dropout,
            std=(STD, narrow, STD, narrow),
        )
        self.stack = Stack(Block(block, self.compute, parent=None), cfg.depth)
        self.blocks = self.stack.declare(self, "blocks")
        if not cfg.post_norm:
            self.final_norm = Norm(cfg.norm_eps, dtype=dtype)
        if cfg.token_width:
            plain = {"std": STD, "use_bias": False, "dtype": dtype}
            self.in_proj = Linear((token_width,), (cfg.width,), **plain)
            self.out_proj = Linear((cfg.width,), (token_width,), **plain)
        if not cfg.tied:
            self.lm_head = output_layer(cfg, token_width, STD, dtype)

    def enter(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        x = self.in_proj(x) if self.cfg.token_width else x
        return x + jnp.take(self.pos, positions + OFFSET, axis=0, mode="clip").astype(x.dtype)

    def leave(self, x: jax.Array) -> jax.Array:
        x = x if self.cfg.post_norm else self.final_norm(x)
        return self.out_proj(x) if self.cfg.token_width else x


# Table 1 of the paper; transformers' facebook/opt-*.
VARIANTS: dict[str, OPTConfig] = {
    name: OPTConfig(50272, 2048, width, depth, heads, 4 * width, **options)
    for name, width, depth, heads, options in (
        ("125m", 768, 12, 12, {}),
        ("350m", 1024, 24, 16, {"token_width": 512, "post_norm": True}),
        ("1.3b", 2048, 24, 32, {}),
        ("2.7b", 2560, 32, 32, {}),
        ("6.7b", 4096, 32, 32, {}),
        ("13b", 5120, 40, 40, {}),
        ("30b", 7168, 48, 56, {}),
        ("66b", 9216, 64, 72, {}),
        ("175b", 12288, 96, 96, {}),
    )
}
