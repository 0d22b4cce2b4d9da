# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Blocks and stacks: placements, scan = loop, remat, dropout, cache."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import paths
from jvlm.layers import (
    Attention,
    Block,
    BlockConfig,
    Context,
    KVCache,
    Mlp,
    Norm,
    Stack,
    masks,
    unstack,
)
from jvlm.precision import Compute

CFG = BlockConfig(16, 2, 32, "gelu", 1e-5, memory_width=12, gated=True, dropout=0.5)


class Tower(nn.Module):
    cfg: BlockConfig = CFG
    depth: int = 3
    compute: Compute = Compute()

    @nn.compact
    def __call__(self, x, cache=None, ctx=Context()):
        stack = Stack(Block(self.cfg, self.compute, parent=None), self.depth)
        rng = self.make_rng("dropout") if self.has_rng("dropout") else None
        return stack(stack.declare(self, "blocks"), x, cache, ctx, rng)


@pytest.fixture
def inputs(rng):
    x = jnp.asarray(rng.normal(size=(2, 5, 16)), jnp.float32)
    memory = jnp.asarray(rng.normal(size=(2, 4, 12)), jnp.float32)
    return x, Context(mask=masks.causal(5, 5), memory=memory)


@pytest.fixture
def params(inputs):
    x, ctx = inputs
    return Tower().init(jax.random.key(0), x, None, ctx)["params"]


def test_parameters_are_stacked_plain_dicts(params):
    flat = paths.flatten(params)
    assert flat["blocks/attn/q/kernel"].shape == (3, 16, 2, 8)
    assert flat["blocks/cross_attn/k/kernel"].shape == (3, 12, 2, 8)
    assert flat["blocks/mlp/gate/kernel"].shape == (3, 16, 32)
    assert all(type(leaf).__name__ == "ArrayImpl" for leaf in flat.values())
    # Every layer has random numbers of its own.
    kernel = flat["blocks/mlp/up/kernel"]
    assert not np.allclose(kernel[0], kernel[1])


def test_scan_equals_loop(params, inputs):
    x, ctx = inputs
    want, _ = Tower().apply({"params": params}, x, None, ctx)
    layers = {"blocks": unstack(params["blocks"])}
    got, _ = Tower().apply({"params": layers}, x, None, ctx)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("remat, unroll", [("none", 3), ("dots", 1), ("full", 1), ("full", 3)])
def test_remat_and_unroll_change_nothing(params, inputs, remat, unroll):
    x, ctx = inputs
    loss = lambda p, tower: (tower.apply({"params": p}, x, None, ctx)[0] ** 2).mean()
    want = jax.grad(loss)(params, Tower())
    got = jax.grad(loss)(params, Tower(compute=Compute(remat=remat, unroll=unroll)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)


@pytest.mark.parametrize("rates", [dict(dropout=0.5), dict(dropout=0.0, attn_dropout=0.5)])
def test_dropout_is_on_exactly_with_a_key(params, inputs, rates):
    x, ctx = inputs
    tower = Tower(dataclasses.replace(CFG, **rates))
    run = jax.jit(lambda **rngs: tower.apply({"params": params}, x, None, ctx, rngs=rngs)[0])
    np.testing.assert_array_equal(run(), run())
    a, b = run(dropout=jax.random.key(0)), run(dropout=jax.random.key(1))
    assert not np.allclose(a, run()) and not np.allclose(a, b)
    np.testing.assert_array_equal(a, run(dropout=jax.random.key(0)))


def test_layers_leave_branches_out_with_their_depth():
    """Of whole rows: none in the first layer, the rate in the last; those kept grow instead."""
    cfg = dataclasses.replace(CFG, dropout=0.0, drop_path=0.5, memory_width=None)
    block = Block(cfg, parent=None)
    x, ctx = jax.random.normal(jax.random.key(2), (400, 1, 16)), Context()
    params = block.init(jax.random.key(0), x, None, ctx)["params"]
    params["norm2"] = jax.tree.map(jnp.zeros_like, params["norm2"])  # Of two branches one is none.

    @jax.jit
    def branch(depth, rng=None):
        rngs = None if rng is None else {"dropout": rng}
        return block.apply({"params": params}, x, None, ctx.replace(depth=depth), rngs=rngs)[0] - x

    whole = branch(1.0)
    np.testing.assert_array_equal(branch(0.0, jax.random.key(1)), whole)
    for depth, kept in ((0.5, 0.75), (1.0, 0.5)):
        got = branch(depth, jax.random.key(1))
        is_kept = np.any(got != 0, axis=(1, 2))
        np.testing.assert_allclose(got[is_kept], whole[is_kept] / kept, rtol=1e-5, atol=1e-6)
        assert abs(is_kept.mean() - kept) < 0.07


class Place(nn.Module):
    """Twice what it is given and where in the stack it is."""

    compute: Compute = Compute()

    def __call__(self, x, cache, ctx):
        return 2 * x + ctx.depth, cache


def test_a_stack_says_where_its_layers_are():
    stack = Stack(Place(parent=None), 3)
    for params in ({}, ({},) * 3):
        np.testing.assert_array_equal(stack(params, jnp.zeros(2))[0], 2 * 0.5 + 1)
    np.testing.assert_array_equal(Stack(Place(parent=None), 1)({}, jnp.zeros(2))[0], 0)


@pytest.mark.parametrize("stacked", [True, False])
def test_cached_stack_equals_the_full_forward(params, inputs, stacked):
    x, ctx = inputs
    want, _ = Tower().apply({"params": params}, x, None, ctx)
    cache = {
        "attn": KVCache.empty((3, 2, 2, 5, 8), "float32"),
        "cross_attn": KVCache.empty((3, 2, 2, 4, 8), "float32"),
    }
    if not stacked:
        params, cache = {"blocks": unstack(params["blocks"])}, unstack(cache)
    got = []
    for start, stop in ((0, 3), (3, 5)):
        step = ctx.replace(mask=masks.causal(stop - start, 5, offset=start), slot=start)
        if start:
            step = step.replace(memory=None)  # Read from the cache.
        part, cache = Tower().apply({"params": params}, x[:, start:stop], cache, step)
        got.append(part)
    np.testing.assert_allclose(jnp.concatenate(got, 1), want, atol=1e-5)


@pytest.mark.parametrize("placement", ["pre", "post", "branch"])
def test_norm_placement(rng, placement):
    cfg = BlockConfig(16, 2, 32, "relu", 1e-5, placement=placement)
    block = Block(cfg)
    x = jnp.asarray(rng.normal(size=(2, 5, 16)), jnp.float32)
    params = block.init(jax.random.key(0), x)["params"]

    modules = {"attn": Attention(16, 2, 2, 8), "mlp": Mlp(16, 32, "relu")}

    def branch(name, h):
        return jax.tree.leaves(modules[name].apply({"params": params[name]}, h))[0]

    def norm(name, h):
        return Norm(1e-5).apply({"params": params[name]}, h)

    want = x
    for name, norm_name in (("attn", "norm1"), ("mlp", "norm2")):
        if placement == "pre":
            want = want + branch(name, norm(norm_name, want))
        elif placement == "post":
            want = norm(norm_name, want + branch(name, want))
        else:
            want = want + norm(norm_name, branch(name, want))
    np.testing.assert_allclose(block.apply({"params": params}, x)[0], want, atol=1e-5)


def test_bfloat16_keeps_float32_parameters(inputs):
    x, ctx = inputs
    tower = Tower(dataclasses.replace(CFG, dropout=0.0), compute=Compute(dtype="bfloat16"))
    params = tower.init(jax.random.key(0), x, None, ctx)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert tower.apply({"params": params}, x.astype("bfloat16"), None, ctx)[0].dtype == jnp.bfloat16


def test_norms_are_the_formulas(rng):
    x = rng.normal(3, 2, size=(4, 8)).astype(np.float32)
    centred = x - x.mean(-1, keepdims=True)
    layer = Norm(1e-5)
    params = layer.init(jax.random.key(0), x)
    want = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(layer.apply(params, x), want, atol=1e-5)
    rms = Norm(1e-6, kind="rms")
    params = rms.init(jax.random.key(0), x)
    assert list(params["params"]) == ["scale"]
    want = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(rms.apply(params, x), want, atol=1e-5)
