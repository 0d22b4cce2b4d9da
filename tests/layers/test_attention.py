# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention against the formula, written out with loops; caches, groups, taps."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from jvlm.errors import UserError
from jvlm.layers import Attention, KVCache, attend, masks
from jvlm.layers.rope import Rope, rotate

B, T, S, N, K, H = 2, 3, 5, 4, 2, 8


@pytest.fixture
def qkv(rng):
    shapes = ((B, T, N, H), (B, S, K, H), (B, S, K, H))
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def reference(q, k, v, mask, bias):
    """One query of one head at a time, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros((B, T, N, H))
    for b, t, n in np.ndindex(B, T, N):
        head = n // (N // K)
        logits = k[b, :, head] @ q[b, t, n] / np.sqrt(H) + bias[b, n, t]
        logits[~mask[b, n, t]] = -np.inf
        weights = np.exp(logits - logits.max())
        out[b, t, n] = weights / weights.sum() @ v[b, :, head]
    return out


def test_attend_is_the_formula(qkv, rng):
    mask = rng.random((B, N, T, S)) < 0.7
    mask[..., 0] = True
    bias = rng.normal(size=(B, N, T, S)).astype(np.float32)
    out = attend(*qkv, mask=jnp.asarray(mask), bias=jnp.asarray(bias))
    np.testing.assert_allclose(out, reference(*qkv, mask, bias), atol=1e-6)


@pytest.mark.parametrize("length, chunk", [(6, 2), (7, 3), (5, 4)])
@pytest.mark.parametrize("mask_rows", [1, None])
def test_pieces_of_the_queries_change_nothing(rng, length, chunk, mask_rows):
    """Also where the pieces do not divide the queries, and for masks that all queries share."""
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    args = normal(B, length, N, H), normal(B, S, K, H), normal(B, S, K, H), normal(1, N, length, S)
    mask = jnp.asarray(rng.random((B, 1, mask_rows or length, S)) < 0.7)

    @functools.partial(jax.jit, static_argnums=0)
    def loss_and_gradients(chunk, *args):
        def loss(q, k, v, bias):
            return jnp.square(attend(q, k, v, mask=mask, bias=bias, query_chunk=chunk)).sum()

        return jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(*args)

    want, got = loss_and_gradients(0, *args), loss_and_gradients(chunk, *args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, want)


def test_masked_keys_do_not_matter(qkv):
    q, k, v = qkv
    mask = masks.padding(jnp.asarray([[1, 1, 1, 0, 0]] * B, bool))
    out = attend(q, k, v, mask=mask)
    other = attend(q, k.at[:, 3:].set(1e3), v.at[:, 3:].set(-1e3), mask=mask)
    np.testing.assert_array_equal(out, other)


def test_fully_masked_row_is_finite(qkv):
    out = attend(*qkv, mask=jnp.zeros((B, 1, T, S), bool))
    assert np.isfinite(out).all()


def test_tap_has_the_map_times_its_gradient(qkv):
    q, k, v = qkv
    tap = jnp.ones((B, N, T, S))
    np.testing.assert_array_equal(attend(q, k, v, probs_tap=tap), attend(q, k, v))

    def score(tap):
        return attend(q, k, v, probs_tap=tap).sum()

    logits = jnp.einsum("btnh,bsnh->bnts", q, k[:, :, [0, 0, 1, 1]]) / np.sqrt(H)
    # The output is linear in the map, and its coefficient is the value.
    value = v.sum(-1).transpose(0, 2, 1)[:, [0, 0, 1, 1], None, :]
    want = jax.nn.softmax(logits) * value
    np.testing.assert_allclose(jax.grad(score)(tap), want, atol=1e-5)


@pytest.mark.parametrize("chunk", [0, 9])
def test_dropout_of_the_map(rng, chunk):
    """Zeros and larger entries, the same in the backward; also piece by piece, and for groups."""
    size, rate = 40, 0.25  # Values are the identity, so that the result is the map.
    q, k = (jnp.asarray(rng.normal(size=(2, size, n, size)), jnp.float32) for n in (N, K))
    v = jnp.broadcast_to(jnp.eye(size)[:, None], k.shape)
    run = lambda v, **how: attend(q, k, v, query_chunk=chunk, **how)
    dropped = jax.jit(lambda v, key: run(v, dropout=rate, dropout_rng=key))
    keys, probs = jax.random.split(jax.random.key(0)), run(v)
    np.testing.assert_array_equal(run(v, dropout=rate), probs)
    np.testing.assert_array_equal(run(v, dropout_rng=keys[0]), probs)
    got = dropped(v, keys[0])
    zero = np.asarray(got == 0)
    np.testing.assert_allclose(got[~zero], probs[~zero] / (1 - rate), rtol=1e-4)
    assert abs(zero.mean() - rate) < 0.02  # 12,800 draws: five standard deviations.
    for axis in range(3):  # Rows, pieces of the queries and heads draw for themselves.
        assert not np.array_equal(*np.split(np.take(zero, (0, -1), axis), 2, axis))
    assert not np.array_equal(zero, dropped(v, keys[1]) == 0)
    gradient = jax.jit(jax.grad(lambda v: dropped(v, keys[0]).sum()))(v)
    want = got.reshape(2, size, K, N // K, size).sum((1, 3)).swapaxes(1, 2)
    np.testing.assert_allclose(gradient, jnp.broadcast_to(want[..., None], v.shape), rtol=1e-4)


@pytest.mark.parametrize("length, fits", [(50, True), (77, False), (197, False)])
def test_what_goes_to_cudnn(monkeypatch, length, fits):
    """Odd lengths do not train there, and it broadcasts no mask: traced as on a GPU."""
    device = types.SimpleNamespace(compute_capability="9.0")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    q = jnp.zeros((2, length, 4, 64), "bfloat16")
    mask = masks.padding(jnp.ones((2, length), bool))
    loss = lambda q: attend(q, q, q, mask=mask).astype("float32").sum()
    used = "dot_product_attention" in str(jax.make_jaxpr(jax.grad(loss))(q))
    assert used == fits
    drop = dict(dropout=0.1, dropout_rng=jax.random.key(0))
    assert "cudnn" not in str(jax.make_jaxpr(lambda q: attend(q, q, q, **drop))(q))
    device.compute_capability = "7.5"
    assert "cudnn" not in str(jax.make_jaxpr(lambda q: attend(q, q, q))(q))


def test_unknown_back_end_and_tap_on_fused_are_refused(qkv):
    with pytest.raises(ValueError, match="flash9"):
        attend(*qkv, backend="flash9")
    with pytest.raises(UserError, match="xla"):
        attend(*qkv, backend="cudnn", probs_tap=jnp.ones((B, N, T, S)))
    with pytest.raises(UserError, match="xla"):
        attend(*qkv, backend="cudnn", dropout=0.1, dropout_rng=jax.random.key(0))
    # A model that was trained with a fused one has maps all the same.
    layers = [Attention(8, 2, 2, 4, backend=backend) for backend in ("cudnn", "xla")]
    x = jnp.ones((1, 4, 8))
    params = layers[1].init(jax.random.key(0), x)
    apply = lambda layer: layer.apply(params, x, probs_tap=jnp.ones((1, 2, 4, 4)))[0]
    np.testing.assert_array_equal(*map(apply, layers))


@pytest.mark.parametrize("rope", [None, Rope()])
def test_prefill_and_extend_equal_the_full_forward(rng, rope):
    attention = Attention(16, N, K, H, rope=rope)
    x = jnp.asarray(rng.normal(size=(B, 6, 16)), jnp.float32)
    params = attention.init(jax.random.key(0), x)
    want, _ = attention.apply(params, x, mask=masks.causal(6, 6))

    cache = KVCache.empty((B, K, 8, H), "float32")
    got = []
    for start, stop in ((0, 3), (3, 4), (4, 6)):
        positions = jnp.broadcast_to(jnp.arange(start, stop), (B, stop - start))
        mask = masks.causal(stop - start, 8, offset=start)
        part, cache = attention.apply(
            params, x[:, start:stop], mask=mask, positions=positions, cache=cache, slot=start
        )
        got.append(part)
    np.testing.assert_allclose(jnp.concatenate(got, 1), want, atol=1e-6)


def test_cross_attention_reads_its_cache(rng):
    attention = Attention(16, N, N, 4, memory_width=12)
    x = jnp.asarray(rng.normal(size=(B, T, 16)), jnp.float32)
    memory = jnp.asarray(rng.normal(size=(B, S, 12)), jnp.float32)
    params = attention.init(jax.random.key(0), x, memory)
    empty = KVCache.empty((B, N, S, 4), "float32")
    want, cache = attention.apply(params, x, memory, cache=empty)
    got, _ = attention.apply(params, x, None, cache=cache)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(attention.apply(params, x, memory)[0], want)


def test_several_rows_attend_to_one_of_the_memory(rng):
    attention = Attention(16, N, N, 4, memory_width=12)
    x = jnp.asarray(rng.normal(size=(2 * 3, T, 16)), jnp.float32)
    memory = jnp.asarray(rng.normal(size=(2 * 2, S, 12)), jnp.float32)
    seen = memory[np.array([0, 1, 0, 2, 3, 2])]
    params = attention.init(jax.random.key(0), x, seen)
    want, _ = attention.apply(params, x, seen)
    got, _ = attention.apply(params, x, memory, memory_rows=(0, 1, 0))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_rotary_logits_depend_on_distance_only(rng):
    q, k = (jnp.asarray(rng.normal(size=(1, 1, 1, H)), jnp.float32) for _ in range(2))

    def logit(i, j):
        at = [jnp.full((1, 1), p) for p in (i, j)]
        return (rotate(q, at[0], Rope()) * rotate(k, at[1], Rope())).sum()

    np.testing.assert_allclose(logit(7, 3), logit(104, 100), atol=1e-4)
    assert abs(logit(7, 3) - logit(7, 4)) > 1e-3


def test_masks_are_the_pictures():
    picture = lambda mask: np.asarray(mask, int)[0, 0].tolist()
    assert picture(masks.causal(3, 3)) == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert picture(masks.causal(1, 3, offset=1)) == [[1, 1, 0]]
    blocks = masks.blocks(jnp.asarray([[0, 0, 1, 2]]))
    assert picture(blocks) == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    np.testing.assert_array_equal(masks.prefix(jnp.asarray([2]), 4), blocks)
    np.testing.assert_array_equal(masks.prefix(jnp.asarray([0]), 4), masks.causal(4, 4))
