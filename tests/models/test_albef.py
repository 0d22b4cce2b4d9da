# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""ALBEF held to the official code: one step of pretraining, with what it draws given."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import paths, sharding
from jvlm.convert import albef as table
from jvlm.convert import engine
from jvlm.models import build_model
from jvlm.objectives.albef import ALBEF

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
TOWER = dict(width=8, depth=2, num_heads=2, mlp_dim=16)
MODEL = dict(
    name="albef",
    embed_dim=4,
    fusion_depth=2,
    vision=dict(
        image_size=16,
        patch_size=8,
        norm_eps=1e-6,
        patch_bias=True,
        pre_norm=False,
        norm_tokens=True,
        **TOWER,
    ),
    text=dict(vocab_size=24, max_len=8, **TOWER),
)
UNUSED = (r".*_m\..*", r".*queue.*", r".*position_ids", r".*decoder\.(weight|bias)")


class Arrays:
    """A checkpoint in memory."""

    name = "golden"

    def __init__(self, arrays):
        self._arrays = arrays
        self.shapes = {key: value.shape for key, value in arrays.items()}

    def read(self, key, part=(0, 1), axis=0):
        value, (i, n) = self._arrays[key], part
        return value if n == 1 else np.split(value, n, axis)[i]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "albef_pretrain.npz") as file:
        stored = dict(file)

    def part(name):
        prefix = f"{name}/"
        return {k.removeprefix(prefix): v for k, v in stored.items() if k.startswith(prefix)}

    return {
        "losses": stored["losses"],
        **{name: part(name) for name in ("batch", "before", "gradient", "after")},
    }


@pytest.fixture(scope="module")
def model():
    return build_model(MODEL)


def load(model, arrays, *, momentum=False, skip=UNUSED):
    """Parameters out of tensors with the official names."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(1))["params"]
    if momentum:
        flat = paths.flatten(shapes)
        shapes = paths.unflatten({k: v for k, v in flat.items() if k.startswith(ALBEF.taught)})
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    rules = table.rules(model.cfg, momentum)
    return engine.load(Arrays(arrays), rules, skip, sharding.placed(shapes, mesh))


def test_one_step_of_pretraining(golden, model):
    params = load(model, golden["before"])
    teacher = load(model, golden["before"], momentum=True, skip=(".*",))
    objective = ALBEF(model, queue=12, momentum=0.9, alpha=0.3, mask_id=3, silent_ids=(1,))
    queues = {name: golden["before"][f"{name}_queue"].T for name in ("image", "text")}
    extra = {**queues, "pointer": jnp.int32(0)}
    batch = {k: v if k == "image" else v.astype(np.int32) for k, v in golden["batch"].items()}
    batch["text_mask"] = batch["text_mask"].astype(bool)

    @jax.jit
    def step(params, teacher):
        # The source updates the average when a forward begins.
        teacher = objective.update_teacher(teacher, params)

        def loss(params):
            given = dict(teacher=teacher, extra=extra, rng=jax.random.key(0), step=jnp.int32(9))
            out = objective.loss(params, batch, **given)
            return out.loss, out

        gradient, out = jax.grad(loss, has_aux=True)(params)
        return gradient, out, teacher, objective.update_extra(extra, out.extra)

    gradient, out, teacher, extra = step(params, teacher)
    losses = [out.metrics[name] for name in ("mlm", "itc", "itm")]
    np.testing.assert_allclose(losses, golden["losses"], atol=1e-5)
    zeros = {k: np.zeros_like(v) for k, v in golden["before"].items()}
    same(gradient, load(model, zeros | golden["gradient"]))
    same(teacher, load(model, golden["after"], momentum=True, skip=(".*",)))
    for name in ("image", "text"):
        want = golden["after"][f"{name}_queue"].T
        np.testing.assert_allclose(extra[name], want, atol=1e-6)
    assert extra["pointer"] == golden["after"]["queue_ptr"].item()


def same(got, want):
    got, want = paths.flatten(got), paths.flatten(want)
    assert got.keys() == want.keys()
    for path in want:
        np.testing.assert_allclose(got[path], want[path], rtol=1e-5, atol=1e-5, err_msg=path)
