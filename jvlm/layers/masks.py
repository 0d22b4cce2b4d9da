# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention masks: bool, True where a query (row) may see a key (column).

All of them broadcast to [B, N, T, S], and `&` combines them.

    causal(4, 4)      prefix, 2 seen by all     padding([1, 1, 1, 0])
    x . . .           x x . .                   x x x .
    x x . .           x x . .                   x x x .
    x x x .           x x x .                   x x x .
    x x x x           x x x x                   x x x .

    blocks([0, 0, 1, 2])  (tokens of one number see each other and all smaller numbers)
    x x . .
    x x . .
    x x x .
    x x x x
"""

import jax
import jax.numpy as jnp


def padding(valid: jax.Array) -> jax.Array:
    """valid bool[B, S] -> bool[B, 1, 1, S]."""
    return valid[:, None, None, :]


def causal(query_len: int, key_len: int, offset: int | jax.Array = 0) -> jax.Array:
    """bool[1, 1, T, S]; query t stands at key position `offset + t`."""
    rows = jnp.arange(query_len)[:, None] + offset
    return (jnp.arange(key_len)[None, :] <= rows)[None, None]


def blocks(index: jax.Array) -> jax.Array:
    """index int[B, T], non-decreasing -> bool[B, 1, T, T]; see the picture above.

    Causal is index = 0, 1, 2, ...; bidirectional is all zeros; a prefix language model is zeros
    for the prefix and 1, 2, ... after it (the 'mask_ar' idea of PaliGemma in big_vision).
    """
    return (index[:, None, :] <= index[:, :, None])[:, None]


def prefix(prefix_len: jax.Array, length: int) -> jax.Array:
    """prefix_len int[B] -> bool[B, 1, T, T]: the prefix sees itself, the rest is causal."""
    position = jnp.arange(length)[None, :]
    return blocks(jnp.maximum(position - prefix_len[:, None] + 1, 0))
