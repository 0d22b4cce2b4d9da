# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""BERT (arXiv:1810.04805) as a language model: masked, or causal and with cross-attention.

Source: google-research/bert modeling.py, run_pretraining.py `get_masked_lm_output`; transformers
models/bert.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.layers import ACTIVATIONS, Block, Linear, Norm, Stack, TokenEmbed
from jvlm.models.towers.bert import BertConfig, BertEmbed, block_config
from jvlm.models.towers.decoder import Batch, Decoder
from jvlm.precision import Compute, read_weight


@dataclasses.dataclass(frozen=True)
class BertLMConfig(BertConfig):
    """Shape of a BERT with its output layer.

    Attributes: those of `BertConfig` and
      causal: tokens see only what precedes them: a decoder. Otherwise logits at t are of token t.
      memory_width: width of the states that every block attends to (a batch's `memory`
        [B, M, memory_width] and `memory_mask` bool[B, M]); None for blocks without
        cross-attention.
      bos_id, eos_id: special ids; None where there is none.
    """

    causal: bool = False
    memory_width: int | None = None
    bos_id: int | None = None
    eos_id: int | tuple[int, ...] | None = None


class BertLM(Decoder):
    """See `Decoder`."""

    cfg: BertLMConfig

    def setup(self):
        cfg = self.cfg
        self.embed = BertEmbed(cfg, self.compute.dtype)
        block = block_config(cfg, cfg.memory_width)
        self.stack = Stack(Block(block, self.compute, parent=None), cfg.depth)
        self.blocks = self.stack.declare(self, "blocks")
        self.words = WordHead(cfg, self.compute)

    @property
    def causal(self) -> bool:
        return self.cfg.causal

    @property
    def token(self) -> TokenEmbed:
        return self.embed.token

    def encode(self, batch: Batch) -> tuple[jax.Array | None, jax.Array | None]:
        if self.cfg.memory_width is None:
            return None, None
        if "memory" not in batch:
            raise UserError("bert: its blocks attend to states: give the batch a memory")
        return batch["memory"], batch.get("memory_mask")

    def enter(self, x: jax.Array, positions: jax.Array) -> jax.Array:
        return self.embed(x, positions)

    def leave(self, x: jax.Array) -> jax.Array:
        return x  # Normed by the last block.

    def head(self, x: jax.Array) -> jax.Array:
        return self.words(x, self.token)

    def dummy_batch(self, rows: int) -> dict[str, jax.Array]:
        batch = super().dummy_batch(rows)
        if self.cfg.memory_width is not None:
            batch["memory"] = jnp.zeros((rows, 1, self.cfg.memory_width))
        return batch


class WordHead(nn.Module):
    """BERT's output layer: a transform, the token table, a bias."""

    cfg: BertConfig
    compute: Compute = Compute()

    def setup(self):
        cfg, dtype = self.cfg, self.compute.dtype
        self.proj = Linear((cfg.width,), (cfg.width,), cfg.init_std, dtype=dtype)
        self.norm = Norm(cfg.norm_eps, dtype=dtype)
        self.bias = read_weight(self, "bias", nn.initializers.zeros, (cfg.vocab_size,))

    def __call__(self, x: jax.Array, token: TokenEmbed) -> jax.Array:
        """Final states [..., D], the model's token table -> logits float32[..., V]."""
        x = ACTIVATIONS[self.cfg.activation](self.proj(x))
        return token.attend(self.norm(x)) + self.bias


def _variant(vocab_size: int, width: int = 768, depth: int = 12) -> BertLMConfig:
    return BertLMConfig(vocab_size, 512, width, depth, width // 64, 4 * width)


# google-research/bert README.md and multilingual.md; ymcui/Chinese-BERT-wwm README.md.
VARIANTS: dict[str, BertLMConfig] = {
    "base-uncased": _variant(30522),
    "large-uncased": _variant(30522, 1024, 24),
    "base-cased": _variant(28996),
    "large-cased": _variant(28996, 1024, 24),
    "base-multilingual-uncased": _variant(105879),
    "base-multilingual-cased": _variant(119547),
    "base-chinese": _variant(21128),
    "roberta-wwm-ext": _variant(21128),
    "roberta-wwm-ext-large": _variant(21128, 1024, 24),
    "rbt3": _variant(21128, 768, 3),
    "rbtl3": _variant(21128, 1024, 3),
}
