# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""LLaMA (arXiv:2302.13971, 2307.09288, 2407.21783): rotary positions, RMS norms, gated silu.

Vicuna and TinyLlama are other weights of the same. No projection has a bias.

Source: meta-llama/llama llama/model.py; transformers models/llama.
"""

import dataclasses

from jvlm.errors import UserError
from jvlm.layers import Block, BlockConfig, Norm, Rope, Stack, TokenEmbed, check_block
from jvlm.models.towers.decoder import Decoder, output_layer

STD = 0.02


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Shape of a LLaMA.

    Attributes:
      vocab_size: V.
      max_len: tokens that it was trained to read.
      width, depth, num_heads, mlp_dim: as usual.
      num_kv_heads: K; default N.
      head_dim: H; default D / N.
      activation: a key of `layers.ACTIVATIONS`.
      norm_eps: epsilon of every norm.
      rope: rotary positions.
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
    num_kv_heads: int | None = None
    head_dim: int | None = None
    activation: str = "silu"
    norm_eps: float = 1e-5
    rope: Rope = Rope()
    tied: bool = False
    dropout: float = 0.0
    bos_id: int | None = 1
    eos_id: int | tuple[int, ...] | None = 2
    pad_id: int | None = None

    kind = "llama"

    def __post_init__(self):
        check_block(self, "llama")
        if self.num_heads % (self.num_kv_heads or 1):
            raise UserError(
                f"llama: num_heads {self.num_heads} is no multiple of num_kv_heads "
                f"{self.num_kv_heads}"
            )


class Llama(Decoder):
    """See `Decoder`."""

    cfg: LlamaConfig

    def setup(self):
        cfg, dtype = self.cfg, self.compute.dtype
        self.token = TokenEmbed(cfg.vocab_size, cfg.width, STD, dtype)
        block = BlockConfig(
            cfg.width,
            cfg.num_heads,
            cfg.mlp_dim,
            cfg.activation,
            cfg.norm_eps,
            norm="rms",
            num_kv_heads=cfg.num_kv_heads,
            head_dim=cfg.head_dim,
            gated=True,
            qkv_bias=False,
            out_bias=False,
            mlp_bias=False,
            rope=cfg.rope,
            dropout=cfg.dropout,
            std=(STD,) * 4,
        )
        self.stack = Stack(Block(block, self.compute, parent=None), cfg.depth)
        self.blocks = self.stack.declare(self, "blocks")
        self.final_norm = Norm(cfg.norm_eps, "rms", dtype)
        if not cfg.tied:
            self.lm_head = output_layer(cfg, cfg.width, STD, dtype)


SIZES = {
    "7b": (4096, 32, 32, 11008),
    "13b": (5120, 40, 40, 13824),
    "30b": (6656, 60, 52, 17920),
    "65b": (8192, 80, 64, 22016),
    "70b": (8192, 80, 64, 28672),
}


def _llama(size: str, max_len: int, norm_eps: float = 1e-5, **options) -> LlamaConfig:
    return LlamaConfig(32000, max_len, *SIZES[size], norm_eps=norm_eps, **options)


def _llama3(*sizes: int, max_len: int = 131072, factor: float | None = None, **options):
    """The third generation: 128,000 tokens; from 3.1 on with stretched wavelengths."""
    bands = {"factor": factor, "low_freq": 1.0, "high_freq": 4.0, "original_len": 8192}
    rope = Rope(500_000.0, **(bands if factor else {}))
    ids = {"bos_id": 128000, "eos_id": 128001}
    return LlamaConfig(128256, max_len, *sizes, num_kv_heads=8, rope=rope, **ids, **options)


# Table 2 of the first paper, section 2 and appendix A of the second, table 3 of the third; the
# files of meta-llama, lmsys and TinyLlama.
VARIANTS: dict[str, LlamaConfig] = {
    **{f"llama-{size}": _llama(size, 2048, 1e-6) for size in ("7b", "13b", "30b")},
    "llama-65b": _llama("65b", 2048),
    **{f"llama-2-{size}": _llama(size, 4096) for size in ("7b", "13b")},
    "llama-2-70b": _llama("70b", 4096, num_kv_heads=8),
    **{
        f"vicuna-{size}-{version}": _llama(size, 2048, 1e-6, pad_id=0)
        for size in ("7b", "13b")
        for version in ("v1.1", "v1.3")
    },
    **{f"vicuna-{size}-v1.5": _llama(size, 4096, pad_id=0) for size in ("7b", "13b")},
    **{
        f"vicuna-{size}-v1.5-16k": _llama(size, 16384, rope=Rope(factor=4.0), pad_id=0)
        for size in ("7b", "13b")
    },
    "tinyllama-1.1b": LlamaConfig(32000, 2048, 2048, 22, 32, 5632, num_kv_heads=4),
    "llama-3-8b": _llama3(4096, 32, 32, 14336, max_len=8192),
    "llama-3-70b": _llama3(8192, 80, 64, 28672, max_len=8192),
    "llama-3.1-8b": _llama3(4096, 32, 32, 14336, factor=8.0),
    "llama-3.1-70b": _llama3(8192, 80, 64, 28672, factor=8.0),
    "llama-3.2-1b": _llama3(2048, 16, 32, 8192, factor=32.0, tied=True),
    "llama-3.2-3b": _llama3(3072, 28, 24, 8192, factor=32.0, tied=True),
}
