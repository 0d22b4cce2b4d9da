# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Holding a model to what was recorded of the official code (tests/parity/make_{albef,blip}.py)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jvlm import paths, sharding
from jvlm.convert import albef, blip, engine

GOLDEN = pathlib.Path(__file__).parent / "golden"
FLOATS = ("image", "answer_weight")


class Arrays:
    """A checkpoint in memory."""

    name = "golden"

    def __init__(self, arrays):
        self._arrays = arrays
        self.shapes = {key: value.shape for key, value in arrays.items()}

    def read(self, key, part=(0, 1), axis=0):
        value, (i, n) = self._arrays[key], part
        return value if n == 1 else np.split(value, n, axis)[i]


def read(name):
    """What was recorded, by the part before the slash; and the batch as the model takes it."""
    parts = {}
    with np.load(GOLDEN / f"{name}.npz") as file:
        for key, value in file.items():
            part, _, rest = key.partition("/")
            if rest:
                parts.setdefault(part, {})[rest] = value
            else:
                parts[part] = value
    batch = {k: v if k in FLOATS else v.astype(np.int32) for k, v in parts["batch"].items()}
    parts["batch"] = {k: v.astype(bool) if k.endswith("_mask") else v for k, v in batch.items()}
    return parts


def load(model, arrays, objective=None, *, skip=None):
    """Parameters out of tensors with the official names; with an objective, of its average."""
    table = albef if model.cfg.kind.startswith("albef") else blip
    shapes = jax.eval_shape(model.init, jax.random.key(0), model.dummy_batch(1))["params"]
    if objective is not None:
        shapes = jax.eval_shape(objective.init_teacher, shapes)
    skip = table.skip(model.cfg) if skip is None else skip
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    rules = table.rules(model.cfg, objective is not None)
    return engine.load(Arrays(arrays), rules, skip, sharding.placed(shapes, mesh))


def one_step(objective, golden, extra, **given):
    """(LossOutput, extra) of a step that has the official gradient and average.

    Args:
      objective: what is trained, how.
      golden: see `read`.
      extra: of the state.
      **given: what a batch has otherwise than was recorded.
    """
    model, batch = objective.model, golden["batch"] | given
    params, teacher = load(model, golden["before"]), None
    if objective.init_teacher(params) is not None:
        teacher = load(model, golden["before"], objective, skip=(".*",))

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
    zeros = {k: np.zeros_like(v) for k, v in golden["before"].items()}
    same(gradient, load(model, zeros | golden["gradient"]))
    if teacher is not None:
        same(teacher, load(model, golden["after"], objective, skip=(".*",)))
    return out, extra


def same(got, want):
    """Leaf by leaf to 1e-5."""
    got, want = paths.flatten(got), paths.flatten(want)
    assert got.keys() == want.keys()
    for path in want:
        np.testing.assert_allclose(got[path], want[path], rtol=1e-5, atol=1e-5, err_msg=path)
