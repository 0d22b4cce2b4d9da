# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""The contrastive objective: the formula, and the same value and gradient however it is cut."""

import contextlib
import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import paths, sharding
from jvlm.errors import UserError
from jvlm.models import build_model
from jvlm.objectives import build_objective, micro_batches
from jvlm.state import split

MESHES = {"8x1x1": (8, 1, 1), "2x2x2": (2, 2, 2)}
MODEL = {
    "name": "clip",
    "embed_dim": 8,
    "vision": dict(image_size=16, patch_size=8, width=16, depth=2, num_heads=2, mlp_dim=32),
    "text": dict(vocab_size=32, max_len=6, width=16, depth=2, num_heads=2, mlp_dim=32),
}


@pytest.fixture(scope="module")
def model():
    return build_model(MODEL)


@pytest.fixture
def batch(rng):
    return {
        "image": rng.integers(0, 256, (16, 16, 16, 3)).astype(np.uint8),
        "text": rng.integers(1, 32, (16, 6)).astype(np.int32),
        "image_id": rng.integers(0, 6, 16).astype(np.int32),
    }


@pytest.fixture(scope="module")
def params(model):
    return jax.jit(model.init)(jax.random.key(0), model.dummy_batch(2))["params"]


@pytest.fixture(scope="module")
def biased():
    """(model, params) with a bias of the logits."""
    model = build_model({**MODEL, "logit_bias_init": -2.5})
    return model, jax.jit(model.init)(jax.random.key(0), model.dummy_batch(2))["params"]


@functools.partial(jax.jit, static_argnames=("objective", "count"))
def loss_and_grad(objective, params, batch, count=1):
    out, grads = objective.value_and_grad(
        params,
        micro_batches(batch, count),
        frozen={},
        teacher=None,
        extra={},
        rng=jax.random.key(1),
        step=0,
    )
    return out.loss, out.metrics, grads


def reference(objective, image, text, scale, identity, group):
    """The loss in numpy, from whole matrices."""
    size = len(image)
    logits = scale * np.asarray(image, np.float64) @ np.asarray(text, np.float64).T
    same = identity[:, None] == identity[None, :]
    allowed = np.arange(size)[:, None] // group == np.arange(size)[None, :] // group
    target = np.eye(size)
    if objective.same == "mask":
        allowed &= ~same | np.eye(size, dtype=bool)
    if objective.same == "soft":
        target = same * allowed / (same * allowed).sum(1, keepdims=True)
    losses = []
    for matrix in (logits, logits.T):
        matrix = np.where(allowed, matrix, -np.inf)
        log_probs = matrix - np.log(np.exp(matrix).sum(1, keepdims=True))
        losses.append(-(target * np.where(target > 0, log_probs, 0)).sum(1).mean())
    return np.mean(losses)


@pytest.mark.parametrize("same", ["negative", "mask", "soft"])
@pytest.mark.parametrize("negatives", ["global", 4])
def test_loss_is_the_formula(model, params, batch, same, negatives):
    objective = build_objective(
        {"name": "contrastive", "same": same, "negatives": negatives}, model
    )
    loss = lambda p, b: objective.loss(p, b, teacher=None, extra={}, rng=None, step=0)
    out = jax.jit(loss)(params, batch)
    embeds = jax.jit(model.apply)({"params": params}, batch)
    scale = np.exp(params["logit_scale"])
    group = 16 if negatives == "global" else negatives
    want = reference(
        objective, embeds.image_embeds, embeds.text_embeds, scale, batch["image_id"], group
    )
    np.testing.assert_allclose(out.loss, want, rtol=1e-5)


def test_stopped_columns_have_no_gradient(model, params, batch):
    """With gather_grad=False each direction trains its query side only, on any mesh."""
    flow = build_objective({"name": "contrastive"}, model)
    stop = dataclasses.replace(flow, gather_grad=False)
    full, half = (loss_and_grad(objective, params, batch) for objective in (flow, stop))
    np.testing.assert_allclose(full[0], half[0], rtol=1e-6)
    one, other = full[2]["vision_proj"]["kernel"], half[2]["vision_proj"]["kernel"]
    assert not np.allclose(one, other, rtol=1e-2)


def test_micro_batches_average(model, params, batch):
    objective = build_objective({"name": "contrastive", "accumulate": "average"}, model)
    loss, _, grads = loss_and_grad(objective, params, batch, count=4)
    parts = [
        loss_and_grad(objective, params, {k: v[row::4] for k, v in batch.items()})
        for row in range(4)
    ]
    np.testing.assert_allclose(loss, np.mean([part[0] for part in parts]), rtol=1e-5)
    mean = jax.tree.map(lambda *g: sum(g) / 4, *(part[2] for part in parts))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, mean)


def assert_close(got, want):
    """To 3e-6 of the leaf's largest entry, or of 1.

    Small entries are differences of large sums, and some gradients are zero but for rounding (of
    key biases): the same batch with its rows permuted differs by up to 6.5e-7 of that, uncut.
    """
    largest = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=3e-6 * largest)


CACHED = {
    "softmax": {"same": "soft", "negatives": 8, "gather_grad": False},
    "sigmoid": {"kind": "sigmoid", "same": "mask", "way": "chunked", "chunk": 3},
    "ring": {"kind": "sigmoid", "way": "ring", "chunk": 3},
    "nce": {"kind": "nce", "noise": 4},
}
# The ring where parameters are whole: XLA's CPU back end does not order collectives inside a loop
# with those outside (here the gathers of parameters for the second forward), and its fake devices
# then wait for each other for ever.
CACHED_CASES = [("softmax", None), ("ring", "8x1x1")]
# That each loss is the same on every mesh is tested in test_sharded.py.
CACHED_CASES += [(name, "2x2x2") for name in ("softmax", "sigmoid", "nce")]


@pytest.mark.parametrize("name, mesh_name", CACHED_CASES)
def test_cached_micro_batches_are_the_whole_batch(biased, rng, name, mesh_name):
    """Groups, identities, negatives and noise are those of the batch however it is cut."""
    model, params = biased
    batch = {
        "image": rng.integers(0, 256, (32, 16, 16, 3)).astype(np.uint8),
        "text": rng.integers(1, 32, (32, 6)).astype(np.int32),
        "image_id": rng.integers(0, 6, 32).astype(np.int32),
    }
    objective = build_objective({"name": "contrastive", **CACHED[name]}, model)
    want = loss_and_grad(objective, params, batch)
    context = contextlib.nullcontext()
    if mesh_name:
        mesh = sharding.make_mesh(*MESHES[mesh_name])
        context = jax.set_mesh(mesh)
        params = jax.device_put(params, sharding.tree_shardings(params, mesh))
        batch = sharding.put_batch(batch, mesh, 32)
    with context:
        for count in (4,) if mesh_name else (2, 4):
            got = loss_and_grad(objective, params, batch, count=count)
            jax.tree.map(assert_close, got, want)


def test_cached_micro_batches_save_memory_and_repeat_their_dropout(rng):
    section = {**MODEL, "vision": {**MODEL["vision"], "dropout": 0.5, "depth": 4}}
    model = build_model(section)
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(2))["params"]
    batch = {
        "image": rng.integers(0, 256, (128, 16, 16, 3)).astype(np.uint8),
        "text": rng.integers(1, 32, (128, 6)).astype(np.int32),
    }
    objective = build_objective({"name": "contrastive"}, model)
    compiled = [loss_and_grad.lower(objective, params, batch, count=n).compile() for n in (1, 8)]
    whole, cut = (c.memory_analysis().temp_size_in_bytes for c in compiled)
    assert cut < whole / 2
    # Along its gradient the loss of the same masks falls as the gradient says.
    loss, _, grads = compiled[1](params, batch)
    step = 1e-3 / np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
    slope = sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads))
    moved = lambda sign: jax.tree.map(lambda p, g: p + sign * step * g, params, grads)
    rise = compiled[1](moved(1), batch)[0] - compiled[1](moved(-1), batch)[0]
    np.testing.assert_allclose(rise, 2 * step * slope, rtol=0.05)


def test_a_locked_tower_has_no_backward_and_no_dropout(batch):
    """LiT (arXiv:2111.07991): the image tower runs as in evaluation, and forward only."""
    section = {"name": "clip", "embed_dim": 8}
    section |= {side: {**MODEL[side], "dropout": 0.5} for side in ("vision", "text")}
    model = build_model(section)
    params = jax.jit(model.init)(jax.random.key(0), model.dummy_batch(2))["params"]
    trainable = {path: not path.startswith("vision/") for path in paths.flatten(params)}
    trained, frozen = split(params, trainable)
    objective = build_objective(
        {"name": "contrastive"}, model, trained=frozenset(paths.flatten(trained))
    )

    embed = jax.jit(lambda params, rng: objective.embed(params, batch, rng=rng)[0])
    evaluated, training = embed(params, None), embed(params, jax.random.key(0))
    np.testing.assert_array_equal(training["image"], evaluated["image"])
    assert not np.allclose(training["text"], evaluated["text"], atol=1e-3)

    def flops(params, frozen):
        given = dict(teacher=None, extra={}, rng=jax.random.key(0), step=0)
        fn = lambda p, f, b: objective.value_and_grad(p, micro_batches(b, 1), frozen=f, **given)
        return jax.jit(fn).lower(params, frozen, batch).cost_analysis()["flops"]

    def forward_flops(method, *args):
        fn = lambda params, *args: model.apply({"params": params}, *args, method=method)
        return jax.jit(fn).lower(params, *args).cost_analysis()["flops"]

    saved = flops(params, {}) - flops(trained, frozen)
    # The whole backward of the tower, which takes more than the forward.
    assert saved > forward_flops("encode_image", batch["image"])


def test_sigmoid_reads_the_bias(biased, batch):
    model, params = biased
    objective = build_objective({"name": "contrastive", "kind": "sigmoid"}, model)
    loss, metrics, grads = loss_and_grad(objective, params, batch)
    embeds = jax.jit(model.apply)({"params": params}, batch)
    logits = np.asarray(embeds.logits_per_image)  # With the bias.
    sign = 2 * np.eye(16) - 1
    np.testing.assert_allclose(loss, np.log1p(np.exp(-sign * logits)).sum() / 16, rtol=1e-5)
    assert metrics["bias"] == -2.5 and grads["logit_bias"] != 0


def test_temperature_is_clamped_after_the_step(model):
    objective = build_objective({"name": "contrastive", "max_scale": 100.0}, model)
    for raw, clamped in ((9.0, np.log(100)), (-1.0, 0.0), (2.0, 2.0)):
        projected = objective.project({"logit_scale": jnp.float32(raw), "other": 1})
        np.testing.assert_allclose(projected["logit_scale"], clamped, rtol=1e-6)
    assert objective.project({"other": 1}) == {"other": 1}  # A frozen temperature.
    free = dataclasses.replace(objective, max_scale=None)
    assert free.project({"logit_scale": 9.0}) == {"logit_scale": 9.0}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"same": "msk"}, "same 'msk' is unknown. Did you mean 'mask'"),
        ({"negatives": "local"}, "number of rows"),
        ({"negative": 4}, "Did you mean 'negatives'"),
        ({"kind": "sigmoidal"}, "Did you mean 'sigmoid'"),
        ({"way": "rings"}, "Did you mean 'ring'"),
        ({"accumulate": 4}, "accumulate 4 is unknown. Known: average, cached"),
        ({"chunk": 0}, "chunk is 0: at least 1"),
        ({"max_scale": 0.5}, "max_scale is 0.5"),
        ({"kind": "sigmoid", "gather_grad": False}, "does not have it"),
        ({"kind": "nce", "way": "ring"}, "takes way='gather'"),
        ({"name": "distillation"}, "missing teacher"),
        ({"name": "distillation", "teacher": "x", "distill": "logit"}, "Did you mean 'logits'"),
    ],
)
def test_bad_options(model, options, message):
    with pytest.raises(UserError, match=message):
        build_objective({"name": "contrastive", **options}, model)


def test_identity_is_asked_for(model, params, batch):
    objective = build_objective({"name": "contrastive", "same": "mask"}, model)
    del batch["image_id"]
    with pytest.raises(UserError, match="image_id"):
        objective.loss(params, batch, teacher=None, extra={}, rng=None, step=0)


def test_activations_are_constrained(model, params, batch):
    assert isinstance(model, nn.Module)
    mesh = sharding.make_mesh(2, 2, 2)
    with jax.set_mesh(mesh):
        lowered = jax.jit(lambda p, b: model.apply({"params": p}, b)).lower(params, batch)
    assert "sharding_constraint" in lowered.as_text()
