# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The key-value cache of a decoder: an explicit pytree, never a mutable collection."""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class KVCache:
    """Keys and values of one layer; with a leading `layers` axis on k and v, of a whole stack.

    Slot is not position: prompts are right-padded to a bucket and new tokens go to slots P, P+1,
    ... shared by all rows, while positions are explicit (`Context.positions`). The masks say
    which slots hold something.

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

    def write(self, k: jax.Array, v: jax.Array, slot: jax.Array) -> "KVCache":
        """Stores k, v [B, T, K, H] of one layer at slots `slot`, `slot + 1`, ..."""
        at = (0, slot, 0, 0)
        return KVCache(
            jax.lax.dynamic_update_slice(self.k, k.astype(self.k.dtype), at),
            jax.lax.dynamic_update_slice(self.v, v.astype(self.v.dtype), at),
        )
