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
        if field.name in ("dropout", "attn_dropout") and not is_rate:
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
      memory: [B, S, memory_width]; cross-attention. None reads its keys from the cache.
      memory_mask: bool, broadcasts to [B, N, T, S]; cross-attention.
      memory_rows: where several rows attend to one of the memory: rows come in groups of so many as
        there are entries, the memory's in groups of the largest + 1, and row j of a group attends
        to row `memory_rows[j]` of the group's memory. None is row to row.
      slot: int32 scalar, where the cache is written.
      causal: `mask` is causal; what counts FLOPs cannot see it in an array.
      tap: of one layer; the stack hides it from the others.
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
        new_cache = None if cache is None else dict(cache)

        def attention(name, memory_width=None, **inputs):
            def branch(h):
                y, kv = make_attention(self.cfg, self.compute, name, memory_width)(
                    h, cache=None if cache is None else cache[name], slot=ctx.slot, **inputs
                )
                if new_cache is not None:
                    new_cache[name] = kv
                return y

            return branch

        tap = {} if ctx.tap is None else {"probs_tap": ctx.tap.probs}
        has_cross = self.cfg.memory_width is not None
        own = dict(mask=ctx.mask, bias=ctx.bias, positions=ctx.positions, causal=ctx.causal)
        x = self._residual("norm1", x, attention("attn", **own, **({} if has_cross else tap)))
        if has_cross:
            other = {"memory": ctx.memory, "mask": ctx.memory_mask, **tap}
            other["memory_rows"] = ctx.memory_rows
            cross = attention("cross_attn", self.cfg.memory_width, **other)
            x = self._residual("cross_norm", x, cross)
        return self._residual("norm2", x, make_mlp(self.cfg, self.compute)), new_cache

    def dummy_inputs(self) -> tuple[jax.Array, None, Context]:
        """The smallest arguments that touch every parameter, for initialisation."""
        width = self.cfg.memory_width
        memory = None if width is None else jnp.zeros((1, 1, width))
        return jnp.zeros((1, 1, self.cfg.width)), None, Context(memory=memory)

    def _residual(self, norm_name: str, x: jax.Array, branch: Callable) -> jax.Array:
        norm = Norm(self.cfg.norm_eps, self.cfg.norm, self.compute.dtype, name=norm_name)
        placement = self.cfg.placement
        y = branch(norm(x) if placement == "pre" else x)
        if self.cfg.dropout:
            y = nn.Dropout(self.cfg.dropout)(y, deterministic=not self.has_rng("dropout"))
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
