# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""One optimizer step, the compiled one of training, on three meshes and on one device."""

import functools

import jax
import numpy as np
import pytest

from configs import common
from jvlm import paths, sharding
from jvlm.models import build_model
from jvlm.state import TrainState
from jvlm.step import build_step

MESHES = {"8x1x1": (8, 1, 1), "2x2x2": (2, 2, 2), "1x4x2": (1, 4, 2)}
ROWS, B1 = 16, 0.5
TOWER = dict(width=8, depth=1, num_heads=2, mlp_dim=16)
MODEL = {
    "name": "clip",
    "embed_dim": 8,
    "logit_scale_init": 0.5,
    "logit_bias_init": -2.5,
    "vision": dict(image_size=8, patch_size=4, **TOWER),
    "text": dict(vocab_size=16, max_len=4, **TOWER),
}
LANGUAGE = {
    "gpt2": dict(name="gpt2", vocab_size=16, max_len=4, **TOWER),
    "t5": dict(name="t5", vocab_size=16, head_dim=4, **TOWER),
}
DISTILLATION = dict(name="distillation", teacher="given")
OBJECTIVES = {
    "softmax": dict(same="mask"),
    "groups": dict(same="soft", negatives=4, gather_grad=False),
    "sigmoid": dict(kind="sigmoid", way="chunked", chunk=4),
    "nce": dict(kind="nce", noise=4),
    "features": dict(DISTILLATION, distill="features"),
    "logits": dict(DISTILLATION, distill="logits"),
    "gpt2": dict(name="language", chunk=3),
    "t5": dict(name="language", chunk=2, label_smoothing=0.1, z_loss=1e-3),
}
REMAT = {"gpt2": "dots", "groups": "full", "sigmoid": "dots", "features": "dots", "logits": "full"}


@functools.cache
def weights(name: str, seed: int):
    model = build_model(LANGUAGE.get(name, MODEL))
    params = jax.jit(model.init)(jax.random.key(seed), model.dummy_batch(1))["params"]
    return jax.tree.map(np.asarray, params)


@functools.cache
def step(name: str, mesh_name: str | None):
    """(loss, gradient, parameters) after the first step of an objective."""
    c = common.base()
    c.steps = 10
    c.model = LANGUAGE.get(name, MODEL)
    c.objective = {"name": "contrastive", **OBJECTIVES[name]}
    c.data.batch_size = ROWS
    if mesh_name:  # As little may change by what is computed again.
        c.compute.remat = REMAT.get(name, "none")
    # Adam's first update is g / (|g| + eps): an eps well above rounding keeps gradients that are
    # zero but for it (of key biases) from updates as large as the rate.
    c.optim.update(dict(lr=0.1, b1=B1, eps=1e-2, schedule="constant"))
    c.optim.weight_decay = ((".*kernel", 0.1), (".*", 0.0))
    devices = None if mesh_name else jax.devices()[:1]
    mesh = sharding.make_mesh(*MESHES.get(mesh_name, ()), devices=devices)
    training = build_step(c, mesh, teacher_model=build_model(MODEL))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (ROWS, 8, 8, 3)).astype(np.uint8),
        "text": rng.integers(1, 16, (ROWS, 4)).astype(np.int32),
        "image_id": rng.integers(0, 6, ROWS).astype(np.int32),
    }
    if name in LANGUAGE:
        labels = rng.integers(-1, 16, (ROWS, 4)).astype(np.int32)
        batch = {"text": batch["text"], "labels": labels}
    params, teacher = weights(name, 0), None
    if "distill" in OBJECTIVES[name]:
        teacher = weights(name, 1)
    fresh = TrainState(
        step=np.int32(0),
        params=params,
        frozen={},
        teacher=None,
        ema=None,
        extra={},
        opt_state=training.optimizer.tx.init(params),
        rng=jax.random.key(0, impl="threefry2x32"),
    )
    with jax.set_mesh(mesh):
        state = jax.tree.map(lambda x, s: jax.device_put(x, s.sharding), fresh, training.state)
        state, metrics = training.step(state, sharding.put_whole_batch(batch, mesh), teacher)
    # Adam's first moment is (1 - b1) times the first gradient.
    gradient = jax.tree.map(lambda m: np.asarray(m) / (1 - B1), state.opt_state[1].mu)
    params = jax.tree.map(np.asarray, state.params)
    return float(metrics["loss"]), paths.flatten(gradient), paths.flatten(params)


@pytest.mark.parametrize("mesh_name", MESHES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_sharded_equals_unsharded(name, mesh_name):
    loss, gradient, params = step(name, None)
    sharded_loss, sharded_gradient, sharded_params = step(name, mesh_name)
    np.testing.assert_allclose(sharded_loss, loss, atol=1e-5)
    assert any(np.abs(leaf).max() > 1e-2 for leaf in gradient.values())
    for path in params:
        got, want = sharded_gradient[path], gradient[path]
        np.testing.assert_allclose(got, want, atol=1e-5, err_msg=path)
        np.testing.assert_allclose(sharded_params[path], params[path], atol=1e-5, err_msg=path)
