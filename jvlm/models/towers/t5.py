# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5 (arXiv:1910.10683): an encoder and a decoder with relative positions, RMS norms and no biases.

The first release ties the token table to the output layer and scales what enters that; version 1.1
(and Flan-T5, arXiv:2210.11416) has an output layer of its own and a gated mlp.

Source: google-research/text-to-text-transfer-transformer; transformers models/t5.
"""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jvlm.layers import (
    Block,
    BlockConfig,
    Context,
    Norm,
    Stack,
    TokenEmbed,
    check_block,
    masks,
)
from jvlm.models.towers.decoder import Batch, Decoder, output_layer, shift_right
from jvlm.precision import Compute, read_weight
from jvlm.sharding import constrain


@dataclasses.dataclass(frozen=True)
class T5Config:
    """Shape of a T5.

    Attributes:
      vocab_size: V.
      width, num_heads, head_dim, mlp_dim: as usual; heads may be wider or narrower than D in all.
      depth: layers of the encoder, and of the decoder where it has no depth of its own.
      decoder_depth: layers of the decoder.
      activation: a key of `layers.ACTIVATIONS`.
      gated: gated mlp.
      norm_eps: epsilon of every norm.
      num_buckets: distances that the relative positions tell apart, per head and stack.
      max_distance: from which on all are one.
      tied: the token table is the output layer too.
      scale_output: final states are multiplied by D ** -0.5 before the output layer.
      dropout: rate on residual branches.
      start_id: what the decoder reads first.
      eos_id, pad_id: special ids.
      bos_id: none.
    """

    vocab_size: int
    width: int
    depth: int
    num_heads: int
    head_dim: int
    mlp_dim: int
    decoder_depth: int | None = None
    activation: str = "relu"
    gated: bool = False
    norm_eps: float = 1e-6
    num_buckets: int = 32
    max_distance: int = 128
    tied: bool = True
    scale_output: bool = True
    dropout: float = 0.0
    start_id: int = 0
    bos_id: int | None = None
    eos_id: int | tuple[int, ...] | None = 1
    pad_id: int = 0

    kind = "t5"
    max_len = None  # Distances have no end.

    def __post_init__(self):
        check_block(self, "t5")


class T5(Decoder):
    """See `Decoder`. Its batches' `text` and `prefix` are the encoder's.

    The decoder reads `decoder_text` (with `decoder_mask`) or, where there is none, `labels` behind
    the start token; neither is the start token alone.
    """

    cfg: T5Config

    encoder_decoder = True

    def setup(self):
        cfg, dtype = self.cfg, self.compute.dtype
        self.token = TokenEmbed(cfg.vocab_size, cfg.width, 1.0, dtype)
        self.encoder = Encoder(cfg, self.compute)
        block = block_config(cfg, cfg.width)
        self.stack = Stack(Block(block, self.compute, parent=None), cfg.decoder_depth or cfg.depth)
        self.blocks = self.stack.declare(self, "blocks")
        self.relative = RelativeBias(cfg, bidirectional=False)
        self.final_norm = Norm(cfg.norm_eps, "rms", dtype)
        if not cfg.tied:
            self.lm_head = output_layer(cfg, cfg.width, cfg.width**-0.5, dtype)

    def encode(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        x, mask, _ = super().inputs(batch)
        return self.encoder(x, mask, batch.get("positions")), mask

    def inputs(self, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        text, mask = batch.get("decoder_text"), batch.get("decoder_mask")
        if text is None:
            labels = batch.get("labels", jnp.zeros((len(batch["text"]), 1), jnp.int32))
            text = shift_right(labels, self.cfg.start_id, self.cfg.pad_id)
        mask = jnp.ones(text.shape, bool) if mask is None else mask
        return self.token(text), mask, jnp.arange(text.shape[1])[None]

    def bias(self, queries: jax.Array, keys: jax.Array) -> jax.Array:
        return self.relative(queries, keys)

    def head(self, x: jax.Array) -> jax.Array:
        return super().head(x * self.cfg.width**-0.5 if self.cfg.scale_output else x)

    def dummy_batch(self, rows: int) -> dict[str, jax.Array]:
        return {name: jnp.zeros((rows, 2), jnp.int32) for name in ("text", "decoder_text")}


class Encoder(nn.Module):
    """Blocks in which all tokens see each other, and the final norm."""

    cfg: T5Config
    compute: Compute = Compute()

    def setup(self):
        cfg = self.cfg
        self.stack = Stack(Block(block_config(cfg), self.compute, parent=None), cfg.depth)
        self.blocks = self.stack.declare(self, "blocks")
        self.relative = RelativeBias(cfg, bidirectional=True)
        self.final_norm = Norm(cfg.norm_eps, "rms", self.compute.dtype)

    def __call__(
        self, x: jax.Array, mask: jax.Array, positions: jax.Array | None = None
    ) -> jax.Array:
        """Encodes vectors.

        Args:
          x: [B, S, D].
          mask: bool[B, S], True on tokens.
          positions: int32[B, S]; default the place in the row, padding counted.

        Returns:
          [B, S, D].
        """
        if positions is None:
            positions = jnp.arange(x.shape[1])[None]
        ctx = Context(mask=masks.padding(mask), bias=self.relative(positions, positions))
        dropout_rng = self.make_rng("dropout") if self.has_rng("dropout") else None
        x, _ = self.stack(self.blocks, x, None, ctx, dropout_rng)
        return self.final_norm(x)


class RelativeBias(nn.Module):
    """One number per head and bucket of distances, added to all layers' attention logits.

    Attributes:
      cfg: shape.
      bidirectional: half of the buckets are for keys behind the query.
    """

    cfg: T5Config
    bidirectional: bool

    @nn.compact
    def __call__(self, queries: jax.Array, keys: jax.Array) -> jax.Array:
        """Positions int32[B or 1, T] and int32[B or 1, S] -> float32[B or 1, N, T, S]."""
        cfg = self.cfg
        init = nn.initializers.normal(cfg.width**-0.5)
        table = read_weight(self, "table", init, (cfg.num_buckets, cfg.num_heads))
        buckets = cfg.num_buckets // 2 if self.bidirectional else cfg.num_buckets
        before = queries[:, :, None] - keys[:, None, :]
        distance = jnp.abs(before) if self.bidirectional else jnp.maximum(before, 0)
        of_distance = jnp.asarray(buckets_of_distance(buckets, cfg.max_distance))
        bucket = jnp.take(of_distance, distance, mode="clip")
        if self.bidirectional:
            bucket += jnp.where(before < 0, buckets, 0)
        bias = jnp.moveaxis(jnp.take(table, bucket, axis=0, mode="clip"), -1, 1)
        return constrain(bias, None, "heads", None, None)


@functools.cache
def buckets_of_distance(buckets: int, max_distance: int) -> np.ndarray:
    """int32[max_distance + 1]: half of the buckets are one distance each, then they widen.

    Rounded as transformers' float32 rounds (modeling_t5.py `_relative_position_bucket`).
    """
    exact = buckets // 2
    distance = np.arange(max_distance + 1)
    octaves = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    octaves = octaves / np.float32(math.log(max_distance / exact))
    wide = exact + (octaves * np.float32(buckets - exact)).astype(np.int32)
    return np.where(distance < exact, distance, np.minimum(wide, buckets - 1)).astype(np.int32)


def block_config(cfg: T5Config, memory_width: int | None = None) -> BlockConfig:
    """The block of a T5, with the initial scales of Mesh TensorFlow."""
    std = cfg.width**-0.5
    return BlockConfig(
        cfg.width,
        cfg.num_heads,
        cfg.mlp_dim,
        cfg.activation,
        cfg.norm_eps,
        norm="rms",
        head_dim=cfg.head_dim,
        gated=cfg.gated,
        qkv_bias=False,
        out_bias=False,
        mlp_bias=False,
        memory_width=memory_width,
        attn_scale=1.0,  # It is in q's initial scale instead.
        dropout=cfg.dropout,
        std=(std, (cfg.num_heads * cfg.head_dim) ** -0.5, std, cfg.mlp_dim**-0.5),
        q_std=(cfg.width * cfg.head_dim) ** -0.5,
    )


_GATED = {"activation": "gelu_tanh", "gated": True, "tied": False, "scale_output": False}
_V1_1 = (
    ("small", 512, 8, 6, 64, 1024),
    ("base", 768, 12, 12, 64, 2048),
    ("large", 1024, 24, 16, 64, 2816),
    ("xl", 2048, 24, 32, 64, 5120),
    ("xxl", 4096, 24, 64, 64, 10240),
)

# Section 3.8 of the paper and its repository's released_checkpoints.md.
VARIANTS: dict[str, T5Config] = {
    "t5-small": T5Config(32128, 512, 6, 8, 64, 2048),
    "t5-base": T5Config(32128, 768, 12, 12, 64, 3072),
    "t5-large": T5Config(32128, 1024, 24, 16, 64, 4096),
    "t5-3b": T5Config(32128, 1024, 24, 32, 128, 16384),
    "t5-11b": T5Config(32128, 1024, 24, 128, 128, 65536),
    **{
        f"{family}-{name}": T5Config(32128, *sizes, **_GATED)
        for family in ("t5-v1.1", "flan-t5")
        for name, *sizes in _V1_1
    },
}
