# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""A few steps of training on a mesh, for comparison with the same on another or on one device."""

import jax
import numpy as np

from jvlm import paths, sharding
from jvlm.step import build_step

MESHES = {"8x1x1": (8, 1, 1), "2x2x2": (2, 2, 2), "1x4x2": (1, 4, 2)}
ROWS, VOCAB = 16, 24


def batches(count):
    """Pairs of 8x8 images and at most six tokens, the first of which is 1; and more."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        text = rng.integers(4, VOCAB, (ROWS, 6)).astype(np.int32)
        text[:, 0] = 1
        lengths = rng.integers(2, 7, (ROWS, 1))
        yield {
            "image": rng.integers(0, 256, (ROWS, 8, 8, 3)).astype(np.uint8),
            "text": text,
            "text_mask": np.arange(6) < lengths,
            "image_id": rng.integers(0, 9, ROWS).astype(np.int32),
            "label": rng.integers(0, 3, ROWS).astype(np.int32),
            "candidates": rng.integers(2, VOCAB, (ROWS, 2, 3)).astype(np.int32),
            "candidates_mask": np.arange(3) < rng.integers(1, 4, (ROWS, 2, 1)),
            "answer_weight": rng.random((ROWS, 2)).astype(np.float32),
        }


def build(mesh_name, config):
    """(training, mesh); no name is one device. Of the optimizers the one that compiles fastest."""
    config.optim.update(dict(name="sgd", lr=0.2, eps=None))
    devices = None if mesh_name else jax.devices()[:1]
    mesh = sharding.make_mesh(*MESHES.get(mesh_name, ()), devices=devices)
    return build_step(config, mesh), mesh


def fresh(training):
    """A state as if it had trained, laid out; to compile what would draw one takes longer."""
    rng = np.random.default_rng(1)

    def draw(x):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.key(0, impl="threefry2x32")
        if np.issubdtype(x.dtype, np.integer):
            return np.zeros(x.shape, x.dtype)
        new = rng.normal(0, 0.3, x.shape).astype(x.dtype)
        return new if x.shape else np.abs(new)  # A temperature is positive.

    return jax.tree.map(lambda x: jax.device_put(draw(x), x.sharding), training.state)


def go_on(training, mesh, state, part):
    """(metrics of each step, state) of some batches."""
    metrics = []
    with jax.set_mesh(mesh):
        for batch in part:
            state, of_step = training.step(state, sharding.put_whole_batch(batch, mesh))
            metrics.append({k: float(v) for k, v in of_step.items()})
    return metrics, state


def run(training, mesh, part):
    """(metrics of each step, what is left of the state as numpy) of some batches."""
    metrics, state = go_on(training, mesh, fresh(training), part)
    kept = {name: getattr(state, name) for name in ("params", "teacher", "extra")}
    flat = lambda tree: paths.flatten(jax.tree.map(np.asarray, tree))
    return metrics, {name: flat(tree) for name, tree in kept.items() if tree is not None}


def same(got, want):
    """Two runs, to rounding."""
    for ours, theirs in zip(got[0], want[0]):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-5, err_msg=name)
    for part in want[1]:
        for path, leaf in want[1][part].items():
            np.testing.assert_allclose(got[1][part][path], leaf, atol=1e-5, err_msg=path)
