# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention: one `attend` with a back-end switch, one module for self- and cross-attention."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm.errors import UserError
from jvlm.layers.cache import KVCache
from jvlm.layers.linear import Linear
from jvlm.layers.rope import Rope, rotate
from jvlm.sharding import constrain

BACKENDS = ("auto", "xla", "cudnn")
CAUSAL_SCOPE = "causal_attention"  # What `jvlm.flops` and profiles know its operations by.


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    mask: jax.Array | None = None,
    bias: jax.Array | None = None,
    scale: float | None = None,
    backend: str = "auto",
    query_chunk: int = 0,
    probs_tap: jax.Array | None = None,
    dropout: float = 0.0,
    dropout_rng: jax.Array | None = None,
) -> jax.Array:
    """dropout(softmax(q k^T * scale + bias)) v, with the softmax in float32.

    Args:
      q: [B, T, N, H].
      k, v: [B, S, K, H]; K divides N, query heads n and n + 1 share a kv head (grouped).
      mask: bool, broadcasts to [B, N, T, S]; False is never attended. A row without any True
        attends everywhere alike, as in BERT's additive -10000.
      bias: float, broadcasts to [B, N, T, S]; added to the scaled logits.
      scale: default 1/sqrt(H).
      backend: 'xla'; 'cudnn' (GPU, 16-bit dtypes); 'auto' takes cuDNN where it can.
      query_chunk: queries at a time on the 'xla' back end, of which no more than
        [B, N, query_chunk, S] logits are held; the backward computes them again
        (arXiv:2112.05682). 0 is all at once, as is an attention whose probabilities are tapped.
      probs_tap: float32[B, N, T, S] ones, multiplied with the probabilities. Its gradient is the
        attention map times the map's own gradient, all that Grad-CAM needs; only the 'xla' back end
        has such a place.
      dropout: rate at which probabilities are set to 0 (BERT); the others grow by 1 / (1 - rate).
      dropout_rng: key; None switches dropout off.

    Returns:
      [B, T, N, H] in the dtype of v.

    Raises:
      ValueError: unknown back end.
      UserError: `probs_tap`, `bias` or dropout with a fused one.
    """
    if backend not in BACKENDS:
        raise ValueError(f"attention back end {backend!r} is unknown, choose from {BACKENDS}")
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    drop = None if not dropout or dropout_rng is None else (dropout, dropout_rng)
    plain = probs_tap is None and bias is None and drop is None
    if backend == "auto":
        backend = "cudnn" if plain and _cudnn_fits(q, k) else "xla"
    if backend == "cudnn":
        # Beside a mask, cuDNN gives a bias no gradient, and says nothing.
        if not plain:
            raise UserError(
                "compute.attention 'cudnn' has no dropout, no bias and no maps: take 'xla'"
            )
        # cuDNN broadcasts over batch and heads, but not over T and S.
        whole = lambda x: (
            x if x is None else jnp.broadcast_to(x, (*x.shape[:2], q.shape[1], k.shape[1]))
        )
        return jax.nn.dot_product_attention(
            q, k, v, mask=whole(mask), scale=scale, implementation="cudnn"
        )
    if query_chunk and probs_tap is None and q.shape[1] > query_chunk:
        return _chunked(q, k, v, mask, bias, scale, query_chunk, drop)
    return _softmax(q, k, v, mask, bias, scale, probs_tap, drop)


def _softmax(q, k, v, mask, bias, scale, probs_tap=None, drop=None):
    """The formula. `drop` is (rate, key) or None."""
    batch, length, heads, head_dim = q.shape
    kv_heads = k.shape[2]
    grouped = q.reshape(batch, length, kv_heads, heads // kv_heads, head_dim)
    logits = jnp.einsum("BTKGH,BSKH->BKGTS", grouped, k, preferred_element_type=jnp.float32)
    logits = logits.reshape(batch, heads, length, -1) * scale
    if bias is not None:
        logits += bias.astype(jnp.float32)
    if mask is not None:
        # The lowest finite number and not -inf: a fully masked row must not become NaN.
        logits = jnp.where(mask, logits, jnp.finfo(jnp.float32).min)
    probs = jax.nn.softmax(logits, axis=-1)
    if probs_tap is not None:
        probs = probs * probs_tap
    if drop is not None:
        rate, key = drop
        kept = jax.random.bernoulli(key, 1 - rate, probs.shape)
        probs = jnp.where(kept, probs / (1 - rate), 0.0)
    weights = probs.astype(v.dtype).reshape(batch, kv_heads, heads // kv_heads, length, -1)
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights, v).reshape(q.shape)


def _chunked(q, k, v, mask, bias, scale, query_chunk, drop=None):
    """The formula for equal pieces of the queries in sequence, keeping nothing for the backward.

    Along the queries, since those are the one axis of the logits that no mesh axis splits.
    """
    length = q.shape[1]
    pieces = -(-length // query_chunk)
    width = -(-length // pieces)

    def cut(x, axis):
        """[..., T, ...] -> [pieces, ..., T / pieces, ...], after padding T to a multiple."""
        pads = [(0, 0)] * x.ndim
        pads[axis] = (0, pieces * width - length)
        x = jnp.pad(x, pads).reshape(*x.shape[:axis], pieces, width, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis, 0)

    # Masks and biases that are the same for all queries are not cut.
    given = {"mask": mask, "bias": bias}
    by_query = {name: x for name, x in given.items() if x is not None and x.shape[2] > 1}
    shared = {name: x for name, x in given.items() if name not in by_query}

    def piece(xs):
        q, by_query, index = xs
        own = drop and (drop[0], jax.random.fold_in(drop[1], index))
        return _softmax(q, k, v, **shared, **by_query, scale=scale, drop=own)

    # In a loop, common-subexpression elimination cannot undo the recomputation.
    piece = jax.checkpoint(piece, prevent_cse=False)
    by_query = {name: cut(x, 2) for name, x in by_query.items()}
    out = jax.lax.map(piece, (cut(q, 1), by_query, jnp.arange(pieces)))
    return jnp.moveaxis(out, 0, 1).reshape(len(q), -1, *q.shape[2:])[:, :length]


def _cudnn_fits(q: jax.Array, k: jax.Array) -> bool:
    """What cuDNN's fused attention takes, gradients included (jax's fused_attention_stablehlo)."""
    head_dim, even = q.shape[-1], q.shape[1] % 2 == 0 and k.shape[1] % 2 == 0
    if q.dtype not in (jnp.bfloat16, jnp.float16) or head_dim % 8 or head_dim > 128 or not even:
        return False
    if jax.default_backend() != "gpu":
        return False
    return float(getattr(jax.local_devices()[0], "compute_capability", 0)) >= 8.0


def _spread(x: jax.Array, rows: tuple[int, ...]) -> jax.Array:
    """[B * (largest + 1), ...] -> [B * len(rows), ...]: of each group the rows that are named."""
    groups = x.reshape(-1, max(rows) + 1, *x.shape[1:])
    return jnp.stack([groups[:, row] for row in rows], 1).reshape(-1, *x.shape[1:])


class Attention(nn.Module):
    """Multi-head attention, self or cross, with grouped kv heads, rotary positions and a cache.

    Attributes:
      width: D of the queries and of the result.
      num_heads, num_kv_heads, head_dim: N, K, H.
      memory_width: D of keys and values where they come from elsewhere (cross-attention).
      qkv_bias, out_bias: biases of the projections.
      rope: of rotary positions; None for none.
      scale: of the logits; default 1/sqrt(H).
      std: initial standard deviations of (q, k and v; out).
      q_std: of q, where it differs.
      dropout: rate on the probabilities, on exactly when a `dropout` rng is given.
      dtype, backend, query_chunk: see `precision.Compute`.
    """

    width: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    memory_width: int | None = None
    qkv_bias: bool = True
    out_bias: bool = True
    rope: Rope | None = None
    scale: float | None = None
    std: tuple[float | None, float | None] = (None, None)
    q_std: float | None = None
    dropout: float = 0.0
    dtype: str = "float32"
    backend: str = "auto"
    query_chunk: int = 0

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array | None = None,
        *,
        mask: jax.Array | None = None,
        bias: jax.Array | None = None,
        positions: jax.Array | None = None,
        cache: KVCache | None = None,
        slot: jax.Array | None = None,
        causal: bool = False,
        memory_rows: tuple[int, ...] | None = None,
        probs_tap: jax.Array | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """Attends from `x` to itself, or to `memory`.

        Args:
          x: [B, T, D].
          memory: [B, S, memory_width], for cross-attention.
          mask, bias: as in `attend`.
          positions: int32[B or 1, T]; default 0, 1, 2, ... Read only with rotary positions.
          cache: this layer's keys and values. Self-attention writes the new ones at `slot` and
            attends to all slots (`mask` says which hold something). Cross-attention reads keys
            and values from it instead of projecting `memory` again, when `memory` is None.
          slot: int32 scalar.
          causal: names the operations; that only earlier tokens are seen is the mask's to say.
          memory_rows: see `Context`.
          probs_tap: as in `attend`.

        Returns:
          (dtype[B, T, D], the updated cache or None).
        """
        qkv = {"std": self.std[0], "use_bias": self.qkv_bias, "dtype": self.dtype}
        source = self.memory_width or self.width
        own = qkv if self.q_std is None else {**qkv, "std": self.q_std}
        q = Linear((self.width,), (self.num_heads, self.head_dim), name="q", **own)(x)
        q = constrain(q, "batch", None, "heads", None)
        if self.memory_width is not None and memory is None:
            k, v = cache.by_slot()
        else:
            memory = x if self.memory_width is None else memory
            k = Linear((source,), (self.num_kv_heads, self.head_dim), name="k", **qkv)(memory)
            v = Linear((source,), (self.num_kv_heads, self.head_dim), name="v", **qkv)(memory)
            k = constrain(k, "batch", None, "kv_heads", None)
            v = constrain(v, "batch", None, "kv_heads", None)
            if self.rope is not None:
                if positions is None:
                    positions = jnp.arange(x.shape[1])[None]
                q, k = (rotate(t, positions, self.rope) for t in (q, k))
            if cache is not None:
                cache = KVCache.of(k, v) if self.memory_width else cache.write(k, v, slot)
                k, v = cache.by_slot()
        if memory_rows is not None:
            k, v = (_spread(t, memory_rows) for t in (k, v))
        # A map is looked into whatever the model was trained with.
        backend = self.backend if probs_tap is None else "xla"
        how = {"backend": backend, "query_chunk": self.query_chunk}
        if self.dropout and self.has_rng("dropout"):
            how |= {"dropout": self.dropout, "dropout_rng": self.make_rng("dropout")}
        with jax.named_scope(CAUSAL_SCOPE if causal else "attention"):
            y = attend(q, k, v, mask=mask, bias=bias, scale=self.scale, probs_tap=probs_tap, **how)
        out = {"std": self.std[1], "use_bias": self.out_bias, "dtype": self.dtype}
        y = Linear((self.num_heads, self.head_dim), (self.width,), name="out", **out)(y)
        return y, cache
