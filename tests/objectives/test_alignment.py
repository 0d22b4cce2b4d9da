# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""Wrong partners of ALBEF and BLIP: from where they are drawn, and what picking them sends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvlm import sharding
from jvlm.hlo import Program
from jvlm.losses.cross_entropy import TokenSums
from jvlm.losses.momentum import Sides
from jvlm.models import build_model
from jvlm.objectives import build_objective
from jvlm.objectives.alignment import pick
from tests.models.test_blip import MODELS


@pytest.mark.parametrize("group, sends", [(4, False), (8, True), (None, True)])
def test_partners_of_a_group_stay_on_its_device(group, sends):
    mesh = sharding.make_mesh(2, 2, 2)  # Four rows on each device.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, 3)).astype(np.float32)
    rows = np.arange(16) // (group or 16) * (group or 16) + rng.integers(0, group or 16, 16)

    def loss(x, rows):
        return jnp.sum(sharding.constrain(pick(x, rows, group), "batch", None) ** 2)

    with jax.set_mesh(mesh):
        given = jax.device_put((x, rows.astype(np.int32)), sharding.batch_sharding(mesh))
        compiled = jax.jit(jax.value_and_grad(loss)).lower(*given).compile()
        value, gradient = compiled(*given)
    np.testing.assert_allclose(value, np.sum(x[rows] ** 2), rtol=1e-6)
    np.testing.assert_allclose(gradient, 2 * x * np.bincount(rows, minlength=16)[:, None])
    moved = [entry.bytes for entry in Program(compiled.as_text()).collectives()]
    assert (sum(moved) > 8) == sends  # The loss is added up.


@pytest.mark.parametrize("drawn_from", ["group", "global"])
def test_partners_of_retrieval(drawn_from):
    """On COCO from all GPUs; of equal identity none (models/blip_retrieval.py)."""
    options = dict(negatives=4, drawn_from=drawn_from, drawn_by="student", same="soft", floor=0.0)
    objective = build_objective(dict(name="blip", **options), build_model(MODELS["retrieval"]))
    batch = {"image_id": np.array([0, 1, 2, 3, 0, 1, 2, 3])}
    flat = jnp.zeros((8, 8))
    draws = jax.jit(lambda key: objective.draw(key, batch, Sides(flat, flat)))
    seen = [draws(jax.random.key(seed)) for seed in range(60)]
    for side in ("image", "text"):
        drawn = np.stack([getattr(wrong, side) for wrong in seen])
        allowed = batch["image_id"][:, None] != batch["image_id"]
        if drawn_from == "group":
            allowed &= np.arange(8)[:, None] // 4 == np.arange(8) // 4
        for row in range(8):
            assert set(drawn[:, row]) == set(np.flatnonzero(allowed[row]))
    assert objective.picker(batch)(jnp.arange(8), seen[0].text).tolist() == seen[0].text.tolist()


def test_mean_of_words():
    """Of a GPU's, then of GPUs; of captions without words, a number too."""
    loss, count = np.array([1.0, 2.0, 9.0, 0.0]), np.array([1.0, 3.0, 2.0, 0.0])
    for compat, want in (("official", (3 / 4 + 9 / 2) / 2), ("fixed", 12 / 6)):
        options = dict(negatives=2, compat=compat)
        objective = build_objective(dict(name="blip", **options), build_model(MODELS["pretrain"]))
        np.testing.assert_allclose(
            objective.mean_of_words(TokenSums(loss, loss, count / 2, count)), (want, 0.5)
        )
        assert objective.mean_of_words(TokenSums(*np.zeros((4, 4)))) == (0, 0)
