# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Transformer math, written once.

Shape legend, used in every docstring and einsum of the package:
  B batch, T query length, S key length, N heads, K kv heads, H head dim, D width, F mlp,
  V vocab, P patches, Q queries, E shared embedding.
"""

from jvlm.layers.attention import Attention, attend
from jvlm.layers.block import Block, BlockConfig, Context, Tap, check_block
from jvlm.layers.cache import DecodeCache, KVCache
from jvlm.layers.embed import (
    Conv,
    ConvStem,
    PatchEmbed,
    TokenEmbed,
    cubic_weights,
    resize_positions,
)
from jvlm.layers.linear import Linear
from jvlm.layers.mlp import ACTIVATIONS, Mlp
from jvlm.layers.norm import BatchNorm, Norm, l2_normalize
from jvlm.layers.rope import Rope
from jvlm.layers.stack import REMAT_POLICIES, Stack, unstack

__all__ = [
    "ACTIVATIONS",
    "Attention",
    "BatchNorm",
    "Block",
    "BlockConfig",
    "Context",
    "Conv",
    "ConvStem",
    "DecodeCache",
    "KVCache",
    "Linear",
    "Mlp",
    "Norm",
    "PatchEmbed",
    "REMAT_POLICIES",
    "Rope",
    "Stack",
    "Tap",
    "TokenEmbed",
    "attend",
    "check_block",
    "cubic_weights",
    "l2_normalize",
    "resize_positions",
    "unstack",
]
