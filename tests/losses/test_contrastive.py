# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Contrastive losses: the formulas, and one value and gradient by every way, on every mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.losses.contrastive import sigmoid_contrastive, softmax_contrastive
from jvlm.losses.pairs import WAYS
from jvlm.objectives.contrastive import on_rows

ROWS, WIDTH, GROUP = 16, 8, 8
MESHES = {"none": None, "8x1x1": (8, 1, 1), "2x2x2": (2, 2, 2), "1x4x2": (1, 4, 2)}
LOSSES = {
    "softmax": dict(gather_grad=True),
    "softmax-mask": dict(gather_grad=True, same="mask"),
    "softmax-soft": dict(gather_grad=False, same="soft", group=GROUP),
    "softmax-stop": dict(gather_grad=False),
    "sigmoid": dict(),
    "sigmoid-mask": dict(same="mask", group=GROUP),
    "sigmoid-soft": dict(same="soft"),
}


@pytest.fixture
def arrays(rng):
    unit = lambda x: (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
    image, text = (unit(rng.normal(size=(ROWS, WIDTH))) for _ in range(2))
    identity = rng.integers(0, 6, ROWS).astype(np.int32)
    return (image, text, identity), (jnp.float32(10.0), jnp.float32(-3.0))


def reference(name, arrays, options):
    """The loss on whole matrices, by autodiff."""
    (image, text, identity), (scale, bias) = arrays
    same, group = options.get("same"), options.get("group", ROWS)
    stop = (lambda x: x) if options.get("gather_grad", True) else jax.lax.stop_gradient
    index = np.arange(ROWS)
    equal = identity[:, None] == identity[None, :]
    target = np.eye(ROWS, dtype=bool)
    allowed = index[:, None] // group == index[None, :] // group
    if same == "mask":
        allowed = allowed & (~equal | target)
    if same == "soft":
        target = equal & allowed
    if name.startswith("sigmoid"):
        logits = scale * image @ text.T + bias
        losses = -jax.nn.log_sigmoid(jnp.where(target, logits, -logits))
        return jnp.sum(losses * allowed) / ROWS
    loss = 0.0
    for query, key in ((image, text), (text, image)):
        logits = scale * query @ stop(key).T
        log_probs = logits - jnp.log(jnp.sum(jnp.exp(logits) * allowed, 1, keepdims=True))
        loss -= jnp.mean(jnp.sum(log_probs * target, 1) / target.sum(1)) / 2
    return loss


def loss(name, arrays, way, options):
    (image, text, identity), scalars = arrays

    def local(rows, scalars, axes):
        image, text, identity = rows
        given = dict(options, axes=axes, way=way, chunk=3, identity=identity)
        if name.startswith("sigmoid"):
            return sigmoid_contrastive(image, text, *scalars, **given)
        return softmax_contrastive(image, text, scalars[0], **given)

    return on_rows(local, (image, text, identity), scalars)


def value_and_grad(fn, arrays):
    """Of a loss, with respect to everything that is trained."""
    (image, text, identity), scalars = arrays
    wrapped = lambda image, text, scalars: fn(((image, text, identity), scalars))
    return jax.value_and_grad(wrapped, argnums=(0, 1, 2), has_aux=True)(image, text, scalars)


CASES = [(name, mesh) for name in LOSSES for mesh in ("none", "2x2x2")]
CASES += [(name, mesh) for name in ("softmax-soft", "sigmoid") for mesh in ("8x1x1", "1x4x2")]


@pytest.mark.parametrize("name, mesh_name", CASES)
def test_every_way_is_the_formula(arrays, name, mesh_name):
    options = LOSSES[name]
    want = jax.jit(
        functools.partial(value_and_grad, lambda a: (reference(name, a, options), None))
    )(arrays)

    @jax.jit
    def ways(arrays):
        by = lambda way: lambda arrays: loss(name, arrays, way, options)
        return {way: value_and_grad(by(way), arrays) for way in WAYS}

    sizes = MESHES[mesh_name]
    if sizes is None:
        got = ways(arrays)
    else:
        mesh = sharding.make_mesh(*sizes)
        with jax.set_mesh(mesh):
            rows, scalars = arrays
            rows = jax.device_put(rows, sharding.batch_sharding(mesh))
            got = ways((rows, scalars))
    metrics = got["gather"][0][1]
    for way, ((value, aux), grads) in got.items():
        np.testing.assert_allclose(value, want[0][0], rtol=1e-6, err_msg=way)
        check = functools.partial(np.testing.assert_allclose, atol=1e-6, rtol=1e-5, err_msg=way)
        jax.tree.map(check, grads, want[1])
        assert aux == metrics


def test_what_the_ways_hold(arrays):
    """No way but 'gather' has a product as wide as the batch, and the ring gathers nothing."""
    mesh = sharding.make_mesh(8, 1, 1)
    texts = {}
    with jax.set_mesh(mesh):
        rows, scalars = arrays
        rows = jax.device_put(rows, sharding.batch_sharding(mesh))
        for way in WAYS:
            fn = functools.partial(value_and_grad, lambda a, way=way: loss("softmax", a, way, {}))
            texts[way] = jax.jit(fn).lower((rows, scalars)).as_text()
    wide = f"tensor<{ROWS // 8}x{ROWS}xf32>"
    assert wide in texts["gather"]
    assert wide not in texts["chunked"] and wide not in texts["ring"]
    assert "all_gather" in texts["gather"] and "all_gather" in texts["chunked"]
    assert "all_gather" not in texts["ring"] and "collective_permute" in texts["ring"]


def test_top1_is_the_share_of_hits(arrays):
    (image, _, identity), scalars = arrays
    text = image.copy()
    text[[0, 1, 2]] = image[[1, 2, 0]]
    for way in WAYS:
        _, metrics = loss("softmax", ((image, text, identity), scalars), way, {})
        assert metrics["i2t_top1"] == metrics["t2i_top1"] == (ROWS - 3) / ROWS
    # A collapsed model says nothing about anything.
    same = np.broadcast_to(image[:1], image.shape)
    _, metrics = loss("softmax", ((same, same, identity), scalars), "ring", {})
    assert metrics["i2t_top1"] == 0
