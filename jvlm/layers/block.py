# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""One transformer block for every tower: pre-, post- or branch-norm, optional cross-attention."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from jvlm.errors import UserError, did_you_mean
from jvlm.layers.attention import Attention
from jvlm.layers.cache import KVCache
from jvlm.layers.mlp import ACTIVATIONS, Mlp
from jvlm.layers.norm import Norm
from jvlm.layers.rope import Rope
from jvlm.precision import Compute
from jvlm.sharding import constrain


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """Shape of a block.

    Attributes:
      width: D.
      num_heads: N.
      mlp_dim: F.
      activation: a key of `layers.mlp.ACTIVATIONS`.
      norm_eps: epsilon of every norm.
      norm: 'layer' or 'rms'.
      placement: 'pre' x + f(norm(x)); 'post' norm(x + f(x)); 'branch' x + norm(f(x)).
      num_kv_heads: K; default N.
      head_dim: H; default D / N.
      gated: gated mlp.
      qkv_bias, out_bias, mlp_bias: which projections have biases.
      memory_width: width of the cross-attended states; None for a block without cross-attention.
      rope: of rotary positions; None for none.
      attn_scale: of attention logits; default 1/sqrt(H), 1 in T5.
      dropout, attn_dropout: rates on each branch and on attention probabilities, on exactly when a
        `dropout` rng is given.
      drop_path: rate at which a whole branch is left out of a row in a stack's last layer, rising
        linearly from 0 in its first (stochastic depth, arXiv:1603.09382; as timm's), with the same
        rng.
      std: initial standard deviations of (qkv, attention out, mlp up, mlp down); None is
        1/sqrt(fan-in).
      q_std: of q, where it differs.
    """

    width: int
    num_heads: int
    mlp_dim: int
    activation: str
    norm_eps: float
    norm: str = "layer"
    placement: str = "pre"
    num_kv_heads: int | None = None
    head_dim: int | None = None
    gated: bool = False
    qkv_bias: bool = True
    out_bias: bool = True
    mlp_bias: bool = True
    memory_width: int | None = None
    rope: Rope | None = None
    attn_scale: float | None = None
    dropout: float = 0.0
    attn_dropout: float = 0.0
    drop_path: float = 0.0
    std: tuple[float | None, float | None, float | None, float | None] = (None,) * 4
    q_std: float | None = None

    def __post_init__(self):
        check_block(self, "block")
        if self.placement not in ("pre", "post", "branch"):
            raise UserError(
                f"block: placement {self.placement!r}: choose 'pre', 'post' or 'branch'"
            )


_SIZES = ("vocab_size", "max_len", "width", "depth", "num_heads", "mlp_dim")


def check_block(cfg: Any, where: str) -> None:
    """What every tower's config says of its blocks must be sizes, and fit together.

    Args:
      cfg: dataclass with `width`, `num_heads`, `activation`, `norm_eps` and optionally others of
        a block's or a stack's fields.
      where: for messages.
    """
    for field in dataclasses.fields(cfg):
        value = getattr(cfg, field.name)
        if field.name in _SIZES and (not isinstance(value, int) or value < 1):
            raise UserError(f"{where}: {field.name} {value!r}: give a whole number, at least 1")
        is_rate = isinstance(value, int | float) and 0 <= value < 1
        if field.name in ("dropout", "attn_dropout", "drop_path") and not is_rate:
            raise UserError(f"{where}: {field.name} {value!r}: a rate from 0 to below 1")
    if not isinstance(cfg.norm_eps, int | float):
        raise UserError(f"{where}: norm_eps {cfg.norm_eps!r}: give a number")
    if getattr(cfg, "head_dim", None) is None and cfg.width % cfg.num_heads:
        raise UserError(f"{where}: width {cfg.width} is no multiple of num_heads {cfg.num_heads}")
    if cfg.activation not in ACTIVATIONS:
        hint = did_you_mean(cfg.activation, ACTIVATIONS)
        raise UserError(f"{where}: activation {cfg.activation!r} is unknown.{hint}")


@flax.struct.dataclass
class Tap:
    """A place in a stack where an attention map's gradient is read: see `attend`.

    Attributes:
      probs: float32[B, N, T, S] ones.
      layer: of the stack, whose cross-attention is meant where it has one.
    """

    probs: jax.Array
    layer: int = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class Context:
    """What all layers of a stack share.

    Attributes:
      mask: bool, broadcasts to [B, N, T, S]; self-attention.
      bias: float, broadcasts to [B, N, T, S]; self-attention (T5's relative bias).
      positions: int32[B or 1, T], when not the natural ones.
      memory: [B, S, memory_width]; cross-attention. None reads its keys from the cache; without
        one there is no cross-attention (BLIP's text alone).
      memory_mask: bool, broadcasts to [B, N, T, S]; cross-attention.
      memory_rows: where several rows attend to one of the memory: rows come in groups of so many as
        there are entries, the memory's in groups of the largest + 1, and row j of a group attends
        to row `memory_rows[j]` of the group's memory. None is row to row.
      slot: int32 scalar, where the cache is written.
      causal: `mask` is causal; what counts FLOPs cannot see it in an array.
      tap: of one layer; the stack hides it from the others.
      depth: where in its stack a layer is, from 0 to 1; the stack says it.
    """

    mask: jax.Array | None = None
    bias: jax.Array | None = None
    positions: jax.Array | None = None
    memory: jax.Array | None = None
    memory_mask: jax.Array | None = None
    slot: jax.Array | None = None
    memory_rows: tuple[int, ...] | None = flax.struct.field(pytree_node=False, default=None)
    causal: bool = flax.struct.field(pytree_node=False, default=False)
    tap: Tap | None = None
    depth: jax.Array | float = 0.0


class Block(nn.Module):
    """Self-attention, cross-attention where the config has a `memory_width`, mlp."""

    cfg: BlockConfig
    compute: Compute = Compute()

    @nn.compact
    def __call__(
        self, x: jax.Array, cache: dict[str, KVCache] | None = None, ctx: Context = Context()
    ) -> tuple[jax.Array, dict[str, KVCache] | None]:
        """Runs the block.

        Args:
          x: [B, T, D].
          cache: this layer's `{'attn': KVCache, 'cross_attn': KVCache}` while decoding.
          ctx: shared by all layers.

        Returns:
          (dtype[B, T, D], the updated cache or None).
        """
        caches = None if cache is None else dict(cache)
        x = self.attend_itself(x, caches, ctx)
        has_memory = ctx.memory is not None or cache is not None
        if self.cfg.memory_width is not None and has_memory:
            x = self._residual("cross_norm", x, self.attention_to_memory(caches, ctx), ctx)
        return self._residual("norm2", x, make_mlp(self.cfg, self.compute), ctx), caches

    def attend_itself(
        self,
        x: jax.Array,
        caches: dict[str, KVCache] | None,
        ctx: Context,
        names: tuple[str, str] = ("attn", "norm1"),
    ) -> jax.Array:
        """x [B, T, D] -> [B, T, D] by self-attention and norm of these names."""
        own = dict(mask=ctx.mask, bias=ctx.bias, positions=ctx.positions, causal=ctx.causal)
        return self._residual(names[1], x, self.attention(names[0], caches, ctx, **own), ctx)

    def attention_to_memory(
        self, caches: dict[str, KVCache] | None, ctx: Context
    ) -> Callable[[jax.Array], jax.Array]:
        """The branch of the cross-attention."""
        inputs = {"memory": ctx.memory, "mask": ctx.memory_mask, "memory_rows": ctx.memory_rows}
        return self.attention("cross_attn", caches, ctx, self.cfg.memory_width, **inputs)

    def attention(
        self,
        name: str,
        caches: dict[str, KVCache] | None,
        ctx: Context,
        memory_width: int | None = None,
        **inputs: Any,
    ) -> Callable[[jax.Array], jax.Array]:
        """A branch with an attention; it replaces its cache, kept as 'attn' or 'cross_attn'."""
        kind = "attn" if memory_width is None else "cross_attn"
        if ctx.tap is not None and (memory_width is None) == (self.cfg.memory_width is None):
            inputs["probs_tap"] = ctx.tap.probs

        def branch(h):
            module = make_attention(self.cfg, self.compute, name, memory_width)
            cache = None if caches is None else caches[kind]
            y, kv = module(h, cache=cache, slot=ctx.slot, **inputs)
            if caches is not None:
                caches[kind] = kv
            return y

        return branch

    def dummy_inputs(self) -> tuple[jax.Array, None, Context]:
        """The smallest arguments that touch every parameter, for initialisation."""
        width = self.cfg.memory_width
        memory = None if width is None else jnp.zeros((1, 1, width))
        return jnp.zeros((1, 1, self.cfg.width)), None, Context(memory=memory)

    def _residual(self, norm_name: str, x: jax.Array, branch: Callable, ctx: Context) -> jax.Array:
        norm = Norm(self.cfg.norm_eps, self.cfg.norm, self.compute.dtype, name=norm_name)
        placement = self.cfg.placement
        y = branch(norm(x) if placement == "pre" else x)
        if self.cfg.dropout:
            y = nn.Dropout(self.cfg.dropout)(y, deterministic=not self.has_rng("dropout"))
        if self.cfg.drop_path and self.has_rng("dropout"):
            kept = 1 - self.cfg.drop_path * ctx.depth
            rows = jax.random.bernoulli(self.make_rng("dropout"), kept, (len(y), 1, 1))
            # In float32, since 0.9 is 0.898 in bfloat16.
            y = jnp.where(rows, y / jnp.float32(kept), 0).astype(y.dtype)
        x = x + norm(y) if placement == "branch" else x + y
        return constrain(norm(x) if placement == "post" else x, "batch", None, None)


def make_attention(
    cfg: BlockConfig, compute: Compute, name: str, memory_width: int | None = None
) -> Attention:
    """The attention of a block, or one like it outside of a block."""
    return Attention(
        cfg.width,
        cfg.num_heads,
        cfg.num_kv_heads or cfg.num_heads,
        cfg.head_dim or cfg.width // cfg.num_heads,
        memory_width=memory_width,
        qkv_bias=cfg.qkv_bias,
        out_bias=cfg.out_bias,
        rope=None if memory_width else cfg.rope,
        scale=cfg.attn_scale,
        std=cfg.std[:2],
        q_std=cfg.q_std,
        dropout=cfg.attn_dropout,
        dtype=compute.dtype,
        backend=compute.attention,
        query_chunk=compute.query_chunk,
        name=name,
    )


def make_mlp(cfg: BlockConfig, compute: Compute) -> Mlp:
    """The mlp of a block, or one like it outside of a block."""
    return Mlp(
        cfg.width,
        cfg.mlp_dim,
        cfg.activation,
        gated=cfg.gated,
        use_bias=cfg.mlp_bias,
        std=cfg.std[2:],
        dtype=compute.dtype,
        name="mlp",
    )
