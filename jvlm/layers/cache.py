# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a decoder remembers: explicit pytrees, never a mutable collection.

Slot is not position. Rows of a batch share slots: prompts are padded to a common length P, what is
decoded goes to slots P, P + 1, ... of all rows, and masks say who sees which slot. Positions are
explicit. So several continuations of one prompt (beams, samples, candidates) are simply several
tokens of one row that do not see each other: nothing is tiled, reordered or copied for them.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jvlm.sharding import constrain


@flax.struct.dataclass
class KVCache:
    """Keys and values of one layer; with a leading `layers` axis, of a whole stack.

    Attributes:
      k: [B, S, K, H].
      v: [B, S, K, H].
    """

    k: jax.Array
    v: jax.Array

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: str) -> "KVCache":
        """Zeros of [layers, B, S, K, H] (or one layer's shape)."""
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def write(self, k: jax.Array, v: jax.Array, slot: jax.Array | None) -> "KVCache":
        """Stores k, v [B, T, K, H] of one layer at slots `slot`, `slot + 1`, ...

        A cache without slots (S = 0) becomes one of T: so a prompt attends to itself and not to
        the free slots behind it.
        """
        if self.k.shape[-3] == 0:
            return KVCache(k, v)
        at = (0, slot, 0, 0)
        return KVCache(
            jax.lax.dynamic_update_slice(self.k, k.astype(self.k.dtype), at),
            jax.lax.dynamic_update_slice(self.v, v.astype(self.v.dtype), at),
        )

    def grow(self, slots: int) -> "KVCache":
        """With free slots behind the others, `slots` in all."""
        free = [(0, 0)] * self.k.ndim
        free[-3] = (0, slots - self.k.shape[-3])
        names = (None, "batch", None, "kv_heads", None)[-self.k.ndim :]
        return KVCache(*(constrain(jnp.pad(x, free), *names) for x in (self.k, self.v)))


@flax.struct.dataclass
class DecodeCache:
    """What `prefill` gives and `extend` takes.

    Attributes:
      layers: {'attn': KVCache, 'cross_attn': KVCache of the encoder's states, where there is one}
        with a leading `layers` axis, or a tuple of one per layer.
      valid: bool[B, S], slots that hold a token.
      positions: int32[B, S], of the tokens in the slots.
      next_position: int32[B], of the token that follows.
      slot: int32 scalar, the first free slot.
      memory_valid: bool[B, M], tokens of the encoder; None without an encoder.
    """

    layers: Any
    valid: jax.Array
    positions: jax.Array
    next_position: jax.Array
    slot: jax.Array
    memory_valid: jax.Array | None = None
