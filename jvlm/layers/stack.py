# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Many blocks, one after another: scanned over stacked weights, or looped over separate ones."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jvlm import sharding
from jvlm.errors import UserError, did_you_mean
from jvlm.layers.block import Context
from jvlm.layers.cache import KVCache
from jvlm.precision import cast_weights

REMAT_POLICIES = {
    "none": None,  # Keep every activation.
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # Keep weight matmuls.
    "full": jax.checkpoint_policies.nothing_saveable,  # Keep only each block's input.
}


def _all_but_gathered(primitive, *_, **__) -> bool:
    """Keeps every activation, but gathers weights again instead of keeping all layers' whole."""
    return primitive.name != "sharding_constraint"


@dataclasses.dataclass(frozen=True)
class Stack:
    """`depth` copies of `block`.

    Not a module: a tower declares the weights as one parameter tree of its own and calls the
    stack with it, so the same code takes them

      * stacked: one tree whose leaves have a leading `layers` axis; `lax.scan`, optionally
        rematerialised. This is how they are trained and stored.
      * unstacked: a tuple of per-layer trees (`unstack`); a Python loop over the same block.
        Decoding uses it: a scan would copy every layer's weights out of the stack at each token.

    Attributes:
      block: an unbound module, called as `block(x, cache, ctx) -> (x, cache)`.
      depth: number of layers.
    """

    block: nn.Module
    depth: int

    def declare(self, owner: nn.Module, name: str) -> Any:
        """Declares the weights as parameter `name` of `owner`, or reads them if they exist.

        `name` ends in 'blocks': that marks its leaves as stacked (`paths.is_stacked`).
        """
        if owner.has_variable("params", name):
            return owner.get_variable("params", name)
        return owner.param(name, self.init)

    def init(self, rng: jax.Array) -> Any:
        """Fresh stacked weights."""
        args = self.block.dummy_inputs()
        one = lambda key: self.block.init(key, *args)["params"]  # noqa: E731
        return jax.vmap(one)(jax.random.split(rng, self.depth))

    def begin_cache(self, params: Any, rows: int) -> Any:
        """Caches without slots for `rows` rows, in the form of `params`. See `KVCache.write`."""
        cfg, dtype = self.block.cfg, self.block.compute.dtype
        head_dim = cfg.head_dim or cfg.width // cfg.num_heads
        shape = (rows, cfg.num_kv_heads or cfg.num_heads, 0, head_dim)
        names = ("attn",) if cfg.memory_width is None else ("attn", "cross_attn")
        if isinstance(params, tuple):
            return ({name: KVCache.empty(shape, dtype) for name in names},) * self.depth
        return {name: KVCache.empty((self.depth, *shape), dtype) for name in names}

    def __call__(
        self,
        params: Any,
        x: jax.Array,
        cache: Any = None,
        ctx: Context = Context(),
        dropout_rng: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Runs the layers.

        Args:
          params: from `declare`; stacked or unstacked.
          x: [B, T, D].
          cache: pytree with a leading `layers` axis (stacked) or a tuple (unstacked), or None.
          ctx: shared by all layers.
          dropout_rng: key; None switches dropout off.

        Returns:
          ([B, T, D], the updated cache in the form it came, or None).
        """
        compute = self.block.compute
        if compute.remat not in REMAT_POLICIES:
            hint = did_you_mean(compute.remat, REMAT_POLICIES)
            raise UserError(f"compute.remat {compute.remat!r} is unknown.{hint}")

        if ctx.tap is not None and not isinstance(params, tuple):
            params = unstack(params)  # One layer differs from the others: no scan.

        def layer(x, params, cache, index, ctx=ctx):
            rngs = None
            if dropout_rng is not None:
                rngs = {"dropout": jax.random.fold_in(dropout_rng, index)}
            weights = sharding.gather_weights(params)
            ctx = ctx.replace(depth=index / max(1, self.depth - 1))
            return self.block.apply({"params": weights}, x, cache, ctx, rngs=rngs)

        policy = REMAT_POLICIES[compute.remat]
        if policy is None and sharding.splits_weights():
            policy = _all_but_gathered
        if policy is not None:
            # In a scan, common-subexpression elimination cannot undo the recomputation.
            layer = jax.checkpoint(layer, prevent_cse=isinstance(params, tuple), policy=policy)

        if isinstance(params, tuple):
            caches = (None,) * self.depth if cache is None else cache
            new = []
            for index, (weights, layer_cache) in enumerate(zip(params, caches, strict=True)):
                is_tapped = ctx.tap is not None and ctx.tap.layer == index
                own = ctx if is_tapped else ctx.replace(tap=None)
                x, layer_cache = layer(x, weights, layer_cache, index, own)
                new.append(layer_cache)
            return x, None if cache is None else tuple(new)

        # Not layer by layer, for the backward's sake: it stacks the gradients in this dtype, which
        # is that of the matmuls they come from, and not in float32.
        params = cast_weights(params, compute.dtype)
        xs = (params, cache, jnp.arange(self.depth))
        return jax.lax.scan(lambda x, xs: layer(x, *xs), x, xs, unroll=compute.unroll)


def unstack(tree: Any) -> tuple:
    """Stacked leaves [layers, ...] -> a tuple of per-layer trees."""
    depth = jax.tree.leaves(tree)[0].shape[0]
    return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(depth))
