# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Quantised kernels: what they hold, what a model makes of them, on one device and on a mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jvlm
from jvlm import paths, quantise, sharding
from jvlm.errors import UserError
from jvlm.layers import unstack
from jvlm.models import build_model
from jvlm.pretrained import Pretrained, Processor

LM = dict(name="gpt2", vocab_size=48, max_len=12, width=64, depth=2, num_heads=2, mlp_dim=128)
BATCH = {"text": np.arange(24, dtype=np.int32).reshape(2, 12)}
KINDS = ("int8", "int4")
MIXED = ((".*blocks/attn/.*kernel", "int8"), (".*blocks/.*kernel", "int4"), (".*", None))


@pytest.fixture(scope="module")
def lm():
    model = build_model(LM)
    return model, jax.jit(model.init)(jax.random.key(0), BATCH)["params"]


@functools.cache
def forward(model):
    return jax.jit(lambda params: model.apply({"params": params}, BATCH).logits)


def quantised(params, kind):
    return quantise.quantise_tree(params, quantise.resolve(kind, paths.flatten(params)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape, axes", [((64, 8), (0,)), ((32, 2, 4), (0,)), ((2, 48, 6), (0, 1))])
def test_what_can_be_represented_is_kept(rng, kind, shape, axes):
    largest = quantise.LARGEST[kind]
    kernel = rng.integers(-largest, largest + 1, shape) * np.float32(0.25)
    group = (slice(None, None, 16),) if axes == (0,) else (slice(None), slice(None, None, 16))
    kernel[group] = largest * 0.25  # Every group and channel holds the largest integer.
    kernel = kernel.astype(np.float32)
    leaf = quantise.quantise(kernel, kind, axes)
    np.testing.assert_array_equal(quantise.dequantise(leaf), kernel)
    size = {"int8": kernel.size, "int4": kernel.size // 2}[kind]
    assert leaf["q"].nbytes == size and quantise.kind_of(leaf["q"]) == kind
    on_device = quantise.quantise(jnp.asarray(kernel), kind, axes)
    jax.tree.map(np.testing.assert_array_equal, on_device, leaf)


@pytest.mark.parametrize("kind, bound", [("int8", 0.5 / 127), ("int4", 0.5 / 7)])
def test_error_is_half_a_step(rng, kind, bound):
    kernel = rng.normal(size=(64, 5)).astype(np.float32)
    kernel[:, 1] = 0
    error = np.abs(quantise.dequantise(quantise.quantise(kernel, kind, (0,))) - kernel)
    assert np.all(error <= np.abs(kernel).max(0) * bound * 1.001)


@pytest.mark.parametrize("kind, error", [("int8", 0.01), ("int4", 0.1)])
def test_logits(lm, kind, error):
    model, params = lm
    got, want = forward(model)(quantised(params, kind)), forward(model)(params)
    assert np.linalg.norm(got - want) < error * np.linalg.norm(want)


def test_forms_of_a_model_agree(lm):
    """Stacked, unstacked and on a mesh it computes with the rounded values."""
    model, params = lm
    small = quantised(params, MIXED)
    rounded = {
        path: quantise.dequantise(leaf) if quantise.is_quantised(leaf) else leaf
        for path, leaf in quantise.collapse(paths.flatten(small)).items()
    }
    want = forward(model)(paths.unflatten(rounded))
    np.testing.assert_allclose(forward(model)(small), want, atol=2e-6)
    unstacked = {**small, "blocks": unstack(small["blocks"])}
    np.testing.assert_allclose(forward(model)(unstacked), want, atol=2e-6)
    mesh = sharding.make_mesh(2, 2, 2)
    with jax.set_mesh(mesh):
        placed = jax.device_put(small, sharding.tree_shardings(small, mesh))
        got = jax.jit(lambda params: model.apply({"params": params}, BATCH).logits)(placed)
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape, axes", [((128, 2, 8), (0,)), ((4, 32, 6), (0, 1))])
def test_pieces(rng, monkeypatch, kind, shape, axes):
    kernel = jnp.asarray(rng.normal(size=shape), jnp.float32)
    leaf, rank = quantise.quantise(kernel, kind, axes), len(axes)
    x = jnp.asarray(rng.normal(size=(3, *shape[:rank])), jnp.float32)
    monkeypatch.setattr(quantise, "PIECE_BYTES", 1024)
    got = jax.jit(quantise.contract, static_argnums=2)(x, leaf, rank)
    assert "while" in jax.jit(quantise.contract, static_argnums=2).lower(x, leaf, rank).as_text()
    want = jnp.tensordot(x, quantise.dequantise(leaf), rank)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_on_a_cpu_holds_no_float_copy(kind):
    """XLA takes what does not change out of a loop, a dequantised kernel too."""
    kernel = jax.eval_shape(
        lambda: quantise.quantise(jnp.zeros((2048, 2048)), kind, (0,))
    )  # 16 MiB as float32.

    def decode(x, leaf):
        step = lambda carry: (carry[0] + 1, jnp.tanh(quantise.contract(carry[1], leaf, 1)))
        return jax.lax.while_loop(lambda carry: carry[0] < 9, step, (0, x))[1]

    compiled = jax.jit(decode).lower(jnp.zeros((1, 2048)), kernel).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 5 * 2**20


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_keeps_integers(kind, rng):
    """The backward reads the integers; a float kernel is no residual."""
    kernel = jnp.asarray(rng.normal(size=(64, 2, 32)), jnp.float32)
    leaf = quantise.quantise(kernel, kind, (0,))
    x = jnp.asarray(rng.normal(size=(3, 64)), jnp.float32)
    y, pull = jax.vjp(lambda x: quantise.contract(x, leaf, 1), x)
    dy = jnp.asarray(rng.normal(size=y.shape), jnp.float32)
    want = jnp.einsum("bnh,dnh->bd", dy, quantise.dequantise(leaf))
    np.testing.assert_allclose(pull(dy)[0], want, rtol=1e-5, atol=1e-5)
    kept = sum(x.nbytes for x in jax.tree.leaves(pull) if hasattr(x, "nbytes"))
    assert kept < kernel.nbytes / 2


def test_load_save_and_mesh(tmp_path):
    """Quantised tensor by tensor on the way in, the same on any mesh, and kept by save."""
    clip = make_clip()
    clip.export(tmp_path / "hf")
    want = paths.flatten(quantised(clip.params, MIXED))
    assert want["text/blocks/attn/q/kernel/q"].dtype == jnp.int8
    assert want["text/blocks/mlp/up/kernel/q"].dtype == jnp.uint8
    mesh = sharding.make_mesh(2, 2, 2)
    m = jvlm.load(tmp_path / "hf", quantise=MIXED, mesh=mesh)
    for path, leaf in paths.flatten(m.params).items():
        np.testing.assert_array_equal(leaf, want[path], err_msg=path)
        assert leaf.sharding.spec == sharding.partition_spec(path, leaf.shape, mesh), path
    m.save(tmp_path / "saved")
    saved = jvlm.load(tmp_path / "saved")
    jax.tree.map(np.testing.assert_array_equal, saved.params, m.params)
    clip.save(tmp_path / "floats")
    later = jvlm.load(tmp_path / "floats", quantise=MIXED)
    jax.tree.map(np.testing.assert_array_equal, later.params, m.params)
    with pytest.raises(UserError, match="no published format has"):
        m.export(tmp_path / "again")
    with pytest.raises(UserError, match="quantised already"):
        jvlm.load(tmp_path / "saved", quantise="int8")


def make_clip():
    sizes = dict(width=32, depth=2, num_heads=2, mlp_dim=64)
    section = dict(
        name="clip",
        embed_dim=16,
        vision=dict(image_size=16, patch_size=8, **sizes),
        text=dict(vocab_size=40, max_len=6, **sizes),
    )
    model = build_model(section)
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(1))["params"]
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    return Pretrained(model, params, Processor(None, None), mesh, "clip")


@pytest.mark.parametrize(
    "rules, message",
    [
        ("int3", "quantise 'int3' is unknown. Did you mean 'int8'"),
        (((".*kernels", "int8"), (".*", None)), "'.*kernels' decides no parameter"),
        (((".*attn.*", "int8"), (".*", None)), "attn/k/bias is no kernel: give it None"),
        (((".*kernel[0:1]", "int8"), (".*", None)), "all layers of a stack have one form"),
    ],
)
def test_bad_rules(lm, rules, message):
    with pytest.raises(UserError) as error:
        quantise.resolve(rules, paths.flatten(lm[1]))
    assert message in str(error.value)


def test_int4_needs_groups():
    shapes = {"patch/kernel": jax.ShapeDtypeStruct((4, 4, 3, 8), jnp.float32)}
    with pytest.raises(UserError, match="its input axis of 3: give it 'int8'"):
        quantise.resolve(((".*", "int4"),), shapes)
